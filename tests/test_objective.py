"""Densities, distortions, rates and their sum, against closed forms and direct computation."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.distributions import MultivariateNormal, Normal, kl_divergence

from paradise_cli.core.errors import UsageError
from paradise_cli.core.randomness import generator
from paradise_cli.information.gaussian import DiagonalGaussian, kl_to_gaussian, log_density_matrix
from paradise_cli.objective.distortions import DISTORTIONS, Distortion
from paradise_cli.objective.objective import Objective, Task
from paradise_cli.objective.rates import RATES, Rate, RateValue

F64 = torch.float64


def posteriors(n: int, k: int, *key: int | str, spread: float = 1.0) -> DiagonalGaussian:
    draw = generator("test", n, k, *key)
    mu = spread * torch.randn(n, k, generator=draw, dtype=F64)
    return DiagonalGaussian(mu, torch.rand(n, k, generator=draw, dtype=F64) + 0.2)


def direct(z: Tensor, q: DiagonalGaussian) -> Tensor:
    return Normal(q.mu, q.sigma).log_prob(z[:, None]).sum(-1)


@settings(deadline=None, max_examples=25)
@given(m=st.integers(1, 9), n=st.integers(1, 9), k=st.integers(1, 12), shift=st.floats(-100, 100))
def test_two_products_equal_the_direct_density_wherever_the_latents_lie(m, n, k, shift) -> None:
    q = posteriors(n, k)
    z = torch.randn(m, k, generator=generator("z"), dtype=F64)
    moved = DiagonalGaussian(q.mu + shift, q.sigma)
    torch.testing.assert_close(
        log_density_matrix(z + shift, moved), direct(z, q), rtol=0, atol=1e-8
    )


def test_entropy_and_log_prob_are_those_of_torch() -> None:
    q = posteriors(5, 7)
    z = q.rsample(torch.randn(5, 7, generator=generator("z"), dtype=F64))
    torch.testing.assert_close(q.entropy(), Normal(q.mu, q.sigma).entropy().sum(1))
    torch.testing.assert_close(q.log_prob(z), Normal(q.mu, q.sigma).log_prob(z).sum(1))


def test_kl_to_a_gaussian_is_the_textbook_one() -> None:
    q = posteriors(6, 4)
    factor = torch.randn(4, 4, generator=generator("factor"), dtype=F64)
    mean, covariance = (
        torch.randn(4, dtype=F64, generator=generator("mean")),
        factor @ factor.T + torch.eye(4),
    )
    expected = kl_divergence(
        MultivariateNormal(q.mu, torch.diag_embed(q.sigma.square())),
        MultivariateNormal(mean, covariance),
    )
    torch.testing.assert_close(kl_to_gaussian(q, mean, covariance), expected)


def test_fixed_rate_is_the_analytic_kl() -> None:
    q = posteriors(6, 3)
    standard = Normal(torch.zeros(3, dtype=F64), torch.ones(3, dtype=F64))
    expected = kl_divergence(Normal(q.mu, q.sigma), standard).sum(1)
    value = RATES["fixed"](3)(q, q.mu)
    torch.testing.assert_close(value.loss, expected)
    torch.testing.assert_close(value.rate, expected)


@pytest.mark.parametrize(("spread", "expected"), [(0.0, 0.0), (1e4, math.log(16))])
def test_batch_rate_runs_from_nothing_to_log_b(spread: float, expected: float) -> None:
    q = DiagonalGaussian(posteriors(16, 2, spread=spread).mu, torch.ones(16, 2, dtype=F64))
    z = q.rsample(torch.randn(16, 2, generator=generator("z"), dtype=F64))
    rate = RATES["batch"](2)(q, z).rate
    assert rate.mean().item() == pytest.approx(expected, abs=1e-9)


@settings(deadline=None, max_examples=25)
@given(n=st.integers(2, 20), k=st.integers(1, 8), spread=st.floats(0, 50))
def test_batch_rate_never_exceeds_log_b(n, k, spread) -> None:
    q = posteriors(n, k, spread=spread)
    rate = RATES["batch"](k)
    z = q.rsample(torch.randn(n, k, generator=generator("z"), dtype=F64))
    assert rate(q, z).rate.max().item() <= rate.cap(n) + 1e-9
    assert rate.cap(n) == math.log(n)


def test_the_mws_value_is_never_what_is_logged() -> None:
    """Identical posteriors carry nothing; minibatch-weighted sampling would say log N (method.md
    2.3).
    """
    q = DiagonalGaussian(torch.zeros(8, 2, dtype=F64), torch.ones(8, 2, dtype=F64))
    z = q.rsample(torch.randn(8, 2, generator=generator("z"), dtype=F64))
    assert RATES["batch"](2)(q, z).rate.abs().max().item() < 1e-12


def mean_gradient(
    rate: Rate, mu: Tensor, log_sigma: Tensor, noise: Tensor, *pseudo: DiagonalGaussian
) -> tuple[Tensor, Tensor]:
    """Mean and standard error over draws [R, B, K] of the gradient of the mean rate."""
    q_parameters = [mu.clone().requires_grad_(), log_sigma.clone().requires_grad_()]

    def loss(mu: Tensor, log_sigma: Tensor, eps: Tensor) -> Tensor:
        q = DiagonalGaussian(mu, log_sigma.exp())
        return rate(q, q.rsample(eps), *pseudo).loss.mean()

    gradient = torch.func.vmap(torch.func.grad(loss, argnums=(0, 1)), in_dims=(None, None, 0))
    each = torch.cat([torch.cat(gradient(*q_parameters, part), 2) for part in noise.split(2000)])
    return each.mean(0), each.std(0) / math.sqrt(len(each))


def test_three_gradient_modes_agree_in_mean() -> None:
    """B=8, K=2, fp64, 20,000 draws: within 4 standard errors (method.md 2.2)."""
    draw = generator("three modes")
    mu, log_sigma = (
        torch.randn(2, 8, 2, generator=draw, dtype=F64) * torch.tensor([1.0, 0.3])[:, None, None]
    )
    noise = torch.randn(20_000, 8, 2, generator=draw, dtype=F64)
    results = {
        mode: mean_gradient(RATES["batch"](2, gradient=mode), mu, log_sigma, noise)
        for mode in ("paper", "full", "path")
    }
    for a, b in (("paper", "full"), ("paper", "path"), ("full", "path")):
        difference = (results[a][0] - results[b][0]).abs()
        allowance = 4 * (results[a][1].square() + results[b][1].square()).sqrt()
        assert bool((difference <= allowance).all()), (a, b, difference / allowance)
    # The modes exist for their variances: the paper's is the noisiest where posteriors separate.
    separated = {
        mode: mean_gradient(RATES["batch"](2, gradient=mode), 30 * mu, log_sigma, noise[:2000])[1][
            :, :2
        ].mean()
        for mode in ("paper", "full")
    }
    assert separated["full"] < 0.5 * separated["paper"]


def fitted(k: int, q: DiagonalGaussian, covariance: str = "full") -> Rate:
    rate = RATES["fitted"](k, covariance=covariance)
    rate.train()
    rate(q, q.mu)
    return rate.eval()


def test_fitted_rate_is_an_upper_bound_and_exact_for_a_gaussian_aggregate() -> None:
    """x ~ N(0, 1), z | x ~ N(r x, 1 - r^2): I = -0.5 log(1 - r^2) per dimension, aggregate N(0,
    1).
    """
    r, k = 0.95, 4
    x = torch.randn(20_000, k, generator=generator("x"), dtype=F64)
    q = DiagonalGaussian(r * x, torch.full_like(x, math.sqrt(1 - r**2)))
    exact = -0.5 * k * math.log(1 - r**2)
    for covariance in ("full", "diagonal"):
        assert fitted(k, q, covariance)(q, q.mu).rate.mean().item() == pytest.approx(
            exact, rel=0.01
        )
    two_lumps = DiagonalGaussian(q.mu.sign() * 10, torch.ones_like(q.mu))
    # Each dimension tells one bit; a Gaussian cannot know that, and bounds it from above.
    assert fitted(k, two_lumps)(two_lumps, two_lumps.mu).rate.mean().item() >= k * math.log(2)


def test_fitted_rate_of_one_batch_needs_no_gradient_through_its_moments() -> None:
    """The envelope theorem: at the moment-matched r the gradient through r is zero (Lemma 1)."""
    q = posteriors(64, 3)
    mu, sigma = q.mu.clone().requires_grad_(), q.sigma.clone().requires_grad_()
    rate = RATES["fitted"](3, momentum=0.0).train()
    frozen = torch.autograd.grad(rate(DiagonalGaussian(mu, sigma), mu).loss.mean(), (mu, sigma))
    mean = mu.mean(0)
    covariance = (mu - mean).T @ (mu - mean) / len(mu) + torch.diag(sigma.square().mean(0))
    attached = kl_to_gaussian(DiagonalGaussian(mu, sigma), mean, covariance).mean()
    for a, b in zip(frozen, torch.autograd.grad(attached, (mu, sigma)), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-12)


class LinearGaussian(nn.Module):
    """z ~ N(W x, diag sigma^2), x' = V z: the optimum of D + alpha R is known (method.md 1.3)."""

    def __init__(self, k: int) -> None:
        super().__init__()
        self.encode, self.decode = nn.Linear(k, k, bias=False), nn.Linear(k, k, bias=False)
        self.log_sigma = nn.Parameter(torch.zeros(k))
        for layer in (self.encode, self.decode):
            nn.init.eye_(layer.weight)

    def forward(
        self, x: Tensor, noise: Tensor
    ) -> tuple[DiagonalGaussian, Tensor, dict[str, Tensor]]:
        mu = self.encode(x)
        q = DiagonalGaussian(mu, self.log_sigma.exp().expand_as(mu))
        z = q.rsample(noise)
        return q, z, {"x": self.decode(z)}


