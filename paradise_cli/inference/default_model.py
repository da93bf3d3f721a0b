"""Which packaged model is used where none is named."""

import glob
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from paradise_cli.core.errors import UsageError
from paradise_cli.core.storage import load_metadata
from paradise_cli.hub.cards import Task, packaged_file, packaged_for

if TYPE_CHECKING:
    from paradise_cli.data import ImageFile

_ARRAYS = (".npy", ".npz")
ANY = "any"
"""In a card's `default_for`: images for which there is no nearer model."""


def default_model(images: Sequence[str] = (), task: Task = "encode") -> tuple[str, str]:
    """The packaged model for images as `open_images` takes them, and the kind that decided.

    Cards say for which data sets, shapes and tasks theirs is: the first image counts, and what
    cannot be read is of no kind. Of an array it is one that reads its size. Raises UsageError where
    there is none for a task.
    """
    able = packaged_for(task)
    models = {
        kind: name
        for name, each in able.items()
        if task in each.default_to
        for kind in each.default_for
    }
    found = _kind(images[0]) if images else ANY
    kind = found if found in models else ANY
    # What nobody knows, as a misspelt name, is for whoever reads the images to complain of.
    if kind not in models and not _known(found):
        return next(iter(able)), ANY
    if kind not in models:
        raise UsageError(
            f"no packaged model can {task} such images; name one by --model: a run of yours, or of"
            f" the packaged ones: {', '.join(able)}"
        )
    # Nothing changes the size of an array: a model that reads others would refuse it.
    if kind == ANY and images and Path(images[0]).suffix in _ARRAYS:
        # One that is a default for something comes first.
        names = sorted(able, key=lambda name: not able[name].default_for)
        if fitting := next((name for name in names if _shape(name) == found), None):
            return fitting, found
    return models[kind], kind


def _shape(name: str) -> str:
    """The images that a packaged model reads, as CxHxW."""
    path = packaged_file(name)
    return "" if path is None else "x".join(map(str, load_metadata(path)["data"]["shape"]))


def _known(kind: str) -> bool:
    """Whether this is the shape of an image that was read, or a data set of some card."""
    named = {each for card in packaged_for("encode").values() for each in card.default_for}
    return kind in named - {ANY} or re.fullmatch(r"\d+x\d+x\d+", kind) is not None


def _kind(item: str) -> str:
    """A data set's name, or the shape of the first image as CxHxW."""
    try:
        first = _first_file(Path(item).expanduser())
        if first is None:
            return item.partition(":")[0]
        if isinstance(first, Path) and first.suffix in _ARRAYS:
            return _array_kind(first)
        return _image_kind(first)
    # Of a dozen kinds: whoever reads all of them says what is wrong with this one.
    except Exception:
        return ANY


def _first_file(path: Path) -> "ImageFile | None":
    if not path.exists() and not glob.has_magic(str(path)):
        return None
    # Here: whoever asks for no images must not wait for torch, which comes along.
    from paradise_cli.data import SHARD, ids_and_shards, matching, packed_images

    first = path
    if path.is_dir():
        ids, shards = ids_and_shards(path)
        first = path / ids[0] if ids else shards[0]
    elif not path.exists():
        first = matching(str(path))[0]
    return packed_images(first)[0] if first.suffix == SHARD else first


def _image_kind(file: "ImageFile") -> str:
    from paradise_cli.data import header

    return "{}x{}x{}".format(*header(file))


def _array_kind(path: Path) -> str:
    import numpy as np

    found = np.load(path, mmap_mode="r", allow_pickle=False)
    shape = found.shape if path.suffix == ".npy" else found["images"].shape
    if len(shape) == 3:  # [N, H, W]
        return f"1x{shape[1]}x{shape[2]}"
    _, first, second, last = shape
    # As `open_images` reads them: channels are last where only there they can be.
    channels_last = last in (1, 3) and first not in (1, 3)
    size = (last, first, second) if channels_last else (first, second, last)
    return "x".join(map(str, size))
