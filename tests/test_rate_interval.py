"""The bounds of the rate against closed forms, each other and the share of channels in which they
hold.
"""

import json
import math

import pytest
import torch

from paradise_cli.core.errors import ParadiseError, UsageError
from paradise_cli.core.randomness import generator
from paradise_cli.information import bounds, rate
from paradise_cli.information.bounds import batch_rates, held_out_rates, pairwise_rates
from paradise_cli.information.gaussian import DiagonalGaussian
from paradise_cli.information.rate import exact_rate
from paradise_cli.information.rate_interval import (
    FEWEST,
    Bound,
    RateInterval,
    rate_interval,
    student,
)


def normal(*shape, key):
    return torch.randn(*shape, generator=generator(key), dtype=torch.float64)


def correlated(n, rho, dimensions=4, key="x"):
    """z|x ~ N(rho x, 1 - rho^2) with x ~ N(0, 1): I(X;Z) = -d/2 log(1 - rho^2)."""
    x = normal(n, dimensions, key=key)
    return DiagonalGaussian(rho * x, torch.full_like(x, math.sqrt(1 - rho**2)))


def cloud(n=300, latent_dim=3):
    """Posteriors of many widths, partly overlapping."""
    sigma = 0.1 + torch.rand(n, latent_dim, generator=generator("sigma"), dtype=torch.float64)
    return DiagonalGaussian(normal(n, latent_dim, key="mu"), sigma)


def apart(n):
    return DiagonalGaussian(torch.arange(float(n))[:, None] * 100, torch.ones(n, 1))


def of(interval: RateInterval, name: str) -> Bound:
    return next(bound for bound in interval.bounds if bound.name == name)


@pytest.mark.parametrize(
    ("rho", "in_batch", "leave_one_out", "stratified", "tolerance"),
    [
        (0.7, 1.304, 1.380, 1.380, (0.04, 0.04, 0.04)),
        (0.95, 3.88, 5.92, 5.46, (0.04, 0.15, 0.10)),
        (0.999, 4.851, 179, 10.81, (0.002, 6, 0.01)),
    ],
)
def test_correlated_gaussians_give_the_check_values(
    rho, in_batch, leave_one_out, stratified, tolerance
):
    """method.md 2.4: d = 4, B = 128, N = 50,000, here the mean of 50 batches."""
    found = [float(v.mean()) for v in batch_rates(correlated(50 * 128, rho), 128, n=50_000)]
    for value, expected, allowed in zip(
        found, (in_batch, leave_one_out, stratified), tolerance, strict=True
    ):
        assert value == pytest.approx(expected, abs=allowed)
    information = -2 * math.log(1 - rho**2)
    assert found[0] <= information + 0.04
    assert found[0] <= math.log(128)
    assert found[1] >= information - 0.04
    assert found[2] <= math.log(50_000)


def test_a_batch_gives_what_its_definitions_say():
    """The noise and the batch are those of the seed; the densities are computed directly."""
    posterior, n = cloud(7, 2), 7
    noise = torch.randn(n, 2, generator=generator(3, "rate batches"), dtype=torch.float64)
    z = posterior.rsample(noise)
    density = torch.stack([DiagonalGaussian(*(t.expand(n, 2) for t in p)).log_prob(z).exp()
                           for p in zip(*posterior, strict=True)], 1)  # fmt: skip
    own, others = density.diagonal(), density - torch.diag(density.diagonal())
    found = batch_rates(posterior, n, n=1000, seed=3)
    expected = (
        own / density.mean(1),
        own / (others.sum(1) / (n - 1)),
        own / (own / 1000 + (999 / 1000) * others.sum(1) / (n - 1)),
    )
    for values, ratio in zip(found, expected, strict=True):
        torch.testing.assert_close(
            values.sort().values, ratio.log().sort().values, rtol=0, atol=1e-12
        )


def test_with_all_points_in_one_batch_the_stratified_estimate_is_the_in_batch_one():
    found = batch_rates(cloud(40), 40)
    torch.testing.assert_close(found.stratified, found.in_batch, rtol=0, atol=1e-12)


