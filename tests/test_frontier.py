"""The verdict on a frontier: closed-form frontiers pass, each kind of damage is named."""

import dataclasses
import math
from collections.abc import Callable
from itertools import pairwise

import pytest

from paradise_cli.core.units import BITS
from paradise_cli.information import closed_forms
from paradise_cli.information.frontier import (
    FrontierCheck,
    FrontierPoint,
    above_curve,
    above_labels,
    convex,
    monotone,
    slope_check,
    slopes,
)
from paradise_cli.sweep.beside import bits_needed
from paradise_cli.sweep.result import SweepResult

FORM = closed_forms.gaussian([4.0, 1.0])
ALPHAS = [0.1 * 40 ** (k / 8) for k in range(9)]


def point(alpha: float, *, error: float = 1e-3) -> FrontierPoint:
    """The point of the Gaussian frontier where -dD/dR is alpha."""
    d = FORM.distortion(1 / alpha)
    r = FORM.rate(d)
    ends = r - error, r + error, math.inf, math.inf
    return FrontierPoint(f"alpha = {alpha:.3g}", alpha, alpha, d, error, r, error, *ends)


FRONTIER = [point(alpha) for alpha in ALPHAS]


def damaged(index: int, **changes: float) -> list[FrontierPoint]:
    return [dataclasses.replace(p, **changes) if k == index else p for k, p in enumerate(FRONTIER)]


def test_a_known_frontier_holds_in_every_respect() -> None:
    assert monotone(FRONTIER).verdict == "holds"
    assert convex(FRONTIER).verdict == "holds"
    assert above_curve(FRONTIER, lambda d: (FORM.rate(d),) * 2).verdict == "holds"
    assert slope_check(slopes(FRONTIER)).verdict == "holds"


def test_slopes_of_the_gaussian_are_the_alphas() -> None:
    """Where no variance is under water, -dD/dR is the logarithmic mean of the alphas, near the
    geometric.
    """
    for slope, (low, high) in zip(slopes(FRONTIER), pairwise(ALPHAS), strict=True):
        if high <= 2.0:  # both variances above the level alpha / 2
            assert slope.measured == pytest.approx((high - low) / math.log(high / low), rel=1e-9)
        assert slope.expected == pytest.approx(math.sqrt(low * high))


def test_a_distortion_that_falls_is_named() -> None:
    check = monotone(damaged(4, distortion=FRONTIER[3].distortion - 0.1))
    assert check.verdict == "violated"
    assert f"{FRONTIER[3].name} to {FRONTIER[4].name}" in check.detail


def test_a_point_above_the_chord_is_named_with_its_height() -> None:
    """Raised by the chord's own height over it and 0.2 nats."""
    left, middle, right = FRONTIER[3:6]
    share = (middle.distortion - left.distortion) / (right.distortion - left.distortion)
    chord = left.rate + share * (right.rate - left.rate)
    check = convex(damaged(4, rate=chord + 0.2))
    assert check.verdict == "violated" and f"{middle.name} by 0.2 nats" in check.detail


def test_errors_are_allowed_three_times() -> None:
    fallen = FRONTIER[3].distortion - 0.1
    assert monotone(damaged(4, distortion=fallen, distortion_error=0.034)).verdict == "holds"
    assert monotone(damaged(4, distortion=fallen, distortion_error=0.033)).verdict == "violated"


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [
        ({}, {}, "agrees"),
        ({}, {"slope": 8.0}, "differs"),
        ({}, {"slope": 8.0, "lower": 0.0, "upper": 9.0}, "undecided"),
        ({"slope": 0.0}, {}, "outside validity"),
        ({"comparable": FRONTIER[3].rate - 0.1}, {}, "outside validity"),
        ({}, {"rate": 0.09}, "outside validity"),
    ],
)
def test_slope_verdicts(low: dict[str, float], high: dict[str, float], verdict: str) -> None:
    pair = [dataclasses.replace(FRONTIER[3], **low), dataclasses.replace(FRONTIER[4], **high)]
    assert slopes(pair)[0].verdict == verdict


