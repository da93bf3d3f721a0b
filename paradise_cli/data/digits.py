"""Handwritten digits that ship inside scikit-learn: 1,797 images of 8 x 8 pixels."""

from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from paradise_cli.data.base import DataBundle, DataInfo, MemorySplit, Preprocessing, Target, dataset
from paradise_cli.data.partition import others, stratified

_SIZE, _TEST = 1797, 360


def _read() -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Pixels from 0 to 16, [N, 8, 8], and labels [N].

    From scikit-learn's file: to import all of it takes longer than most trainings on its digits.
    """
    package = find_spec("sklearn")
    assert package is not None and package.origin is not None, "scikit-learn is required"
    file = Path(package.origin).parent / "datasets" / "data" / "digits.csv.gz"
    table = np.loadtxt(file, delimiter=",")
    return table[:, :-1].reshape(_SIZE, 8, 8), table[:, -1].astype(np.int64)


def _describe(root: Path | None, *, split_seed: int) -> DataInfo:
    targets = (Target("digit", tuple("0123456789")),)
    return DataInfo("digits", (1, 8, 8), targets, _SIZE - _TEST, Preprocessing(1, 8, (8, 8)))


@dataset(_describe, reads_root=False)
def digits(root: Path | None = None, *, split_seed: int = 0) -> DataBundle:
    """scikit-learn's digits, split 80/20 by `split_seed`, each class in proportion."""
    values, classes = _read()
    images = torch.from_numpy(np.rint(values * (255 / 16)).astype(np.uint8))[:, None]
    labels = torch.from_numpy(classes)[:, None]
    # scikit-learn has no split of its own; without strata a class could be rare in the test part.
    everything = MemorySplit(images, labels, [f"digits/{i}" for i in range(_SIZE)])
    held = stratified(labels[:, 0], _TEST, split_seed, "digits")
    info = _describe(root, split_seed=split_seed)
    return DataBundle(
        info, train=everything.select(others(held, _SIZE)), test=everything.select(held)
    )
