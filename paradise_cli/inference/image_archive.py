"""Images and labels of an .npz file."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from paradise_cli.core.arrays import as_int64, check_bytes, check_pixels, read_archive, type_of
from paradise_cli.core.errors import ParadiseError
from paradise_cli.data import MemorySplit


@dataclass(frozen=True)
class ImageArchive:
    """Images uint8 or float32 in [0, 1], [N, C, H, W], labels int64 [N] or [N, T] or none.

    `arrays` are the names of all arrays in the file; a label of -1 means unlabelled.
    """

    path: Path
    images: Tensor
    labels: Tensor | None
    arrays: tuple[str, ...]

    def columns(self, count: int) -> Tensor:
        """The labels as int64 [N, count]; raises ParadiseError where they are of another number."""
        labels = self._labels()
        if labels.ndim == 1:
            labels = labels[:, None]
        if labels.shape[1] != count:
            raise ParadiseError(
                f"{self.path}: labels of shape {list(self._labels().shape)};"
                f" {len(labels)} integers are needed"
                + (f" for each of the model's {count} kinds of label" if count > 1 else "")
            )
        return labels

    def column(self, number: int, count: int) -> Tensor:
        """The labels int64 [N] of one of `count` kinds; those of the file if it has one kind."""
        labels = self._labels()
        # One number an image needs no saying which kind: it is the one that is judged.
        return labels if labels.ndim == 1 else self.columns(count)[:, number]

    def unlabelled(self) -> Tensor:
        """No labels of any kind, int64 [N, 0]."""
        return torch.empty(len(self.images), 0, dtype=torch.int64)

    def split(self, labels: Tensor) -> MemorySplit:
        """The images under these labels, int64 [N, T]; a row is known by its number."""
        return MemorySplit(self.images, labels, [str(row) for row in range(len(labels))])

    def _labels(self) -> Tensor:
        if self.labels is None:
            raise ParadiseError(
                f"{self.path} has no array labels; it has: {', '.join(self.arrays)}"
            )
        return self.labels


def is_archive(name: str) -> bool:
    """Whether this names an .npz of images, rather than a folder or a data set."""
    return name.endswith(".npz") and not os.path.isdir(name)


def read_images(path: Path) -> ImageArchive:
    """The arrays `images` and `labels` of an .npz; raises ParadiseError for what is no image."""
    arrays, names = read_archive(path, ("images", "labels"))
    if "images" not in arrays:
        missing = " or ".join(sorted({"images", "labels"} - set(arrays)))
        raise ParadiseError(f"{path} has no array {missing}; it has: {', '.join(names)}")
    pixels = _pixels(arrays["images"], path)
    return ImageArchive(
        path, pixels, _labels(arrays.get("labels"), len(pixels), path), tuple(names)
    )


def _pixels(images: NDArray[Any], path: Path) -> Tensor:
    if images.ndim == 3:  # grey images, without a channel
        images = images[:, None]
    if images.ndim != 4 or not (images.dtype.kind == "f" or images.dtype == np.uint8):
        raise ParadiseError(
            f"{path}: images of type {type_of(images)} and shape {list(images.shape)}; needed are"
            " [N, C, H, W] or [N, H, W, C], uint8 or float in [0, 1]"
        )
    if 0 in images.shape[1:]:
        raise ParadiseError(f"{path}: images of shape {list(images.shape)} have no pixels")
    # Channels last only where they cannot be first: a picture 3 pixels high is rare.
    if images.shape[1] not in (1, 3, 4) and images.shape[3] in (1, 3, 4):
        images = images.transpose(0, 3, 1, 2)
    # Bytes stay bytes until a batch is read: a quarter of the memory.
    if images.dtype == np.uint8:
        check_bytes(int(images.max(initial=0)), f"{path}:")
        return torch.from_numpy(np.ascontiguousarray(images))
    if len(images):
        check_pixels(float(images.min()), float(images.max()), f"{path}:")
    # By numpy: torch has neither its long floats nor those of the other byte order.
    return torch.from_numpy(np.ascontiguousarray(images, np.float32)).clamp(0, 1)


def _labels(labels: NDArray[Any] | None, n: int, path: Path) -> Tensor | None:
    if labels is None:
        return None
    if labels.ndim not in (1, 2) or len(labels) != n or labels.dtype.kind not in "iu":
        raise ParadiseError(
            f"{path}: labels of type {type_of(labels)} and shape {list(labels.shape)};"
            f" {n} integers are needed"
        )
    if labels.size and labels.min() < -1:
        raise ParadiseError(
            f"{path}: labels run from {labels.min()} to {labels.max()}: class numbers, which begin"
            " at 0, are needed, or -1 for an image without label"
        )
    return torch.from_numpy(as_int64(labels, f"{path}:"))
