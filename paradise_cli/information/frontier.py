"""A measured rate-distortion frontier, and whether it is what theory says of one (method.md 2.6, 6)."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

ERRORS = 3.0  # standard errors that every comparison allows
SLOPE_TOLERANCE = 0.25  # of the slope that two alphas ask for
LEAST_RATE = 0.1  # nats, and...
CAP_MARGIN = 1.0  # ...nats below a cap, between which a slope is comparable with alpha

Verdict = Literal["holds", "violated", "undecided"]
RateBounds = Callable[[float], tuple[float, float]]


@dataclass(frozen=True)
class FrontierPoint:
    """One alpha: its distortion, the exact rate I_N, and certified ends of I(X;Z); errors are standard ones.

    `slope` is the distortion that training gives up per nat there: alpha, or 2 alpha R for D + alpha R^2.
    `cap` is the largest rate that the training's q and the N points let show, in nats.
    """

    name: str
    alpha: float
    slope: float
    distortion: float
    distortion_error: float
    rate: float
    rate_error: float
    lower: float
    upper: float
    cap: float


@dataclass(frozen=True)
class Slope:
    """-dD/dR between two neighbours, and the geometric mean of their own slopes: on a frontier they agree."""

    between: tuple[str, str]
    measured: float
    expected: float
    verdict: Literal["agrees", "differs", "undecided", "outside validity"]


@dataclass(frozen=True)
class Check:
    """One property of a frontier: whether it holds, and the evidence."""

    name: str
    verdict: Verdict
    detail: str


def monotone(points: Sequence[FrontierPoint]) -> Check:
    """With alpha the distortion does not fall and the rate does not rise, within the errors."""
    points = _by_alpha(points)
    broken = [
        f"{low.name} to {high.name}"
        for low, high in pairwise(points)
        if low.distortion - high.distortion > ERRORS * math.hypot(low.distortion_error, high.distortion_error)
        or high.rate - low.rate > ERRORS * math.hypot(low.rate_error, high.rate_error)
    ]
    return _check("monotone", broken, f"D rises and R falls with alpha over {len(points)} points")


def convex(points: Sequence[FrontierPoint]) -> Check:
    """No point lies above the chord of its neighbours, within the errors."""
    ordered = sorted(points, key=lambda point: point.distortion)
    broken = []
    for left, point, right in zip(ordered, ordered[1:], ordered[2:], strict=False):
        if right.distortion <= left.distortion:
            continue
        share = (point.distortion - left.distortion) / (right.distortion - left.distortion)
        slope = (right.rate - left.rate) / (right.distortion - left.distortion)
        above = point.rate - (left.rate + share * (right.rate - left.rate))
        error = math.hypot(
            point.rate_error, (1 - share) * left.rate_error, share * right.rate_error,
            slope * point.distortion_error,
            slope * (1 - share) * left.distortion_error, slope * share * right.distortion_error,
        )  # fmt: skip
        if above > ERRORS * error:
            broken.append(f"{point.name} by {above:.3g} nats")
    return _check("convex", broken, "no point is above the chord of its neighbours")


def slopes(points: Sequence[FrontierPoint]) -> list[Slope]:
    """-dD/dR between neighbours against the geometric mean of their alphas, where both rates can tell."""
    found = []
    for low, high in pairwise(_by_alpha(points)):
        difference = low.rate - high.rate
        expected = math.sqrt(low.slope * high.slope)
        measured = (high.distortion - low.distortion) / difference if difference else math.inf
        valid = all(LEAST_RATE <= point.rate <= point.cap - CAP_MARGIN for point in (low, high))
        # Both ends' errors are taken as independent, and D's as those of a new sample: too wide on purpose.
        error = ERRORS * math.hypot(
            math.hypot(low.distortion_error, high.distortion_error) / difference if difference else math.inf,
            measured * math.hypot(low.rate_error, high.rate_error) / difference if difference else math.inf,
        )
        off = abs(measured - expected) - SLOPE_TOLERANCE * expected
        if not valid:
            verdict: Literal["agrees", "differs", "undecided", "outside validity"] = "outside validity"
        elif off <= 0:
            verdict = "agrees"
        else:
            verdict = "differs" if off > error else "undecided"
        found.append(Slope((low.name, high.name), measured, expected, verdict))
    return found


def slope_check(found: Sequence[Slope]) -> Check:
    """Whether every comparable slope is that of its alphas."""
    counts = {
        verdict: sum(slope.verdict == verdict for slope in found)
        for verdict in ("agrees", "differs", "undecided", "outside validity")
    }
    told = ", ".join(f"{count} {verdict}" for verdict, count in counts.items() if count) or "no neighbours"
    detail = f"-dD/dR within {SLOPE_TOLERANCE:.0%} of the alphas: {told}"
    if counts["differs"]:
        return Check("slope", "violated", detail)
    return Check("slope", "holds" if counts["agrees"] and not counts["undecided"] else "undecided", detail)


def above_labels(points: Sequence[FrontierPoint], entropy: float) -> Check:
    """D + R >= H(Y) on the N points themselves, for labels that the image decides: exact for any classifier.

    D is the sampled cross-entropy, R the exact I_N and H(Y) the entropy of the labels of these N points.
    """
    excess = [point.distortion + point.rate - entropy for point in points]
    broken = [
        f"{point.name} by {-value:.3g} nats"
        for point, value in zip(points, excess, strict=True)
        if -value > ERRORS * math.hypot(point.distortion_error, point.rate_error)
    ]
    detail = f"excess over H(Y) = {entropy:.4f}: {min(excess):.3f} to {max(excess):.3f} nats"
    return _check("D + R >= H(Y)", broken, detail)


def above_curve(points: Sequence[FrontierPoint], bounds: RateBounds) -> Check:
    """No certified rate lies below the exact R(D); the detail says how far above the curve they are."""
    broken, gaps = [], []
    for point in points:
        # The least that R(D) can be at a distortion known only within its error.
        least = bounds(point.distortion + ERRORS * point.distortion_error)[0]
        if point.upper < least:
            broken.append(f"{point.name} by {least - point.upper:.3g} nats")
        gaps.append(point.lower - bounds(max(point.distortion - ERRORS * point.distortion_error, 1e-300))[1])
    at_most = max(0.0, *gaps)
    return _check("on the exact curve", broken, f"rates certified above R(D) by {at_most:.3g} nats at most")


def _by_alpha(points: Sequence[FrontierPoint]) -> list[FrontierPoint]:
    return sorted(points, key=lambda point: point.alpha)


def _check(name: str, broken: Sequence[str], holds: str) -> Check:
    if broken:
        return Check(name, "violated", "; ".join(broken))
    return Check(name, "holds", holds)
