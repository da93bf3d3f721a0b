"""Every q of the rate, row by row, on Gaussian channels whose information is known."""

import math
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor

from paradise_cli.core.errors import UsageError
from paradise_cli.core.randomness import generator, seed_of
from paradise_cli.data import DataInfo, Preprocessing
from paradise_cli.information.gaussian import DiagonalGaussian
from paradise_cli.information.rate import exact_rate
from paradise_cli.objective.objective import Objective, Task
from paradise_cli.objective.rates import RATES, Rate, RateValue
from tests.test_objective import F64, LinearGaussian, mean_gradient, squared_error

K, B, SIZE = 3, 64, 512
INFO = DataInfo("channel", (1, 1, K), (), 10_000, Preprocessing(1, 1, (1, K)))


@dataclass(frozen=True)
class Row:
    """A q and what is claimed of it; `within` are the nats it may be off on the channel below."""

    q: str
    bound: str
    cap: float
    within: float
    hyper: dict[str, Any] = field(default_factory=dict)
    invariant: bool = True
    estimand: str = "I(X;Z)"

    def make(self) -> Rate:
        torch.manual_seed(seed_of("a rate"))
        return RATES[self.q](K, INFO, **self.hyper).double()


ROWS = {
    "batch": Row("batch", "lower", math.log(B), 0.5),
    "bank": Row("bank", "lower", math.log(B + SIZE), 0.1, {"size": SIZE}),
    "pairwise": Row("pairwise", "upper", math.log(B), math.inf, estimand="I_B"),
    "fitted": Row("fitted", "upper", math.inf, 0.05),
    "diagonal": Row("fitted", "upper", math.inf, 0.3, {"covariance": "diagonal"}),
    "fixed": Row("fixed", "upper", math.inf, math.inf, invariant=False),
    "mixture": Row("mixture", "upper", math.inf, 0.3, {"components": 8}),
    "vamp": Row("vamp", "upper", math.inf, 0.5, {"components": 64}),
}
table = pytest.mark.parametrize("row", ROWS.values(), ids=ROWS)


def test_every_q_has_a_row() -> None:
    assert {row.q for row in ROWS.values()} == set(RATES)


class Channel:
    """z = A x + S noise for x ~ N(0, 1)^K: I(X;Z) = 0.5 logdet(1 + S^-2 A A^T); images are 0.5 + x
    / 8.
    """

    A = torch.tensor([[1.5, 0.0, 0.0], [0.5, 1.0, 0.0], [0.0, 0.3, 0.8]], dtype=F64)
    S = torch.tensor([0.3, 0.5, 0.4], dtype=F64)
    nats = 0.5 * torch.logdet(torch.eye(K, dtype=F64) + (A / S.square()[:, None]) @ A.T).item()

    def __init__(self, information: bool = True) -> None:
        self.gain = float(information)

    def encode(self, images: Tensor) -> DiagonalGaussian:
        x = 8 * (images.double().flatten(1) - 0.5)
        return DiagonalGaussian(self.gain * x @ self.A.T, self.S.expand(len(x), K))

    def draw(self, number: int | str, n: int = B) -> tuple[DiagonalGaussian, Tensor]:
        x, noise = torch.randn(2, n, K, generator=generator("channel", number), dtype=F64)
        posterior = self.encode(0.5 + x / 8)
        return posterior, posterior.rsample(noise)

    def rate(self, rate: Rate, posterior: DiagonalGaussian, z: Tensor) -> RateValue:
        pseudo = rate.pseudo_inputs
        value: RateValue = rate(posterior, z, *([] if pseudo is None else [self.encode(pseudo)]))
        return value


def prepared(row: Row, channel: Channel, steps: int = 300) -> Rate:
    """The rate after a training on the channel in which the encoder stands still."""
    rate = row.make().train()
    if rate.examples:
        images = (
            0.5
            + torch.randn(rate.examples, *INFO.shape, generator=generator("start"), dtype=F64) / 8
        )
        rate.start(images)
    learned = list(rate.parameters())
    optimizer = torch.optim.Adam(learned, lr=0.02) if learned else None
    for step in range(steps if learned else 20):
        posterior, z = channel.draw(f"step {step}")
        value = channel.rate(rate, posterior, z)
        rate.remember(posterior)
        if optimizer is not None:
            optimizer.zero_grad()
            (value.loss if value.fit is None else value.fit).mean().backward()
            optimizer.step()
    return rate.eval()


