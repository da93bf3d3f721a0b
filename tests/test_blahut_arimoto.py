"""Exact rate-distortion: closed forms, certified bounds, an independent package, and what it
refuses.
"""

import itertools
import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from paradise_cli.core.errors import UsageError
from paradise_cli.information import closed_forms
from paradise_cli.information.blahut_arimoto import STEEPEST, DiscreteSource, blahut_arimoto
from paradise_cli.information.closed_forms import shannon_lower_bound
from paradise_cli.information.known_sources import (
    KnownSource,
    banana,
    bernoulli,
    gaussian,
    laplacian,
    measured,
    uniform,
)
from paradise_cli.theory.rate_distortion import default_slopes, solve

LOG_2 = math.log(2)


def tensor(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def random_source(n: int, m: int, seed: int) -> DiscreteSource:
    draw = np.random.default_rng(seed)
    return DiscreteSource(
        torch.tensor(draw.dirichlet(np.ones(n))), torch.tensor(draw.random((n, m)))
    )


@pytest.mark.parametrize(
    "known", [bernoulli(0.5), bernoulli(0.3), bernoulli(0.01), uniform(2), uniform(5), uniform(64)],
    ids=lambda known: known.name,
)  # fmt: skip
def test_finite_closed_forms_lie_between_the_bounds(known: KnownSource) -> None:
    assert known.closed_form is not None
    curve = blahut_arimoto(
        known.source, torch.logspace(-1, 1.5, 10, dtype=torch.float64), tolerance=1e-9
    )
    assert len(curve.points) == 10
    for point in curve.points:
        assert point.gap <= 1e-9
        exact = known.closed_form.rate(point.distortion)
        assert point.lower - 1e-12 <= exact <= point.upper + 1e-12


@pytest.mark.parametrize(
    ("build", "per_slope", "least"),
    [(gaussian, 0.5, 0.31), (laplacian, 1.0, 0.61)],
    ids=["gaussian", "laplacian"],
)
def test_grids_approach_the_closed_form_as_they_get_finer(
    build, per_slope: float, least: float
) -> None:
    slopes = per_slope / torch.linspace(least, 0.95, 10, dtype=torch.float64)
    errors = []
    for letters in (201, 401):  # 6 steps of the first are at most `least`
        known = build(1.0, letters)
        curve = blahut_arimoto(known.source, slopes, tolerance=1e-5)
        assert max(point.gap for point in curve.points) <= 1e-5
        exact = [known.rate(point.distortion) for point in curve.points]
        middle = [(point.lower + point.upper) / 2 for point in curve.points]
        errors.append(max(abs(a - b) for a, b in zip(middle, exact, strict=True)))
    assert errors[0] <= 5e-3 and errors[1] < errors[0] / 2


@pytest.mark.parametrize(
    ("form", "slope", "distortion", "rate"),
    [  # method.md 1.3
        (closed_forms.bernoulli(0.5), 2, 0.119203, 0.327813),
        (closed_forms.bernoulli(0.3), 2, 0.119203, 0.245530),
        (closed_forms.uniform(5), 2, 0.351214, 0.474356),
        (closed_forms.gaussian([1.7]), 1 / 0.6, 0.3, 0.8673),  # alpha .6
        (closed_forms.gaussian([4.0, 1.0, 0.1]), 1.0, 0.5 + 0.5 + 0.1, 2 * LOG_2),
        (closed_forms.laplacian(2.0), 4, 0.25, math.log(8)),
    ],
)  # fmt: skip
def test_closed_forms_at_their_published_values(
    form, slope: float, distortion: float, rate: float
) -> None:
    assert form.distortion(slope) == pytest.approx(distortion, abs=1e-6)
    assert form.rate(form.distortion(slope)) == pytest.approx(rate, abs=5e-5)
    assert form.rate(form.d_max) == pytest.approx(0, abs=1e-12) and form.rate(2 * form.d_max) == 0
    step = 1e-6
    slope_there = (form.rate(distortion - step) - form.rate(distortion + step)) / (2 * step)
    assert slope_there == pytest.approx(slope, rel=1e-4)


def test_a_balanced_distortion_is_solved_at_once() -> None:
    d = tensor(0, 1, 3, 2, 5)
    source = DiscreteSource(
        torch.full((5,), 0.2, dtype=torch.float64), torch.stack([d.roll(k) for k in range(5)])
    )
    (point,) = blahut_arimoto(source, tensor(0.7), tolerance=1e-12).points
    weights = torch.softmax(-0.7 * d, 0)
    assert point.iterations == 0
    assert point.distortion == pytest.approx(float(weights @ d), abs=1e-14)
    assert point.upper == pytest.approx(
        math.log(5) + float((weights * weights.log()).sum()), abs=1e-14
    )


def test_the_shannon_lower_bound_is_a_gaussians_rate_and_below_a_uniform_densitys() -> None:
    entropy = 0.5 * math.log(2 * math.pi * math.e * 1.7)
    assert shannon_lower_bound(entropy, 0.3) == pytest.approx(
        closed_forms.gaussian([1.7]).rate(0.3)
    )
    letters = torch.linspace(0, 1, 401, dtype=torch.float64)
    source = measured(torch.full((401,), 1 / 401, dtype=torch.float64), "squared", letters)
    (point,) = blahut_arimoto(source, tensor(50.0), tolerance=1e-4).points
    assert (
        shannon_lower_bound(0.0, point.distortion) < point.upper
    )  # differential entropy of U(0, 1) is 0


@pytest.mark.parametrize("seed", range(20))
def test_the_independent_package_dit_agrees(seed: int) -> None:
    dit = pytest.importorskip(
        "dit.rate_distortion.blahut_arimoto", reason="the test extra installs dit"
    )
    # dit stops when D moves by less than 1e-5 of itself: letters that vanish slowly would end it
    # early.
    n = 2 + seed % 6
    drawn = random_source(n, n, seed)
    source = DiscreteSource(drawn.probabilities, (1 + drawn.distortion).fill_diagonal_(0))
    slope = 2 + seed / 4
    d = source.distortion.numpy()
    theirs, _ = dit.blahut_arimoto(
        source.probabilities.numpy(),
        slope / LOG_2,
        distortion=lambda p, q: d,
        max_iters=2000,
        restarts=1,
    )
    value = LOG_2 * theirs.rate + slope * theirs.distortion
    (point,) = blahut_arimoto(source, tensor(slope), tolerance=1e-9).points
    assert point.lower + slope * point.distortion - 1e-9 <= value
    assert value <= point.upper + slope * point.distortion + 5e-4


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 6), st.integers(1, 6), st.integers(0, 10**6), st.floats(0.01, 1e4))
def test_bounds_hold_for_any_source_and_slope(n: int, m: int, seed: int, slope: float) -> None:
    source = random_source(n, m, seed)
    (short,) = blahut_arimoto(source, tensor(slope), max_iterations=2, tolerance=1e-12).points
    (long,) = blahut_arimoto(source, tensor(slope), tolerance=1e-9).points
    value = long.upper + slope * long.distortion
    assert short.lower + slope * short.distortion <= value + 1e-9
    assert value <= short.upper + slope * short.distortion + 1e-9 + long.gap
    assert short.gap >= 0 and short.iterations <= 2


