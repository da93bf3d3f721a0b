"""Which data a training stands on, in a few words that a checkpoint can keep."""

import hashlib
from collections.abc import Sequence
from typing import Any

import torch

from paradise_cli.data import SPLITS, DataBundle, Split

SHOWN = 12  # class names in a message
_LOOKED_AT = 1024  # images whose pixels are compared
_BATCH = 64  # images read at a time


def identity(
    data: DataBundle, *, pixels: bool = True, splits: Sequence[str] = SPLITS
) -> dict[str, Any]:
    """Shape and classes, and of each split the number of images, and digests of their ids and
    labels and of the pixels of up to 1,024 of them, at even distances (None of data that are no
    pictures, and without `pixels`): JSON.

    Those of the training split stand by themselves, of the `splits` else by their names; a split
    that is not there is None.
    """
    # Features and random values are computed, and rounded in another way elsewhere.
    pixels = pixels and data.info.pictures
    there = data.splits()
    return {
        "shape": list(data.info.shape),
        "classes": {target.name: list(target.classes) for target in data.info.targets},
        **_part(data.train, pixels),
        **{
            name: _part(there[name], pixels) if name in there else None
            for name in splits
            if name != "train"
        },
    }


def _part(split: Split, pixels: bool) -> dict[str, Any]:
    """The identity of one split."""
    digest = hashlib.sha256()
    for name in split.ids:
        # File names need not be UTF-8; the zero keeps "ab", "c" apart from "a", "bc".
        digest.update(name.encode("utf-8", "surrogateescape") + b"\0")
    digest.update(split.labels.numpy().tobytes())
    return {
        "images": len(split),
        "sha256": digest.hexdigest(),
        "pixels": _pixels(split) if pixels else None,
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
    # Older versions stood on features behind a frozen backbone, which have a shape of their own,
    # or did not look at pixels.
    if before.get("pixels") is None:
        before = before | {"shape": now["shape"]}
    if before["shape"] != now["shape"]:
        shapes = ["x".join(map(str, one["shape"])) for one in (before, now)]
        lines.append(f"  image shape: {shapes[0]} -> {shapes[1]}")
    if before["classes"] != now["classes"]:
        for target in sorted(before["classes"].keys() | now["classes"].keys()):
            old, new = (_names(one["classes"].get(target, [])) for one in (before, now))
            if old != new:
                lines.append(f"  classes of '{target}': {old} -> {new}")
    # Of other classes the labels are others too: that is told already.
    named = not lines
    lines += _part_differences("training", before, now, named)
    for split in ("validation", "test"):
        # Older versions knew of the training images alone.
        if split in before and split in now:
            lines += _part_differences(split, before[split], now[split], named)
    return lines


def _part_differences(
    split: str, before: dict[str, Any] | None, now: dict[str, Any] | None, named: bool
) -> list[str]:
    """What has changed in one split, of which None says that it is not there."""
    old, new = (0 if each is None else each["images"] for each in (before, now))
    if old != new:
        return [f"  {split} images: {old:,} -> {new:,}"]
    if before is None or now is None or not named:
        return []
    # A renamed file or a changed label moves no number, and yet the order of batches.
    if before["sha256"] != now["sha256"]:
        return [f"  the {split} images have other names or labels than before"]
    pixels = before.get("pixels"), now.get("pixels")
    if None not in pixels and pixels[0] != pixels[1]:
        return [f"  the {split} images have other pixels than before"]
    return []


def _names(classes: list[str]) -> str:
    more = f" and {len(classes) - SHOWN} more" if len(classes) > SHOWN else ""
    return (", ".join(classes[:SHOWN]) or "none") + more