def measured(rate: Rate, channel: Channel, batches: int = 80) -> tuple[float, float]:
    """Mean and standard error of the logged rate over fresh batches."""
    found = []
    for number in range(batches):
        posterior, z = channel.draw(number)
        found.append(channel.rate(rate, posterior, z).rate.mean())
        rate.remember(posterior)
    means = torch.stack(found)
    return means.mean().item(), means.std().item() / math.sqrt(batches)


@table
def test_the_logged_rate_lies_on_its_side_of_the_information(row: Row) -> None:
    channel = Channel()
    rate = prepared(row, channel)
    assert (rate.bound, rate.estimand) == (row.bound, row.estimand)
    mean, error = measured(rate, channel)
    if row.estimand == "I_B":
        posteriors = [channel.draw(n)[0] for n in range(10)]
        exact = [exact_rate(posterior, draws=16) for posterior in posteriors]
        for posterior, inside in zip(posteriors, exact, strict=True):
            value = rate(posterior, posterior.mu).rate.mean().item()
            assert inside.nats - 3 * inside.standard_error <= value <= math.log(B)
    elif row.bound == "lower":
        assert channel.nats - row.within < mean < channel.nats + 3 * error
    else:
        assert channel.nats - 3 * error < mean < channel.nats + row.within


@table
def test_noise_is_not_taken_for_information(row: Row) -> None:
    channel = Channel(information=False)
    rate = prepared(row, channel)
    mean, error = measured(rate, channel)
    if row.q != "fixed":
        assert abs(mean) < 3 * error + 0.02
        assert row.bound == "lower" or mean > -3 * error - 1e-9


@table
def test_the_cap_is_reached_by_posteriors_far_apart_and_never_passed(row: Row) -> None:
    rate = row.make().train()
    assert rate.cap(B) == row.cap
    far = torch.arange(B + SIZE, dtype=F64)[:, None].expand(-1, K) * 1e3
    sigma = torch.ones_like(far)
    rate.remember(DiagonalGaussian(far[B:], sigma[B:]))
    posterior = DiagonalGaussian(far[:B], sigma[:B])
    noise = torch.randn(B, K, generator=generator("far"), dtype=F64)
    value = (
        rate(posterior, posterior.rsample(noise), *([posterior] * (row.q == "vamp")))
        .rate.mean()
        .item()
    )
    if math.isfinite(row.cap):
        assert value == pytest.approx(row.cap, abs=1e-9)


@table
def test_the_scale_and_the_place_of_the_latents_do_not_matter(row: Row) -> None:
    if not row.invariant:
        return
    scale, shift = (
        torch.tensor([3.0, 0.01, 20.0], dtype=F64),
        torch.tensor([5.0, -7.0, 0.1], dtype=F64),
    )
    values = []
    for moved in (False, True):
        rate = row.make().train()

        def place(part: DiagonalGaussian, moved: bool = moved) -> DiagonalGaussian:
            return DiagonalGaussian(scale * part.mu + shift, scale * part.sigma) if moved else part

        channel = Channel()
        rate.remember(place(channel.draw("bank", 100)[0]))
        posterior, z = channel.draw("batch")
        pseudo = [] if rate.pseudo_inputs is None else [place(channel.encode(rate.pseudo_inputs))]
        value = rate(place(posterior), scale * z + shift if moved else z, *pseudo)
        values.append(value.rate)
    torch.testing.assert_close(values[0], values[1], rtol=0, atol=1e-8)


@table
def test_extreme_posteriors_have_finite_rates_and_gradients(row: Row) -> None:
    rate = prepared(row, Channel(), steps=2).train()
    mu = 100 * torch.randn(B, K, generator=generator("extreme"))
    sigma = 10 ** torch.linspace(-6, 6, B)[:, None].expand(-1, K)
    leaves = mu.clone().requires_grad_(), sigma.clone().requires_grad_()
    posterior = DiagonalGaussian(*leaves)
    pseudo = [] if rate.pseudo_inputs is None else [DiagonalGaussian(mu, sigma)]
    value = rate(
        posterior, posterior.rsample(torch.randn(B, K, generator=generator("noise"))), *pseudo
    )
    loss = value.loss.mean() + (0 if value.fit is None else value.fit.mean())
    loss.backward()
    assert value.rate.isfinite().all() and loss.isfinite()
    for leaf in (*leaves, *(p for p in rate.parameters() if p.grad is not None)):
        assert leaf.grad is not None and leaf.grad.isfinite().all()
    for buffer in rate.buffers():
        assert buffer.isfinite().all()