@pytest.mark.parametrize("memory", [0, 8])
def test_the_objective_never_rises_and_the_start_does_not_matter(memory: int) -> None:
    source = random_source(12, 9, 3)
    values = []
    for iterations in range(12):
        (point,) = blahut_arimoto(
            source, tensor(5.0), tolerance=0.0, max_iterations=iterations, memory=memory
        ).points
        values.append(point.upper + 5 * point.distortion)
    assert all(later <= earlier + 1e-12 for earlier, later in itertools.pairwise(values))
    cold, warm = (
        blahut_arimoto(
            source, torch.logspace(0, 2, 30, dtype=torch.float64), warm_start=warm, tolerance=1e-8
        )
        for warm in (False, True)
    )
    for a, b in zip(cold.points, warm.points, strict=True):
        assert a.upper + a.slope * a.distortion == pytest.approx(
            b.upper + b.slope * b.distortion, abs=3e-8
        )


def test_letters_that_never_occur_change_nothing() -> None:
    known = bernoulli(0.3)
    padded = DiscreteSource(
        torch.cat([known.source.probabilities, tensor(0.0)]),
        torch.cat([known.source.distortion, tensor(7.0, 9.0)[None]]),
    )
    assert blahut_arimoto(padded, tensor(2.0)) == blahut_arimoto(known.source, tensor(2.0))


