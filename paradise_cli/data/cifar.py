"""CIFAR-10 from its binary version (the Python version is pickled, and never opened)."""

from pathlib import Path

import numpy as np
import torch

from paradise_cli.core.errors import ParadiseError
from paradise_cli.core.resources import data_dir
from paradise_cli.data.base import DataBundle, DataInfo, MemorySplit, Preprocessing, Target, dataset
from paradise_cli.data.download import downloading

_URL = "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz"
_MD5 = "c32a1d4ab5d03f1284b67883e8d87530"
_FOLDER = "cifar-10-batches-bin"
_TRAIN = tuple(f"data_batch_{i}.bin" for i in range(1, 6))
_TEST = ("test_batch.bin",)
_RECORD = 1 + 3 * 32 * 32  # bytes: the label, then the red, green and blue planes
_CLASSES = ("airplane", "automobile", "bird", "cat", "deer",
            "dog", "frog", "horse", "ship", "truck")  # fmt: skip


def _describe(root: Path | None) -> DataInfo:
    targets = (Target("class", _CLASSES),)
    return DataInfo("cifar10", (3, 32, 32), targets, 50_000, Preprocessing(3, 32, (32, 32)))


@dataset(_describe)
def cifar10(root: Path | None = None) -> DataBundle:
    """CIFAR-10 from the .bin files in `root`.

    Without a root they are looked for in the data folder, and downloaded to it where they are not.
    """
    # People keep the files as the archive has them, in its folder, or taken out of it.
    bases = [root] if root is not None else [data_dir() / "cifar10", data_dir()]
    places = [base / part for base in bases for part in ("", _FOLDER)]
    folder = _find(places)
    # A root that was named is the user's: nothing is put there.
    if folder is None and root is None:
        _download()
        folder = _find(places)
    if folder is None:
        raise _missing(bases[0])
    return DataBundle(_describe(root), train=_split(folder, _TRAIN), test=_split(folder, _TEST))


def _find(places: list[Path]) -> Path | None:
    return next((p for p in places if all((p / name).is_file() for name in _TRAIN + _TEST)), None)


def _missing(place: Path) -> ParadiseError:
    return ParadiseError(
        f"cifar10: the binary version is not in {place}; unpack {_URL} there, or put there:"
        f" {', '.join(_TRAIN + _TEST)} (the pickled Python version is never opened)"
    )


def _download() -> None:
    from torchvision.datasets.utils import download_and_extract_archive

    folder = data_dir() / "cifar10"
    with downloading(_missing(folder)):
        download_and_extract_archive(_URL, str(folder), md5=_MD5)


def _split(folder: Path, names: tuple[str, ...]) -> MemorySplit:
    parts = []
    for name in names:
        data = np.fromfile(folder / name, np.uint8)
        # The format has no header: a file that was cut short between records is not noticed.
        if len(data) == 0 or len(data) % _RECORD:
            raise ParadiseError(
                f"{folder / name}: {len(data):,} bytes are no whole number of {_RECORD}-byte"
                f" records: cut short or damaged; fetch it again from {_URL}"
            )
        parts.append(data.reshape(-1, _RECORD))
    records = np.concatenate(parts)
    images = torch.from_numpy(records[:, 1:].reshape(-1, 3, 32, 32).copy())
    labels = torch.from_numpy(records[:, :1].astype(np.int64))
    kind = names[0].partition("_batch")[0].replace("data", "train")
    return MemorySplit(images, labels, [f"{kind}/{i}" for i in range(len(labels))])