@table
def test_autocast_changes_nothing(row: Row) -> None:
    found = []
    for enabled in (False, True):
        torch.manual_seed(0)
        rate = RATES[row.q](K, INFO, **row.hyper).train()
        posterior, z = Channel().draw("batch")
        posterior = DiagonalGaussian(posterior.mu.float(), posterior.sigma.float())
        pseudo = [] if rate.pseudo_inputs is None else [posterior]
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            rate.remember(posterior)
            found.append(rate(posterior, z.float(), *pseudo))
    torch.testing.assert_close(found[0].rate, found[1].rate, rtol=0, atol=0)
    torch.testing.assert_close(found[0].loss, found[1].loss, rtol=0, atol=0)


@table
def test_its_state_is_all_it_knows(row: Row) -> None:
    rate, fresh = prepared(row, Channel(), steps=5), row.make().eval()
    fresh.load_state_dict(rate.state_dict())
    a, b = (Channel().rate(each, *Channel().draw("batch")) for each in (rate, fresh))
    assert torch.equal(a.loss, b.loss) and torch.equal(a.rate, b.rate)


MODES = {
    "bank": ("paper", "path"),
    "mixture": ("paper", "path"),
    "vamp": ("full", "path"),
}  # those of `batch` are in test_objective.py


@pytest.mark.parametrize("q", MODES)
def test_gradient_modes_agree_in_mean(q: str) -> None:
    channel, draw = Channel(), generator("modes")
    mu, log_sigma = (
        torch.randn(2, 8, K, generator=draw, dtype=F64) * torch.tensor([1.0, 0.3])[:, None, None]
    )
    noise = torch.randn(8_000, 8, K, generator=draw, dtype=F64)
    found = []
    for gradient in MODES[q]:
        row = Row(q, "", 0, 0, {**ROWS[q].hyper, "gradient": gradient})
        rate = prepared(row, channel, steps=3)
        pseudo = [] if rate.pseudo_inputs is None else [channel.encode(rate.pseudo_inputs.detach())]
        found.append(mean_gradient(rate, mu, log_sigma, noise, *pseudo))
    allowance = 4 * (found[0][1].square() + found[1][1].square()).sqrt()
    assert bool(((found[0][0] - found[1][0]).abs() <= allowance).all())


def test_a_bank_counts_what_it_holds_and_forgets_the_oldest() -> None:
    rate = RATES["bank"](1, size=6)
    far = DiagonalGaussian(torch.arange(12.0)[:, None] * 1e3, torch.ones(12, 1))

    def value(first: int, last: int) -> float:
        mean: float = rate(
            DiagonalGaussian(far.mu[first:last], far.sigma[first:last]), far.mu[first:last]
        )[1]
        return mean.mean().item()

    for first, components in ((0, 4), (4, 8), (8, 10)):
        assert value(first, first + 4) == pytest.approx(math.log(components))
        rate.remember(DiagonalGaussian(far.mu[first : first + 4], far.sigma[first : first + 4]))
    assert sorted(rate.mu[:, 0].tolist()) == [1e3 * n for n in range(6, 12)]
    # The oldest are forgotten, and cost nothing; a copy of an example costs log 2.
    assert value(0, 4) == pytest.approx(math.log(10))
    assert value(8, 12) == pytest.approx(math.log(5))


def test_a_bank_remembers_one_view_of_each_image_and_only_in_training() -> None:
    model, rate = LinearGaussian(K), RATES["bank"](K, size=50)
    objective = Objective([Task("x", squared_error())], rate, 1.0).train()
    views, noise = torch.randn(2, 8, K, generator=generator("views")), torch.zeros(16, K)
    objective(model, list(views), torch.empty(8, 0, dtype=torch.int64), noise)
    objective.eval()(model, list(views), torch.empty(8, 0, dtype=torch.int64), noise)
    assert rate.filled.item() == 8
    torch.testing.assert_close(rate.mu[:8], model.encode(views[0]))