def test_huge_slopes_neither_overflow_nor_end_early() -> None:
    source = random_source(7, 5, 1)
    end, steep = blahut_arimoto(source, tensor(1e6, STEEPEST), tolerance=1e-9).points[::-1]
    p, d = source.supported()
    assert end.distortion == pytest.approx(float(p @ d.min(1).values), abs=1e-15)
    best = torch.zeros(5, dtype=torch.float64).index_add_(
        0, d.argmin(1), p
    )  # no ties: z is a function of x
    assert end.upper == pytest.approx(float(-torch.special.xlogy(best, best).sum()), abs=1e-9)
    assert steep.upper == pytest.approx(end.upper, abs=1e-8)


def test_a_budget_that_does_not_suffice_gives_the_gap_it_reached() -> None:
    (point,) = blahut_arimoto(
        laplacian(1.0, 101).source, tensor(1.2), tolerance=1e-12, max_iterations=3
    ).points
    assert point.iterations == 3 and point.gap > 1e-12
    assert point.lower <= point.upper and point.gap == pytest.approx(point.upper - point.lower)


def test_the_envelope_holds_the_curve_everywhere() -> None:
    known = bernoulli(0.3)
    assert known.closed_form is not None
    curve = blahut_arimoto(known.source, tensor(0.9, 1.5, 3, 6, STEEPEST), tolerance=1e-9)
    for d in np.linspace(0, 0.35, 50):
        lower, upper = curve.rate_between(float(d))
        assert lower - 1e-9 <= known.closed_form.rate(float(d)) <= upper + 1e-9
    for rate in np.linspace(0, 0.6, 50):
        lower, upper = curve.distortion_between(float(rate))
        assert known.closed_form.rate(upper) - 1e-9 <= rate <= known.closed_form.rate(lower) + 1e-9
    _, rates = curve.hull()
    assert (np.diff(rates) < 0).all()


def test_a_straight_piece_is_answered_from_its_chord() -> None:
    """An erased letter costs 1/2: between D = 0 and D = 1/2 the curve of a fair coin is a line."""
    source = DiscreteSource(
        tensor(0.5, 0.5), torch.tensor([[0, 50.0, 0.5], [50.0, 0, 0.5]], dtype=torch.float64)
    )
    curve = blahut_arimoto(source, tensor(0.5, 10.0, STEEPEST), tolerance=1e-12)
    lower, upper = curve.rate_between(0.25)
    assert upper == pytest.approx(0.5 * LOG_2, abs=1e-9)
    straight = curve.joined(blahut_arimoto(source, tensor(2 * LOG_2), tolerance=1e-12))
    assert straight.rate_between(0.25)[0] == pytest.approx(0.5 * LOG_2, abs=1e-6)
    assert lower <= upper


def test_a_large_number_does_for_what_may_never_happen() -> None:
    """A fair coin that may be erased for 1 and never be wrong: R(D) = (1 - D) log 2."""
    d = torch.tensor([[0, 1e6, 1.0], [1e6, 0, 1.0]], dtype=torch.float64)
    source = DiscreteSource(tensor(0.5, 0.5), d)
    curve = blahut_arimoto(source, tensor(0.1, LOG_2, 2.0), tolerance=1e-12)
    assert curve.rate_between(0.25) == pytest.approx((0.75 * LOG_2, 0.75 * LOG_2), abs=1e-6)


def test_probabilities_may_be_rounded_as_float32_and_six_digits_are() -> None:
    p = torch.softmax(torch.arange(50.0) / 7, 0)  # whose sum is one but for float32
    for rounded in (p.double(), (p.double() * 1e6).round() / 1e6):
        source = DiscreteSource(rounded, torch.ones(50, 2, dtype=torch.float64))
        assert float(source.supported()[0].sum()) == pytest.approx(1, abs=1e-15)


