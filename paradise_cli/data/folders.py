"""Folders of image files, with or without classes and splits."""

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from paradise_cli.core.errors import NoFolder, ParadiseError, UsageError, as_utf8
from paradise_cli.data.base import DataBundle, DataInfo, Filter, Preprocessing, Target, dataset
from paradise_cli.data.listing import image_ids
from paradise_cli.data.shards import ImageFile
from paradise_cli.data.split_folders import (
    left_out,
    refuse_splits_as_classes,
    split_folders,
    sub_folders,
)
from paradise_cli.data.streaming import FolderSplit, folder_split, unread_note, unreadable

UNSEEN = 10, 50_000
"""What --dry-run assumes of a folder that is not there: classes and training images."""

_IMAGENET = 1000, 1_281_167
_SHOWN = 5  # files or folders that a note names


def _listing(root: Path) -> dict[str, list[str]]:
    """Image paths relative to `root` by sub-folder, as in `split_folders`."""
    refuse_splits_as_classes(root)
    return {
        name: [f"{name}/{image}" if name else image for image in image_ids(root / name)]
        for name in split_folders(root)
    }


def _class_of(image: str, split: str) -> str | None:
    """The sub-folder of its split that an image lies in; None for one directly in the split."""
    inner = image.removeprefix(f"{split}/") if split else image
    return inner.split("/", 1)[0] if "/" in inner else None


def _folders_of(images: Sequence[str], split: str) -> set[str]:
    """The sub-folders of a split that hold an image."""
    return {name for image in images if (name := _class_of(image, split)) is not None}


def _sub_folders(place: Path, images: Sequence[str], split: str) -> list[str]:
    """The sub-folders of a split in their order, whether they hold an image or not.

    One without an image counts as a class does, so that the classes after it keep their numbers.
    """
    holding = _folders_of(images, split)
    # A link that leads back holds nothing new.
    empty = {name for name in sub_folders(place) if not _leads_back(place / name)}
    # Where all images lie in the folder itself, the folders beside them are no classes.
    return sorted(holding | empty) if holding else []


def _leads_back(folder: Path) -> bool:
    """Whether a folder is a link to one above it, or to one below the folder it lies in."""
    there, here = folder.resolve(), folder.parent.resolve()
    return folder.is_symlink() and (there.is_relative_to(here) or here.is_relative_to(there))


def _classes(
    root: Path, listing: dict[str, list[str]], expected: Sequence[str] | None
) -> tuple[str, ...]:
    """Class names: the sub-folders of the training images, where there are two or more."""
    split = next(iter(listing))
    found = _sub_folders(root / split, listing[split], split)
    if expected is not None and sorted(expected) != found:
        raise ParadiseError(
            f"{root / split}: the recipe names {len(expected)} classes, the folder has {len(found)}"
            f" sub-folders of images; not in the folder: {sorted(set(expected) - set(found))[:5]},"
            f" not in the recipe: {sorted(set(found) - set(expected))[:5]}; the two must be the"
            " same"
        )
    # One folder tells nothing apart: an album, or where the archive was unpacked.
    if len(found) < 2:
        return ()
    # Recipes, weights and pictures hold the names as text.
    if strange := [as_utf8(name) for name in found if as_utf8(name) != name]:
        raise ParadiseError(
            f"{root / split}: class folder {strange[0]} has a name that is not UTF-8: rename it"
        )
    for other, images in listing.items():
        unknown = _folders_of(images, other) - set(found)
        if unknown:
            raise ParadiseError(
                f"{root / other}: class folders {sorted(unknown)[:5]} do not exist in"
                f" {root / split}; every class needs training images"
            )
    return tuple(found if expected is None else expected)


def class_folders_of(root: Path, images: Sequence[str]) -> list[str | None]:
    """The class folder that each image of a folder lies in, None where it lies in none.

    `images` are those of `image_ids`, of all splits if there are any.
    """
    # Here only folders that hold an image count: nothing is trained, and no number depends on it.
    names: dict[str, str | None] = {}
    for split in split_folders(root):
        inside = [image for image in images if not split or image.startswith(f"{split}/")]
        if len(_folders_of(inside, split)) > 1:
            names |= {image: _class_of(image, split) for image in inside}
    return [names.get(image) for image in images]


