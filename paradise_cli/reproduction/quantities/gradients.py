"""How a loss changes around images: its gradients, and how smooth it is along them."""

from collections.abc import Sequence

import torch
from torch import Tensor

from paradise_cli.core.errors import ParadiseError
from paradise_cli.core.randomness import generator, image_keys
from paradise_cli.evaluation.nuisance import Mean
from paradise_cli.reproduction.input_gradients import gradients, orthogonality
from paradise_cli.reproduction.loss import Loss
from paradise_cli.reproduction.quantities.base import (
    QUANTITIES,
    Count,
    Measured,
    Network,
    Quantity,
    only,
    pair,
)
from paradise_cli.reproduction.surface import directions, smoothness
from paradise_cli.robustness.examples import Examples

STEP = 0.25 / 255


@QUANTITIES.register
def linearity_error(*, n: Count | None = None) -> Quantity:
    """How far the loss is from its tangent along the signed gradient, within the radius, as a share
    of its rise: the mean over images, each share cut at 1 (method.md 6).
    """

    def of(networks: Sequence[Network]) -> Measured:
        _, gaps = _smoothness(only(networks), n)
        # Where the loss hardly rises, a share of the rise has no end: one of 1 is bad enough.
        shares = gaps[gaps.isfinite()].clamp(max=1)
        if not len(shares):
            raise ParadiseError(f"{networks[0].name}: its loss rises nowhere")
        return Measured.of(Mean.of(shares), len(shares))

    return of


@QUANTITIES.register
def wavering(*, n: Count | None = None) -> Quantity:
    """Mean deviation of the loss along a random line of signs, within the radius, in nats."""

    def of(networks: Sequence[Network]) -> Measured:
        values, _ = _smoothness(only(networks), n)
        return Measured.of(Mean.of(values), len(values))

    return of


@QUANTITIES.register
def gradient_cosine(*, n: Count | None = None) -> Quantity:
    """Size of the mean cosine of two networks' input gradients at the same images: 0 where they are
    orthogonal, 1 where they agree or are opposed.
    """

    def of(networks: Sequence[Network]) -> Measured:
        one, other = pair(networks)
        examples = one.examples(n)
        # Not by their names: a network may be compared with itself.
        losses = {"one": one.loss(examples), "other": other.loss(examples)}
        found = orthogonality(gradients(losses, examples.images, examples.labels)).pairs[0]
        return _size(found.cosine, found.n)

    return of


@QUANTITIES.register
def gradient_cosine_by_differences(*, n: Count | None = None, draws: Count = 256) -> Quantity:
    """The same without a gradient: differences of the loss along random signs r give r.a and r.b,
    of which E (r.a)(r.b) = a.b.
    """

    def of(networks: Sequence[Network]) -> Measured:
        one, other = pair(networks)
        examples = one.examples(n)
        slopes = [_projections(each.loss(examples), examples, draws) for each in (one, other)]
        dot, first, second = ((slopes[i] * slopes[j]).mean(1) for i, j in ((0, 1), (0, 0), (1, 1)))
        cosines = dot / (first * second).sqrt()
        cosines = cosines[cosines.isfinite()]  # of a flat loss there is none
        return _size(Mean.of(cosines), len(cosines))

    return of


@QUANTITIES.register
def gradient_alignment(*, n: Count | None = None) -> Quantity:
    """Mean |cosine| of the input gradient and the image, less its mean: how much of the gradient
    looks like the image (Etmann et al. 2019).
    """

    def of(networks: Sequence[Network]) -> Measured:
        network = only(networks)
        examples = network.examples(n)
        slopes = network.loss(examples).gradient(examples.images, examples.labels).flatten(1)
        images = examples.images.flatten(1)
        # A gradient of one sign would else be like any bright image.
        images = images - images.mean(1, keepdim=True)
        found = torch.nn.functional.cosine_similarity(slopes, images).abs()
        return Measured.of(Mean.of(found), len(found))

    return of


def _size(mean: Mean, n: int) -> Measured:
    """How far a mean is from 0, on either side."""
    low, high = (mean.low, mean.high) if mean.value >= 0 else (-mean.high, -mean.low)
    return Measured(abs(mean.value), max(low, 0.0), high, n)


def _projections(loss: Loss, examples: Examples, count: int) -> Tensor:
    """Slopes [n, count] of the loss along random directions of signs, the same for any loss, by
    central differences of a quarter of a grey level either way.
    """
    images, labels = examples.images, examples.labels
    found = []
    # One direction at a time: all of them would be as many copies of the images.
    for number in range(count):
        coins = torch.rand(images.shape, generator=generator(0, "projections", str(number)))
        move = STEP * (coins - 0.5).sign()
        ends = [loss.at(images + side * move, labels)[0].double() for side in (1, -1)]
        found.append((ends[0] - ends[1]) / (2 * STEP))
    return torch.stack(found, 1)


def _smoothness(network: Network, n: Count | None) -> tuple[Tensor, Tensor]:
    """Wavering and linearity error of each image."""
    examples = network.examples(n)
    images, labels, loss = examples.images, examples.labels, network.loss(examples)
    gradient = loss.gradient(images, labels)
    keys = image_keys(torch.arange(len(images)), "surface", 0)
    steepest, random = directions(gradient, keys)
    return smoothness(
        lambda points: loss.at(points, labels)[0],
        images, gradient, steepest, random, network.radius,
    )  # fmt: skip
