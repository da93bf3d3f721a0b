"""Which overlap of posteriors makes two images near-duplicates, tried on copies (method.md 3.7)."""

import math
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from paradise_cli.core.randomness import generator, permutation
from paradise_cli.data import distorted
from paradise_cli.inference.loading import LoadedModel
from paradise_cli.inference.posterior_index import PosteriorIndex, encoded_beside
from paradise_cli.information.gaussian import DiagonalGaussian
from paradise_cli.information.neighbours import nearest, overlap

COPIES = 200
FOUND = 0.985
"""Of the copies, the share that the limit finds."""


@dataclass(frozen=True)
class Limit:
    """`nats` of the overlap distance up to which so much of the `tried` copies is found.

    `others` of them lie within it of an image that is not their own, too.
    """

    nats: float
    tried: int
    others: int


def limit_by_copies(
    model: LoadedModel, index: PosteriorIndex, progress: Callable[[int], None]
) -> Limit:
    """The limit that finds 98.5% of 200 copies of images in the index, which are made to try it.

    Cropped, resized and compressed as for training, by other numbers. `progress` is called with the
    number of copies compared. Raises UnreadableImage for an image that is there no more, UsageError
    for a model that is not that of the index.
    """
    order = permutation(len(index.ids), "copies to try").tolist()
    rows = [order[copy % len(order)] for copy in range(COPIES)]
    with tempfile.TemporaryDirectory() as folder:
        files = [Path(folder) / f"{copy}.jpg" for copy in range(COPIES)]
        for copy, (file, row) in enumerate(zip(files, rows, strict=True)):
            with file.open("wb") as content:
                content.write(distorted(Path(index.ids[row]), generator("copies to try", copy)))
        copies = encoded_beside(index, model, files).double()
    own = DiagonalGaussian(*(part[rows].double() for part in index.posterior))
    apart = overlap(copies, own).sort().values
    limit = float(apart[math.ceil(FOUND * COPIES) - 1])
    # The nearest two: one of them is the copy's own image wherever that lies within the limit.
    near, distances = nearest(copies, index.posterior, 2, "overlap", progress=progress)
    foreign = (near != torch.tensor(rows)[:, None]) & (distances <= limit)
    return Limit(limit, COPIES, int(foreign.any(1).sum()))
