"""Views of training images that are kept as features: crops and flips behind a frozen backbone."""

import dataclasses
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from paradise_cli.build import build_augmentations
from paradise_cli.core.randomness import generator, seed_of
from paradise_cli.data import Augmentation, Key, MemorySplit
from paradise_cli.inference.feature_store import image_key
from paradise_cli.inference.image_sources import ImageSource
from paradise_cli.recipe.schema import Recipe


@dataclass(frozen=True)
class Views:
    """Each image itself, and `count - 1` others of it; `described` is all that decides those."""

    count: int
    augment: Sequence[Augmentation] = ()
    described: str = ""

    def key(self, image: str, view: int) -> str:
        """The key of a view of the image with this key."""
        return image_key(f"{image} view {view} {self.described}".encode()) if view else image

    def drawn(
        self, source: ImageSource, images: Sequence[str], places: Sequence[int]
    ) -> ImageSource:
        """Some of the views of a source whose images have these keys.

        Place p is view `p // N` of image `p % N`.
        """
        pairs = [divmod(place, len(images)) for place in places]
        rows = [row for _, row in pairs]

        def read(start: int, stop: int) -> NDArray[Any]:
            return np.concatenate([self._read(source, images, *pair) for pair in pairs[start:stop]])

        ids = [source.ids[row] for row in rows]
        return dataclasses.replace(source, ids=ids, labels=source.labels[rows], read=read)

    def _read(
        self, source: ImageSource, images: Sequence[str], view: int, row: int
    ) -> NDArray[Any]:
        pixels = source.read(row, row + 1)
        if view == 0:
            return pixels
        # By the image and not by its place: other files beside it change no view.
        changed = torch.from_numpy(pixels)
        for number, augmentation in enumerate(self.augment):
            key = seed_of("view", view, images[row], number)
            changed = augmentation(changed, torch.tensor([key]))
        return changed.numpy()


ITSELF = Views(1)


def feature_views(recipe: Recipe) -> Views:
    """The views that a recipe with a frozen backbone keeps of its training images."""
    count = recipe.model.backbone.hyper.get("views", 1)
    if count == 1:
        return ITSELF
    described = json.dumps(recipe.resolved()["data"]["augment"], sort_keys=True)
    return Views(count, build_augmentations(recipe), described)


@dataclass(frozen=True)
class Viewed:
    """A split of which a training sees one of V views of each image, and others the first.

    `rows` int64 [V, N] says which of `images` [M, C, H, W], in memory or mapped, each view is.
    """

    images: Tensor
    labels: Tensor
    ids: Sequence[str]
    rows: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def fetch(self, order: Tensor, batch_size: int, key: Key, train: bool) -> Iterator[Tensor]:
        """See `Split.fetch`."""
        rows = self.rows[0]
        if train:
            # For all images: which batch one is in, and where a pass began, change no view.
            shape = (1, len(self))
            view = torch.randint(len(self.rows), shape, generator=generator(*key, "view"))
            rows = self.rows.gather(0, view)[0]
        seen = MemorySplit(self.images, self.labels, self.ids, rows)
        return seen.fetch(order, batch_size, key, train)

    def select(self, rows: Tensor) -> "Viewed":
        """See `Split.select`; the images are shared, not copied."""
        ids = [self.ids[row] for row in rows.tolist()]
        return Viewed(self.images, self.labels[rows], ids, self.rows[:, rows])

    def relabel(self, labels: Tensor) -> "Viewed":
        """See `Split.relabel`."""
        return dataclasses.replace(self, labels=labels)

    def to(self, device: torch.device) -> "Viewed":
        """See `MemorySplit.to`."""
        every = MemorySplit(
            self.images, self.labels.repeat(len(self.rows), 1), self.ids, self.rows.flatten()
        ).to(device)
        if every.images is self.images:
            return self
        # The views that travelled lie one after the other.
        rows = torch.arange(self.rows.numel()).view_as(self.rows)
        return Viewed(every.images, self.labels, self.ids, rows)
