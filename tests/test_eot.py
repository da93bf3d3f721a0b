"""Expectation over transformation: the gradient of the log mean probability, and what it takes to
use it.
"""

import math

import pytest
import torch
from torch import Tensor
from torch.nn.functional import log_softmax

from paradise_cli.attacks import ATTACKS
from paradise_cli.attacks.engine.classifier import Classifier
from paradise_cli.attacks.engine.eot import Averaged
from paradise_cli.attacks.protocol.lanes import Lanes
from paradise_cli.core.errors import UsageError
from paradise_cli.core.randomness import generator, keyed_normal
from paradise_cli.information.gaussian import DiagonalGaussian
from paradise_cli.perturbations.threat import NORMS, Linf
from tests.attack_cases import CPU, Linear, attacked, fallen

DRAWS = 7


class Sampled:
    """mu and log sigma linear in the pixels, classes linear in z."""

    def __init__(self, latent: int = 4, classes: int = 3) -> None:
        draw = generator(0, "sampled")
        self.mean, self.spread = torch.randn(2, latent, 36, generator=draw)
        self.weight = torch.randn(classes, latent, generator=draw)

    def posterior(self, images: Tensor) -> DiagonalGaussian:
        pixels = images.flatten(1)
        return DiagonalGaussian(pixels @ self.mean.T, (pixels @ self.spread.T / 10).exp())

    def classify(self, z: Tensor) -> Tensor:
        return log_softmax(z @ self.weight.T, 1)

    def __call__(self, images: Tensor) -> Tensor:
        return self.classify(self.posterior(images).mu)


class Noisy:
    """A linear classifier with normal noise on the difference of two logits."""

    def __init__(self, linear: Linear, spread: float) -> None:
        self.linear, self.spread, self.draw = linear, spread, generator(0, "noise")

    def __call__(self, images: Tensor) -> Tensor:
        noise = self.spread * torch.randn(len(images), generator=self.draw)
        return self.linear(images) + torch.stack([noise, -noise], 1) / 2


def lanes_of(images: Tensor, labels: Tensor) -> Lanes:
    n = torch.arange(len(images))
    return Lanes(images, images, labels, 0 * n - 1, 50 + n, 3 + n)


def victim_of(function: object) -> Classifier:
    return Classifier(function, device=CPU.device, width=CPU.width)  # type: ignore[arg-type]


def test_at_the_latent_the_loss_is_that_of_the_mean_probability() -> None:
    sampled = Sampled()
    images = torch.rand(5, 1, 6, 6, generator=generator(0, "images"))
    labels = torch.arange(5) % 3
    lanes = lanes_of(images, labels)
    x = images.clone().requires_grad_()
    attack = Averaged(ATTACKS["pgd"](Linf(0.1), steps=3), DRAWS)
    logits, loss = attack.evaluate(victim_of(sampled), x, lanes, {})
    (got,) = torch.autograd.grad(loss.sum(), [x])

    mu, sigma = sampled.posterior(x)
    noise = [keyed_normal(lanes.key, (4,), lanes.step, draw) for draw in range(DRAWS)]
    p = (
        sum((((mu + sigma * e) @ sampled.weight.T).softmax(1) for e in noise), torch.zeros(()))
        / DRAWS
    )
    expected = -p.gather(1, labels[:, None])[:, 0].log()
    torch.testing.assert_close(logits.exp(), p)
    torch.testing.assert_close(logits.exp().sum(1), torch.ones(5))
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(got, torch.autograd.grad(expected.sum(), [x])[0])


def test_noise_at_the_latent_belongs_to_lane_step_and_draw() -> None:
    images = torch.rand(4, 1, 6, 6, generator=generator(0, "images"))
    lanes = lanes_of(images, torch.zeros(4, dtype=torch.int64))
    victim, attack = victim_of(Sampled()), Averaged(ATTACKS["pgd"](Linf(0.1)), 2)
    logits = attack.evaluate(victim, images, lanes, {})[0]
    assert torch.equal(logits, attack.evaluate(victim, images, lanes, {})[0])
    part = Lanes(*(value[2:] for value in lanes))
    torch.testing.assert_close(attack.evaluate(victim, images[2:], part, {})[0], logits[2:])
    later = lanes._replace(step=lanes.step + 1)
    assert bool((attack.evaluate(victim, images, later, {})[0] != logits).any(1).all())


def test_any_other_classifier_is_asked_that_often() -> None:
    answers = torch.randn(DRAWS, 2, 3, generator=generator(0, "answers"))
    queue = iter(answers)
    images = torch.zeros(2, 1, 6, 6)
    lanes = lanes_of(images, torch.tensor([0, 2]))
    attack = Averaged(ATTACKS["fgsm"](Linf(0.1)), DRAWS)
    logits, loss = attack.evaluate(victim_of(lambda x: next(queue)), images, lanes, {})
    mean = answers.double().softmax(2).mean(0)
    torch.testing.assert_close(logits.double(), mean.log())
    torch.testing.assert_close(loss.double(), -mean[torch.arange(2), lanes.labels].log())


def test_it_stands_for_the_attack_it_is_given() -> None:
    inner = ATTACKS["multi_targeted"](Linf(0.1), steps=7, restarts=3, targets=2)
    attack = Averaged(inner, 2)
    told = (
        attack.threat,
        attack.steps,
        attack.aim,
        attack.targets,
        attack.restarts,
        attack.gradient,
    )
    assert told == (inner.threat, 8, "each", 2, 3, True)
    assert not Averaged(ATTACKS["square"](Linf(0.1)), 2).gradient
    with pytest.raises(UsageError, match="needs 1 draw or more, not 0"):
        Averaged(inner, 0)


@pytest.mark.parametrize("norm", NORMS)
def test_a_classifier_with_random_logits_falls_where_its_mean_does(norm: str) -> None:
    """Noise on the logits leaves the linear classifier's own direction: one averaged step is exact.

    The mean over 16 draws strays by 1/4 of the spread; images within 6 of those of the boundary are
    left out.
    """
    linear, n, spread = Linear(2, 1), 48, 0.4
    images, labels = linear.problem(n, 1)
    radius = linear.radius(images, labels, norm)
    eps = float(radius.median())
    slope = (linear.weight[0] - linear.weight[1]).norm({"linf": 1, "l2": 2}[norm])
    attack = Averaged(ATTACKS["fgsm"](NORMS[norm](eps)), 16)
    outcomes = attacked(attack, Noisy(linear, spread), images, labels, rows=range(n), random=True)
    apart = 6 * spread / math.sqrt(16)
    certain = ((radius - eps).abs() * slope > apart) & (radius * slope > apart)
    assert int((certain & (radius < eps)).sum()) > 3 and int((certain & (radius > eps)).sum()) > 3
    assert torch.equal(fallen(outcomes, n)[certain], (radius < eps)[certain])