def squared_error() -> Distortion:
    """Squared error of an output that is no picture."""

    def squared(output: Tensor, images: Tensor, labels: Tensor) -> Tensor:
        return (output - images).square().sum(1)

    return DISTORTIONS["squared_error"]()._replace(per_example=squared)


def test_linear_gaussian_optimum_with_fitted_q_beyond_log_b() -> None:
    """Water level alpha/2: D_k = alpha/2 and R = sum 0.5 log(2 l_k / alpha), here above log B."""
    k, b, alpha, eigenvalue = 8, 128, 0.6, 6.0
    model = LinearGaussian(k)
    objective = Objective([Task("x", squared_error())], RATES["fitted"](k), alpha)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    labels, steps = torch.empty(b, 0, dtype=torch.int64), 1500
    for step in range(steps):
        draw = generator("linear gaussian", step)
        x = math.sqrt(eigenvalue) * torch.randn(b, k, generator=draw)
        for group in optimizer.param_groups:
            group["lr"] = 0.02 * min(1, 2 * (1 - step / steps))
        loss, _ = objective(model, [x], labels, torch.randn(b, k, generator=draw))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    w, v, sigma = (
        model.encode.weight.double(),
        model.decode.weight.double(),
        model.log_sigma.double().exp(),
    )
    residual = torch.eye(k, dtype=F64) - v @ w
    per_dimension = eigenvalue * residual.square().sum(1) + (v.square() @ sigma.square())
    rate = 0.5 * torch.logdet(
        torch.eye(k, dtype=F64) + eigenvalue * (w / sigma.square()[:, None]) @ w.T
    )
    target = 0.5 * k * math.log(2 * eigenvalue / alpha)
    assert target > math.log(b)
    torch.testing.assert_close(
        per_dimension, torch.full((k,), alpha / 2, dtype=F64), rtol=0.03, atol=0
    )
    assert rate.item() == pytest.approx(target, rel=0.01)


