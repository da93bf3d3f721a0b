"""What a split must hold, whoever made it: anything else would train on wrong numbers."""

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from paradise_cli.core.errors import ParadiseError
from paradise_cli.core.units import counted

if TYPE_CHECKING:
    from paradise_cli.data.base import DataInfo, Split

_LOOKED_AT = 1024  # images whose pixels are looked at

_WANTED = (
    "a split holds images, a tensor [N, C, H, W] of uint8 or of float32 in [0, 1], labels, a tensor"
    " [N, T] of int64 with -1 = unlabelled, and N ids, each a str"
)


def check_contents(split: "Split", info: "DataInfo", where: str) -> None:
    """Raise ParadiseError, which names `where`, for a split that does not fit its description."""
    labels: Any = split.labels
    if not isinstance(labels, Tensor) or labels.dtype != torch.int64:
        raise _wrong(where, f"labels are {_kind(labels)}")
    if len(split) == 0:
        raise ParadiseError(f"{where}: holds no image")
    if labels.shape != (len(split), len(info.targets)) or len(split.ids) != len(split):
        raise ParadiseError(
            f"{where}: {len(split.ids)} images and labels of shape {list(labels.shape)};"
            f" expected one row an image and {counted(len(info.targets), 'label column')}"
        )
    for each in split.ids:
        if not isinstance(each, str):
            raise _wrong(where, f"an id is {_kind(each)}")
    # A label beyond the classes would be an index error deep inside a loss, or on CUDA an abort.
    for column, target in zip(labels.unbind(1), info.targets, strict=True):
        low, high = int(column.min()), int(column.max())
        if low < -1 or high >= len(target.classes):
            raise ParadiseError(
                f"{where}: labels of '{target.name}' run from {low} to {high}, but it has"
                f" {len(target.classes)} classes: 0 to {len(target.classes) - 1} are allowed, -1 ="
                " unlabelled"
            )
    # What is streamed is decoded to bytes, and not read here.
    if hasattr(split, "images"):
        _check_images(split.images, getattr(split, "rows", None), len(split), info.pictures, where)


def _check_images(images: Any, rows: Tensor | None, count: int, pictures: bool, where: str) -> None:
    """Raise ParadiseError for images in memory that are none, or too few; `rows` picks of them."""
    if not isinstance(images, Tensor) or images.dtype not in (torch.uint8, torch.float32):
        raise _wrong(where, f"images are {_kind(images)}")
    used = torch.arange(count) if rows is None else rows.flatten()
    if (rows is None and len(images) != count) or int(used.max()) >= len(images):
        raise _wrong(where, f"there are {len(images)} images for {count} labels")
    if pictures and images.dtype == torch.float32:
        # Some of them: to read all takes seconds, and a wrong scale is that of each.
        seen = images[used[:: len(used) // _LOOKED_AT + 1].to(images.device)]
        low, high = float(seen.min()), float(seen.max())
        # Written so that NaN, which compares as nothing, is refused.
        if not (low >= 0 and high <= 1):
            raise _wrong(where, f"images are float32 from {low:.4g} to {high:.4g}")


def _kind(value: Any) -> str:
    """Of which type a value is, in words."""
    if isinstance(value, Tensor):
        return f"a tensor of {str(value.dtype).removeprefix('torch.')}"
    return f"of type {type(value).__name__}"


def _wrong(where: str, problem: str) -> ParadiseError:
    return ParadiseError(f"{where}: {problem}; {_WANTED}")
