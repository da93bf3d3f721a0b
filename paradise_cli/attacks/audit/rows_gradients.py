"""Rows on whether other ways than the classifier's gradient find more (method.md 5.5).

Costs are as in `rows_strength.py`.
"""

from paradise_cli.attacks.audit.boundaries import boundary_jumps
from paradise_cli.attacks.audit.context import (
    COMPARISON_STEPS,
    LABEL_QUERIES,
    PGD_STEPS,
    Case,
)
from paradise_cli.attacks.audit.declare import NOT_APPLICABLE, Finding, row
from paradise_cli.attacks.audit.evidence import Gap, together
from paradise_cli.attacks.engine.surrogate import Smoothed

BOUNDARIES = 100
"""Pairs of images at most between which a decision boundary is looked for."""
RESTARTS = 5
"""Of gradients on images that a black box broke before them."""


@row(
    2,
    "black box against gradients",
    passes="at most {limit}% break only to a black box",
    means="masked gradients",
    decisive=True,
    limit=0.002,
)
def black_box(case: Case, limit: float) -> Finding:
    """What the black-box attacks of the suite broke and no gradients do, or where they broke
    nothing, Square; 5,000 f for each of the first images, 4,500 g for each that it broke.
    """
    # What the suite has already found is evidence enough, and free.
    broken = case.standing & case.by_black_box.keys()
    n = case.n
    how = "the black-box attacks of the suite"
    if not broken:
        broken = case.square
        n = len(case.square_rows)
        how = f"Square with {case.queries:,} queries"
    # Where gradients lead there as well, the suite was too short, and they are not masked.
    followed = case.broken_by("multi_targeted", rows=broken, steps=PGD_STEPS, restarts=RESTARTS)
    only = broken - followed
    text = f"{len(only)} of {n} images broke only to {how}"
    if followed:
        text += f"; {len(followed)} also to Multi-Targeted with {RESTARTS} restarts"
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
    # Corners are the farthest points; a linear model is weakest there, a plateau nowhere.
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
    victim = case.subject.classifier_of(Smoothed(case.subject.function), Smoothed.asks)
    # Averaged over noise as well: it fills the steps that smoothing does not know.
    smooth = case.broken_by(
        "noisy_pgd", rows=case.standing, victim=victim, tag=" smooth", steps=COMPARISON_STEPS
    )
    ends = case.square_ends
    # A black box may end beside a plateau, from where the true gradient leads on.
    warm = case.broken_by(
        "pgd",
        rows=frozenset(ends),
        begin=ends,
        tag=" from Square",
        steps=COMPARISON_STEPS,
        start="image",
    )
    n = len(case.square_rows)
    # A fifth of the error, and four: of the fewer images half of it could not pass.
    result = together(
        case.further(smooth, limit, shares=5).result,
        case.further(warm, limit, n=n, shares=5 / 4).result,
    )
    text = (
        f"smooth gradients broke {len(smooth)} more of {case.n} images;"
        f" of {n}, gradients from where Square ended {len(warm)}"
    )
    return Finding(result, text, case.n)


@row(
    15,
    "decision boundaries",
    passes="at most {share}% of boundaries jump by more than {limit}% of the logits' spread",
    means="the class changes while its scores do not",
    limit=0.001,
    share=0.05,
)
def boundaries(case: Case, limit: float, share: float) -> Finding:
    """Where the class changes the two best logits are equal; 46 f for each pair of images.

    Continuous networks jump by 1e-6 of the spread at most, and by a step of their number type where
    logits are in half precision. Networks with steps inside jump by 4e-3 to 0.8.
    """
    subject = case.subject
    if subject.behaviour.random or subject.behaviour.batch_dependent:
        return Finding(NOT_APPLICABLE, "an image has no one answer: no boundary can be found", 0)
    # Between images of two predicted classes there is a boundary, wherever it lies.
    pairs = _pairs(case)
    if not pairs:
        return Finding("inconclusive", "all images are given the same class", 0)
    one, other = (subject.images[list(rows)] for rows in zip(*pairs, strict=True))
    jumps = boundary_jumps(subject.classifier.judge, one, other)
    # Coarse logits are no sham: a step or two of their own resolution is theirs by right.
    jumping = int((jumps.size > limit + 2 * jumps.resolution).sum())
    middle = float(jumps.size.median())
    text = f"{jumping} of {len(pairs)} boundaries jump; half of them by {middle:.1g} or more"
    return Finding(Gap(jumping, None, len(pairs), share).result, text, len(pairs))


def _pairs(case: Case) -> list[tuple[int, int]]:
    """Each row with the next one that is predicted to be of another class."""
    rows = case.rows
    predicted = case.subject.logits.argmax(1).tolist()
    found = []
    for place, row_number in enumerate(rows[:BOUNDARIES]):
        # The next one in turn, so that no image is the partner of all.
        others = (*rows[place + 1 :], *rows[:place])
        differing = (other for other in others if predicted[other] != predicted[row_number])
        partner = next(differing, None)
        if partner is not None:
            found.append((row_number, partner))
    return found


@row(
    16,
    "adaptive attacks",
    passes="at most {limit}% break to attacks that read the class alone",
    means="scores and gradients mislead",
    decisive=True,
    after=frozenset({2, 3, 5, 8, 15}),
    limit=0.002,
)
def adaptive(case: Case, limit: float) -> Finding:
    """A last resort where gradients are known to mislead; 4,000 f, and 800 g on a smooth copy.

    Only what reads the predicted class alone decides: it shows that scores and gradients mislead.
    The rest goes for what still stands after everything, so that the accuracy is as low as these
    attacks can make it.
    """
    # On all that stands against gradients: what row 2 has broken is evidence here too.
    queries = min(LABEL_QUERIES, case.queries)
    by_class = case.broken_by("label_only", rows=case.standing, queries=queries)
    smooth = case.subject.classifier_of(Smoothed(case.subject.function), Smoothed.asks)
    before = case.unbroken
    # Cheap ones first: each is run on what the ones before have left.
    for loss in ("ce", "margin"):
        case.broken_by(
            "pgd",
            rows=case.unbroken,
            victim=smooth,
            tag=" smooth",
            steps=PGD_STEPS,
            loss=loss,
            restarts=2,
        )
    case.broken_by(
        "multi_targeted",
        rows=case.unbroken,
        victim=smooth,
        tag=" smooth",
        steps=COMPARISON_STEPS,
        restarts=1,
        targets=4,
    )
    # Row 2 had Square on a sample alone; its runs count here and are not made again.
    case.broken_by("square", rows=case.unbroken, **case.square_settings)
    text = (
        f"{len(by_class)} of {case.n} images broke to an attack that reads the class alone,"
        f" {len(before - case.unbroken)} more to others"
    )
    return Finding(case.further(by_class, limit).result, text, case.n)
