"""Distortions d(x, z): `(output, images, labels) -> [B]`, unreduced and unweighted."""

import math
from collections.abc import Callable
from typing import Annotated, Literal, NamedTuple

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from paradise_cli.core.errors import UsageError
from paradise_cli.core.registry import Registry

Unit = Literal["nats", "squared error", "absolute error", "cosine distance"]
Output = Literal["logits", "pixels", "embedding"]
Link = Literal["sigmoid", "identity"]
LINKS: dict[Link, Callable[[Tensor], Tensor]] = {
    "sigmoid": torch.sigmoid,
    "identity": lambda output: output,
}
"""From a decoder's output to what it reproduces: pixels are in [0, 1], other values anywhere."""


class Distortion(NamedTuple):
    """What a head's output costs per example, in which unit, and whether it needs a label.

    `per_example(output, images, labels)` is [B]; an example with label -1 has distortion 0 where
    `supervised`. Where it lies `between` two views, `images` are the head's outputs of the other
    view. Else `reproduce(output)` is what the decoder makes of an image.
    """

    per_example: Callable[[Tensor, Tensor, Tensor], Tensor]
    supervised: bool
    unit: Unit = "nats"
    reproduce: Callable[[Tensor], Tensor] = torch.sigmoid
    between: bool = False

    @property
    def reads(self) -> Output:
        """Which kind of head it is a distortion of."""
        if self.supervised:
            return "logits"
        return "embedding" if self.between else "pixels"


DISTORTIONS: Registry[Distortion] = Registry("distortion")


@DISTORTIONS.register
def cross_entropy(*, label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0) -> Distortion:
    """-log p(y|z) in nats, for a head of logits [B, classes] (paper section 3.1)."""

    # Unlabelled images cost nothing, and still count in the rate.
    def per_example(logits: Tensor, images: Tensor, labels: Tensor) -> Tensor:
        return F.cross_entropy(
            logits, labels, ignore_index=-1, reduction="none", label_smoothing=label_smoothing
        )

    return Distortion(per_example, supervised=True)


@DISTORTIONS.register
def squared_error(*, link: Link = "sigmoid") -> Distortion:
    """||x - g(z)||^2 SUMMED over pixels, sigmoid(output) or the output itself (paper Eq. 8)."""

    reproduce = LINKS[link]

    # Summed, not averaged: alpha then means the same for images of every size.
    def per_example(output: Tensor, images: Tensor, labels: Tensor) -> Tensor:
        return (reproduce(output) - images).square().flatten(1).sum(1)

    return Distortion(per_example, False, "squared error", reproduce)


@DISTORTIONS.register
def absolute_error(*, link: Link = "sigmoid") -> Distortion:
    """|x - g(z)| summed over pixels.

    For x of 0 and 1 it is the Hamming distortion of pixels drawn from g(z).
    """

    reproduce = LINKS[link]

    def per_example(output: Tensor, images: Tensor, labels: Tensor) -> Tensor:
        return (reproduce(output) - images).abs().flatten(1).sum(1)

    return Distortion(per_example, False, "absolute error", reproduce)


@DISTORTIONS.register
def cosine() -> Distortion:
    """1 - cos(x, g(z)), from 0 to 2, blind to lengths; 1 where either is zero."""

    def per_example(output: Tensor, images: Tensor, labels: Tensor) -> Tensor:
        return 1 - F.cosine_similarity(output.flatten(1), images.flatten(1))

    return Distortion(per_example, False, "cosine distance", LINKS["identity"])


@DISTORTIONS.register
def bernoulli() -> Distortion:
    """Cross-entropy of pixels read as probabilities, summed, in nats, for a decoder of logits."""

    def per_example(output: Tensor, images: Tensor, labels: Tensor) -> Tensor:
        return (
            F.binary_cross_entropy_with_logits(output, images, reduction="none").flatten(1).sum(1)
        )

    return Distortion(per_example, supervised=False)


@DISTORTIONS.register
def info_nce(*, temperature: float = 0.1) -> Distortion:
    """-log p(which image of the batch | z) in nats, for two views and a head `projection`.

    Logits are cosines with the other view's outputs over the temperature, so that no label is
    needed; log B less its mean is a lower bound of the views' mutual information (van den Oord et
    al. 2018; method.md 2.1).
    """
    if not 0 < temperature < math.inf:
        raise UsageError(f"info_nce: temperature must be a number above 0, not {temperature}")

    def per_example(output: Tensor, other: Tensor, labels: Tensor) -> Tensor:
        cosines = F.normalize(output.flatten(1)) @ F.normalize(other.flatten(1)).T  # [B, B]
        own = torch.arange(len(output), device=output.device)
        return F.cross_entropy(cosines / temperature, own, reduction="none")

    return Distortion(per_example, supervised=False, between=True)
