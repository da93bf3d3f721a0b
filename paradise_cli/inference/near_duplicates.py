"""How near two images are that are near-duplicates, tried on copies (method.md 3.7)."""

import math
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import normalize

from paradise_cli.core.randomness import generator, permutation
from paradise_cli.data import distorted
from paradise_cli.inference.loading import LoadedModel, joined
from paradise_cli.inference.posterior_index import PosteriorIndex, encoded_beside
from paradise_cli.information.neighbours import nearest, overlap

COPIES = 200
_AT_ONCE = 4096  # pairs that are compared at a time
OVERLAP, ANGLE = 0.985, 0.95
"""The shares of the copies that are as near to their images, by posteriors and by features."""


@dataclass(frozen=True)
class Limit:
    """Up to which distances two images are near-duplicates.

    `nats` of the overlap of their posteriors, and `angle`, 1 - cosine, of their features. Of the
    `tried` copies `others` are within both of an image that is not their own.
    """

    nats: float
    angle: float
    tried: int
    others: int


def limit_by_copies(
    model: LoadedModel, index: PosteriorIndex, progress: Callable[[int], None]
) -> Limit:
    """The limits within which 200 copies of images in the index lie, which are made to try it.

    98.5% of them by their posteriors, and 95% by their features. Cropped, resized and compressed as
    for training, by other numbers. `progress` is called with the number of copies compared. Raises
    UnreadableImage for an image that is there no more, UsageError for a model that is not that of
    the index.
    """
    order = permutation(len(index.ids), "copies to try").tolist()
    rows = [order[copy % len(order)] for copy in range(COPIES)]
    with tempfile.TemporaryDirectory() as folder:
        files = [Path(folder) / f"{copy}.jpg" for copy in range(COPIES)]
        for copy, (file, row) in enumerate(zip(files, rows, strict=True)):
            with file.open("wb") as content:
                content.write(distorted(Path(index.ids[row]), generator("copies to try", copy)))
        copies = encoded_beside(index, model, files).double()
        features = _directions(model, list(map(str, files)))
    own = index.posterior.rows(torch.tensor(rows)).double()
    nats = _reached(overlap(copies, own), OVERLAP)
    angles = 1 - (features * _directions(model, [index.ids[row] for row in rows])).sum(1)
    angle = _reached(angles, ANGLE)
    # The nearest two: one of them is the copy's own image wherever that lies within the limit.
    near, distances = nearest(copies, index.posterior, 2, "overlap", progress=progress)
    foreign = (near != torch.tensor(rows)[:, None]) & (distances <= nats)
    which = foreign.nonzero()[:, 0]
    theirs = _directions(model, [index.ids[row] for row in near[foreign].tolist()])
    within = 1 - (features[which] * theirs).sum(1) <= angle
    return Limit(nats, angle, COPIES, len(torch.unique(which[within])))


def confirmed(model: LoadedModel, index: PosteriorIndex, pairs: Tensor, angle: float) -> Tensor:
    """Which pairs of rows [P, 2] of an index are within an angle by their features, bool [P]."""
    rows, places = torch.unique(pairs, return_inverse=True)
    directions = _directions(model, [index.ids[row] for row in rows.tolist()])
    one, other = places.unbind(1)
    return torch.cat(
        [
            1 - (directions[a] * directions[b]).sum(1) <= angle
            for a, b in zip(one.split(_AT_ONCE), other.split(_AT_ONCE), strict=True)
        ]
    )


def _directions(model: LoadedModel, images: Sequence[str]) -> Tensor:
    """What the model's backbone gives of image files, as float64 [N, F] of length 1.

    Of each number the root, with its sign: a few large ones would decide else (power normalisation,
    Perronnin et al. 2010).
    """
    if not images:
        return torch.empty(0, model.model.backbone.out_features, dtype=torch.float64)
    blocks = list(model.stream(model.open(images), model.features()))
    features = torch.from_numpy(joined(blocks, "features")).double().flatten(1)
    return normalize(features.sign() * features.abs().sqrt(), dim=1)


def _reached(values: Tensor, share: float) -> float:
    """The smallest value up to which such a share of them lies."""
    return float(values.sort().values[math.ceil(share * len(values)) - 1])