def test_two_points_of_one_rate_have_no_finite_slope() -> None:
    same = [FRONTIER[3], dataclasses.replace(FRONTIER[3], distortion=FRONTIER[4].distortion)]
    assert slopes(same)[0].measured == math.inf and slopes(same)[0].verdict == "differs"


@pytest.mark.parametrize(
    ("excess", "verdict"), [(0.0, "holds"), (-0.0042, "holds"), (-0.0043, "violated")]
)
def test_labels_bound_distortion_plus_rate(excess: float, verdict: str) -> None:
    """Three standard errors of both, each 1e-3, are 0.00424."""
    entropy = math.log(10)
    on_line = [dataclasses.replace(FRONTIER[0], rate=entropy - 0.5 + excess, distortion=0.5)]
    assert above_labels(on_line, entropy).verdict == verdict


def test_a_rate_certified_below_the_curve_is_a_contradiction() -> None:
    upper = FORM.rate(FRONTIER[2].distortion) - 0.2
    check = above_curve(damaged(2, upper=upper), lambda d: (FORM.rate(d),) * 2)
    assert check.verdict == "violated" and FRONTIER[2].name in check.detail


def test_the_height_over_the_curve_is_told() -> None:
    above = damaged(2, lower=FRONTIER[2].rate + 0.5, distortion_error=0.0)
    assert (
        f"{FRONTIER[2].name} is at least 0.5 nats above"
        in above_curve(above, lambda d: (FORM.rate(d),) * 2).detail
    )


@pytest.mark.parametrize("check", [monotone, convex])
def test_too_few_points_decide_nothing(
    check: Callable[[list[FrontierPoint]], FrontierCheck],
) -> None:
    assert check(FRONTIER[:1]).verdict == "undecided"


def test_a_rate_that_its_cap_flattens_is_no_witness_against_convexity() -> None:
    """The exact curve cut at 2 nats turns down there."""
    capped = [dataclasses.replace(p, rate=min(p.rate, 2.0), comparable=1.9) for p in FRONTIER]
    blind = [dataclasses.replace(p, comparable=math.inf) for p in capped]
    assert convex(capped).verdict == "holds"
    assert convex(blind).verdict == "violated"


def row_of(accuracy: float, margin: float, bits: float, **more: float) -> dict[str, float]:
    nats = bits / BITS
    ends = {"rate_lower": 0.9 * nats, "rate_upper": 1.1 * nats}
    shares = {"accuracy_low": accuracy - margin, "accuracy_high": accuracy + margin}
    return {"accuracy": accuracy, "rate": nats, **shares, **ends, **more}


def result_of(*rows: dict[str, float]) -> SweepResult:
    return SweepResult("photos", "mine, test", "test", 100, "nats", rows, (), (), ())


def test_the_bits_that_classes_need_are_the_fewest_that_reach_the_best_accuracy() -> None:
    """The interval of 0.78 reaches 0.8, that of 0.7 does not, and more bits are no better."""
    rows = [
        row_of(0.79, 0.03, 20, alpha=0.1), row_of(0.8, 0.03, 10, alpha=0.3),
        row_of(0.78, 0.03, 2, alpha=1), row_of(0.7, 0.03, 1, alpha=3),
    ]  # fmt: skip
    assert bits_needed(result_of(*rows, {"error": 1.0}), 10) == (
        "10 classes need 1.8 to 2.2 bits, with accuracy 78.0% (75.0% to 81.0%), at alpha = 1; the"
        " best accuracy, 80.0%, is within its interval; at alpha = 0.1, 18 to 22 bits are kept"
    )
    assert bits_needed(result_of(row_of(0.9, 0.1, 4, alpha=1)), 2) == (
        "2 classes need 3.6 to 4.4 bits, with accuracy 90.0% (80.0% to 100.0%), at alpha = 1"
    )
    assert bits_needed(result_of({"rate": 1.0}), 2) is None
