"""Posteriors with a full covariance: torch's own densities, diagonal ones, and rates that no linear
map of z may change.
"""

import math
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from pyarrow import parquet
from torch import Tensor
from torch.distributions import MultivariateNormal, kl_divergence

import paradise_cli
from paradise_cli.build import build_data, build_info, build_model
from paradise_cli.core.errors import UsageError
from paradise_cli.core.randomness import generator
from paradise_cli.evaluation.evaluate import measure
from paradise_cli.evaluation.nuisance import measure_nuisance
from paradise_cli.evaluation.posterior_files import read_posterior
from paradise_cli.evaluation.posterior_report import report
from paradise_cli.figures.posterior import _drawable
from paradise_cli.inference.encoding import encode_to_file
from paradise_cli.information.bounds import held_out_rates, pairwise_rates
from paradise_cli.information.gaussian import (
    DiagonalGaussian,
    FullGaussian,
    aggregate_moments,
    kl_matrix,
    kl_to_gaussian,
    log_density_matrix,
)
from paradise_cli.information.rate import exact_rate, point_rates
from paradise_cli.objective.rates import RATES
from paradise_cli.recipe.check import RecipeError
from paradise_cli.recipe.schema import load_recipe

CPU = torch.device("cpu")
F64 = torch.float64
FULL = "model.covariance=full"


def normal(*shape: int, key: str) -> Tensor:
    return torch.randn(*shape, generator=generator("full", key), dtype=F64)


def diagonal(n: int = 40, k: int = 3) -> DiagonalGaussian:
    return DiagonalGaussian(2 * normal(n, k, key="mu"), normal(n, k, key="sigma").exp())


def full(n: int = 7, k: int = 4) -> FullGaussian:
    factor = torch.tril(normal(n, k, k, key="factor"), -1)
    return FullGaussian(
        normal(n, k, key="mu"), factor + torch.diag_embed(normal(n, k, key="sigma").exp())
    )


def mapped(posterior: DiagonalGaussian, matrix: Tensor) -> FullGaussian:
    """What a linear map of z makes of posteriors."""
    roots = matrix * posterior.sigma[:, None]
    return FullGaussian(posterior.mu @ matrix.T, torch.linalg.cholesky(roots @ roots.mT))


def theirs(posterior: FullGaussian) -> MultivariateNormal:
    return MultivariateNormal(posterior.mu, scale_tril=posterior.factor)


def test_it_is_torchs_normal_distribution() -> None:
    posterior, other = full(), full(5)
    known = theirs(posterior)
    z = normal(7, 4, key="z")
    equal = torch.testing.assert_close
    equal(posterior.entropy(), known.entropy())
    equal(posterior.log_prob(z), known.log_prob(z))
    equal(posterior.sigma.square(), known.variance)
    equal(posterior.rsample(z), known.mean + torch.einsum("bkl,bl->bk", posterior.factor, z))
    equal(log_density_matrix(z, other), theirs(other).log_prob(z[:, None]))
    pairs = [[float(kl_divergence(_at(known, i), _at(theirs(other), j))) for j in range(5)]
             for i in range(7)]  # fmt: skip
    equal(kl_matrix(posterior, other), torch.tensor(pairs, dtype=F64))
    standard = MultivariateNormal(torch.zeros(4, dtype=F64), torch.eye(4, dtype=F64))
    equal(posterior.kl_to_standard_normal(), kl_divergence(known, standard))
    mean, covariance = aggregate_moments(other)
    equal(
        kl_to_gaussian(posterior, mean, covariance),
        kl_divergence(known, MultivariateNormal(mean, covariance)),
    )
    centred = other.mu - mean
    spread = theirs(other).covariance_matrix + centred[:, :, None] * centred[:, None]
    equal(covariance, spread.mean(0))


def _at(distribution: MultivariateNormal, row: int) -> MultivariateNormal:
    return MultivariateNormal(distribution.mean[row], scale_tril=distribution.scale_tril[row])


