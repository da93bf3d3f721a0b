"""Training images in tar files, as WebDataset lays them out, read in any order."""

import dataclasses
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Literal

import torch

from paradise_cli.core.errors import ParadiseError
from paradise_cli.data.base import DataBundle, DataInfo, Filter, Preprocessing, Target, dataset
from paradise_cli.data.folders import UNSEEN, named_root, readable, square
from paradise_cli.data.shards import SHARD, Packed, packed_images, shards_in
from paradise_cli.data.split_folders import split_folders, sub_folders
from paradise_cli.data.streaming import FolderSplit, file_stamp

_KEPT = 4  # listings of folders


def _describe(
    root: Path | None,
    *,
    size: int,
    channels: int,
    train_crop: str,
    label: str,
    skip_unreadable: bool,
    short_side: int | None,
    filter: Filter,
) -> DataInfo:
    how = square(size, channels, short_side, filter)
    if root is None or not root.exists():
        classes, images = UNSEEN
        target = Target("class", tuple(map(str, range(classes))))
        return DataInfo(label or "tar_shards", how.shape, (target,), images, how)
    return _info(root, label, how, _listing(root))


@dataset(_describe)
def tar_shards(
    root: Path | None,
    *,
    size: int = 64,
    channels: int = 3,
    train_crop: Literal["centre", "random_resized"] = "centre",
    label: str = "",
    skip_unreadable: bool = False,
    short_side: int | None = None,
    filter: Filter = "bilinear",
) -> DataBundle:
    """Images in the tar files of a folder, or of its train/, val/ and test/, streamed.

    An image's class is what the `.cls` of its name beside it says, else the folder that it lies in
    within the tar file. Rows are in the order of the images' names, however they are packed. Any
    image is read where it lies, so that each epoch is a new order of all, and a training goes on
    within one. Otherwise as `image_folder`.
    """
    root = named_root(root, "tar_shards")
    # Never decoded into memory as a whole: who packs images has many.
    how = square(size, channels, short_side, filter)
    listing, notes = _listing(root), list[str]()
    info = _info(root, label, how, listing)
    if skip_unreadable:
        files = {_id(root, image): image for images in listing.values() for image in images}
        names = {split: [_id(root, image) for image in images] for split, images in listing.items()}
        kept, notes = readable(root, names, how, files.__getitem__)
        listing = {split: [files[name] for name in found] for split, found in kept.items()}
        info = dataclasses.replace(info, train_size=len(listing["train"]))
    splits = {
        split: FolderSplit(
            root, [_id(root, image) for image in images], _labels(images, info), how,
            train_crop == "random_resized" and split == "train", packed=images,
        )
        for split, images in listing.items()
    }  # fmt: skip
    return DataBundle(
        info, splits["train"], splits.get("validation"), splits.get("test"), tuple(notes)
    )


def _listing(root: Path) -> dict[str, list[Packed]]:
    """The images of each split; raises ParadiseError where there are none to train on."""
    splits = split_folders(root)
    # A train/ of tar files alone holds no folders of classes, by which it is known else.
    if splits == {"": "train"} and "train" in sub_folders(root) and not shards_in(root):
        splits = {"train": "train"}
    shards = {split: shards_in(root / name) for name, split in splits.items()}
    if not shards["train"]:
        raise ParadiseError(
            f"{root}: no {SHARD} file to train on, in it or in its train/; images in folders are"
            " read by data.name: image_folder"
        )
    stamped = [(path, file_stamp(path)) for paths in shards.values() for path in paths]
    images = dict(zip((path for path, _ in stamped), _images(tuple(stamped)), strict=True))
    if not any(images[path] for path in shards["train"]):
        raise ParadiseError(f"{root}: no image in its {SHARD} files to train on")
    # By name, as those of a folder: how they were packed must change no epoch.
    return {
        split: sorted((image for path in paths for image in images[path]), key=_name)
        for split, paths in shards.items()
        if paths
    }


def _name(image: Packed) -> str:
    return image.name.removeprefix("./")


# To list the headers of many large files takes seconds, and is asked for again at each look.
@lru_cache(_KEPT)
def _images(shards: tuple[tuple[Path, tuple[int, ...]], ...]) -> list[list[Packed]]:
    # Who packs by many processes leaves empty files where one got nothing.
    return [packed_images(path, some=False) for path, _ in shards]


def _id(root: Path, image: Packed) -> str:
    return f"{image.shard.relative_to(root)}/{image.name}"


def _info(root: Path, label: str, how: Preprocessing, listing: dict[str, list[Packed]]) -> DataInfo:
    names = {split: {image.class_name for image in images} for split, images in listing.items()}
    classes = sorted(name for name in names["train"] if name is not None)
    # One class tells nothing apart.
    targets = (Target("class", tuple(classes)),) if len(classes) > 1 else ()
    for split, found in names.items():
        unknown = sorted(name for name in found if name is not None and name not in classes)
        if targets and unknown:
            raise ParadiseError(
                f"{root}: classes {unknown[:5]} of the {split} split have no training images"
            )
    label = label or root.resolve().name
    own_validation = "validation" in listing
    return DataInfo(label, how.shape, targets, len(listing["train"]), how, own_validation)


def _labels(images: Sequence[Packed], info: DataInfo) -> torch.Tensor:
    if not info.targets:
        return torch.empty(len(images), 0, dtype=torch.int64)
    # An image without a class has a name of None, which has no number.
    number: dict[str | None, int] = {name: i for i, name in enumerate(info.targets[0].classes)}
    return torch.tensor([number.get(image.class_name, -1) for image in images])[:, None]
