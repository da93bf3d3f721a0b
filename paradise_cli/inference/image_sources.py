"""What a user may call images: a folder, files, a pattern, an array, an .npz, or a data set."""

import dataclasses
import hashlib
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from paradise_cli.core.arrays import check_bytes, check_pixels, map_array, type_of
from paradise_cli.core.errors import ParadiseError, UsageError
from paradise_cli.core.given import plain_array
from paradise_cli.data import (
    DATASETS,
    DataInfo,
    FolderSplit,
    ImageFile,
    Preprocessing,
    Split,
    decode,
    numbers_of,
)
from paradise_cli.inference.image_archive import is_archive, read_images
from paradise_cli.inference.labelled_files import LabelledFile, labelled_files
from paradise_cli.inference.named_data import open_for_model
from paradise_cli.recipe.schema import Recipe

Images = str | Path | Sequence[str | Path] | NDArray[Any] | Tensor
_ARRAY_STRIDE = 64  # rows of an array read at a time; files are read one by one, by all threads


@dataclass(frozen=True)
class ImageSource:
    """N images of one shape (C, H, W), read a few rows at a time from any thread.

    `read(start, stop)` gives rows start to stop as [n, C, H, W]: uint8, or float32 in [0, 1], as
    `dtype` says; it raises UnreadableImage for a file that is no image. `stride` is how many rows
    to read at a time. Labels are int64 [N, T], -1 where unknown; the first column numbers
    `class_names`: of a data set its own, else the model's and after them those of class folders
    that the model does not know. Labels of an archive have no names: what they number is unknown.
    """

    ids: Sequence[str]
    labels: NDArray[np.int64]
    shape: tuple[int, int, int]
    dtype: type[np.uint8] | type[np.float32]
    stride: int
    read: Callable[[int, int], NDArray[Any]]
    class_names: tuple[str, ...] = ()

    @property
    def listing(self) -> str:
        """Hex sha256 of the ids: a folder of one name may hold other images by the next time."""
        return hashlib.sha256("\0".join(self.ids).encode(errors="surrogateescape")).hexdigest()


def open_images(images: Images, recipe: Recipe, info: DataInfo) -> ImageSource:
    """The images meant, as the model trained by `recipe` on data like `info` reads them.

    Text and paths name a folder (all images below it, sorted), a file, a pattern such as
    `photos/**/*.jpg` (sorted), a tar file or a folder of them (in the order of each), a `.npy`
    array, an `.npz` with `images` and perhaps `labels`, or a data set such as `digits` or
    `fashion_mnist:train` (`:test` if no split is named); a list may hold several folders, files
    and patterns, in this order. Arrays are [N, H, W], [N, H, W, C] or [N, C, H, W], uint8 or
    float in [0, 1], of the model's size. Raises UsageError for what does not
    exist, ParadiseError for what holds no images or does not fit the model.
    """
    if isinstance(images, Tensor | np.ndarray):
        return _of_array(plain_array(images, "images"), info, "the array")
    given = [images] if isinstance(images, str | Path) else images
    if not isinstance(given, Sequence) or not all(isinstance(i, str | Path) for i in given):
        kind = type(images).__name__
        raise UsageError(
            f"no images: {kind}; give a path, a pattern, a data set, a list of paths, or an array"
            " or tensor"
        )
    if not given:
        raise UsageError(
            "no images: name a folder, files, a pattern, an .npy or .npz array, or a data set"
        )
    # Once for all: a quoted ~/x.npy is a file like any other.
    names = [os.path.expanduser(each) for each in given]
    # These stand for a whole list of images, and have labels of their own: never two at once.
    if len(names) == 1:
        only = names[0]
        if not os.path.exists(only) and only.partition(":")[0] in DATASETS:
            return _of_data_set(only, recipe, info)
        if only.endswith(".npy") and os.path.isfile(only):
            return _of_file(Path(only), info)
        if is_archive(only):
            return _of_archive(Path(only), info)
    return _of_paths([path for item in names for path in labelled_files(item, info)], info)


def _of_paths(files: Sequence[LabelledFile], info: DataInfo) -> ImageSource:
    own = info.targets[0].classes if info.targets else ()
    # After the model's classes, so that the numbers of those stay what the model means by them.
    given = sorted({file.class_name for file in files if file.class_name})
    number: dict[str | None, int] = dict(zip(given, numbers_of(given, own), strict=True))
    unknown = [name for name in given if number[name] < 0]
    names = (*own, *unknown)
    number |= {name: i for i, name in enumerate(unknown, len(own))}
    # A model without classes has no column for those of the folders.
    columns = max(len(info.targets), 1 if unknown else 0)
    labels = np.full((len(files), columns), -1, np.int64)
    if columns:
        labels[:, 0] = [number.get(file.class_name, -1) for file in files]
    paths = [file.path for file in files]
    ids = [str(path) for path in paths]
    return _of_files(paths, ids, labels, info.preprocessing, info, names)


def _of_files(
    paths: Sequence[ImageFile],
    ids: Sequence[str],
    labels: NDArray[np.int64],
    how: Preprocessing,
    info: DataInfo,
    class_names: tuple[str, ...],
) -> ImageSource:
    _check_shape(how.shape, info, "the model's preprocessing")

    def read(start: int, stop: int) -> NDArray[np.uint8]:
        return np.stack([decode(path, how) for path in paths[start:stop]])

    return ImageSource(ids, labels, info.shape, np.uint8, 1, read, class_names)


