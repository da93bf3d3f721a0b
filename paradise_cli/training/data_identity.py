"""Which data a training stands on, in a few words that a checkpoint can keep."""

import hashlib
from typing import Any

import torch

from paradise_cli.data import DataBundle, Split

SHOWN = 12  # class names in a message
_LOOKED_AT = 1024  # images whose pixels are compared
_BATCH = 64  # images read at a time


def identity(data: DataBundle, *, pixels: bool = True) -> dict[str, Any]:
    """Shape, classes, number of training images, and digests of their ids and labels and of the
    pixels of up to 1,024 of them, at even distances (None of data that are no pictures, and
    without `pixels`): JSON.
    """
    digest = hashlib.sha256()
    for name in data.train.ids:
        # File names need not be UTF-8; the zero keeps "ab", "c" apart from "a", "bc".
        digest.update(name.encode("utf-8", "surrogateescape") + b"\0")
    digest.update(data.train.labels.numpy().tobytes())
    return {
        "shape": list(data.info.shape),
        "classes": {target.name: list(target.classes) for target in data.info.targets},
        "images": len(data.train),
        "sha256": digest.hexdigest(),
        # Features and random values are computed, and rounded in another way elsewhere.
        "pixels": _pixels(data.train) if pixels and data.info.pictures else None,
    }


def _pixels(split: Split) -> str:
    """A digest of some images of a split, or of all of a small one."""
    # Files made anew under their old names are all others; to read all images takes minutes.
    rows = torch.arange(len(split))[:: len(split) // _LOOKED_AT + 1]
    digest = hashlib.sha256()
    for images in split.fetch(rows, _BATCH, (), False):
        digest.update(images.cpu().numpy().tobytes())
    return digest.hexdigest()


def differences(before: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """What has changed between two identities, a line each; nothing where they are the same."""
    lines = []
    # Behind a frozen backbone a training stood on features, which have a shape of their own; older
    # versions did not look at pixels.
    if before.get("pixels") is None:
        before = before | {name: now[name] for name in ("shape", "pixels")}
    if before["shape"] != now["shape"]:
        shapes = ["x".join(map(str, one["shape"])) for one in (before, now)]
        lines.append(f"  image shape: {shapes[0]} -> {shapes[1]}")
    if before["classes"] != now["classes"]:
        for target in sorted(before["classes"].keys() | now["classes"].keys()):
            old, new = (_names(one["classes"].get(target, [])) for one in (before, now))
            if old != new:
                lines.append(f"  classes of '{target}': {old} -> {new}")
    if before["images"] != now["images"]:
        lines.append(f"  training images: {before['images']:,} -> {now['images']:,}")
    # A renamed file or a changed label moves no number, and yet the order of batches.
    if not lines and before["sha256"] != now["sha256"]:
        lines.append("  the training images have other names or labels than before")
    elif not lines and before["pixels"] != now["pixels"]:
        lines.append("  the training images have other pixels than before")
    return lines


def _names(classes: list[str]) -> str:
    more = f" and {len(classes) - SHOWN} more" if len(classes) > SHOWN else ""
    return (", ".join(classes[:SHOWN]) or "none") + more
