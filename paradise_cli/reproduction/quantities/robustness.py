"""What attacks leave of a classifier, and how far its posteriors move under them."""

from collections.abc import Callable, Sequence
from typing import Annotated, cast

import torch
from pydantic import AfterValidator
from torch import Tensor
from torch.nn.functional import cross_entropy

from paradise_cli.attacks.engine.classifier import ThroughLatents
from paradise_cli.attacks.run import attack
from paradise_cli.core.errors import ParadiseError
from paradise_cli.core.machine import full_fp32
from paradise_cli.core.proportions import Proportion
from paradise_cli.core.randomness import image_keys, keyed_normal
from paradise_cli.core.registry import did_you_mean
from paradise_cli.evaluation.nuisance import STRENGTHS, Mean
from paradise_cli.perturbations import SAMPLERS, Sampler
from paradise_cli.perturbations.samplers import Radius
from paradise_cli.reproduction.loss import Loss
from paradise_cli.reproduction.posterior_shift import random_corner, shifts
from paradise_cli.reproduction.quantities.base import (
    QUANTITIES,
    Count,
    Measured,
    Network,
    Quantity,
    only,
    pair,
)
from paradise_cli.reproduction.targets import targeted
from paradise_cli.robustness.examples import Examples

AUDITED = 40
STEPS = 10
ROWS = 100  # images whose gradients at a drawn z are in memory at a time


def _known(sampler: str) -> str:
    if sampler not in STRENGTHS:
        hint = did_you_mean(sampler, STRENGTHS)
        raise ValueError(f"no nuisance '{sampler}'{hint}; known: {', '.join(STRENGTHS)}")
    return sampler


Nuisance = Annotated[str, AfterValidator(_known)]


@QUANTITIES.register
def robust_accuracy(
    *, suite: str = "standard", eps: Radius | None = None, n: Count | None = None
) -> Quantity:
    """Share of images that a suite of attacks leaves right within eps, under L-infinity; without
    eps, within the radius of the networks.
    """

    def of(networks: Sequence[Network]) -> Measured:
        network = only(networks)
        examples = network.examples(n)
        report = attack(
            network.classifier.function, examples.images, examples.labels,
            eps=eps or network.radius, suite=suite,
            audited=min(AUDITED, len(examples.images)), device=network.loaded.device,
            precision="fp32",  # what `auto` means is the machine's, and ledgers are compared
        )  # fmt: skip
        return Measured.of(report.robust_accuracy, len(examples.images))

    return of


@QUANTITIES.register
def accuracy_after_steps(*, steps: Count, n: Count | None = None) -> Quantity:
    """Share of images that are right after so many signed steps of the cross-entropy's gradient,
    from the image itself and within the radius: one step is FGSM.
    """

    def of(networks: Sequence[Network]) -> Measured:
        network = only(networks)
        right = _right_after(network, network, steps, n)
        return Measured.of(Proportion.of(int(right.sum()), len(right)), len(right))

    return of


@QUANTITIES.register
def black_box_gain(*, steps: Count = 40, n: Count | None = None) -> Quantity:
    """Of [target, source]: how many more of the target's images break by steps made on the source
    than by one step on the target itself, as a share. Above 0 the target's own gradients mislead.
    """

    def of(networks: Sequence[Network]) -> Measured:
        target, source = pair(networks)
        white = _right_after(target, target, 1, n)
        black = _right_after(target, source, steps, n)
        return Measured.of(Mean.of(white.double() - black.double()), len(white))

    return of


@QUANTITIES.register
def black_box_accuracy(*, steps: Count = 40, n: Count | None = None) -> Quantity:
    """Of [target, source]: share of images on which the target is right after steps made on the
    source.
    """

    def of(networks: Sequence[Network]) -> Measured:
        target, source = pair(networks)
        right = _right_after(target, source, steps, n)
        return Measured.of(Proportion.of(int(right.sum()), len(right)), len(right))

    return of


@QUANTITIES.register
def hidden_by_sampling(*, steps: Count = STEPS, n: Count | None = None) -> Quantity:
    """How many more images stay right, at the mean of z, where each step took the gradient of one
    drawn z in place of that mean's: above 0 drawing hides what is there (Athalye et al. 2018).
    """

    def of(networks: Sequence[Network]) -> Measured:
        network = only(networks)
        if not network.loaded.model.stochastic:
            raise ParadiseError(f"{network.name} is deterministic: there is no z to draw")
        examples = network.examples(n)
        judge = network.loss(examples)
        slope = _sampled_slope(
            cast(ThroughLatents, network.classifier.function), examples, network.loaded.device
        )
        right = [
            judge.at(points, examples.labels)[1] == examples.labels
            for points in (
                _walked(slope, examples, network.radius, steps),
                _stepped(judge, examples, network.radius, steps),
            )
        ]
        return Measured.of(Mean.of(right[0].double() - right[1].double()), len(right[0]))

    return of