def _info(
    root: Path | None,
    label: str,
    preprocessing: Preprocessing,
    classes: Sequence[str] | None,
    unseen: tuple[int, int],
) -> DataInfo:
    """What the folder says without a look at its pixels.

    Where the folder is missing, `unseen` classes and images are assumed; classes are numbered.
    """
    if root is not None and root.exists():
        listing = _listing(root)
        names, size = _classes(root, listing, classes), len(next(iter(listing.values())))
    else:
        numbered, size = unseen
        names = tuple(classes or map(str, range(numbered)))
    targets = (Target("class", names),) if names else ()
    return DataInfo(label, preprocessing.shape, targets, size, preprocessing)


def _labels(images: Sequence[str], split: str, info: DataInfo) -> Tensor:
    if not info.targets:
        return torch.empty(len(images), 0, dtype=torch.int64)
    # Images beside the class folders are unlabelled: their folder is None, which has no number.
    number: dict[str | None, int] = {name: i for i, name in enumerate(info.targets[0].classes)}
    return torch.tensor([number.get(_class_of(image, split), -1) for image in images])[:, None]


def named_root(root: Path | None, name: str) -> Path:
    """The folder of a data set of that name; raises NoFolder where there is none."""
    if root is None:
        raise NoFolder(
            f"{name}: name the folder: data.root in the recipe, or --set data.root=FOLDER"
        )
    return root


def readable(
    root: Path,
    listing: dict[str, list[str]],
    preprocessing: Preprocessing,
    file_of: Callable[[str], ImageFile] | None = None,
) -> tuple[dict[str, list[str]], list[str]]:
    """The listing without the images that cannot be read, and what to say of them.

    They lie as `unreadable` has it; raises ParadiseError where none can be read.
    """
    images = [image for its in listing.values() for image in its]
    bad = unreadable(root, images, preprocessing, file_of)
    if not bad:
        return listing, []
    if len(bad) == len(images):
        raise ParadiseError(f"{root}: none of the {len(images)} images can be read")
    note = unread_note([f"{image}: {reason}" for image, reason in bad.items()], len(images))
    kept = {split: [image for image in its if image not in bad] for split, its in listing.items()}
    return kept, [note]


def _empty_note(images: Sequence[str], split: str, info: DataInfo) -> list[str]:
    """What to say of classes of the training images that have none."""
    classes = info.targets[0].classes if info.targets else ()
    holding = _folders_of(images, split)
    empty = [f"'{name}' ({i})" for i, name in enumerate(classes) if name not in holding]
    if not empty:
        return []
    more = ", ..." if len(empty) > _SHOWN else ""
    return [
        f"no readable image in {len(empty)} of the {len(classes)} class folders of {info.label},"
        f" which keep their numbers: {', '.join(empty[:_SHOWN])}{more}"
    ]


def open_folder(
    root: Path,
    preprocessing: Preprocessing,
    *,
    label: str = "",
    classes: Sequence[str] | None = None,
    random_crop: bool = False,
    memory_gib: float = 4.0,
    skip_unreadable: bool = False,
) -> DataBundle:
    """The images of a folder, read by `preprocessing`; the rest as in `image_folder`."""
    info = _info(root, label or root.resolve().name, preprocessing, classes, UNSEEN)
    listing, notes = _listing(root), list[str]()
    if skip_unreadable:
        listing, notes = readable(root, listing, preprocessing)
    first = next(iter(listing))
    # What is skipped is known only now: `_info` looks at no pixels.
    info = dataclasses.replace(info, train_size=len(listing[first]))
    names = split_folders(root)
    splits = {
        names[name]: folder_split(
            root, images, _labels(images, name, info), preprocessing,
            random_crop=random_crop and name == first, memory_gib=memory_gib,
        )
        for name, images in listing.items()
    }  # fmt: skip
    notes += [*left_out(root), *_empty_note(listing[first], first, info)]
    validation, test = splits.get("validation"), splits.get("test")
    return DataBundle(info, splits["train"], validation, test, tuple(notes))