def test_identical_posteriors_carry_nothing():
    found = rate_interval(DiagonalGaussian(torch.ones(300, 3), torch.full((300, 3), 0.5)))
    for name in (
        "exact",
        "in-batch",
        "leave-one-out",
        "Bhattacharyya",
        "pairwise KL",
        "stratified",
    ):
        assert of(found, name).nats == pytest.approx(0, abs=1e-12)
    assert of(found, "fitted Gaussian, held out").nats == pytest.approx(0, abs=1e-9)
    # Each half of 150 points would have missed a share s of others with probability 0.00135, that
    # of three standard errors: (1 - s)^150 = 0.00135.
    s = 1 - 0.0013498980316301 ** (1 / 150)
    missed = -s * math.log(s) - (1 - s) * math.log(1 - s) + s * math.log(150)
    assert found.population.lower == 0
    assert found.population.upper == pytest.approx(missed, abs=1e-6)
    assert found.warning is not None and "all posteriors are alike" in found.warning


@pytest.mark.parametrize(("n", "factor"), [(2, 235.8), (4, 9.219), (10, 4.094), (10_000, 3.000)])
def test_margins_of_few_points_are_students(n, factor):
    # Tables of t at a one-sided 0.00135; of one degree of freedom it is a Cauchy's quantile.
    assert student(3.0, n) == pytest.approx(factor, rel=1e-3)


@pytest.mark.parametrize(("n", "most"), [(4, 0.05), (16, 0.025)])
def test_ends_of_few_points_fail_about_as_often_as_the_page_says(n, most):
    """Of 200 samples, and three deviations of their number more."""
    information, samples, wrong = 0.5 * math.log(2), 200, 0
    for seed in range(samples):
        posterior = correlated(n, math.sqrt(0.5), 1, key=f"few {seed}")
        ends = rate_interval(posterior, seed=seed).population
        wrong += not ends.lower <= information <= ends.upper
    assert wrong <= samples * most + 3 * math.sqrt(samples * most * (1 - most))


def test_upper_margins_grow_with_the_skewness_of_their_values():
    # KL to N(0, I) of mu 0, 0, 0 and 2 under sigma 1: 0, 0, 0, 2. Of one in four that differs the
    # skewness is (1 - 2 / 4) / sqrt(3 / 16), and the standard error of the mean is 0.5.
    mu = torch.tensor([0.0, 0.0, 0.0, 2.0], dtype=torch.float64)[:, None]
    bound = of(rate_interval(DiagonalGaussian(mu, torch.ones_like(mu))), "fixed N(0, I)")
    skewness, t = 0.5 / math.sqrt(3 / 16), 9.2186
    expected = 0.5 * (t + skewness / (6 * math.sqrt(4)) * (1 + 2 * t * t))
    assert bound.nats == pytest.approx(0.5) and bound.margin == pytest.approx(expected, rel=1e-4)


def test_few_points_are_said_to_be_few():
    few, enough = rate_interval(correlated(99, 0.9, 2)), rate_interval(correlated(100, 0.9, 2))
    assert few.warning is not None and "99 points show little" in few.warning
    assert enough.warning is None or "show little" not in enough.warning


def test_posteriors_far_apart_sit_at_their_caps_and_say_so():
    found = rate_interval(apart(600), batch_size=64)
    assert of(found, "in-batch").nats == pytest.approx(math.log(64), abs=1e-12)
    for name in ("exact", "Bhattacharyya", "pairwise KL", "stratified"):
        assert of(found, name).nats == pytest.approx(math.log(600), abs=1e-12)
        assert of(found, name).at_cap
    assert found.empirical.lower < found.empirical.upper == math.log(600)
    ends = found.population
    assert ends.cap == math.log(600)
    assert ends.upper > ends.lower + 1
    assert "within 0.1 nat of its cap, 6.40 nats" in found.warning
    assert str(ends).startswith("6.40 (at its cap) to ")


