"""CelebA: aligned faces with 40 yes-or-no attributes."""

from pathlib import Path

import torch

from paradise_cli.core.errors import ParadiseError
from paradise_cli.core.resources import data_dir
from paradise_cli.data.base import DataBundle, DataInfo, Preprocessing, Target, dataset
from paradise_cli.data.listing import image_ids
from paradise_cli.data.streaming import folder_split

# The names that the official archives have.
_IMAGES = "img_align_celeba"
_ATTRIBUTES = "list_attr_celeba.txt"
_PARTITION = "list_eval_partition.txt"  # both tables may be .csv, as Kaggle has them
_PART = {"0": "train", "1": "validation", "2": "test"}  # as the partition file numbers them
_LAST = {"train": 162_770, "validation": 182_637, "test": 202_599}  # the last image of each
# For a recipe that is checked before the files are there.
_NAMES = (
    "5_o_Clock_Shadow Arched_Eyebrows Attractive Bags_Under_Eyes Bald Bangs Big_Lips Big_Nose"
    " Black_Hair Blond_Hair Blurry Brown_Hair Bushy_Eyebrows Chubby Double_Chin Eyeglasses Goatee"
    " Gray_Hair Heavy_Makeup High_Cheekbones Male Mouth_Slightly_Open Mustache Narrow_Eyes No_Beard"
    " Oval_Face Pale_Skin Pointy_Nose Receding_Hairline Rosy_Cheeks Sideburns Smiling Straight_Hair"
    " Wavy_Hair Wearing_Earrings Wearing_Hat Wearing_Lipstick Wearing_Necklace Wearing_Necktie"
    " Young"
).split()


def _folder(root: Path | None) -> Path:
    base = data_dir() / "celeba" if root is None else root
    # torchvision keeps its files one folder deeper.
    return base / "celeba" if (base / "celeba" / _IMAGES).is_dir() else base


def _images(folder: Path) -> str:
    """The folder of the faces, as Kaggle's archive unpacks or as the official one does."""
    inner = f"{_IMAGES}/{_IMAGES}"
    return inner if (folder / inner).is_dir() else _IMAGES


def _table(folder: Path, name: str) -> Path:
    """A table under its official name, or the .csv where only that is there."""
    official = folder / name
    csv = official.with_suffix(".csv")
    return csv if csv.is_file() and not official.is_file() else official


def _describe(root: Path | None, *, size: int, pre_crop: int, memory_gib: float) -> DataInfo:
    names, train_size, own_validation = _NAMES, _LAST["train"], True
    folder = _folder(root)
    table = _table(folder, _ATTRIBUTES)
    if table.is_file():
        names, rows = _attributes(table)
        parts = list(_parts(folder, list(rows)).values())
        train_size, own_validation = parts.count("train"), "validation" in parts
    targets = tuple(Target(name, ("no", "yes")) for name in names)
    preprocessing = Preprocessing(3, size, (size, size), pre_crop)
    return DataInfo("celeba", (3, size, size), targets, train_size, preprocessing, own_validation)


@dataset(_describe)
def celeba(
    root: Path | None = None, *, size: int = 64, pre_crop: int = 140, memory_gib: float = 4.0
) -> DataBundle:
    """CelebA under its official split, with one target an attribute.

    Each face is cropped to its centre of `pre_crop` pixels and resized to `size`. `root` holds
    img_align_celeba/, list_attr_celeba.txt and, if present, list_eval_partition.txt, or the .csv.
    """
    folder = _folder(root)
    images, table = _images(folder), _table(folder, _ATTRIBUTES)
    for place in (folder / images, table):
        if not place.exists():
            raise ParadiseError(
                f"celeba: {place} is missing; put the folder {_IMAGES}/ with the aligned"
                f" images, {_ATTRIBUTES} and {_PARTITION} into {folder} (from the CelebA web page)"
            )
    info = _describe(root, size=size, pre_crop=pre_crop, memory_gib=memory_gib)
    _, rows = _attributes(table)
    # A few missing files are the mark of an archive that was unpacked in part.
    absent = sorted(rows.keys() - set(image_ids(folder / images)))
    if absent:
        raise ParadiseError(
            f"celeba: {len(absent)} of the {len(rows)} images in {table.name} are missing from"
            f" {folder / images}, {absent[0]} first; unpack img_align_celeba.zip again"
        )
    parts = _parts(folder, sorted(rows))
    splits = {}
    for split in _PART.values():
        names = [name for name, part in parts.items() if part == split]
        if names:  # a sample of the images may lack a split
            labels = torch.tensor([rows[name] for name in names])
            ids = [f"{images}/{name}" for name in names]
            splits[split] = folder_split(
                folder, ids, labels, info.preprocessing, memory_gib=memory_gib
            )
    if "train" not in splits:
        raise ParadiseError(
            f"celeba: {folder} has no image of the training split (0 in {_PARTITION})"
        )
    return DataBundle(info, splits["train"], splits.get("validation"), splits.get("test"))


def _lines(path: Path) -> list[list[str]]:
    comma = "," if path.suffix == ".csv" else None  # None: any white space
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
        return [line.split(comma) for line in lines if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise ParadiseError(f"{path}: cannot be read: {error}") from error


def _attributes(path: Path) -> tuple[list[str], dict[str, list[int]]]:
    """Attribute names, and each image's labels (0 = no, 1 = yes)."""
    lines = _lines(path)
    # The official table begins with a count of its rows; the .csv names the column of images too.
    official = path.suffix != ".csv"
    first = 2 if official else 1
    header = lines[first - 1] if len(lines) > first else []
    names = header if official else header[1:]
    rows = {}
    for number, (image, *values) in enumerate(lines[first:], first + 1):
        if len(values) != len(names) or not set(values) <= {"1", "-1"}:
            raise ParadiseError(
                f"{path}:{number}: expected an image and {len(names)} values of 1 or -1"
            )
        rows[image] = [int(value == "1") for value in values]
    # The count shows a file that was cut short at the end of a line.
    if not rows or (official and lines[0] != [str(len(rows))]):
        raise ParadiseError(
            f"{path}: expected a count, a line of names and one line an image (found {len(rows)}"
            " images); cut short or of another kind: fetch the file again"
        )
    return names, rows


def _parts(folder: Path, images: list[str]) -> dict[str, str]:
    """The split of each image, from the partition file or else the official image numbers."""
    path = _table(folder, _PARTITION)
    try:
        if path.is_file():
            lines = _lines(path)
            rows = lines[1:] if path.suffix == ".csv" else lines  # only that has a line of names
            listed = {image: _PART[part] for image, part in rows}
            return {image: listed[image] for image in images}
        numbers = {image: int(Path(image).stem) for image in images}
    except (ValueError, KeyError) as error:
        raise ParadiseError(
            f"celeba: no split is known for some images of {folder} ({error}); {_PARTITION} must"
            " list every image with 0, 1 or 2"
        ) from error
    return {image: _part_of(number) for image, number in numbers.items()}


def _part_of(number: int) -> str:
    """The official split of an image number; all that are larger are test images too."""
    return next((part for part, last in _LAST.items() if number <= last), "test")
