"""Which data a training stands on, in a few words that a checkpoint can keep."""

import hashlib
from typing import Any

from paradise_cli.data import DataBundle

SHOWN = 12  # class names in a message


def identity(data: DataBundle) -> dict[str, Any]:
    """Shape, classes, number of training images and a digest of their ids and labels: JSON."""
    digest = hashlib.sha256()
    for name in data.train.ids:
        # File names need not be UTF-8; the zero keeps "ab", "c" apart from "a", "bc".
        digest.update(name.encode("utf-8", "surrogateescape") + b"\0")
    # Not the pixels: reading all of them would take minutes.
    digest.update(data.train.labels.numpy().tobytes())
    return {
        "shape": list(data.info.shape),
        "classes": {target.name: list(target.classes) for target in data.info.targets},
        "images": len(data.train),
        "sha256": digest.hexdigest(),
    }


def differences(before: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """What has changed between two identities, a line each; nothing where they are the same."""
    lines = []
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
    if not lines and before != now:
        lines.append("  the training images have other names or labels than before")
    return lines


def _names(classes: list[str]) -> str:
    more = f" and {len(classes) - SHOWN} more" if len(classes) > SHOWN else ""
    return (", ".join(classes[:SHOWN]) or "none") + more