def test_a_bank_is_not_larger_than_the_data() -> None:
    assert RATES["bank"](K, INFO, size=50_000).cap(B) == math.log(10_000 + B)


@pytest.mark.parametrize(
    ("q", "hyper"), [("bank", "size"), ("mixture", "components"), ("vamp", "components")]
)
def test_a_q_of_nothing_is_refused(q: str, hyper: str) -> None:
    with pytest.raises(UsageError, match=f"rate {q}: {hyper} must be at least 1, not 0"):
        RATES[q](K, INFO, **{hyper: 0})


def test_a_mixture_learns_alike_under_every_alpha() -> None:
    """Its own loss reaches the components alone, and no other loss does."""
    gradients = []
    for alpha in (0.0, 1.0):
        torch.manual_seed(0)
        model, rate = LinearGaussian(K), RATES["mixture"](K)
        objective = Objective([Task("x", squared_error())], rate, alpha).train()
        x, noise = torch.randn(2, B, K, generator=generator("alpha"))
        loss, terms = objective(model, [x], torch.empty(B, 0, dtype=torch.int64), noise)
        assert loss.item() == pytest.approx((terms["distortion"] + alpha * terms["rate"]).item())
        loss.backward()
        gradients.append([p.grad for p in rate.parameters()])
        if alpha == 0:
            plain = squared_error().per_example(model(x, noise)[2]["x"], x, x).mean()
            (expected,) = torch.autograd.grad(plain, model.encode.weight)
            torch.testing.assert_close(model.encode.weight.grad, expected)
    for a, b in zip(*gradients, strict=True):
        assert a.abs().max() > 0
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize(
    "optimiser",
    [partial(torch.optim.Adam, lr=0.02), partial(torch.optim.SGD, lr=0.1, momentum=0.9)],
)
def test_a_mixture_knows_the_clusters_that_a_gaussian_does_not(optimiser: Any) -> None:
    """Ten clusters of equal posteriors carry log 10 nats."""
    centres = 20 * torch.randn(10, K, generator=generator("centres"), dtype=F64)
    rates = [RATES["mixture"](K, components=20).double(), RATES["fitted"](K)]
    optimizer = optimiser(rates[0].parameters())
    for step in range(600):
        which = torch.randint(0, 10, (B,), generator=generator("which", step))
        noise = torch.randn(B, K, generator=generator("noise", step), dtype=F64)
        posterior = DiagonalGaussian(centres[which], torch.ones(B, K, dtype=F64))
        values = [rate(posterior, posterior.rsample(noise)) for rate in rates]
        optimizer.zero_grad()
        values[0].fit.mean().backward()
        optimizer.step()
    found, gaussian = (value.rate.mean().item() for value in values)
    assert math.log(10) - 0.4 < found < math.log(10) + 2 < gaussian


@pytest.mark.parametrize(
    ("lagrangian", "distortion", "nats"), [("linear", 0.3, 0.8673), ("squared", 0.4197, 0.6995)]
)
def test_linear_gaussian_optimum_with_a_bank(
    lagrangian: str, distortion: float, nats: float
) -> None:
    """D(R) = l exp(-2R), l = 1.7, alpha = 0.6 (method.md 9); batches of 64 alone miss D = 0.3 by
    6%.
    """
    eigenvalue, alpha, steps = 1.7, 0.6, 800
    model = LinearGaussian(1)
    objective = Objective(
        [Task("x", squared_error())], RATES["bank"](1, size=2048), alpha, lagrangian
    )
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    for step in range(steps):
        draw = generator("bank", step)
        x, noise = torch.randn(2, B, 1, generator=draw)
        for group in optimizer.param_groups:
            group["lr"] = 0.02 * min(1, 2 * (1 - step / steps))
        loss, _ = objective(model, [math.sqrt(eigenvalue) * x], torch.empty(B, 0).long(), noise)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    w, v, sigma = (
        model.encode.weight.item(),
        model.decode.weight.item(),
        model.log_sigma.exp().item(),
    )
    assert eigenvalue * (1 - v * w) ** 2 + (v * sigma) ** 2 == pytest.approx(distortion, rel=0.02)
    assert 0.5 * math.log(1 + eigenvalue * (w / sigma) ** 2) == pytest.approx(nats, rel=0.02)
