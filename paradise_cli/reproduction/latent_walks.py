"""Walks through latent space, decoded: samples encoded again and again, and classes added and
subtracted (paper Figs. 2 and 3).
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from paradise_cli.core.errors import ParadiseError
from paradise_cli.core.proportions import Proportion
from paradise_cli.core.randomness import generator
from paradise_cli.evaluation.nuisance import Mean
from paradise_cli.information.gaussian import Gaussian, aggregate_moments

RECONSTRUCTIONS = 4
"""After a sample, as the paper draws them."""
SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)
"""Of a difference of classes, in an edit."""

Map = Callable[[Tensor], Tensor]
"""Rows in, rows out: z [B, K] to pixels [B, C, H, W], or pixels to the means of z."""


def fitted_samples(mean: Tensor, covariance: Tensor, count: int, seed: int) -> Tensor:
    """z [count, K], float64, of the Gaussian with these moments."""
    # Not Cholesky: a latent that nothing uses, without noise, has variance 0.
    values, vectors = torch.linalg.eigh(covariance)
    root = vectors * values.clamp(min=0).sqrt()
    noise = torch.randn(count, len(mean), generator=generator(seed, "serial"), dtype=torch.float64)
    drawn: Tensor = mean + noise @ root.T
    return drawn


@dataclass(frozen=True)
class Serial:
    """Samples of the fitted Gaussian, decoded, and reconstructed again and again.

    `images` are [R, 1 + RECONSTRUCTIONS, C, H, W], `z` [R, K]; `mean` [K] and `covariance` [K, K]
    are those of the aggregate posterior of n images. `moved` are the mean squared changes of a
    pixel by each reconstruction, over the R samples.
    """

    mean: Tensor
    covariance: Tensor
    z: Tensor
    images: Tensor
    moved: tuple[Mean, ...]
    n: int

    def arrays(self) -> dict[str, NDArray[Any]]:
        """What the picture shows, by name."""
        names = ("mean", "covariance", "z", "images")
        return {name: getattr(self, name).numpy() for name in names}

    def to_json(self) -> dict[str, Any]:
        """The numbers."""
        moved = [asdict(each) for each in self.moved]
        return {"n": self.n, "samples": len(self.z), "squared_change_of_a_pixel": moved}


def serial(posterior: Gaussian, encode: Map, decode: Map, count: int, seed: int = 0) -> Serial:
    """Decode `count` samples of the aggregate posterior's Gaussian, and encode and decode again."""
    mean, covariance = (each.cpu() for each in aggregate_moments(posterior.double()))
    z = fitted_samples(mean, covariance, count, seed)
    shown = [decode(z.float())]
    for _ in range(RECONSTRUCTIONS):
        shown.append(decode(encode(shown[-1])))
    images = torch.stack(shown, 1)
    changes = images.diff(dim=1).square().flatten(2).mean(2)  # [R, RECONSTRUCTIONS]
    moved = tuple(Mean.of(each) for each in changes.T)
    return Serial(mean, covariance, z, images, moved, len(posterior.mu))


@dataclass(frozen=True)
class Arithmetic:
    """Images of the class `minus` with the difference to the class `plus` added to their latents.

    `originals` [R, C, H, W]; `edited` [R, 5, C, H, W] decode mu + t d for the shares t, d being the
    difference of the classes' mean mu; `by_pair` [R, C, H, W] takes d from one image of each class.
    Of all n images of `minus`: `kept` is the share of d that is found again when the edited image
    is encoded, `aside` how far the latents move in other directions, in lengths of d. `named` are
    the shares of them that the model's own classifier calls `plus`, before and after; None without
    one.
    """

    plus: str
    minus: str
    originals: Tensor
    edited: Tensor
    by_pair: Tensor
    difference: Tensor
    n: int
    kept: Mean
    aside: Mean
    named: tuple[Proportion, Proportion] | None

    def arrays(self) -> dict[str, NDArray[Any]]:
        """What the picture shows, by name."""
        names = ("originals", "edited", "by_pair", "difference")
        found = {name: getattr(self, name).numpy() for name in names}
        return found | {"shares": np.array(SHARES)}

    def to_json(self) -> dict[str, Any]:
        """The numbers."""
        named = self.named and [asdict(each) for each in self.named]
        return {
            "plus": self.plus,
            "minus": self.minus,
            "n": self.n,
            "kept": asdict(self.kept),
            "aside": asdict(self.aside),
            "named_plus_before_and_after": named,
        }


@dataclass(frozen=True)
class Latents:
    """Means of z [N, K] and labels int64 [N] of images, and the ways to pixels and back."""

    mu: Tensor
    labels: Tensor
    encode: Map
    decode: Map
    name: Map | None = None
    """z [B, K] to class numbers [B], where the model has a classifier."""


def arithmetic(
    latents: Latents,
    images: Callable[[Sequence[int]], Tensor],
    classes: Sequence[str],
    plus: int,
    minus: int,
    shown: int,
) -> Arithmetic:
    """Turn images of the class number `minus` towards `plus`; `images` gives those of some rows.

    Raises ParadiseError where one of the two has no image.
    """
    rows = {number: (latents.labels == number).nonzero().flatten() for number in (plus, minus)}
    for number, found in rows.items():
        if not len(found):
            raise ParadiseError(f"there is no image of {classes[number]}: choose another class")
    mu = latents.mu
    difference = mu[rows[plus]].mean(0) - mu[rows[minus]].mean(0)
    pair = mu[rows[plus][0]] - mu[rows[minus][0]]
    given = mu[rows[minus]]
    # What the encoder sees of the edit, beside what it sees of the same image unedited: that a
    # reconstruction is not the image itself is no fault of the edit.
    plain, edited = (latents.encode(latents.decode(z)) for z in (given, given + difference))
    kept, aside = split_along(edited - plain, difference)
    few = given[:shown]
    steps = torch.stack([latents.decode(few + share * difference) for share in SHARES], 1)
    return Arithmetic(
        plus=classes[plus],
        minus=classes[minus],
        originals=images(rows[minus][:shown].tolist()),
        edited=steps,
        by_pair=latents.decode(few + pair),
        difference=difference,
        n=len(given),
        kept=Mean.of(kept),
        aside=Mean.of(aside),
        named=_named(latents, given, given + difference, plus),
    )


def split_along(moves: Tensor, direction: Tensor) -> tuple[Tensor, Tensor]:
    """Moves [N, K] along a direction [K], and the length of the rest, in lengths of it; [N] each.

    0 along, and 0 beside it, where the direction itself is 0.
    """
    length = direction.norm()
    if length == 0:
        return torch.zeros(len(moves)), torch.zeros(len(moves))
    along = moves @ direction / length.square()
    rest = moves - along[:, None] * direction
    return along, rest.norm(dim=1) / length


def _named(
    latents: Latents, before: Tensor, after: Tensor, plus: int
) -> tuple[Proportion, Proportion] | None:
    if latents.name is None:
        return None
    counts = [int((latents.name(z) == plus).sum()) for z in (before, after)]
    return (Proportion.of(counts[0], len(before)), Proportion.of(counts[1], len(after)))
