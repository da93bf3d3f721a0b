"""The loss around an image: a plane of it, and how far it is from flat (paper Fig. 5)."""

import statistics
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from paradise_cli.core.errors import ParadiseError
from paradise_cli.core.randomness import image_keys, keyed_uniform
from paradise_cli.evaluation.nuisance import Mean
from paradise_cli.reproduction.loss import Loss

GRID = 41
"""Points on each axis of a plane."""
POINTS = 17
"""Points on a line through an image, from -eps to eps."""
LINES = 2 * POINTS + 2
"""Points at which `smoothness` asks for the loss of an image: two lines, and their ends."""

Values = Callable[[Tensor], Tensor]
"""Images [B, C, H, W] to values [B]."""


@dataclass(frozen=True)
class Surface:
    """Planes of K images, and the smoothness of the loss around all n.

    `loss` and `predicted` are [K, G, G] at x + u g + v r: u, from -eps to eps, by column, v by row;
    they are not cut to [0, 1]. g is the sign of the gradient, r a sign for each pixel with <g, r> =
    0. `labels` are the true classes [K], `rows` the places of the K images among all. `wavering` is
    the mean deviation of the loss along r, `linearity` the median of its distance from its tangent
    along g, as a share of its rise; None where it does not rise anywhere.
    """

    eps: float
    offsets: Tensor
    loss: Tensor
    predicted: Tensor
    labels: Tensor
    rows: tuple[int, ...]
    n: int
    wavering: Mean
    linearity: float | None

    def arrays(self) -> dict[str, NDArray[Any]]:
        """What the picture shows, by name."""
        shown = {"offsets": self.offsets, "loss": self.loss, "predicted": self.predicted}
        found = {name: value.numpy() for name, value in shown.items()}
        return found | {"labels": self.labels.numpy(), "rows": np.array(self.rows)}

    def to_json(self) -> dict[str, Any]:
        """The numbers."""
        return {
            "eps": self.eps,
            "n": self.n,
            "wavering": asdict(self.wavering),
            "linearity": self.linearity,
            "rows": list(self.rows),
        }


def surface(
    loss: Loss, images: Tensor, labels: Tensor, eps: float, shown: int, seed: int = 0
) -> Surface:
    """Planes of the first `shown` images that are named rightly, and the smoothness around all.

    Images are [N, C, H, W] in [0, 1], labels int64 [N] (method.md 6). Raises ParadiseError where
    the loss is not finite.
    """
    # An image that is named wrongly has no decision to lose; where all are, they are shown.
    right = loss.correct.nonzero().flatten().tolist() or list(range(len(images)))
    rows = right[:shown]
    loss.expect(len(images) * (1 + LINES) + len(rows) * GRID**2)
    keys = image_keys(torch.arange(len(images)), "surface", seed)
    gradient = loss.gradient(images, labels)
    steepest, random = directions(gradient, keys)
    wavering, gaps = smoothness(
        lambda points: loss.at(points, labels)[0], images, gradient, steepest, random, eps
    )
    offsets = torch.linspace(-eps, eps, GRID)
    planes = [
        _plane(loss, images[row], labels[row], steepest[row], random[row], offsets) for row in rows
    ]
    if not all(values.isfinite().all() for values, _ in planes) or not wavering.isfinite().all():
        raise ParadiseError(
            f"within eps = {eps:.3g} of some images the loss is no finite number: points there may"
            " lie outside of [0, 1]; a smaller --eps keeps closer"
        )
    return Surface(
        eps=eps,
        offsets=offsets,
        loss=torch.stack([values for values, _ in planes]),
        predicted=torch.stack([classes for _, classes in planes]),
        labels=labels[rows],
        rows=tuple(rows),
        n=len(images),
        wavering=Mean.of(wavering),
        linearity=typical(gaps),
    )


def directions(gradient: Tensor, keys: Tensor) -> tuple[Tensor, Tensor]:
    """Signs g of a gradient [B, C, H, W], and random signs r with <g, r> = 0, of its shape.

    Of an odd number of pixels r is orthogonal to g but for one. `keys` int64 [B] decide all draws.
    """
    # Where there is no slope either sign will do, and 0 would be a shorter line.
    coins = keyed_uniform(keys, gradient.shape[1:], 0).to(gradient.dtype)
    steepest = torch.where(gradient == 0, (coins - 0.5).sign(), gradient.sign())
    # The half of pixels with the smaller draws keeps its sign: r g is then 0, and not only near it.
    draws = keyed_uniform(keys, gradient.shape[1:], 1).flatten(1)
    low = draws.argsort(1).argsort(1) < draws.shape[1] // 2
    return steepest, torch.where(low.view_as(steepest), steepest, -steepest)


def smoothness(
    loss: Values,
    images: Tensor,
    gradient: Tensor,
    steepest: Tensor,
    random: Tensor,
    eps: float,
) -> tuple[Tensor, Tensor]:
    """How much a loss wavers along a random line through each image, and how far it is from its
    tangent along the steepest one; each [B] (paper Fig. 5, method.md 6).

    `gradient` is that of the loss at the images, the directions are those of `directions`. Lines
    run from x - eps d to x + eps d and are not cut to [0, 1]. The first is the loss's deviation
    along r; the second max |l(x + u g) - l(x) - u g dl(x)| over u, as a share of |l(x + eps g) -
    l(x)|.
    """
    rise = (gradient * steepest).flatten(1).sum(1)
    offsets = torch.linspace(-eps, eps, POINTS, dtype=torch.float64).tolist()
    with torch.no_grad():
        wavering = torch.stack([loss(images + u * random) for u in offsets]).std(0, correction=0)
        start, end = loss(images), loss(images + eps * steepest)
        gaps = [(loss(images + u * steepest) - start - u * rise).abs() for u in offsets]
    return wavering, torch.stack(gaps).amax(0) / (end - start).abs()


def typical(gaps: Tensor) -> float | None:
    """Median of the distances [B] that `smoothness` gives; None where no loss rises."""
    shares = gaps[gaps.isfinite()].tolist()  # of 0, where the loss of an image is flat, is none
    # Of a share whose denominator may be next to 0 the mean says nothing; and torch's median is the
    # lower of the two in the middle.
    return statistics.median(shares) if shares else None


def _plane(
    loss: Loss, image: Tensor, label: Tensor, steepest: Tensor, random: Tensor, offsets: Tensor
) -> tuple[Tensor, Tensor]:
    """Loss and predicted class, [G, G] each, around one image [C, H, W]."""
    v, u = torch.meshgrid(offsets, offsets, indexing="ij")
    moved = u.reshape(-1, 1, 1, 1) * steepest + v.reshape(-1, 1, 1, 1) * random
    values, classes = loss.at(image + moved, label.expand(len(moved)))
    return values.view_as(u), classes.view_as(u)