def square(size: int, channels: int, short_side: int | None, filter: Filter) -> Preprocessing:
    """Square images cut from a short side; raises UsageError for sizes that cannot be."""
    try:
        return Preprocessing(channels, short_side or size, (size, size), filter=filter)
    except ParadiseError as error:
        raise UsageError(f"data.channels, data.size: {error}") from error


def _describe_folder(
    root: Path | None,
    *,
    size: int,
    channels: int,
    train_crop: str,
    label: str,
    classes: list[str] | None,
    memory_gib: float,
    skip_unreadable: bool,
    short_side: int | None,
    filter: Filter,
) -> DataInfo:
    name = label or ("image_folder" if root is None else root.resolve().name)
    # A dry run reckons all the same, and must not take a slip in the name for data.
    if root is not None and not root.exists():
        name += " (not there, assumed)"
    how = square(size, channels, short_side, filter)
    info = _info(root, name, how, classes, UNSEEN)
    there = {} if root is None else split_folders(root)
    own_validation = "validation" in there.values()
    return dataclasses.replace(info, own_validation=own_validation)


@dataset(_describe_folder)
def image_folder(
    root: Path | None,
    *,
    size: int = 64,
    channels: int = 3,
    train_crop: Literal["centre", "random_resized"] = "centre",
    label: str = "",
    classes: list[str] | None = None,
    memory_gib: float = 4.0,
    skip_unreadable: bool = False,
    short_side: int | None = None,
    filter: Filter = "bilinear",
) -> DataBundle:
    """Any folder of images: its train/, val/ and test/ where present, else all of it for training.

    Splits may also be called training/, valid/, validation/ and testing/, in any case. Sub-folders
    of a split are its classes (two or more; images beside them are unlabelled), and must equal
    `classes` where given; one without images keeps its number. A split of up to `memory_gib` is
    decoded once and kept, a larger one streamed. A file that cannot be read stops the command, or
    is left out and said with `skip_unreadable`. Images are resized to a `short_side` (null: `size`)
    before the centre is cut out.
    """
    return open_folder(
        named_root(root, "image_folder"), square(size, channels, short_side, filter),
        label=label, classes=classes, random_crop=train_crop == "random_resized",
        memory_gib=memory_gib, skip_unreadable=skip_unreadable,
    )  # fmt: skip


def _describe_imagenet(
    root: Path | None, *, size: int, short_side: int, train_crop: str
) -> DataInfo:
    return _info(root, "imagenet", Preprocessing(3, short_side, (size, size)), None, _IMAGENET)


@dataset(_describe_imagenet)
def imagenet(
    root: Path | None,
    *,
    size: int = 224,
    short_side: int = 256,
    train_crop: Literal["random_resized", "centre"] = "random_resized",
) -> DataBundle:
    """ImageNet's train/ and val/ with one sub-folder a class, streamed.

    val/ is what the field reports on and becomes the test split, so that nothing is chosen on it.
    """
    root = named_root(root, "imagenet")
    listing = _listing(root)
    if "train" not in listing or "val" not in listing:
        raise ParadiseError(
            f"imagenet: {root} must hold train/ and val/, each with one sub-folder a class"
        )
    info = _describe_imagenet(root, size=size, short_side=short_side, train_crop=train_crop)
    # Always streamed: 1.2 million decoded images would fill a disk.
    train, test = (
        FolderSplit(
            root, listing[name], _labels(listing[name], name, info), info.preprocessing,
            random_crop=name == "train" and train_crop == "random_resized",
        )
        for name in ("train", "val")
    )  # fmt: skip
    notes = _empty_note(listing["train"], "train", info)
    return DataBundle(info, train=train, test=test, notes=tuple(notes))