IMAGES = torch.tensor([[[[0.0, 1.0]]], [[[0.5, 0.25]]]])
CASES = {
    # name: (hyper-parameters, output, labels, expected per example)
    "cross_entropy": ({}, [[0.0, 0.0], [0.0, math.log(3)]], [-1, 1], [0.0, math.log(4 / 3)]),
    "squared_error": ({}, [[[[0.0, 0.0]]], [[[0.0, 0.0]]]], [0, 0], [0.5, 0.0625]),
    "absolute_error": ({}, [[[[0.0, 0.0]]], [[[0.0, 0.0]]]], [0, 0], [1.0, 0.25]),
    "cosine": (
        {},
        [[[[0.0, 7.0]]], [[[3.0, 0.0]]]],
        [0, 0],
        [0.0, 1 - 0.5 / math.hypot(0.5, 0.25)],
    ),
    "bernoulli": ({}, [[[[0.0, 0.0]]], [[[0.0, 0.0]]]], [0, 0], [2 * math.log(2)] * 2),
    # The images stand for the other view's outputs: cosines 1 and 1/sqrt(5), then 0 and 2/sqrt(5).
    "info_nce": (
        {"temperature": 0.5},
        [[0.0, 3.0], [2.0, 0.0]],
        [-1, -1],
        [
            math.log1p(math.exp(2 * (1 / math.sqrt(5) - 1))),
            math.log1p(math.exp(-4 / math.sqrt(5))),
        ],
    ),
}