def test_without_correlations_it_is_the_diagonal_one() -> None:
    plain = diagonal()
    same = FullGaussian(plain.mu, torch.diag_embed(plain.sigma))
    z = plain.rsample(normal(40, 3, key="noise"))
    assert torch.equal(same.marginals().mu, plain.mu)
    torch.testing.assert_close(same.marginals().sigma, plain.sigma)
    for q in ("batch", "pairwise", "fitted", "fixed"):
        ours, known = (RATES[q](3).train()(each, z) for each in (same, plain))
        torch.testing.assert_close(ours.loss, known.loss)
        torch.testing.assert_close(ours.rate, known.rate)


@pytest.mark.parametrize("q", ["batch", "pairwise", "fitted"])
def test_a_linear_map_of_z_changes_no_rate(q: str) -> None:
    plain, matrix = diagonal(), normal(3, 3, key="map")
    z = plain.rsample(normal(40, 3, key="noise"))
    # A q that is fitted knows the moments of this batch alone in its first step.
    known = RATES[q](3).train()(plain, z)
    found = RATES[q](3).train()(mapped(plain, matrix), z @ matrix.T)
    torch.testing.assert_close(found.rate, known.rate)


def test_a_linear_map_of_z_changes_nothing_that_is_measured() -> None:
    plain, matrix = diagonal(60), normal(3, 3, key="map")
    moved, noise = mapped(plain, matrix), normal(60, 3, key="noise")
    # The noise that leads to the same z: L^-1 A diag(sigma) is a rotation.
    turned = torch.linalg.solve(moved.factor, matrix * plain.sigma[:, None])
    torch.testing.assert_close(
        point_rates(moved, (turned @ noise[:, :, None]).squeeze(2)), point_rates(plain, noise)
    )
    for found, known in zip(pairwise_rates(moved, 60), pairwise_rates(plain, 60), strict=True):
        torch.testing.assert_close(found, known)
    torch.testing.assert_close(held_out_rates(moved), held_out_rates(plain))


def test_posteriors_a_fraction_of_their_width_apart_far_from_zero_lose_no_digits() -> None:
    """Where the two matrix products cancel, densities are taken directly."""
    plain = DiagonalGaussian(
        1e6 + 1e-3 * normal(30, 2, key="mu"), torch.full((30, 2), 1e-3).double()
    )
    matrix = torch.tensor([[1.0, 0.0], [3.0, 1.0]], dtype=F64)
    centred = DiagonalGaussian(plain.mu - 1e6, plain.sigma)
    torch.testing.assert_close(
        pairwise_rates(mapped(plain, matrix), 30).kl,
        pairwise_rates(mapped(centred, matrix), 30).kl,
        atol=1e-6,
        rtol=0,
    )


def test_an_encoder_of_full_posteriors_starts_as_a_diagonal_one() -> None:
    info = build_info(load_recipe("digits").recipe)
    plain, tilted = (
        build_model(load_recipe("digits", changes).recipe, info) for changes in ([], [FULL])
    )
    known = plain.state_dict()
    assert all(torch.equal(value, tilted.state_dict()[name]) for name, value in known.items())
    images = torch.rand(6, *info.shape, generator=generator("images"))
    posterior = tilted.encode(images)
    assert torch.equal(posterior.factor, posterior.factor.tril())
    torch.testing.assert_close(
        posterior.factor.diagonal(dim1=1, dim2=2), plain.encode(images).sigma
    )
    posterior.entropy().sum().backward()  # of the diagonal alone
    assert float(tilted.tilt.weight.grad.abs().sum()) == 0
    tilted.encode(images).sigma.sum().backward()
    assert float(tilted.tilt.weight.grad.abs().sum()) > 0


