"""What the tests of attacks share: classifiers whose robustness is known exactly, and one way to
attack.
"""

from collections.abc import Callable, Iterable

import torch
from torch import Tensor

from paradise_cli.attacks.engine.batches import Compute
from paradise_cli.attacks.engine.classifier import Classifier
from paradise_cli.attacks.engine.jobs import Goal, Outcome, digests, jobs_of
from paradise_cli.attacks.engine.queries import run_attack
from paradise_cli.attacks.protocol.lanes import Attack
from paradise_cli.core.randomness import generator
from paradise_cli.information.gaussian import DiagonalGaussian
from paradise_cli.perturbations.threat import Threat

CPU = Compute(torch.device("cpu"), width=64)


class Linear:
    """Logits W x + b of images of shape [1, 6, 6]."""

    def __init__(self, classes: int, seed: int) -> None:
        draw = generator(seed, "linear", classes)
        self.weight = torch.randn(classes, 36, generator=draw)
        self.bias = 0.1 * torch.randn(classes, generator=draw)

    def __call__(self, images: Tensor) -> Tensor:
        return images.flatten(1) @ self.weight.T + self.bias

    def problem(self, n: int, seed: int) -> tuple[Tensor, Tensor]:
        """Images around grey, whose balls in the tests reach neither black nor white, and
        labels.
        """
        images = 0.4 + 0.2 * torch.rand(n, 1, 6, 6, generator=generator(seed, "images"))
        return images, self(images).argmax(1)

    def radius(self, images: Tensor, labels: Tensor, norm: str) -> Tensor:
        """Distance of each image to the nearest other class, exact, [N]."""
        logits = self(images.double().float()).double()
        order = {"linf": 1, "l2": 2}[norm]  # the dual norm
        gaps = logits.gather(1, labels[:, None]) - logits
        slopes = (self.weight[labels][:, None] - self.weight[None]).double().norm(order, dim=2)
        slopes.scatter_(1, labels[:, None], 1.0)
        return gaps.div(slopes).scatter(1, labels[:, None], torch.inf).amin(1)


class LinearEncoder(Linear):
    """The same classifier through latents: its logits are the mean of a posterior.

    Log sigma follows the mean, so that attacks on the spread move it as well.
    """

    def posterior(self, images: Tensor) -> DiagonalGaussian:
        mu = self(images)
        return DiagonalGaussian(mu, (mu / 10).exp())

    def classify(self, z: Tensor) -> Tensor:
        return z


def balanced(classes: int, seed: int) -> Linear:
    """One that the brightness of an image does not sway, so that images are of several classes."""
    linear = Linear(classes, seed)
    linear.weight -= linear.weight.mean(1, keepdim=True)
    return linear


def attacked(
    attack: Attack,
    function: Callable[[Tensor], Tensor],
    images: Tensor,
    labels: Tensor,
    *,
    rows: Iterable[int] | None = None,
    compute: Compute = CPU,
    goal: Goal = "fool",
    seed: int = 0,
    name: str = "attack",
    random: bool = False,
) -> list[Outcome]:
    """All outcomes of one attack on those images that are classified rightly (or on these rows)."""
    classifier = Classifier(function, device=compute.device, width=compute.width, random=random)
    logits = classifier.judge(images).cpu()
    if rows is None:
        rows = (logits.argmax(1) == labels).nonzero().flatten().tolist()
    jobs = jobs_of(name, attack, logits, labels, digests(images), rows, seed)
    return list(
        run_attack(attack, classifier, classifier.judge, images, labels, jobs, compute, goal=goal)
    )


def fallen(outcomes: Iterable[Outcome], n: int) -> Tensor:
    """Which of n images some run fooled, bool [n]."""
    found = torch.zeros(n, dtype=torch.bool)
    for outcome in outcomes:
        found[outcome.job.image] |= outcome.succeeded
    return found


def eps_that_fells_half(radius: Tensor, threat: Callable[[float], Threat]) -> Threat:
    """A threat for which half of the images stand, none of them by a hair."""
    ordered = radius.sort().values
    middle = len(ordered) // 2
    return threat(float((ordered[middle - 1] + ordered[middle]) / 2))
