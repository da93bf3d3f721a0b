"""Folders of image files, with or without classes and splits."""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from paradise_cli.core.errors import ParadiseError
from paradise_cli.data.base import DataBundle, DataInfo, Preprocessing, Target, dataset
from paradise_cli.data.images import image_ids
from paradise_cli.data.streaming import FolderSplit, folder_split

_SPLITS = {"train": "train", "val": "validation", "test": "test"}
_UNSEEN_SIZE = 50_000  # what --dry-run assumes of a folder that is not there


def _listing(root: Path) -> dict[str, list[str]]:
    """Image paths relative to `root` by sub-folder (train, val, test where train/ is there, else
    "").
    """
    if not (root / "train").is_dir():
        return {"": image_ids(root)}
    return {
        name: [f"{name}/{image}" for image in image_ids(root / name)]
        for name in _SPLITS
        if (root / name).is_dir()
    }


def _class_of(image: str, split: str) -> str | None:
    """The sub-folder of its split that an image lies in; None for one directly in the split."""
    inner = image.removeprefix(f"{split}/") if split else image
    return inner.split("/", 1)[0] if "/" in inner else None


def _classes(
    root: Path, listing: dict[str, list[str]], expected: Sequence[str] | None
) -> tuple[str, ...]:
    """Class names: the sub-folders of the training images, where there are two or more."""
    split = next(iter(listing))
    found = sorted(
        {name for image in listing[split] if (name := _class_of(image, split)) is not None}
    )
    if expected is not None and sorted(expected) != found:
        raise ParadiseError(
            f"{root / split}: the recipe names {len(expected)} classes, the folder has {len(found)}"
            f" sub-folders of images; not in the folder: {sorted(set(expected) - set(found))[:5]},"
            " not in the"
            f" recipe: {sorted(set(found) - set(expected))[:5]}; the two must be the same"
        )
    if len(found) < 2:
        return ()
    for other, images in listing.items():
        unknown = {name for image in images if (name := _class_of(image, other)) is not None} - set(
            found
        )
        if unknown:
            raise ParadiseError(
                f"{root / other}: class folders {sorted(unknown)[:5]} do not exist in"
                f" {root / split}; every"
                " class needs training images"
            )
    return tuple(found if expected is None else expected)


def _info(
    root: Path | None,
    label: str,
    preprocessing: Preprocessing,
    classes: Sequence[str] | None,
    unseen: int,
) -> DataInfo:
    """What the folder says without a look at its pixels; `unseen` numbered classes where it is
    missing.
    """
    if root is not None and root.is_dir():
        listing = _listing(root)
        names, size = _classes(root, listing, classes), len(next(iter(listing.values())))
    else:
        names, size = tuple(classes or map(str, range(unseen))), _UNSEEN_SIZE
    targets = (Target("class", names),) if names else ()
    return DataInfo(label, preprocessing.shape, targets, size, preprocessing)


def _labels(images: Sequence[str], split: str, info: DataInfo) -> Tensor:
    if not info.targets:
        return torch.empty(len(images), 0, dtype=torch.int64)
    number: dict[str | None, int] = {name: i for i, name in enumerate(info.targets[0].classes)}
    return torch.tensor([number.get(_class_of(image, split), -1) for image in images])[:, None]


def _present(root: Path | None, name: str) -> Path:
    if root is None:
        raise ParadiseError(
            f"{name}: name the folder: data.root in the recipe, or --set data.root=FOLDER"
        )
    if not root.is_dir():
        raise ParadiseError(
            f"{name}: no such folder: {root}; set data.root to the folder of images"
        )
    return root


def _describe_folder(
    root: Path | None,
    *,
    size: int,
    channels: int,
    train_crop: str,
    label: str,
    classes: list[str] | None,
    memory_gib: float,
) -> DataInfo:
    name = label or ("image_folder" if root is None else root.resolve().name)
    return _info(root, name, Preprocessing(channels, size, (size, size)), classes, unseen=10)


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
) -> DataBundle:
    """Any folder of images: its train/, val/ and test/ where present, else all of it for training.

    Sub-folders of a split are its classes (two or more; images beside them are unlabelled), and
    must equal `classes` where given. A split of up to `memory_gib` is decoded once and kept, a
    larger one streamed.
    """
    root = _present(root, "image_folder")
    info = _describe_folder(
        root, size=size, channels=channels, train_crop=train_crop, label=label, classes=classes,
        memory_gib=memory_gib,
    )  # fmt: skip
    splits = {}
    for name, images in _listing(root).items():
        crop = train_crop == "random_resized" and name in ("train", "")
        splits[_SPLITS.get(name, "train")] = folder_split(
            root, images, _labels(images, name, info), info.preprocessing,
            random_crop=crop, memory_gib=memory_gib,
        )  # fmt: skip
    return DataBundle(info, **splits)


def _describe_imagenet(
    root: Path | None, *, size: int, short_side: int, train_crop: str
) -> DataInfo:
    return _info(root, "imagenet", Preprocessing(3, short_side, (size, size)), None, unseen=1000)


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
    root = _present(root, "imagenet")
    listing = _listing(root)
    if "train" not in listing or "val" not in listing:
        raise ParadiseError(
            f"imagenet: {root} must hold train/ and val/, each with one sub-folder a class"
        )
    info = _describe_imagenet(root, size=size, short_side=short_side, train_crop=train_crop)
    train, test = (
        FolderSplit(
            root, listing[name], _labels(listing[name], name, info), info.preprocessing,
            random_crop=name == "train" and train_crop == "random_resized",
        )
        for name in ("train", "val")
    )  # fmt: skip
    return DataBundle(info, train=train, test=test)