def test_pairwise_bounds_enclose_the_exact_rate_of_the_same_points():
    posterior = cloud(400)
    exact = exact_rate(posterior, draws=64)
    low, high = (float(values.mean()) for values in pairwise_rates(posterior, 400))
    assert low < exact.nats < high
    allowance = 4 * exact.standard_error
    assert high - exact.nats > allowance
    assert exact.nats - low > allowance


def test_pairwise_bounds_are_their_formulas():
    mu, sigma = cloud(30, 2)
    variance = sigma.square()
    both = variance[:, None] + variance
    squared = (mu[:, None] - mu).square()
    distance = (squared / both / 4 + 0.5 * (both / (2 * sigma[:, None] * sigma)).log()).sum(2)
    kl = ((variance[:, None] + squared) / variance / 2 - 0.5 + (sigma / sigma[:, None]).log()).sum(
        2
    )
    found = pairwise_rates(DiagonalGaussian(mu, sigma), 30)
    for values, divergence in zip(found, (distance, kl), strict=True):
        torch.testing.assert_close(
            values, math.log(30) - (-divergence).logsumexp(1), rtol=0, atol=1e-12
        )


def test_a_subset_of_the_rows_agrees_within_its_error():
    posterior = cloud(2000)
    whole = [float(values.mean()) for values in pairwise_rates(posterior, 2000)]
    found = rate_interval(posterior)
    assert found.rows == 512
    for name, expected in zip(("Bhattacharyya", "pairwise KL"), whole, strict=True):
        bound = of(found, name)
        assert 0 < bound.standard_error < 0.1
        assert abs(bound.nats - expected) < 4 * bound.standard_error
    assert of(rate_interval(cloud(512)), "pairwise KL").standard_error == 0  # all rows


def test_the_fixed_prior_and_the_fitted_gaussian_have_closed_forms():
    posterior = correlated(4000, 0.9)
    information = -2 * math.log(1 - 0.9**2)  # the aggregate is N(0, I): both bounds are tight
    assert of(rate_interval(posterior), "fixed N(0, I)").nats == pytest.approx(
        information, abs=0.15
    )
    moved = DiagonalGaussian(3 * posterior.mu + 10, 3 * posterior.sigma)  # only r = N(0, I) minds
    for each in (posterior, moved):
        assert float(held_out_rates(each).mean()) == pytest.approx(information, abs=0.15)
    assert float(moved.kl_to_standard_normal().mean()) > 100


def test_a_fit_to_the_points_it_judges_would_fall_below():
    """Why r is held out: of 100 posteriors with 40 latents, the moments of all give too small a
    bound.
    """
    information = 40 * 0.5 * math.log(2)
    posterior = correlated(100, math.sqrt(0.5), 40)
    mu, sigma = posterior
    covariance = torch.cov(mu.T, correction=0) + torch.diag(sigma.square().mean(0))
    plug_in = bounds.kl_to_gaussian(posterior, mu.mean(0), covariance).mean()
    assert float(plug_in) < information - 1 < information < float(held_out_rates(posterior).mean())


def test_few_points_or_flat_ones_still_give_finite_upper_ends():
    wide = correlated(20, 0.9, 64)
    flat = normal(200, 1, key="line") * torch.tensor([1.0, 1.0])
    for posterior in (wide, DiagonalGaussian(flat, torch.full_like(flat, 1e-9))):
        found = rate_interval(posterior)
        assert math.isfinite(found.population.upper)
        assert found.population.lower <= found.population.upper
        json.dumps(found.to_json(), allow_nan=False)


def channel(number, n):
    """z = A x + noise, x ~ N(0, I), noise ~ N(0, S), S diagonal; and I = 0.5 logdet(1 + S^-1 A
    A^T).
    """
    draw = generator("channel", number)
    latent_dim, dimensions = (int(torch.randint(1, 9, (), generator=draw)) for _ in range(2))
    scale = math.exp(4 * float(torch.rand((), generator=draw)) - 2)
    a = scale * torch.randn(latent_dim, dimensions, generator=draw, dtype=torch.float64)
    sigma = (0.7 * torch.randn(latent_dim, generator=draw, dtype=torch.float64)).exp()
    x = torch.randn(n, dimensions, generator=draw, dtype=torch.float64)
    gram = torch.eye(latent_dim, dtype=torch.float64) + a @ a.T / sigma.square()[:, None]
    return DiagonalGaussian(x @ a.T, sigma.expand(n, latent_dim)), 0.5 * float(
        torch.linalg.slogdet(gram)[1]
    )


