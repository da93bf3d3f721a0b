"""A measured rate-distortion frontier against what theory says of one (method.md 2.6, 6)."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal, get_args

from paradise_cli.core.units import significant

ERRORS = 3.0  # standard errors that every comparison allows
SLOPE_TOLERANCE = 0.25  # of the slope that two alphas ask for
TINY = 1e-300
LEAST_RATE = 0.1  # nats, from which a slope is comparable with alpha

Verdict = Literal["holds", "violated", "undecided"]
SlopeVerdict = Literal["agrees", "differs", "undecided", "outside validity"]
RateBounds = Callable[[float], tuple[float, float]]


@dataclass(frozen=True)
class FrontierPoint:
    """One alpha: distortion, exact rate I_N, certified ends of I(X;Z); errors are standard errors.

    `slope` is the distortion that training gives up per nat there: alpha, or 2 alpha R for D +
    alpha R^2. `cap` is the largest rate that the training's q and the N points let show, and
    `comparable` the one up to which they show it well enough for a slope, in nats.
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
    comparable: float


@dataclass(frozen=True)
class Slope:
    """-dD/dR between two neighbours, and the mean of their slopes: equal on a frontier."""

    between: tuple[str, str]
    measured: float
    expected: float
    verdict: SlopeVerdict


@dataclass(frozen=True)
class FrontierCheck:
    """One property of a frontier: whether it holds, and the evidence."""

    name: str
    verdict: Verdict
    detail: str


def monotone(points: Sequence[FrontierPoint]) -> FrontierCheck:
    """With alpha the distortion does not fall and the rate does not rise, within the errors."""
    if len(points) < 2:
        return FrontierCheck("monotone", "undecided", "fewer than 2 points")
    points = _by_alpha(points)
    broken = [
        f"{low.name} to {high.name}"
        for low, high in pairwise(points)
        if low.distortion - high.distortion
        > ERRORS * math.hypot(low.distortion_error, high.distortion_error)
        or high.rate - low.rate > ERRORS * math.hypot(low.rate_error, high.rate_error)
    ]
    return _check("monotone", broken, f"D rises and R falls with alpha over {len(points)} points")


def convex(points: Sequence[FrontierPoint]) -> FrontierCheck:
    """No point lies above its neighbours' chord, within errors; rates near a cap are left out."""
    ordered = sorted(
        (point for point in points if point.rate <= point.comparable),
        key=lambda point: point.distortion,
    )
    if len(ordered) < 3:
        return FrontierCheck(
            "convex", "undecided", "fewer than 3 points whose rate is well below its cap"
        )
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
    return _check(
        "convex", broken, f"none of {len(ordered)} points is above the chord of its neighbours"
    )


def slopes(points: Sequence[FrontierPoint]) -> list[Slope]:
    """-dD/dR between neighbours, beside the geometric mean of their own slopes.

    The measured slope takes R for I_N. It `differs` where no slope that the certified ends of the
    rates and the errors of D allow would agree.
    """
    return [_slope(low, high) for low, high in pairwise(_by_alpha(points))]


def _slope(low: FrontierPoint, high: FrontierPoint) -> Slope:
    fall, rise = low.rate - high.rate, high.distortion - low.distortion
    expected = math.sqrt(low.slope * high.slope)
    measured = rise / fall if fall else math.inf
    error = ERRORS * math.hypot(low.distortion_error, high.distortion_error)
    least = (rise - error) / (low.upper - high.lower) if low.upper > high.lower else -math.inf
    most = (rise + error) / (low.lower - high.upper) if low.lower > high.upper else math.inf
    verdict: SlopeVerdict
    if not expected or not all(
        LEAST_RATE <= point.rate <= point.comparable for point in (low, high)
    ):
        verdict = "outside validity"
    elif abs(measured - expected) <= SLOPE_TOLERANCE * expected:
        verdict = "agrees"
    elif most < (1 - SLOPE_TOLERANCE) * expected or least > (1 + SLOPE_TOLERANCE) * expected:
        verdict = "differs"
    else:
        verdict = "undecided"
    return Slope((low.name, high.name), measured, expected, verdict)


def slope_check(found: Sequence[Slope]) -> FrontierCheck:
    """Whether every comparable slope is that of its alphas."""
    verdicts = [slope.verdict for slope in found]
    counts = {verdict: verdicts.count(verdict) for verdict in get_args(SlopeVerdict)}
    tally = ", ".join(f"{count} {verdict}" for verdict, count in counts.items() if count)
    detail = f"-dD/dR within {SLOPE_TOLERANCE:.0%} of the alphas, {len(found)} neighbours: {tally}"
    if counts["differs"]:
        return FrontierCheck("slope", "violated", detail)
    agreed = counts["agrees"] and not counts["undecided"]
    return FrontierCheck("slope", "holds" if agreed else "undecided", detail)


def above_labels(points: Sequence[FrontierPoint], entropy: float) -> FrontierCheck:
    """D + R >= H(Y) on the N points, for labels that x decides: exact for any classifier.

    D is the sampled cross-entropy, R the exact I_N and H(Y) the entropy of the labels of these N
    points.
    """
    excess = [point.distortion + point.rate - entropy for point in points]
    broken = [
        f"{point.name} by {-value:.3g} nats"
        for point, value in zip(points, excess, strict=True)
        if -value > ERRORS * math.hypot(point.distortion_error, point.rate_error)
    ]
    least, most = significant(min(excess)), significant(max(excess))
    detail = f"excess over H(Y) = {entropy:.4f}: {least} to {most} nats"
    return _check("D + R >= H(Y)", broken, detail)


def above_curve(points: Sequence[FrontierPoint], bounds: RateBounds) -> FrontierCheck:
    """No certified rate lies below the exact R(D); the detail says how far above it they are."""
    broken = []
    heights = []
    for point in points:
        error = ERRORS * point.distortion_error
        # The least and the most that R(D) can be at a distortion known only within its error.
        least = bounds(point.distortion + error)[0]
        most = bounds(max(point.distortion - error, TINY))[1]
        if point.upper < least:
            broken.append(f"{point.name} by {least - point.upper:.3g} nats")
        heights.append((point.lower - most, point.name))
    height, name = max(heights)
    holds = "no point is certainly above"
    if height > 0:
        holds = f"{name} is at least {height:.3g} nats above"
    return _check("not below R(D)", broken, holds)


def _by_alpha(points: Sequence[FrontierPoint]) -> list[FrontierPoint]:
    return sorted(points, key=lambda point: point.alpha)


def _check(name: str, broken: Sequence[str], holds: str) -> FrontierCheck:
    if broken:
        return FrontierCheck(name, "violated", "; ".join(broken))
    return FrontierCheck(name, "holds", holds)