def _of_data_set(item: str, recipe: Recipe, info: DataInfo) -> ImageSource:
    # Always with a split, which an error then names in the same way. Where the model was taught few
    # labels, the others are known all the same, and whoever encodes may want them.
    named = item if ":" in item else f"{item}:test"
    found = open_for_model(recipe, info, named, overrides=["data.labelled=null"])
    data = found.info
    names = data.targets[0].classes if data.targets else ()
    if not isinstance(found.split, FolderSplit):
        _check_shape(data.shape, info, item)
    return of_split(found.split, info, names)


def of_split(split: Split, info: DataInfo, names: tuple[str, ...] = ()) -> ImageSource:
    """The images of a split, those of a folder one by one, by the split's own preprocessing."""
    labels = split.labels.numpy()
    if isinstance(split, FolderSplit):
        files = [split.file(row) for row in range(len(split))]
        return _of_files(files, split.ids, labels, split.preprocessing, info, names)

    def read(start: int, stop: int) -> NDArray[Any]:
        batch: NDArray[Any] = next(
            split.fetch(torch.arange(start, stop), stop - start, (), False)
        ).numpy()
        return batch

    # A random source holds values, not bytes; only a row of it shows that.
    kind = np.float32 if read(0, 1).dtype.kind == "f" else np.uint8
    return ImageSource(split.ids, labels, info.shape, kind, _ARRAY_STRIDE, read, names)


def _of_archive(path: Path, info: DataInfo) -> ImageSource:
    archive = read_images(path)
    source = _of_array(archive.images.numpy(), info, str(path))
    if archive.labels is None:
        return source
    labels = archive.labels if archive.labels.ndim == 2 else archive.labels[:, None]
    return dataclasses.replace(source, labels=labels.numpy(), class_names=())


def _of_file(path: Path, info: DataInfo) -> ImageSource:
    array = map_array(path)
    # In Fortran's order rows do not lie one after the other, and only a map can gather them. What
    # has no rows is refused there.
    if not array.flags.c_contiguous or not array.ndim:
        return _of_array(array, info, str(path))
    row_bytes, offset = array[:1].nbytes, array.offset

    def rows(start: int, stop: int) -> NDArray[Any]:
        # Read, not mapped: pages of a map stay resident, and a file cut short would be a bus error.
        count = (stop - start) * (row_bytes // array.itemsize)
        try:
            part = np.fromfile(path, array.dtype, count, offset=offset + start * row_bytes)
        except OSError as error:
            raise ParadiseError(f"{path}: cannot be read: {error.strerror}") from error
        if part.size != count:
            raise ParadiseError(f"{path}: was cut short while it was being read")
        return part.reshape(-1, *array.shape[1:])

    return _of_array(array, info, str(path), rows)


def _of_array(
    array: NDArray[Any],
    info: DataInfo,
    where: str,
    rows: Callable[[int, int], NDArray[Any]] | None = None,
) -> ImageSource:
    fetch = rows or (lambda start, stop: array[start:stop])
    if len(array.shape) < 3 or len(array) == 0:
        raise ParadiseError(f"{where}: shape {list(array.shape)} holds no images; {_wanted(info)}")
    if array.dtype != np.uint8 and array.dtype.kind != "f":
        raise ParadiseError(f"{where}: pixels of type {type_of(array)}; {_wanted(info)}")
    arrange = _arrangement(array.shape[1:], info, where)
    floating = array.dtype.kind == "f"
    if not floating:
        _check_bytes(fetch, len(array), where)

    def read(start: int, stop: int) -> NDArray[Any]:
        part = arrange(fetch(start, stop))
        if not floating:
            return part
        # Part by part, as an array may be larger than memory.
        check_pixels(part.min(), part.max(), f"{where}: rows {start} to {stop - 1}:")
        return part.astype(np.float32).clip(0, 1)

    ids = [str(row) for row in range(len(array))]
    labels = np.full((len(array), len(info.targets)), -1, np.int64)
    names = info.targets[0].classes if info.targets else ()
    kind = np.float32 if floating else np.uint8
    return ImageSource(ids, labels, info.shape, kind, _ARRAY_STRIDE, read, names)


def _check_bytes(fetch: Callable[[int, int], NDArray[Any]], rows: int, where: str) -> None:
    """Raise ParadiseError for bytes that are all 0 or 1; reads rows until one is not."""
    high = 0
    for start in range(0, rows, _ARRAY_STRIDE):
        high = max(high, int(fetch(start, min(start + _ARRAY_STRIDE, rows)).max()))
        if high > 1:
            return
    check_bytes(high, f"{where}:")


def _arrangement(
    shape: tuple[int, ...], info: DataInfo, where: str
) -> Callable[[NDArray[Any]], NDArray[Any]]:
    """How rows of this shape become [n, C, H, W]."""
    channels, height, width = info.shape
    if shape == info.shape:
        return lambda part: part
    if shape == (height, width, channels):
        return lambda part: part.transpose(0, 3, 1, 2)
    if shape == (height, width) and channels == 1:
        return lambda part: part[:, None]
    raise ParadiseError(
        f"{where}: images of shape {list(shape)} do not fit the model; {_wanted(info)}"
    )


def _wanted(info: DataInfo) -> str:
    c, h, w = info.shape
    grey = f"[N, {h}, {w}], " if c == 1 else ""
    return (
        f"it reads uint8, or float in [0, 1], of shape {grey}[N, {h}, {w}, {c}] or [N, {c},"
        f" {h}, {w}]"
    )


def _check_shape(shape: tuple[int, int, int], info: DataInfo, where: str) -> None:
    if shape != info.shape:
        given, wanted = ("x".join(map(str, s)) for s in (shape, info.shape))
        raise ParadiseError(
            f"{where} gives images {given}, the model reads {wanted} (it was trained on"
            f" {info.label})"
        )
