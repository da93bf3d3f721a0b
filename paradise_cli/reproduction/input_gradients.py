"""The loss's gradients in the pixels: what they show, and how alike those of two models are."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from itertools import combinations
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from paradise_cli.core.errors import ParadiseError
from paradise_cli.evaluation.nuisance import Mean
from paradise_cli.reproduction.loss import Loss

SPAN = 3.0
"""Standard deviations either way that a picture of a gradient shows."""


@dataclass(frozen=True)
class Gradients:
    """Images [K, C, H, W], labels [K], and for each model by name the gradients there, alike."""

    images: Tensor
    labels: Tensor
    by_model: Mapping[str, Tensor]

    def arrays(self) -> dict[str, NDArray[Any]]:
        """What the picture shows, by name; gradients [M, K, C, H, W] in the order of `models`."""
        return {
            "images": self.images.numpy(),
            "labels": self.labels.numpy(),
            "models": np.array(list(self.by_model)),
            "gradients": torch.stack(list(self.by_model.values())).numpy(),
        }


def gradients(losses: Mapping[str, Loss], images: Tensor, labels: Tensor) -> Gradients:
    """Gradients of each model's cross-entropy at images [K, C, H, W] with labels [K]."""
    found = {}
    for name, loss in losses.items():
        loss.expect(len(images))
        found[name] = loss.gradient(images, labels)
    return Gradients(images, labels, found)


def visible(gradient: Tensor) -> Tensor:
    """Gradients [K, C, H, W] as images in [0, 1]: each cut to its mean +- 3 deviations, and
    stretched (method.md 6; Tsipras et al. 2019). One without any slope is grey.
    """
    flat = gradient.flatten(1)
    mean, reach = flat.mean(1, keepdim=True), SPAN * flat.std(1, keepdim=True, correction=0)
    scaled = (flat - mean) / torch.where(reach > 0, reach, torch.ones_like(reach))
    return (0.5 + 0.5 * scaled.clamp(-1, 1)).view_as(gradient)


@dataclass(frozen=True)
class Pair:
    """How alike the gradients of two models are, over images where both have one.

    `cosine` is the mean of their cosines and `deviation` its spread over images, `size` the mean of
    |cosine|, `signs` the share of agreeing signs among pixels where both have a slope.
    """

    models: tuple[str, str]
    n: int
    cosine: Mean
    deviation: float
    size: Mean
    signs: Mean


@dataclass(frozen=True)
class Orthogonality:
    """All pairs of models, and what directions at random would give.

    Cosines of random directions in `pixels` dimensions have mean 0 and deviation 1 / sqrt(pixels);
    |cosine| is `random_size` on average, and half of the signs agree. `cosines` is [P, n], NaN
    where a model has no slope.
    """

    pairs: tuple[Pair, ...]
    pixels: int
    cosines: Tensor

    @property
    def random_deviation(self) -> float:
        """1 / sqrt(d) (Liu et al. 2017)."""
        return 1 / math.sqrt(self.pixels)

    @property
    def random_size(self) -> float:
        """E|cos| of two random directions: Gamma(d/2) / (sqrt(pi) Gamma((d + 1)/2))."""
        d = self.pixels
        return math.exp(math.lgamma(d / 2) - math.lgamma((d + 1) / 2)) / math.sqrt(math.pi)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """What the picture shows, by name."""
        return {
            "models": np.array([each.models for each in self.pairs]),
            "cosines": self.cosines.numpy(),
        }

    def to_json(self) -> dict[str, Any]:
        """The numbers."""
        return {
            "pixels": self.pixels,
            "random_deviation": self.random_deviation,
            "random_size": self.random_size,
            "pairs": [asdict(each) for each in self.pairs],
        }


def orthogonality(found: Gradients) -> Orthogonality:
    """Cosines and agreeing signs of the gradients of every two models (method.md 6).

    Raises ParadiseError for two of which there is no image where both have a slope.
    """
    pairs, cosines = [], []
    for one, other in combinations(found.by_model, 2):
        a, b = (found.by_model[name].flatten(1).double() for name in (one, other))
        size = a.norm(dim=1) * b.norm(dim=1)
        # A model that is sure of an image has no slope there, in no direction.
        there = size > 0
        cosine = torch.where(there, (a * b).sum(1) / size.clamp(min=1e-300), torch.nan)
        known = cosine[there]
        if not len(known):
            raise ParadiseError(
                f"there is no image at which both {one} and {other} have a gradient: where a model"
                " is sure of an image, or hides its gradients, it has none"
            )
        # Where one has no slope, as in the margins of digits, there is no sign to agree on.
        both = ((a != 0) & (b != 0))[there]
        agree = ((a.sign() == b.sign())[there] & both).sum(1) / both.sum(1).clamp(min=1)
        cosines.append(cosine)
        pairs.append(
            Pair(
                models=(one, other),
                n=len(known),
                cosine=Mean.of(known),
                deviation=float(known.std(correction=0)),
                size=Mean.of(known.abs()),
                signs=Mean.of(agree),
            )
        )
    return Orthogonality(tuple(pairs), found.images[0].numel(), torch.stack(cosines))