def test_every_distortion_has_a_case() -> None:
    assert set(CASES) == set(DISTORTIONS)


@pytest.mark.parametrize("name", CASES)
def test_distortion_per_example(name: str) -> None:
    hyper, output, labels, expected = CASES[name]
    values = DISTORTIONS[name](**hyper).per_example(
        torch.tensor(output), IMAGES, torch.tensor(labels)
    )
    torch.testing.assert_close(values, torch.tensor(expected))


class Stub(nn.Module):
    """Fixed outputs, so that the objective's own arithmetic is what is tested."""

    def __init__(self, q: DiagonalGaussian, outputs: dict[str, Tensor]) -> None:
        super().__init__()
        self.q, self.outputs = q, outputs

    def forward(
        self, images: Tensor, noise: Tensor
    ) -> tuple[DiagonalGaussian, Tensor, dict[str, Tensor]]:
        return self.q, self.q.rsample(noise), self.outputs


def test_objective_is_weighted_distortions_plus_alpha_rate() -> None:
    q = posteriors(2, 3)
    outputs = {"y": torch.zeros(2, 4, dtype=F64), "x": torch.zeros(2, 1, 1, 2)}
    tasks = [
        Task("y", DISTORTIONS["cross_entropy"](), weight=2.0),
        Task("x", DISTORTIONS["squared_error"](), weight=0.5),
    ]
    objective = Objective(tasks, RATES["fixed"](3), alpha=0.1)
    noise = torch.zeros(2, 3, dtype=F64)
    loss, terms = objective(Stub(q, outputs), [IMAGES], torch.tensor([[2], [-1]]), noise)
    # One of the two is labelled: its cross-entropy alone is the task's mean.
    expected = (
        2 * math.log(4) + 0.5 * (0.5 + 0.0625) / 2 + 0.1 * q.kl_to_standard_normal().mean().item()
    )
    assert loss.item() == pytest.approx(expected)
    assert terms["distortion/y"].item() == pytest.approx(math.log(4))
    assert terms["rate"].item() == pytest.approx(q.kl_to_standard_normal().mean().item())


def test_the_squared_lagrangian_is_alpha_times_the_rate_squared() -> None:
    """Its slope is 2 alpha R, R as logged; with a rate free of noise it is that of alpha R^2
    itself.
    """
    mu, sigma = (part.clone().requires_grad_() for part in posteriors(6, 3))
    q, noise = DiagonalGaussian(mu, sigma), torch.randn(6, 3, generator=generator("z"), dtype=F64)
    for name in ("fixed", "batch"):
        objective = Objective(
            [Task("y", DISTORTIONS["cross_entropy"]())], RATES[name](3), 0.3, "squared"
        )
        model, labels = Stub(q, {"y": torch.zeros(6, 4)}), torch.full((6, 1), -1)
        loss, terms = objective(model, [torch.zeros(6, 1, 1, 2)], labels, noise)
        assert loss.item() == pytest.approx(0.3 * terms["rate"].item() ** 2)
        linear = RATES[name](3)(q, q.rsample(noise)).loss.mean()
        slopes = zip(*(torch.autograd.grad(x, (mu, sigma)) for x in (loss, linear)), strict=True)
        for squared, plain in slopes:
            torch.testing.assert_close(squared, 0.6 * terms["rate"] * plain)