def holds(bound: Bound, information: float, allowance: float = 0.0) -> bool:
    assert bound.end is not None
    if bound.side == "lower":
        return bound.end <= information + allowance
    return bound.end >= information - allowance


def test_bounds_hold_in_random_channels():
    """100 of them: in-batch from 20 batches of 128, the rest from 512 points; at least 95% each."""
    kept: dict[str, int] = {}
    for number in range(100):
        posterior, information = channel(number, 20 * 128)
        values = batch_rates(posterior, 128, seed=number).in_batch
        error = float(values.std()) / math.sqrt(len(values))
        batches = Bound("20 batches", "lower", "I(X;Z)", float(values.mean()), error, 3 * error)
        few = DiagonalGaussian(posterior.mu[:512], posterior.sigma[:512])
        found = rate_interval(few, seed=number)
        noise = 3 * found.exact.standard_error
        for bound in (batches, *found.bounds):
            if bound.side != "point":
                population = bound.estimand == "I(X;Z)"
                truth = (information, 0.0) if population else (found.exact.nats, noise)
                kept[bound.name] = kept.get(bound.name, 0) + holds(bound, *truth)
        ends = found.population
        kept["interval"] = kept.get("interval", 0) + (ends.lower <= information <= ends.upper)
    assert len(kept) == 9
    assert all(times >= 95 for times in kept.values()), kept


def test_the_exact_rate_bounds_the_population_with_the_spread_of_the_points():
    """More draws narrow the error of I_N, not that of what the points tell of I(X;Z)."""
    one, many = (rate_interval(cloud(), draws=draws) for draws in (1, 8))
    assert of(one, "exact").standard_error == pytest.approx(one.exact.standard_error)
    assert many.exact.standard_error < 0.6 * one.exact.standard_error
    assert of(many, "exact").standard_error > many.exact.standard_error
    assert (many.exact.draws, many.exact.nats) == (8, pytest.approx(of(many, "exact").nats))


def test_leave_one_out_is_never_an_end():
    found = rate_interval(cloud())
    assert of(found, "leave-one-out").end is None
    ends = {*found.population.bits, *found.empirical.bits}
    assert len(ends) == 4
    names = {e for i in (found.population, found.empirical) for e in (i.lower_by, i.upper_by)}
    assert "leave-one-out" not in names


def test_the_tightest_end_after_margins_is_taken():
    found = rate_interval(cloud())
    ends = [
        bound.end for bound in found.bounds if (bound.side, bound.estimand) == ("upper", "I(X;Z)")
    ]
    assert found.population.upper == min(ends)
    ends = [
        bound.end for bound in found.bounds if (bound.side, bound.estimand) == ("lower", "I(X;Z)")
    ]
    assert found.population.lower == max(ends)
    margin = 1.001 * student(3.0, 300) * found.exact.standard_error
    assert found.empirical.lower >= found.exact.nats - margin
    assert found.empirical.upper <= min(found.exact.nats + margin, math.log(300))
    wider = rate_interval(cloud(), standard_errors=6)
    assert wider.population.lower < found.population.lower
    assert wider.population.upper > found.population.upper


def test_does_not_depend_on_how_the_work_is_cut(monkeypatch):
    posterior, done = cloud(60), []
    whole = rate_interval(posterior, seed=3, batch_size=16)
    monkeypatch.setattr(rate, "CELLS", 60 * 7)
    monkeypatch.setattr(bounds, "CELLS", 60 * 3 * 7)
    cut = rate_interval(posterior, seed=3, batch_size=16, progress=done.append)
    assert (sum(done), max(done)) == (60, 7)
    for one, other in zip(whole.bounds, cut.bounds, strict=True):
        assert other.nats == pytest.approx(one.nats, abs=1e-12), one.name
        assert other.standard_error == pytest.approx(one.standard_error, abs=1e-12)


