"""Rows on whether other ways than the classifier's gradient find more (method.md 5.5)."""

from paradise_cli.attacks.audit.context import Case
from paradise_cli.attacks.audit.declare import Finding, row
from paradise_cli.attacks.audit.evidence import together
from paradise_cli.attacks.engine.surrogate import Smoothed

SHORT = 50
"""Steps of PGD."""


@row(
    2,
    "black box against gradients",
    passes="at most {limit}% break only to a black box",
    means="masked gradients",
    decisive=True,
    limit=0.002,
)
def black_box(case: Case, limit: float) -> Finding:
    """What only the black-box attacks of the suite broke, or where that is nothing, Square; 5,000 f
    for each of the first images.
    """
    only = case.standing & case.by_black_box.keys()
    n = case.n
    how = "the black-box attacks of the suite"
    if not only:
        only = case.square
        n = len(case.square_rows)
        how = f"Square with {case.queries:,} queries"
    text = f"{len(only)} of {n} images broke only to {how}"
    return Finding(case.further(only, limit, n=n).result, text, n)


@row(
    5,
    "random search",
    passes="at most {limit}% break only to random points",
    means="useless gradients",
    decisive=True,
    limit=0.005,
)
def random_search(case: Case, limit: float) -> Finding:
    """Random points of the ball, and of its corners, find nothing that gradients miss; 2,000 f."""
    uniform, corner = (
        case.broken_by("random_search", rows=case.standing, draws=case.draws, kind=kind)
        for kind in ("uniform", "corner")
    )
    text = (
        f"{len(uniform)} of {case.n} images broke only to {case.draws:,} uniform draws,"
        f" {len(corner)} only to as many corners"
    )
    return Finding(case.further(uniform | corner, limit).result, text, case.n)


@row(
    10,
    "smooth gradients",
    passes="at most {limit} points more break",
    means="shattered gradients",
    limit=0.01,
)
def smooth_gradients(case: Case, limit: float) -> Finding:
    """Gradients of a smooth copy, averaged over noise, and its own from where Square ended; 255 g,
    and 204 f for the noise.
    """
    victim = case.subject.classifier_of(Smoothed(case.subject.function))
    smooth = case.broken_by(
        "noisy_pgd", rows=case.standing, victim=victim, tag=" smooth", steps=SHORT
    )
    ends = case.square_ends
    warm = case.broken_by(
        "pgd", rows=frozenset(ends), begin=ends, tag=" from Square", steps=SHORT, start="image"
    )
    n = len(case.square_rows)
    result = together(
        case.further(smooth, limit).result,
        case.further(warm, limit, n=n).result,
    )
    text = (
        f"smooth gradients broke {len(smooth)} more of {case.n} images;"
        f" of {n}, gradients from where Square ended {len(warm)}"
    )
    return Finding(result, text, case.n)
