"""Every image a class of its own, with near-duplicates of it: what tells images apart."""

import hashlib
import os
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path

import torch

from paradise_cli.core.errors import ParadiseError
from paradise_cli.core.progress import tell
from paradise_cli.core.randomness import generator, permutation
from paradise_cli.core.resources import cache_folder
from paradise_cli.core.storage import file_digest, publish
from paradise_cli.core.units import counted
from paradise_cli.data.base import DataBundle, DataInfo, Filter, Preprocessing, Target, dataset
from paradise_cli.data.copies import distorted
from paradise_cli.data.images import UnreadableImage, reading
from paradise_cli.data.listing import image_ids
from paradise_cli.data.streaming import FolderSplit, stream, unread_note

_VERSION = 1  # of the copies: raise it where `distorted` changes
_UNSEEN = 1000  # images that a dry run assumes


def _describe(
    root: Path | None,
    *,
    size: int,
    short_side: int,
    filter: Filter,
    copies: int,
    most: int,
    label: str,
) -> DataInfo:
    there = root is not None and root.exists()
    number = min(len(image_ids(root)), most) if root is not None and there else _UNSEEN
    name = label or (root.resolve().name if root is not None else "instances")
    # Numbers, not names: weights that are published must not tell what a user's files are called.
    target = Target("instance", tuple(map(str, range(number))))
    how = Preprocessing(3, short_side, (size, size), filter=filter)
    return DataInfo(name, how.shape, (target,), number * (1 + copies), how)


@dataset(_describe)
def instances(
    root: Path | None,
    *,
    size: int = 224,
    short_side: int = 256,
    filter: Filter = "bicubic",
    copies: int = 2,
    most: int = 5000,
    label: str = "",
) -> DataBundle:
    """Each image of a folder and below as a class of its own, with `copies` near-duplicates of it.

    Instance discrimination (Dosovitskiy et al. 2014; method.md 3.7). The copies are cropped,
    resized and compressed, and kept in the user's cache. Of more than `most` images so many are
    drawn. What cannot be read is left out and said. Raises ParadiseError where nothing can be read.
    """
    if root is None:
        raise ParadiseError("instances: name the folder: data.root, or --set data.root=FOLDER")
    names = image_ids(root)
    chosen = permutation(len(names), "instances")[:most].sort().values.tolist()
    ids, labels = list[str](), list[int]()
    bad: list[UnreadableImage] = []
    for number, name, found in _copied(root.resolve(), [names[row] for row in chosen], copies):
        if isinstance(found, UnreadableImage):
            bad.append(found)
            continue
        ids += [name, *found]
        labels += [number] * (1 + copies)
    if not ids:
        raise ParadiseError(f"{root}: none of the {counted(len(names), 'image')} can be read")
    info = _describe(
        root, size=size, short_side=short_side, filter=filter, copies=copies, most=most, label=label
    )
    train = FolderSplit(root, ids, torch.tensor(labels)[:, None], info.preprocessing)
    notes = (unread_note(list(map(str, bad)), len(chosen)),) if bad else ()
    return DataBundle(info, train, notes=notes)


def _copied(
    root: Path, names: Sequence[str], copies: int
) -> Iterator[tuple[int, str, list[str] | UnreadableImage]]:
    """Number, name and the paths of the copies of each image, which are made where they are not."""
    folder = cache_folder("copies")

    def make(name: str) -> list[str]:
        # By its content: the copies' paths are the training's names of images, and a training
        # goes on after files were moved or their modes changed.
        with reading(root / name):
            source = f"{_VERSION} {name} {file_digest(root / name)}"
        key = hashlib.sha256(os.fsencode(source)).hexdigest()[:32]
        paths = [folder / f"{key}-{copy}.jpg" for copy in range(copies)]
        for copy, path in enumerate(paths):
            if not path.is_file():
                content = distorted(root / name, generator("copies", name, copy))
                with publish(path) as temporary, temporary.open("wb") as file:
                    file.write(content)
        return [str(path) for path in paths]

    with closing(stream(names, make)) as made:
        for number, (name, found) in enumerate(zip(names, made, strict=True)):
            tell("copies", number + 1, len(names), 16)
            yield number, name, found