def test_what_is_measured_is_the_rate_of_the_correlated_posteriors() -> None:
    """Against torch's own densities; that of the marginals is another number."""
    recipe = load_recipe("digits", [FULL]).recipe
    info, data = build_info(recipe), build_data(recipe)
    model = build_model(recipe, info)
    # Strong correlations, and means that differ.
    model.tilt.weight.data.mul_(20)
    model.mu.weight.data.mul_(20)
    found = measure(model, recipe, info, data.test, device=CPU, draws=20)
    posterior, exact = found.posterior.double(), found.evaluation.rate.exact
    noise = normal(360, 2, key="other noise")
    densities = theirs(posterior).log_prob(posterior.rsample(noise)[:, None])
    rates = densities.diagonal() - densities.logsumexp(1) + math.log(360)
    error = float(rates.std()) / math.sqrt(360)
    assert abs(float(rates.mean()) - exact.nats) < 4 * math.hypot(error, exact.standard_error)
    alone = exact_rate(posterior.marginals(), draws=20)
    assert abs(alone.nats - exact.nats) > 10 * math.hypot(
        alone.standard_error, exact.standard_error
    )


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("full") / "run"
    paradise_cli.train("digits", overrides=[FULL, "train.epochs=4"], out=folder, device="cpu")
    return folder


def test_it_trains_saves_and_encodes_what_each_latent_is_by_itself(run: Path) -> None:
    model = paradise_cli.load(run)
    images = torch.rand(5, 1, 8, 8, generator=generator("images"))
    posterior = model.model.encode(images)
    assert isinstance(posterior, FullGaussian)
    encoded = model.encode(images)
    torch.testing.assert_close(torch.as_tensor(encoded.mean), posterior.mu.detach())
    log_variance = 2 * posterior.sigma.detach().log()
    torch.testing.assert_close(torch.as_tensor(encoded.log_variance), log_variance)
    torch.testing.assert_close(torch.as_tensor(encoded.scale_tril), posterior.factor.detach())


@pytest.mark.parametrize("suffix", [".npz", ".safetensors"])
def test_a_file_of_embeddings_has_the_rate_of_its_model(
    run: Path, suffix: str, tmp_path: Path
) -> None:
    model = paradise_cli.load(run)
    source = model.open("digits:test")
    out = encode_to_file(model, source, tmp_path / f"z{suffix}").out
    posterior, _ = read_posterior(out)
    assert isinstance(posterior, FullGaussian)
    measured = paradise_cli.evaluate(model).rate
    assert measured is not None
    upper = measured.population.upper
    assert report(posterior).rate.population.upper == pytest.approx(upper, rel=1e-5)
    encoded = model.encode("digits:test")
    again = paradise_cli.rate(encoded.mean, scale_tril=encoded.scale_tril).rate
    assert again.population.upper == pytest.approx(upper, rel=1e-5)
    # What is left without the correlations is another channel.
    alone = paradise_cli.rate(encoded.mean, log_variance=encoded.log_variance).rate
    assert alone.population.upper < upper - 0.01


def test_parquet_and_draws_have_the_correlations_too(run: Path, tmp_path: Path) -> None:
    model = paradise_cli.load(run)
    source = model.open("digits:test")
    out = encode_to_file(model, source, tmp_path / "z.parquet", samples=500).out
    rows = parquet.read_table(out, columns=["mean", "scale_tril", "samples"]).to_pylist()
    lower, mean = np.array(rows[0]["scale_tril"]), np.array(rows[0]["mean"])
    standard = np.linalg.solve(lower, (np.array(rows[0]["samples"]) - mean).T)
    # Standard normal: 500 of them in each latent, uncorrelated, within five standard errors.
    assert np.abs(standard.mean(1)).max() < 5 / math.sqrt(500)
    assert np.abs(np.cov(standard) - np.eye(2)).max() < 5 * math.sqrt(2 / 500)


