"""MNIST and Fashion-MNIST from their original IDX files."""

import gzip
import math
import zlib
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from paradise_cli.core.errors import ParadiseError
from paradise_cli.core.resources import data_dir
from paradise_cli.data.base import DataBundle, DataInfo, MemorySplit, Preprocessing, Target, dataset
from paradise_cli.data.download import downloading

_FILES = {
    "train": ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"),
    "test": ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"),
}
_CLOTHES = ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat",
            "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot")  # fmt: skip
_DEBIAN = Path("/usr/share/datasets/fashion-mnist")  # package dataset-fashion-mnist


def read_idx(path: Path) -> NDArray[np.uint8]:
    """The uint8 array of an IDX file, plain or gzipped; raises ParadiseError for anything else."""
    try:
        data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (OSError, EOFError, zlib.error) as error:
        raise ParadiseError(f"{path}: cannot be read ({error}); fetch the file again") from error
    # Two zeros, the type (8 = unsigned bytes), the number of dimensions, then each in 4 bytes.
    if len(data) < 4 or data[:3] != b"\0\0\x08":
        raise ParadiseError(f"{path}: not an IDX file of bytes; fetch the file again")
    header = 4 + 4 * data[3]
    shape = tuple(np.frombuffer(data[4:header], ">u4").tolist()) if len(data) >= header else ()
    if len(data) != header + math.prod(shape):
        raise ParadiseError(
            f"{path}: its header promises {header + math.prod(shape):,} bytes for shape"
            f" {list(shape)}, it has {len(data):,}: cut short or damaged; fetch the file again"
        )
    return np.frombuffer(data, np.uint8, offset=header).reshape(shape)


def _describe_mnist(root: Path | None) -> DataInfo:
    targets = (Target("digit", tuple("0123456789")),)
    return DataInfo("mnist", (1, 28, 28), targets, 60_000, Preprocessing(1, 28, (28, 28)))


def _describe_fashion(root: Path | None) -> DataInfo:
    targets = (Target("garment", _CLOTHES),)
    return DataInfo("fashion-mnist", (1, 28, 28), targets, 60_000, Preprocessing(1, 28, (28, 28)))


@dataset(_describe_mnist)
def mnist(root: Path | None = None) -> DataBundle:
    """MNIST from IDX files in `root`.

    Without a root they are looked for in the data folder, and downloaded to it where they are not.
    """
    return _bundle(_describe_mnist(root), "MNIST", root)


@dataset(_describe_fashion)
def fashion_mnist(root: Path | None = None) -> DataBundle:
    """Fashion-MNIST like `mnist`, also from Debian's package dataset-fashion-mnist."""
    return _bundle(_describe_fashion(root), "FashionMNIST", root, _DEBIAN)


def _bundle(info: DataInfo, torchvision_name: str, root: Path | None, *known: Path) -> DataBundle:
    bases = [root] if root is not None else [data_dir() / info.label, data_dir(), *known]
    # Where people, and torchvision's two ways of downloading, keep the files.
    places = [b / part for b in bases for part in ("", "raw", f"{torchvision_name}/raw")]
    files = _find(places)
    # A root that was named is the user's: nothing is put there.
    if files is None and root is None:
        _download(torchvision_name, info.label)
        files = _find(places)
    if files is None:
        raise _missing(info.label, bases[0])
    train, test = (_split(name, *files[name]) for name in ("train", "test"))
    return DataBundle(info, train=train, test=test)


def _missing(label: str, place: Path) -> ParadiseError:
    names = ", ".join(name for pair in _FILES.values() for name in pair)
    return ParadiseError(
        f"{label}: its files are not in {place}; put there (each may end in .gz): {names}"
    )


def _find(places: list[Path]) -> dict[str, tuple[Path, Path]] | None:
    """The four files of the first place that has them all."""
    # Never from two places: labels of one set would meet images of another.
    for place in places:
        files = {}
        for split, (images, labels) in _FILES.items():
            image_file = _one(place, images)
            label_file = _one(place, labels)
            if image_file is not None and label_file is not None:
                files[split] = (image_file, label_file)
        if len(files) == len(_FILES):
            return files
    return None


def _one(place: Path, name: str) -> Path | None:
    """The file of that name, plain or gzipped."""
    # Some programs that unpack it put a dot where the official name has a hyphen.
    names = (name, name.replace("-idx", ".idx"))
    paths = [place / f"{each}{end}" for each in names for end in ("", ".gz")]
    return next((path for path in paths if path.is_file()), None)


def _download(torchvision_name: str, label: str) -> None:
    from torchvision import datasets

    with downloading(_missing(label, data_dir() / label)):
        getattr(datasets, torchvision_name)(str(data_dir()), download=True)


def _split(name: str, image_file: Path, label_file: Path) -> MemorySplit:
    images, labels = read_idx(image_file), read_idx(label_file)
    if images.ndim != 3 or images.shape[1:] != (28, 28) or labels.shape != images.shape[:1]:
        raise ParadiseError(
            f"{image_file} holds {list(images.shape)} and {label_file} {list(labels.shape)};"
            " expected [N, 28, 28] and [N]"
        )
    columns: Tensor = torch.from_numpy(labels.astype(np.int64))[:, None]
    pixels = torch.from_numpy(images.copy())[:, None]  # a view of the file's bytes is read-only
    return MemorySplit(pixels, columns, [f"{name}/{i}" for i in range(len(labels))])