@pytest.mark.parametrize(
    ("p", "d", "message"),
    [
        (tensor(0.5, 0.6), torch.zeros(2, 2), r"must sum to 1; these sum to 1\.1"),
        (tensor(1.5, -0.5), torch.zeros(2, 2), r"number 1 is not"),
        (tensor(0.5, math.nan), torch.zeros(2, 2), r"numbers >= 0; number 1"),
        (tensor(0.5, 0.5), torch.tensor([[0, 1.0], [-1.0, 0]]), r"d\[1, 0\] is -1\.0"),
        (tensor(0.5, 0.5), torch.tensor([[0, 1.0], [math.nan, 0]]), r"d\[1, 0\] is nan"),
        (
            tensor(0.5, 0.5),
            torch.tensor([[0, math.inf], [1.0, 0]]),
            r"d\[0, 1\] is inf.*such as 1e6",
        ),
        (tensor(0.5, 0.5), torch.zeros(3, 2), r"\[2\] and distortion \[3, 2\] do not fit"),
        (tensor(), torch.zeros(0, 2), r"do not fit"),
    ],
)
def test_sources_that_are_none_are_refused(p: Tensor, d: Tensor, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        DiscreteSource(p, d.double())


@pytest.mark.parametrize(
    "slopes", [tensor(), tensor(0.0), tensor(1.0, -1.0), tensor(math.nan), tensor(math.inf)]
)
def test_slopes_that_are_none_are_refused(slopes: Tensor) -> None:
    with pytest.raises(UsageError, match="slopes must be"):
        blahut_arimoto(bernoulli(0.5).source, slopes)


def scaled(known: KnownSource, factor: float) -> KnownSource:
    """The same letters, with a distortion in another unit."""
    source = DiscreteSource(known.source.probabilities, factor * known.source.distortion)
    return KnownSource(known.name, source, least_resolved=factor * known.least_resolved)


LETTERS = torch.tensor([0.0, 1.0, 2.5, 7.0], dtype=torch.float64)
SKEWED = torch.tensor([0.4, 0.3, 0.2, 0.1], dtype=torch.float64)


def letters_of(measure: str, scale: float) -> KnownSource:
    return KnownSource("letters", measured(SKEWED, measure, scale * LETTERS))


# What a source is when its x is `scale` times as large, and the power of it that D then is.
SCALED: dict[str, tuple[Callable[[float], KnownSource], float]] = {
    "gaussian": (lambda scale: gaussian(1.7 * scale, 101), 2),
    "laplacian": (lambda scale: laplacian(0.6 * scale, 201), 1),
    "squared": (lambda scale: letters_of("squared", scale), 2),
    "absolute": (lambda scale: letters_of("absolute", scale), 1),
    "hamming": (lambda scale: letters_of("hamming", scale), 0),
    "bernoulli": (lambda scale: scaled(bernoulli(0.3), scale), 1),
    "uniform": (lambda scale: scaled(uniform(5), scale), 1),
    "banana": (lambda scale: scaled(banana(), scale**2), 2),
}


SCALES = [2.0**-24, 1e-7, 0.1, 1e4, 2.0**40]
# The banana has the most letters by far.
UNITS = [(name, scale) for name in SCALED for scale in (SCALES if name != "banana" else [0.1])]


@pytest.mark.parametrize(("name", "scale"), UNITS)
def test_a_rate_does_not_depend_on_the_unit(name: str, scale: float) -> None:
    build, power = SCALED[name]
    unit = scale**power
    one, other = build(1.0), build(scale)
    assert other.least_resolved == pytest.approx(unit * one.least_resolved, rel=1e-9)
    assert other.is_grid == one.is_grid
    # A power of two is exact in floating point: every number must then be the same to the last bit.
    exact = scale in (2.0**-24, 2.0**40)
    few = {"tolerance": 1e-3, "max_iterations": 30}
    slopes, theirs = default_slopes(one, 3), default_slopes(other, 3)
    assert theirs == pytest.approx([slope / unit for slope in slopes], rel=1e-9)
    at = (one.least_resolved + 0.2, 0.4)
    first = solve(one, slopes, **few, distortions=[at[0]], rates=[at[1]])
    second = solve(
        other, [slope / unit for slope in slopes], **few, distortions=[unit * at[0]], rates=[at[1]]
    )
    near = 1e-12 if exact else 1e-6
    for here, there in zip(first.curve.points, second.curve.points, strict=True):
        assert there.distortion == pytest.approx(unit * here.distortion, rel=near, abs=near * unit)
        assert (there.lower, there.upper) == pytest.approx((here.lower, here.upper), abs=near)
    rate, distortion = second.answers
    assert (rate.lower, rate.upper) == pytest.approx(
        (first.answers[0].lower, first.answers[0].upper), abs=near
    )
    assert (distortion.lower / unit, distortion.upper / unit) == pytest.approx(
        (first.answers[1].lower, first.answers[1].upper), abs=near
    )
    for mine, his in zip(first.rows(), second.rows(), strict=True):
        assert (mine["slope"] is None) == (his["slope"] is None)
        assert (mine["closed_form_nats"] is None) == (his["closed_form_nats"] is None)
