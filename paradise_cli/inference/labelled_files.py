"""Image files that a user names, each with the class that its place tells."""

import glob
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from paradise_cli.core.errors import UsageError
from paradise_cli.core.registry import did_you_mean
from paradise_cli.core.units import counted
from paradise_cli.data import (
    DATASETS,
    SHARD,
    DataInfo,
    ImageFile,
    class_folders_of,
    ids_and_shards,
    matching,
    packed_images,
)


@dataclass(frozen=True)
class LabelledFile:
    """An image file and the class it lies in, None where nothing tells it."""

    path: ImageFile
    class_name: str | None


def labelled_files(item: str, info: DataInfo) -> list[LabelledFile]:
    """The images of a folder, a file or a pattern, as `open_images` lists them."""
    if not item:
        raise UsageError("images: an empty name; the current folder is '.'")
    known = set(info.targets[0].classes) if info.targets else set[str]()
    path = Path(item)
    if path.is_dir():
        return _below(path, known)
    if path.exists():
        if path.suffix in (".npy", ".npz"):
            raise UsageError(f"{path}: an array cannot be mixed with other images; give it alone")
        return _at(path, known)
    if glob.has_magic(item):
        files = matching(item)
        if not files:
            raise UsageError(f"{item}: no file matches this pattern")
        parts = Path(item).parts
        fixed = next(place for place, part in enumerate(parts) if glob.has_magic(part))
        # Only what the pattern matched, as in `_below`, and the folder that the file lies in.
        return [
            each
            for file in files
            for each in _at(file, known, folders=max(1, len(file.parts) - 1 - fixed))
        ]
    name = item.partition(":")[0]
    if name in DATASETS:
        raise UsageError(f"{item}: a data set cannot be mixed with other images; give it alone")
    raise UsageError(
        f"{item}: no such file or folder, and no data set of that"
        f" name{did_you_mean(name, list(DATASETS))}"
        f"\ndata sets: {', '.join(DATASETS)}; add :train or :validation for another split than test"
    )


def _at(path: Path, known: set[str], folders: int = 1) -> list[LabelledFile]:
    """The image of a file, of which the last `folders` may be the class, or those of a tar file."""
    if path.suffix != SHARD:
        return [LabelledFile(path, _innermost(path.parts[:-1][-folders:], known))]
    return [
        LabelledFile(image, _innermost(image.folders, known) or image.class_name)
        for image in packed_images(path)
    ]


def _below(folder: Path, known: set[str]) -> list[LabelledFile]:
    """All images in a folder, each with the class that its place below the folder tells.

    Where there is none, those of the tar files in it.
    """
    ids, shards = ids_and_shards(folder)
    if not ids:
        return [each for shard in shards for each in _at(shard, known)]
    if shards:
        warnings.warn(
            f"{folder}: {counted(len(shards), 'tar file')} beside its images are left out; name"
            " them to read them",
            stacklevel=2,
        )
    found = []
    for image, class_folder in zip(ids, class_folders_of(folder, ids), strict=True):
        # Only what lies below: a folder above, such as /home/cat, is no class. The folder itself
        # may be one.
        inside = _innermost(image.split("/")[:-1], known) or class_folder
        found.append(LabelledFile(folder / image, inside or _innermost([folder.name], known)))
    return found


def _innermost(folders: Sequence[str], known: set[str]) -> str | None:
    """The last of these folders that is a class of the model."""
    return next((name for name in reversed(folders) if name in known), None)