def test_is_a_function_of_the_seed():
    assert rate_interval(cloud(), seed=1) == rate_interval(cloud(), seed=1)
    one, other = (rate_interval(cloud(600), seed=seed) for seed in (1, 2))
    for a, b in zip(one.bounds, other.bounds, strict=True):
        assert (a.nats == b.nats) == (a.name == "fixed N(0, I)")


def test_json_has_every_bound_with_its_tags_and_bits():
    found = rate_interval(cloud(), batch_size=64)
    value = json.loads(json.dumps(found.to_json(), allow_nan=False))
    assert [bound["name"] for bound in value["bounds"]] == [bound.name for bound in found.bounds]
    for bound in value["bounds"]:
        assert bound["bits"] == pytest.approx(bound["nats"] / math.log(2))
        assert bound.keys() >= {
            "side",
            "estimand",
            "standard_error",
            "margin",
            "cap",
            "end",
            "at_cap",
        }
    assert value["population"]["lower_bits"] == pytest.approx(
        value["population"]["lower"] / math.log(2)
    )
    assert value["settings"] == {
        "batch_size": 64,
        "pairwise_rows": 300,
        "seed": 0,
        "margin_in_standard_errors": 3,
    }


@pytest.mark.parametrize("n", [1, FEWEST - 1])
def test_too_few_points_are_refused(n):
    with pytest.raises(UsageError, match="at least 4"):
        rate_interval(cloud(n))
    assert rate_interval(cloud(FEWEST)).exact.n == FEWEST


@pytest.mark.parametrize(
    "options", [{"batch_size": 1}, {"draws": 0}, {"draws": 10**9}, {"draws": 1.5}, {"seed": 0.5}]
)
def test_impossible_options_are_refused(options):
    with pytest.raises(UsageError, match="must be a whole number from"):
        rate_interval(cloud(), **options)


@pytest.mark.parametrize(
    ("mu", "sigma", "reason"),
    [(1.0, 0.0, "deterministic"), (math.nan, 1.0, "finite"), (1.0, math.inf, "finite")],
)
def test_what_has_no_rate_says_why(mu, sigma, reason):
    with pytest.raises(ParadiseError, match=reason):
        rate_interval(DiagonalGaussian(torch.full((5, 2), mu), torch.full((5, 2), sigma)))


def test_an_unseen_part_is_allowed_for_however_little_the_others_differ():
    """As much as where they are all alike: a hundredth of a width says no more of the rest."""
    alike = torch.zeros(300, 1, dtype=torch.float64)
    jitter = 0.01 * torch.randn(300, 1, generator=generator("jitter"), dtype=torch.float64)
    ends = [
        rate_interval(DiagonalGaussian(mu, torch.ones_like(mu))).population.upper
        for mu in (alike, jitter)
    ]
    assert ends[1] == pytest.approx(ends[0], rel=0.01)


def test_the_upper_end_of_i_n_allows_for_rows_that_were_not_looked_at(monkeypatch):
    """Of 200 posteriors four are apart and the others equal: 8 rows hardly ever hold one of them.

    Then p(z|x) is known from z but for the 196 that are equal: I_N = log 200 - 0.98 log 196.
    """
    monkeypatch.setattr("paradise_cli.information.rate_interval.PAIRWISE_ROWS", (8, 8))
    mu = torch.zeros(200, 1, dtype=torch.float64)
    mu[:4, 0] = 1000.0 * torch.arange(1, 5)
    information = math.log(200) - 0.98 * math.log(196)
    for seed in range(20):
        found = rate_interval(DiagonalGaussian(mu, torch.ones_like(mu)), seed=seed)
        assert found.rows == 8
        assert found.empirical.lower <= information <= found.empirical.upper