def test_a_batch_without_labels_has_no_distortion() -> None:
    objective = Objective([Task("y", DISTORTIONS["cross_entropy"]())], None, 0.0)
    outputs = {"y": torch.zeros(2, 4)}
    loss, _ = objective(
        Stub(posteriors(2, 3), outputs), [IMAGES], torch.full((2, 1), -1), torch.zeros(2, 3)
    )
    assert loss.item() == 0


class ColumnRate(Rate):
    """One of somebody's own that forgot to sum over its last dimension."""

    bound = "upper"

    def forward(self, posterior: DiagonalGaussian, z: Tensor) -> RateValue:
        values = z.sum(1, keepdim=True)
        return RateValue(values, values)


def test_own_distortions_and_rates_that_are_not_one_value_an_image_are_refused() -> None:
    """A mean would be divided by the number of labels once more, silently."""
    model = Stub(posteriors(2, 3), {"y": torch.zeros(2, 4)})
    labels, noise = torch.zeros(2, 1, dtype=torch.long), torch.zeros(2, 3)
    mean = Distortion(lambda logits, images, labels: logits.mean(), supervised=True)
    with pytest.raises(UsageError, match=r"distortion y has shape \[\] for 2 images"):
        Objective([Task("y", mean)], None, 0.0)(model, [IMAGES], labels, noise)
    right = Task("y", DISTORTIONS["cross_entropy"]())
    with pytest.raises(UsageError, match=r"the rate's loss has shape \[2, 1\] for 2 images"):
        Objective([right], ColumnRate(), 0.1)(model, [IMAGES], labels, noise)


def test_a_distortion_between_views_is_taken_both_ways() -> None:
    """Right where each output is nearest to its own other view: 0; of B equal ones: log B."""
    tasks = [Task("pair", DISTORTIONS["info_nce"](temperature=0.5))]
    objective = Objective(tasks, None, 0.0)
    q, apart = posteriors(12, 3), torch.eye(6)
    other = torch.randn(6, 6, generator=generator("other"))
    views, labels, noise = [torch.zeros(6, 1, 1, 2)] * 2, torch.zeros(6, 0), torch.zeros(12, 3)

    def cost(first: Tensor, second: Tensor) -> float:
        outputs = {"pair": torch.cat([first, second])}
        return objective(Stub(q, outputs), views, labels, noise)[0].item()  # type: ignore[no-any-return]

    cosines = nn.functional.normalize(other).T / 0.5  # of `apart` with `other`
    diagonal = cosines.diagonal().mean().item()
    ways = [cosines.logsumexp(side).mean().item() - diagonal for side in (0, 1)]
    assert cost(apart, other) == pytest.approx(sum(ways) / 2)
    assert cost(apart, other) == pytest.approx(cost(other, apart))
    assert cost(apart, apart) == pytest.approx(math.log1p(5 * math.exp(-2)))
    assert cost(torch.ones(6, 6), torch.ones(6, 6)) == pytest.approx(math.log(6))


def test_two_equal_views_cost_what_one_does() -> None:
    """The rate is taken on each view by itself: one mixture of both would see each image twice."""
    q = posteriors(6, 3)
    twice = DiagonalGaussian(*(torch.cat([p, p]) for p in q))
    noise = torch.randn(6, 3, generator=generator("noise"), dtype=F64)
    images, labels = torch.zeros(6, 1, 1, 2), torch.zeros(6, 1, dtype=torch.int64)
    objective = Objective([Task("y", DISTORTIONS["cross_entropy"]())], RATES["batch"](3), 0.5)
    logits = torch.randn(6, 4, generator=generator("logits"), dtype=F64)
    one, _ = objective(Stub(q, {"y": logits}), [images], labels, noise)
    two, _ = objective(
        Stub(twice, {"y": logits.repeat(2, 1)}), [images, images], labels, noise.repeat(2, 1)
    )
    torch.testing.assert_close(one, two)