@pytest.mark.parametrize(
    ("factor", "message"),
    [
        (np.ones((3, 2)), r"scale_tril is \[3, 2\] of type"),
        (np.ones((3, 2, 2)), "numbers above the diagonal"),
        (np.tril(np.full((3, 2, 2), np.nan)), "scale_tril: row 0, dimension 0 is not finite"),
        (np.tril(-np.ones((3, 2, 2))), "has a negative sigma"),
        (np.zeros((3, 2, 2)), "has sigma = 0"),
        (np.array([[[1, 0], [np.inf, 1]]] * 3), "is not finite"),
    ],
)
def test_what_is_no_cholesky_factor_is_refused(factor: np.ndarray, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        paradise_cli.rate(np.zeros((3, 2)), scale_tril=factor)


def test_views_move_full_posteriors_as_they_move_each_latent(run: Path) -> None:
    model = paradise_cli.load(run)
    data = build_data(model.recipe)
    measured = measure(model.model, model.recipe, model.info, data.test, device=CPU)
    found = measure_nuisance(model.model, measured, data.test, device=CPU)
    apart = [row.shift for row in found.rows]
    # The images differ: an interval without a width would be of something else.
    assert all(0 < shift.value < 100 * (shift.high - shift.low) for shift in apart)


def test_one_latent_has_nothing_to_tilt() -> None:
    recipe = load_recipe("digits", [FULL, "model.latent_dim=1"]).recipe
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = build_model(recipe, build_info(recipe))
    assert isinstance(model.encode(torch.rand(2, 1, 8, 8)), DiagonalGaussian)


def test_ellipses_lie_along_their_own_axes() -> None:
    """Standard deviations 3 along 30 degrees and 1 across."""
    turn = math.radians(30)
    rotation = torch.tensor([[math.cos(turn), -math.sin(turn)], [math.sin(turn), math.cos(turn)]])
    roots = rotation.double() @ torch.diag(torch.tensor([3.0, 1.0], dtype=F64))
    posterior = FullGaussian(
        torch.zeros(1, 2).double(), torch.linalg.cholesky(roots @ roots.T)[None]
    )
    _, sigma, (axes,), (angle,) = _drawable(posterior)
    long = int(axes.argmax())
    assert sorted(axes) == pytest.approx([1, 3])
    assert (angle + 90 * long) % 180 == pytest.approx(30)
    assert sigma[0].tolist() == pytest.approx([math.sqrt(7), math.sqrt(3)])


VIEWS = "views=[{name: corner, eps: 0.1}, {name: corner, eps: 0.1}]"
BAD = {
    "deterministic": (["model.stochastic=false", "objective.alpha=0"], "model.stochastic: true"),
    "too many latents": (["model.latent_dim=65"], "at most 64 latents"),
    "bank": (["objective.rate={q: bank}"], "objective.rate.q: a bank keeps diagonal posteriors"),
    "distances": (
        [VIEWS, "objective.matching={distance: l1, gamma: 1}"],
        "objective.matching.of: distances are of diagonal posteriors",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_what_needs_diagonal_posteriors_is_refused(case: str) -> None:
    changes, message = BAD[case]
    with pytest.raises(RecipeError) as caught:
        load_recipe("digits", [FULL, *changes])
    assert message in str(caught.value)


def test_z_is_not_rounded_where_the_network_is_in_bf16():
    """A narrow direction is narrower than a bf16 product of its wide neighbours is exact."""
    factor = torch.tensor([[1.0, 0.0], [1.0, 1e-4]]).expand(50, 2, 2)
    posterior = FullGaussian(torch.zeros(50, 2), factor)
    noise = torch.randn(50, 2, generator=generator("narrow"))
    with torch.autocast("cpu", torch.bfloat16):
        z = posterior.rsample(noise)
    assert z.dtype == torch.float32
    torch.testing.assert_close(z[:, 1] - z[:, 0], 1e-4 * noise[:, 1], rtol=0, atol=1e-6)
