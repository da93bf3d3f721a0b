"""What a user may call images: a folder, files, a pattern, an array, or a data set."""

import glob
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from paradise_cli.core.errors import ParadiseError, UsageError
from paradise_cli.core.registry import did_you_mean
from paradise_cli.data import (
    DATASETS,
    DataInfo,
    FolderSplit,
    Preprocessing,
    Split,
    decode,
    list_images,
)
from paradise_cli.recipe.schema import Recipe

Images = str | Path | Sequence[str | Path] | NDArray[Any] | Tensor
_SPLITS = ("train", "validation", "test")
_ARRAY_STRIDE = 64


@dataclass(frozen=True)
class Source:
    """N images of one shape (C, H, W), read a few rows at a time from any thread.

    `read(start, stop)` gives rows start to stop as [n, C, H, W]: uint8, or float32 in [0, 1], as
    `dtype` says; it raises UnreadableImage for a file that is no image. `stride` is how many rows
    to read at a time. Labels are int64 [N, T], -1 where unknown.
    """

    ids: Sequence[str]
    labels: NDArray[np.int64]
    shape: tuple[int, int, int]
    dtype: type[np.uint8] | type[np.float32]
    stride: int
    read: Callable[[int, int], NDArray[Any]]


def open_source(images: Images, recipe: Recipe, info: DataInfo) -> Source:
    """The images meant, as the model trained by `recipe` on data like `info` reads them.

    Text and paths name a folder (all images below it, sorted), a file, a pattern such as
    `photos/**/*.jpg` (sorted), a `.npy` array, or a data set such as `digits` or
    `fashion_mnist:train` (`:test` if no split is named); a list may hold several folders, files and
    patterns, in this order. Arrays are [N, H, W], [N, H, W, C] or [N, C, H, W], uint8 or float in
    [0, 1], of the model's size. Raises ParadiseError for what does not exist, holds no images or
    does not fit the model.
    """
    if isinstance(images, Tensor):
        images = images.detach().cpu().numpy()
    if isinstance(images, np.ndarray):
        return _of_array(images, info, "the array")
    given = [images] if isinstance(images, str | Path) else list(images)
    if not given:
        raise UsageError("no images: name a folder, files, a pattern, an .npy array or a data set")
    if len(given) == 1:
        only = str(given[0])
        if not os.path.exists(only) and only.partition(":")[0] in DATASETS:
            return _of_data_set(only, recipe, info)
        if only.endswith(".npy") and os.path.isfile(only):
            return _of_file(Path(only), info)
    return _of_paths([path for item in given for path in _paths(str(item))], info)


def _paths(item: str) -> list[Path]:
    path = Path(item).expanduser()
    if path.is_dir():
        return list_images(path)
    if path.exists():
        if path.suffix == ".npy":
            raise UsageError(f"{path}: an array cannot be mixed with other images; give it alone")
        return [path]
    if glob.has_magic(item):
        found = sorted(p for p in glob.glob(str(path), recursive=True) if not os.path.isdir(p))
        if not found:
            raise ParadiseError(f"{item}: no file matches this pattern")
        return [Path(p) for p in found]
    name = item.partition(":")[0]
    if name in DATASETS:
        raise UsageError(f"{item}: a data set cannot be mixed with other images; give it alone")
    raise ParadiseError(
        f"{item}: no such file or folder, and no data set of that"
        f" name{did_you_mean(name, list(DATASETS))}"
        f"\ndata sets: {', '.join(DATASETS)}; add :train or :validation for another split than test"
    )


def _of_paths(paths: Sequence[Path], info: DataInfo) -> Source:
    classes = {name: i for i, name in enumerate(info.targets[0].classes)} if info.targets else {}
    labels = np.full((len(paths), len(info.targets)), -1, np.int64)
    for row, path in enumerate(paths if classes else ()):
        folders = reversed(path.parts[:-1])
        labels[row, 0] = next((classes[name] for name in folders if name in classes), -1)
    return _of_files(paths, [str(path) for path in paths], labels, info.preprocessing, info)


def _of_files(
    paths: Sequence[Path],
    ids: Sequence[str],
    labels: NDArray[np.int64],
    how: Preprocessing,
    info: DataInfo,
) -> Source:
    _check_shape(how.shape, info, "the model's preprocessing")

    def read(start: int, stop: int) -> NDArray[np.uint8]:
        return np.stack([decode(path, how) for path in paths[start:stop]])

    return Source(ids, labels, info.shape, np.uint8, 1, read)


def _of_data_set(item: str, recipe: Recipe, info: DataInfo) -> Source:
    name, _, split_name = item.partition(":")
    if split_name and split_name not in _SPLITS:
        hint = did_you_mean(split_name, list(_SPLITS))
        raise UsageError(f"{item}: no split '{split_name}'{hint}; known: {', '.join(_SPLITS)}")
    own = recipe.data.name == name  # the data the model learned from, found where they were then
    bundle = DATASETS[name](recipe.data.root, **recipe.data.hyper) if own else DATASETS[name](None)
    there = {s: getattr(bundle, s) for s in _SPLITS if getattr(bundle, s) is not None}
    wanted = split_name or ("test" if "test" in there else "train")
    if wanted not in there:
        raise ParadiseError(f"{name} has no split '{wanted}'; it has: {', '.join(there)}")
    split: Split = there[wanted]
    labels = split.labels.numpy()
    if isinstance(split, FolderSplit):
        files = [split.root / i for i in split.ids]
        return _of_files(files, split.ids, labels, split.preprocessing, info)
    _check_shape(bundle.info.shape, info, item)

    def read(start: int, stop: int) -> NDArray[Any]:
        batch: NDArray[Any] = next(
            split.fetch(torch.arange(start, stop), stop - start, (), False)
        ).numpy()
        return batch

    kind = np.float32 if read(0, 1).dtype.kind == "f" else np.uint8
    return Source(split.ids, labels, info.shape, kind, _ARRAY_STRIDE, read)


def _of_file(path: Path, info: DataInfo) -> Source:
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise ParadiseError(f"{path}: not a readable .npy array: {error}") from error
    if not array.flags.c_contiguous:
        return _of_array(array, info, str(path))
    row_bytes, offset = array[:1].nbytes, array.offset

    def rows(start: int, stop: int) -> NDArray[Any]:
        # Read, not mapped: pages of a map stay resident and a file cut short would kill the
        # process.
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
) -> Source:
    fetch = rows or (lambda start, stop: array[start:stop])
    if len(array.shape) < 3 or len(array) == 0:
        raise ParadiseError(f"{where}: shape {list(array.shape)} holds no images; {_wanted(info)}")
    if array.dtype != np.uint8 and array.dtype.kind != "f":
        raise ParadiseError(f"{where}: pixels of type {array.dtype}; {_wanted(info)}")
    arrange = _arrangement(array.shape[1:], info, where)
    floating = array.dtype.kind == "f"

    def read(start: int, stop: int) -> NDArray[Any]:
        part = arrange(fetch(start, stop))
        if not floating:
            return part
        if not (part.min() >= 0 and part.max() <= 1):  # also false for NaN
            raise ParadiseError(
                f"{where}: rows {start} to {stop - 1} hold values outside [0, 1]; divide by their"
                " range"
                " first, or save 0 to 255 as uint8"
            )
        return part.astype(np.float32)

    ids = [str(row) for row in range(len(array))]
    labels = np.full((len(array), len(info.targets)), -1, np.int64)
    return Source(
        ids, labels, info.shape, np.float32 if floating else np.uint8, _ARRAY_STRIDE, read
    )


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
