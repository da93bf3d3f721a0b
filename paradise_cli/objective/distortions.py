"""Distortions d(x, z): `(output, images, labels) -> [B]`, unreduced and unweighted."""

from collections.abc import Callable
from typing import NamedTuple

import torch.nn.functional as F
from torch import Tensor

from paradise_cli.registry import Registry


class Distortion(NamedTuple):
    """What a head's output costs per example, and whether it needs a label.

    `per_example(output, images, labels)` is [B] in nats, or in squared pixel units for squared error; an
    example with label -1 has distortion 0 where `supervised`.
    """

    per_example: Callable[[Tensor, Tensor, Tensor], Tensor]
    supervised: bool


DISTORTIONS: Registry[Distortion] = Registry("distortion")


@DISTORTIONS.register
def cross_entropy(*, label_smoothing: float = 0.0) -> Distortion:
    """-log p(y|z) in nats, for a head of logits [B, classes] (paper section 3.1)."""

    def per_example(logits: Tensor, images: Tensor, labels: Tensor) -> Tensor:
        return F.cross_entropy(
            logits, labels, ignore_index=-1, reduction="none", label_smoothing=label_smoothing
        )

    return Distortion(per_example, supervised=True)


@DISTORTIONS.register
def squared_error() -> Distortion:
    """||x - g(z)||^2 SUMMED over pixels, for a decoder whose pixels are sigmoid(output) (paper Eq. 8)."""

    def per_example(output: Tensor, images: Tensor, labels: Tensor) -> Tensor:
        return (output.sigmoid() - images).square().flatten(1).sum(1)

    return Distortion(per_example, supervised=False)


@DISTORTIONS.register
def bernoulli() -> Distortion:
    """Cross-entropy of pixels read as probabilities, summed, in nats; the decoder gives their logits."""

    def per_example(output: Tensor, images: Tensor, labels: Tensor) -> Tensor:
        return F.binary_cross_entropy_with_logits(output, images, reduction="none").flatten(1).sum(1)

    return Distortion(per_example, supervised=False)
