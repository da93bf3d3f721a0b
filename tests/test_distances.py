"""Every distance, row by row: axioms, scale, closed forms against sampling and torch's own."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
import scipy.linalg
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.distributions import Categorical, Normal, kl_divergence

from paradise_cli.core.randomness import generator
from paradise_cli.information.distances import DISTANCES, Distance
from paradise_cli.information.gaussian import DiagonalGaussian

F64 = torch.float64
B, K = 5, 3


@dataclass(frozen=True)
class Row:
    """A distance and what is claimed of it; `shape_only`: also the raw form knows no scale."""

    name: str
    of: str
    symmetric: bool = True
    shape_only: bool = False
    hyper: dict[str, Any] = field(default_factory=dict)

    def make(self) -> Distance:
        return DISTANCES[self.name](**self.hyper)

    def draw(self, *key: int | str, n: int = B, k: int = K) -> Any:
        """What it compares, of n images."""
        draw = generator("a distance", n, k, *key)
        centre = torch.randn(n, k, generator=draw, dtype=F64)
        if self.of == "outputs":
            return 2 * centre
        return DiagonalGaussian(centre, 0.2 + torch.rand(n, k, generator=draw, dtype=F64))

    def moved(self, values: Any, factor: float, shift: float) -> Any:
        """The same values after z -> factor z + shift, or the same of logits."""
        if self.of == "outputs":
            return factor * values + shift
        return DiagonalGaussian(factor * values.mu + shift, abs(factor) * values.sigma)


ROWS = {
    "l1": Row("l1", "posterior"),
    "l1, normalised": Row("l1", "posterior", shape_only=True, hyper={"normalise": True}),
    "wasserstein": Row("wasserstein", "posterior"),
    "wasserstein, normalised": Row(
        "wasserstein", "posterior", shape_only=True, hyper={"normalise": True}
    ),
    "symmetric_kl": Row("symmetric_kl", "posterior", shape_only=True),
    "bhattacharyya": Row("bhattacharyya", "posterior", shape_only=True),
    "hellinger": Row("hellinger", "posterior", shape_only=True),
    "kl": Row("kl", "outputs", symmetric=False),
    "squared": Row("squared", "outputs"),
}
# Logit squeezing is no distance: it makes both outputs small, however alike they are.
NOT_A_DISTANCE = {"norm"}
table = pytest.mark.parametrize("row", ROWS.values(), ids=ROWS)
latent = pytest.mark.parametrize(
    "row", [r for r in ROWS.values() if r.of == "posterior"], ids=lambda row: row.name
)


def test_every_distance_has_a_row() -> None:
    assert {row.name for row in ROWS.values()} | NOT_A_DISTANCE == set(DISTANCES)
    for row in ROWS.values():
        assert row.make().of == row.of


@table
def test_it_is_a_value_for_each_image_zero_where_they_are_equal(row: Row) -> None:
    a, b, distance = row.draw("a"), row.draw("b"), row.make()
    for form in (distance.per_example, distance.scale_free):
        assert form(a, b).shape == (B,)
        assert form(a, b).min() > 1e-3
        torch.testing.assert_close(form(a, a), torch.zeros(B, dtype=F64), rtol=0, atol=0)


@table
@settings(deadline=None, max_examples=20)
@given(step=st.floats(1e-6, 1e3), column=st.integers(0, K - 1), sign=st.sampled_from([-1, 1]))
def test_no_change_however_small_is_lost(row: Row, step: float, column: int, sign: int) -> None:
    """Of a mean, a width or a logit alone, in either direction."""
    distance, a = row.make(), row.draw("a")
    changed = torch.zeros(B, K, dtype=F64)
    changed[:, column] = step
    moved = [a + sign * changed] if row.of == "outputs" else [
        DiagonalGaussian(a.mu + sign * changed, a.sigma),
        DiagonalGaussian(a.mu, a.sigma + changed),
    ]  # fmt: skip
    for b in moved:
        assert distance.per_example(a, b).min() > 0
        assert distance.scale_free(a, b).min() > 0


@table
def test_the_order_matters_only_where_it_is_said_to(row: Row) -> None:
    a, b, distance = row.draw("a"), row.draw("b"), row.make()
    for form in (distance.per_example, distance.scale_free):
        forth, back = form(a, b), form(b, a)
        if row.symmetric:
            torch.testing.assert_close(forth, back, rtol=1e-12, atol=0)
        else:
            assert (forth - back).abs().min() > 1e-3


@table
@settings(deadline=None, max_examples=20)
@given(factor=st.floats(1e-3, 1e3), sign=st.sampled_from([-1, 1]), shift=st.floats(-10, 10))
def test_the_scale_free_form_knows_no_scale(
    row: Row, factor: float, sign: int, shift: float
) -> None:
    if row.name == "kl":
        # Softmax knows no shift; its scale is the prediction itself.
        factor, sign = 1.0, 1
    a, b, distance = row.draw("a", n=16), row.draw("b", n=16), row.make()
    moved_a, moved_b = (row.moved(values, sign * factor, shift) for values in (a, b))
    forms = [distance.scale_free] + [distance.per_example] * row.shape_only
    for form in forms:
        torch.testing.assert_close(form(moved_a, moved_b), form(a, b), rtol=1e-8, atol=0)


def test_the_raw_form_of_the_others_falls_with_the_scale() -> None:
    """The loophole that the other form closes: L1 by the factor, squares by its square."""
    for name, power in (("l1", 1), ("wasserstein", 2), ("squared", 2)):
        row, distance = ROWS[name], ROWS[name].make()
        a, b = row.draw("a"), row.draw("b")
        small = distance.per_example(row.moved(a, 0.1, 0), row.moved(b, 0.1, 0))
        torch.testing.assert_close(small, 0.1**power * distance.per_example(a, b))


@table
def test_the_gradient_is_a_number_where_both_are_equal(row: Row) -> None:
    distance = row.make()
    for form in (distance.per_example, distance.scale_free):
        a, b = (_leaves(row.draw("same")) for _ in range(2))
        form(a[0], b[0]).sum().backward()
        for leaf in [*a[1], *b[1]]:
            torch.testing.assert_close(leaf.grad, torch.zeros_like(leaf), rtol=0, atol=1e-12)


@table
def test_the_gradient_is_the_slope_and_reaches_both(row: Row) -> None:
    a, b = (_leaves(row.draw(name)) for name in ("a", "b"))

    def value(*leaves: Tensor) -> Tensor:
        half = len(leaves) // 2
        pair = [
            part[0] if row.of == "outputs" else DiagonalGaussian(*part)
            for part in (leaves[:half], leaves[half:])
        ]
        return DISTANCES[row.name]().per_example(*pair)

    assert torch.autograd.gradcheck(value, [*a[1], *b[1]])


@latent
def test_the_scale_is_a_constant_of_the_gradient(row: Row) -> None:
    """Else spreading the batch out would lower the distance, and match nothing."""
    a, b = (_leaves(row.draw(name)) for name in ("a", "b"))
    row.make().scale_free(a[0], b[0]).sum().backward()
    if row.name in ("l1", "wasserstein"):
        together = torch.cat([a[0].mu, b[0].mu]).detach()
        scale = together.std(0, correction=0)
        shift = (a[0].mu - b[0].mu).detach()
        expected = shift.sign() / scale if row.name == "l1" else 2 * shift / scale.square()
        torch.testing.assert_close(a[0].mu.grad, expected / K)


def _leaves(values: Any) -> tuple[Any, list[Tensor]]:
    """The values with gradients, and the tensors these arrive at."""
    parts = [
        part.clone().requires_grad_()
        for part in ([values] if isinstance(values, Tensor) else values)
    ]
    return (parts[0] if isinstance(values, Tensor) else DiagonalGaussian(*parts)), parts


def test_l1_and_wasserstein_by_hand() -> None:
    """mu differs by 3 and -1, sigma by 0 and 2: |.| has mean 6/2, squares have mean 14/2."""
    a = DiagonalGaussian(torch.tensor([[3.0, 0.0]]), torch.tensor([[1.0, 3.0]]))
    b = DiagonalGaussian(torch.tensor([[0.0, 1.0]]), torch.tensor([[1.0, 1.0]]))
    assert DISTANCES["l1"]().per_example(a, b).item() == 3
    assert DISTANCES["wasserstein"]().per_example(a, b).item() == 7
    # The deviations of mu over two points are 1.5 and 0.5, half of how far these lie apart.
    assert DISTANCES["l1"]().scale_free(a, b).item() == pytest.approx((3 / 1.5 + 3 / 0.5) / 2)
    assert DISTANCES["wasserstein"]().scale_free(a, b).item() == pytest.approx(
        (9 / 1.5**2 + 5 / 0.5**2) / 2
    )


def test_wasserstein_is_the_frechet_distance_of_dowson_and_landau() -> None:
    row = ROWS["wasserstein"]
    a, b = row.draw("a"), row.draw("b")
    expected = []
    for mu, sigma, other_mu, other_sigma in zip(*a, *b, strict=True):
        first, second = (np.diag(s.square().numpy()) for s in (sigma, other_sigma))
        root = scipy.linalg.sqrtm(first)
        cross = scipy.linalg.sqrtm(root @ second @ root)
        shift = (mu - other_mu).square().sum().item()
        expected.append((shift + np.trace(first + second - 2 * cross)) / K)
    torch.testing.assert_close(
        row.make().per_example(a, b), torch.tensor(expected, dtype=F64), rtol=1e-10, atol=0
    )


def test_divergences_are_those_of_torch() -> None:
    a, b = (ROWS["symmetric_kl"].draw(name) for name in ("a", "b"))
    forth, back = (kl_divergence(Normal(*p), Normal(*q)).sum(1) for p, q in ((a, b), (b, a)))
    torch.testing.assert_close(DISTANCES["symmetric_kl"]().per_example(a, b), forth + back)
    logits, others = (ROWS["kl"].draw(name) for name in ("a", "b"))
    expected = kl_divergence(Categorical(logits=logits), Categorical(logits=others))
    torch.testing.assert_close(DISTANCES["kl"]().per_example(logits, others), expected)


Sampled = Callable[[Tensor], Tensor]
# Each as the mean over z ~ p of a function of log p'(z) / p(z), and what follows from that mean.
BY_SAMPLING: dict[str, tuple[Sampled, Callable[[Tensor], Tensor]]] = {
    "bhattacharyya": (lambda ratio: (ratio / 2).exp(), lambda mean: -mean.log()),
    "hellinger": (lambda ratio: (ratio / 2).exp(), lambda mean: 1 - mean),
    # KL(p || p') and, by the weight p' / p, KL(p' || p).
    "symmetric_kl": (lambda ratio: ratio.exp() * ratio - ratio, lambda mean: mean),
}


@pytest.mark.parametrize("name", BY_SAMPLING)
def test_closed_forms_agree_with_sampling(name: str) -> None:
    draws = 200_000
    a = ROWS[name].draw("a")
    # Near enough that the weights p' / p have a variance.
    b = DiagonalGaussian(a.mu + 0.2, 1.15 * a.sigma)
    noise = torch.randn(draws, B, K, generator=generator("sampling", name), dtype=F64)
    z = a.mu + a.sigma * noise
    ratio = (Normal(*b).log_prob(z) - Normal(*a).log_prob(z)).sum(2)  # [draws, B]
    sample, result = BY_SAMPLING[name]
    values = sample(ratio)
    error = 4 * values.std(0) / math.sqrt(draws)
    closed = DISTANCES[name]().per_example(a, b)
    low, high = (result(values.mean(0) + sign * error) for sign in (-1, 1))
    assert (torch.minimum(low, high) <= closed).all()
    assert (closed <= torch.maximum(low, high)).all()
    # The tolerance is a small part of what is compared.
    assert ((high - low).abs() < 0.2 * closed).all()


def test_a_hidden_scale_is_no_way_out_of_an_unused_latent() -> None:
    """A latent whose means hardly differ does not outweigh those that carry the image."""
    mu = torch.randn(64, 2, generator=generator("unused"), dtype=F64)
    used, unused = (
        DiagonalGaussian(mu, torch.ones_like(mu)),
        DiagonalGaussian(mu.clone(), mu * 0 + 1.1),
    )
    for posterior in (used, unused):
        posterior.mu[:, 1] *= 1e-9
    # The width of the unused one is off by 0.1 where the noise is 1: the floor is a tenth of it.
    value = DISTANCES["l1"]().scale_free(used, unused)
    noise = (1 + 1.1**2) / 2
    expected = 0.1 / mu[:, 0].std(correction=0) + 0.1 / (0.1 * math.sqrt(noise))
    torch.testing.assert_close(value, (expected / 2).expand(64))


def test_encoders_without_noise_and_constant_ones_have_a_distance() -> None:
    still = DiagonalGaussian(torch.randn(4, K, generator=generator("still")), torch.zeros(4, K))
    near = DiagonalGaussian(still.mu + 1, still.sigma)
    constant = DiagonalGaussian(torch.ones(4, K), torch.zeros(4, K))
    for name in ("l1", "wasserstein"):
        distance = DISTANCES[name]()
        torch.testing.assert_close(distance.per_example(still, near), torch.ones(4))
        assert distance.scale_free(still, near).isfinite().all()
        assert distance.scale_free(constant, constant).equal(torch.zeros(4))


@table
def test_float32_keeps_its_digits_under_autocast(row: Row) -> None:
    """Also where both are close, which is what a matched network has."""
    a = row.draw("a", n=8)
    if row.of == "outputs":
        b = a + 1e-2 * row.draw("b", n=8)
    else:
        b = DiagonalGaussian(a.mu + 1e-2, a.sigma * 1.01)
    single = [
        v.float() if isinstance(v, Tensor) else DiagonalGaussian(*(x.float() for x in v))
        for v in (a, b)
    ]
    distance = row.make()
    for form in (distance.per_example, distance.scale_free):
        with torch.autocast("cpu", torch.bfloat16):
            value = form(*single)
        assert value.dtype == torch.float32
        # KL is a difference of log-probabilities of size 1, and has their absolute error.
        within = 2e-7 if row.name == "kl" else 0
        torch.testing.assert_close(value.double(), form(a, b), rtol=2e-4, atol=within)


def test_logit_squeezing_is_the_mean_of_two_norms() -> None:
    a, b = torch.tensor([[3.0, 4.0]]), torch.tensor([[0.0, 1.0]])
    distance = DISTANCES["norm"]()
    assert distance.per_example(a, b).item() == 3
    assert distance.scale_free(a, b).item() == 3
    start = torch.zeros(2, 3, requires_grad=True)
    distance.per_example(start, start).sum().backward()
    assert start.grad is not None and start.grad.isfinite().all()
