"""The exact empirical rate against closed forms and the formula computed one point at a time."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from paradise_cli.core.errors import ParadiseError
from paradise_cli.core.randomness import generator
from paradise_cli.information import mixture, rate
from paradise_cli.information.gaussian import DiagonalGaussian
from paradise_cli.information.rate import exact_rate, point_rates


def normal(*shape, key):
    return torch.randn(*shape, generator=generator(key), dtype=torch.float64)


def direct(posterior, noise):
    """The definition, one point at a time, in float64."""
    mu, sigma = posterior.double()
    n = len(mu)
    rows = []
    for i in range(n):
        z = mu[i] + sigma[i] * noise[i]
        standard = (z - mu) / sigma
        log_p = -0.5 * standard.square().sum(1) - sigma.log().sum(
            1
        )  # up to a constant that cancels
        rows.append(log_p[i] - log_p.logsumexp(0) + math.log(n))
    return torch.stack(rows)


def neighbours(n, latent_dim, scale, shift=0.0):
    """Pairs of posteriors a fraction of their sigma apart, all else far away: the hardest
    cancellation.
    """
    mu = normal(n, latent_dim, key="mu") + shift
    sigma = scale * (
        0.5 + torch.rand(n, latent_dim, generator=generator("sigma"), dtype=torch.float64)
    )
    sigma[1::2] = sigma[::2]
    mu[1::2] = mu[::2] + 0.1 * sigma[::2] * normal(n // 2, latent_dim, key="between")
    return DiagonalGaussian(mu, sigma)


def test_far_apart_posteriors_carry_log_n_nats():
    measured = exact_rate(DiagonalGaussian(torch.arange(50.0)[:, None] * 100, torch.ones(50, 1)))
    assert measured.nats == pytest.approx(math.log(50), abs=1e-12)
    assert measured.nats <= measured.cap == math.log(50)
    assert (measured.n, measured.draws) == (50, 1)


def test_identical_posteriors_carry_nothing():
    mu = normal(1, 6, key="one").expand(40, 6)
    measured = exact_rate(DiagonalGaussian(mu, torch.full((40, 6), 0.3)))
    assert measured.nats == pytest.approx(0, abs=1e-12)
    assert measured.standard_error == pytest.approx(0, abs=1e-12)


def test_groups_of_identical_posteriors_carry_the_entropy_of_the_group():
    sizes = torch.tensor([10, 30, 60])
    mu = torch.repeat_interleave(torch.tensor([-100.0, 0.0, 100.0]), sizes)[:, None]
    share = sizes / sizes.sum()
    entropy = -(share * share.log()).sum()
    assert exact_rate(DiagonalGaussian(mu, torch.ones(100, 1))).nats == pytest.approx(
        float(entropy)
    )


def test_a_single_point_has_rate_zero():
    measured = exact_rate(DiagonalGaussian(torch.ones(1, 3), torch.ones(1, 3)))
    assert (measured.nats, measured.standard_error, measured.cap) == (0, 0, 0)


def test_correlated_gaussians_give_nearly_their_mutual_information():
    """method.md 2.4: z|x ~ N(rho x, 1 - rho^2), d = 4, I = -2 log(1 - rho^2); I_N falls short a
    little.
    """
    rho = 0.7
    x = normal(4000, 4, key="source")
    measured = exact_rate(DiagonalGaussian(rho * x, torch.full_like(x, math.sqrt(1 - rho**2))))
    information = -2 * math.log(1 - rho**2)
    assert abs(measured.nats - information) < 4 * measured.standard_error + 0.02
    assert 0 < measured.standard_error < 0.05


@pytest.mark.parametrize(
    ("scale", "shift", "tolerance"),
    [(1.0, 0, 1e-10), (1e-3, 0, 1e-6), (1e-3, 5, 1e-6), (1e-5, 5, 1e-3)],
)
def test_equals_the_definition_down_to_tiny_sigma(scale, shift, tolerance):
    posterior, noise = neighbours(64, 256, scale, shift), normal(64, 256, key="noise")
    found, expected = point_rates(posterior, noise), direct(posterior, noise)
    assert (expected < math.log(64) - 0.1).any()  # neighbours do overlap
    torch.testing.assert_close(found, expected, rtol=0, atol=tolerance)


def test_a_log_density_matrix_alone_would_miss_the_bound(monkeypatch):
    """The recomputed pairs are what keeps 1e-3 at sigma = 1e-5 of the scale."""
    posterior, noise = neighbours(64, 256, 1e-5, 5), normal(64, 256, key="noise")
    exact = (point_rates(posterior, noise) - direct(posterior, noise)).abs().max()
    monkeypatch.setattr(mixture, "CANCELLATION", math.inf)
    products = (point_rates(posterior, noise) - direct(posterior, noise)).abs().max()
    assert exact < 1e-7 < products


def test_does_not_depend_on_how_the_work_is_cut(monkeypatch):
    posterior = neighbours(60, 5, 0.5)
    whole = exact_rate(posterior, seed=3)
    monkeypatch.setattr(rate, "CELLS", 60 * 7)
    done = []
    cut = exact_rate(posterior, seed=3, progress=done.append)
    assert cut.nats == pytest.approx(whole.nats, abs=1e-12)
    assert (sum(done), max(done)) == (60, 7)


def test_noise_is_a_function_of_the_seed():
    posterior = neighbours(60, 5, 0.5)
    assert exact_rate(posterior, seed=1) == exact_rate(posterior, seed=1)
    assert exact_rate(posterior, seed=1) != exact_rate(posterior, seed=2)


def test_more_draws_narrow_the_error_and_agree():
    posterior = neighbours(50, 3, 1.0)
    one, many = exact_rate(posterior, seed=0), exact_rate(posterior, seed=1, draws=16)
    assert many.standard_error < one.standard_error / 3
    assert abs(one.nats - many.nats) < 4 * one.standard_error
    spread = torch.tensor([exact_rate(posterior, seed=s, draws=4).nats for s in range(40)]).std()
    assert float(spread) == pytest.approx(exact_rate(posterior, draws=4).standard_error, rel=0.5)


@settings(max_examples=30, deadline=None)
@given(
    n=st.integers(1, 12),
    latent_dim=st.integers(1, 5),
    scale=st.floats(1e-3, 1e3),
    shift=st.floats(-10, 10),
    key=st.integers(0, 10**6),
)
def test_never_above_log_n_and_blind_to_shift_and_scale(n, latent_dim, scale, shift, key):
    mu, noise = normal(n, latent_dim, key=key), normal(n, latent_dim, key=key + 1)
    sigma = 0.05 + torch.rand(n, latent_dim, generator=generator(key, "sigma"), dtype=torch.float64)
    rates = point_rates(DiagonalGaussian(mu, sigma), noise)
    moved = point_rates(DiagonalGaussian(mu * scale + shift, sigma * scale), noise)
    assert (rates <= math.log(n) + 1e-12).all()
    torch.testing.assert_close(moved, rates, rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("mu", "sigma", "reason"),
    [(1.0, 0.0, "deterministic"), (math.nan, 1.0, "finite"), (1.0, math.inf, "finite")],
)
def test_what_has_no_rate_says_why(mu, sigma, reason):
    with pytest.raises(ParadiseError, match=reason):
        exact_rate(DiagonalGaussian(torch.full((3, 2), mu), torch.full((3, 2), sigma)))