@QUANTITIES.register
def targeted_success(
    *, steps: Count = 100, eps: Radius | None = None, n: Count | None = None
) -> Quantity:
    """Share of images that are led to a wrong class drawn for each, within eps or the radius, of
    those that are not called it as they are.
    """

    def of(networks: Sequence[Network]) -> Measured:
        network = only(networks)
        examples = network.examples(n)
        found = targeted(
            network.classifier.function, examples.images, examples.labels,
            network.loaded.device, eps=eps or network.radius, steps=steps, shown=0,
        )  # fmt: skip
        return Measured.of(found.reached, found.n)

    return of


@QUANTITIES.register
def steps_worth(*, few: Count = 1, many: Count = STEPS, n: Count | None = None) -> Quantity:
    """Which share of the rise of the mean cross-entropy under `many` signed steps is there after a
    `few`: near 1 where more steps add nothing.
    """

    def of(networks: Sequence[Network]) -> Measured:
        network = only(networks)
        examples = network.examples(n)
        loss = network.loss(examples)
        clean, weak, strong = (
            loss.at(_stepped(loss, examples, network.radius, steps), examples.labels)[0].double()
            for steps in (0, few, many)
        )
        if float((strong - clean).mean()) == 0:
            raise ParadiseError(
                f"{network.name}: its loss does not rise in {many} steps, and of no rise there is"
                " no share"
            )
        # Of means, as the rise of a single image may be nothing.
        share = (weak - clean).mean() / (strong - clean).mean()
        # A ratio of means, whose error is that of the mean of what is left of it (delta method).
        rest = (weak - clean) - share * (strong - clean)
        spread = Mean.of(rest / (strong - clean).mean())
        value = float(share)
        return Measured(value, value + spread.low, value + spread.high, len(rest))

    return of


@QUANTITIES.register
def shift(*, n: Count | None = None) -> Quantity:
    """Mean distance of the posterior of a random corner of the ball from that of the image, in
    deviations of mu over images.
    """

    def of(networks: Sequence[Network]) -> Measured:
        network = only(networks)
        moved = _moved(network, random_corner(network.radius), n)
        return Measured.of(Mean.of(moved), len(moved))

    return of


@QUANTITIES.register
def nuisance_shift(*, sampler: Nuisance, n: Count | None = None) -> Quantity:
    """The same under a nuisance, at the middle one of its strengths."""

    def of(networks: Sequence[Network]) -> Measured:
        settings = STRENGTHS[sampler][1]
        moved = _moved(only(networks), SAMPLERS[sampler](**settings), n)
        return Measured.of(Mean.of(moved), len(moved))

    return of


def _moved(network: Network, sampler: Sampler, n: int | None) -> Tensor:
    """How far a sampler moves the posterior of each image."""
    examples, head = network.examples(n), network.classifier.head
    assert head is not None  # of every classifier of ours
    (moved,) = shifts(network.loaded, head, examples.images, examples.labels, sampler)
    return moved


def _right_after(target: Network, source: Network, steps: int, n: int | None) -> Tensor:
    """Whether the target is right on images that steps on the source have changed, bool [n]."""
    examples = target.examples(n)
    points = _stepped(source.loss(examples), examples, target.radius, steps)
    return target.loss(examples).at(points, examples.labels)[1] == examples.labels


def _stepped(loss: Loss, examples: Examples, eps: float, steps: int) -> Tensor:
    """Images after so many signed steps of the loss's gradient, in the ball and in [0, 1]."""
    return _walked(lambda points, _: loss.gradient(points, examples.labels), examples, eps, steps)


def _sampled_slope(
    classifier: ThroughLatents, examples: Examples, device: torch.device
) -> Callable[[Tensor, int], Tensor]:
    """The gradient of the cross-entropy of one z for each image, another at each step."""
    # By image and step: a measurement is the same number whenever and wherever it is made.
    keys = image_keys(torch.arange(len(examples.images)), "sampled slope", 0)

    def slope(points: Tensor, step: int) -> Tensor:
        found = []
        with full_fp32(device):
            for rows in torch.split(torch.arange(len(points)), ROWS):
                x = points[rows].to(device).requires_grad_()
                posterior = classifier.posterior(x)
                noise = keyed_normal(keys[rows], posterior.mu.shape[1:], step).to(device)
                logits = classifier.classify(posterior.rsample(noise))
                # Of a sum, as the slope of an image is its own.
                loss = cross_entropy(logits, examples.labels[rows].to(device), reduction="sum")
                found.append(torch.autograd.grad(loss, [x])[0].cpu())
        return torch.cat(found)

    return slope


def _walked(
    slope: Callable[[Tensor, int], Tensor], examples: Examples, eps: float, steps: int
) -> Tensor:
    """Images after so many steps of the sign of a slope, which is given points and the step."""
    low, high = ((examples.images + side * eps).clamp(0, 1) for side in (-1, 1))
    # Two and a half radii in all: from the image to any corner, and some way back.
    size = eps if steps == 1 else 2.5 * eps / max(steps, 1)
    points = examples.images
    for step in range(steps):
        points = points + size * slope(points, step).sign()
        points = torch.minimum(torch.maximum(points, low), high)
    return points
