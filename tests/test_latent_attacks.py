"""Latent attacks on encoders that are linear in the pixels, where the furthest point is known
exactly.
"""

import pytest
import torch
from torch import Tensor
from torch.distributions import Independent, Normal, kl_divergence
from torch.nn.functional import log_softmax

from paradise_cli.attacks import ATTACKS
from paradise_cli.attacks.methods.latent import MeanShift, PosteriorShift
from paradise_cli.core.errors import UsageError
from paradise_cli.core.randomness import generator
from paradise_cli.information.gaussian import DiagonalGaussian
from paradise_cli.perturbations.threat import NORMS, Linf
from tests.attack_cases import Linear, attacked
from tests.test_models import images as random_images
from tests.test_models import make

EPS = {"linf": 0.05, "l2": 0.3}


class OneLatent:
    """mu = a x and sigma = exp(c x), one number each; three classes along mu."""

    def __init__(self, *, stochastic: bool = True) -> None:
        self.a, self.c = torch.randn(2, 36, generator=generator(0, "one latent"))
        self.stochastic = stochastic

    def posterior(self, images: Tensor) -> DiagonalGaussian:
        mu, log_sigma = images.flatten(1) @ self.a, images.flatten(1) @ self.c / 10
        return DiagonalGaussian(mu[:, None], (log_sigma.exp() * self.stochastic)[:, None])

    def classify(self, z: Tensor) -> Tensor:
        return log_softmax(z * torch.tensor([-1.0, 0.0, 1.0]) - torch.tensor([0.0, -0.5, 0.0]), 1)

    def __call__(self, images: Tensor) -> Tensor:
        return self.classify(self.posterior(images).mu)


def problem(encoder: OneLatent) -> tuple[Tensor, Tensor]:
    images = 0.4 + 0.2 * torch.rand(12, 1, 6, 6, generator=generator(0, "images"))
    return images, encoder(images).argmax(1)


def dual(vector: Tensor, norm: str) -> float:
    """How far a linear function of that slope moves within eps."""
    return EPS[norm] * float(vector.norm({"linf": 1, "l2": 2}[norm]))


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("name", ["latent_mean", "latent_sigma"])
def test_the_furthest_posterior_is_found(name: str, norm: str) -> None:
    """|mu(x') - mu(x)| is at most eps times the dual norm of a, and so with log sigma and c /
    10.
    """
    encoder = OneLatent()
    images, labels = problem(encoder)
    attack = ATTACKS[name](NORMS[norm](EPS[norm]), steps=20)
    outcomes = attacked(attack, encoder, images, labels, goal="none")
    assert len(outcomes) == 12
    for outcome in outcomes:
        before = encoder.posterior(images[outcome.job.image][None])
        after = encoder.posterior(outcome.point[None])
        moved, most = after.mu - before.mu, dual(encoder.a, norm)
        if name == "latent_sigma":
            moved, most = after.sigma.log() - before.sigma.log(), dual(encoder.c / 10, norm)
        assert float(moved.abs()) == pytest.approx(most, rel=1e-3)


def test_the_posterior_shift_is_the_kullback_leibler_divergence() -> None:
    draw = generator(0, "posteriors")
    mu, clean_mu = torch.randn(2, 9, 4, generator=draw)
    sigma, clean_sigma = torch.rand(2, 9, 4, generator=draw) + 0.1
    state = {"mu": clean_mu, "sigma": clean_sigma}
    after, before = (
        Independent(Normal(*pair), 1) for pair in ((mu, sigma), (clean_mu, clean_sigma))
    )  # type: ignore[no-untyped-call]
    attack = ATTACKS["latent_shift"](Linf(0.1))
    assert isinstance(attack, PosteriorShift)
    torch.testing.assert_close(
        attack.shift(DiagonalGaussian(mu, sigma), state), kl_divergence(after, before)
    )
    same = attack.shift(DiagonalGaussian(clean_mu, clean_sigma), state)
    torch.testing.assert_close(same, torch.zeros(9), atol=1e-5, rtol=0)


@pytest.mark.parametrize("norm", NORMS)
def test_the_mean_goes_towards_each_other_class(norm: str) -> None:
    """A class mean beyond reach is approached by the whole of what eps allows, one in reach is
    met.
    """
    encoder = OneLatent()
    images, labels = problem(encoder)
    reach = dual(encoder.a, norm)
    here = encoder.posterior(images).mu
    means = torch.tensor(
        [[float(here.min()) - 2 * reach], [float(here.mean())], [float(here.max()) + 2 * reach]]
    )
    attack = ATTACKS["latent_towards"](
        NORMS[norm](EPS[norm]), means=means, steps=120, step_size=EPS[norm] / 16
    )
    outcomes = attacked(attack, encoder, images, labels, goal="none")
    assert len(outcomes) == 2 * 12
    for outcome in outcomes:
        row, target = outcome.job.image, outcome.job.target
        assert target != int(labels[row])
        distance = float((encoder.posterior(outcome.point[None]).mu - means[target]).abs())
        expected = max(float((here[row] - means[target]).abs()) - reach, 0.0)
        # The last step may pass a mean in reach by half a step.
        assert distance == pytest.approx(
            expected, rel=1e-3, abs=0 if expected else reach / 32 + 1e-4
        )


def test_an_encoders_classifier_is_attacked_at_its_latents() -> None:
    model = make().eval()
    images = random_images((1, 8, 8))
    classify = model.classifier()
    labels = classify(images).argmax(1)
    before = model.encode(images).mu
    attack = ATTACKS["latent_mean"](Linf(0.1), steps=10)
    assert isinstance(attack, MeanShift)
    outcomes = attacked(attack, classify, images, labels, goal="none")
    ends = torch.stack(
        [outcome.point for outcome in sorted(outcomes, key=lambda end: end.job.image)]
    )
    draws = images + 0.1 * (2 * torch.rand(64, *images.shape, generator=generator(0, "draws")) - 1)
    by_chance = model.encode(draws.clamp(0, 1).flatten(0, 1)).mu.view(64, len(images), -1) - before
    moved = (model.encode(ends).mu - before).square().sum(1)
    assert bool((moved > by_chance.square().sum(2).amax(0)).all())


@pytest.mark.parametrize("name", ["latent_mean", "latent_sigma", "latent_shift"])
def test_without_latents_there_is_nothing_to_attack(name: str) -> None:
    linear = Linear(3, 0)
    with pytest.raises(UsageError, match="one with `posterior` and `classify`"):
        attacked(ATTACKS[name](Linf(0.1)), linear, *linear.problem(3, 0))


def test_what_a_latent_attack_cannot_use_is_refused() -> None:
    encoder = OneLatent(stochastic=False)
    images, labels = problem(encoder)
    for name in ("latent_sigma", "latent_shift"):
        with pytest.raises(UsageError, match="only those on mu apply"):
            attacked(ATTACKS[name](Linf(0.1)), encoder, images, labels)
    means = torch.zeros(3, 2)
    with pytest.raises(UsageError, match=r"the class means are \[3, 2\], not \[classes, 1\]"):
        attacked(ATTACKS["latent_towards"](Linf(0.1), means=means), encoder, images, labels)
