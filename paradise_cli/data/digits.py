"""Handwritten digits that ship inside scikit-learn: 1,797 images of 8 x 8 pixels."""

from pathlib import Path

import numpy as np
import torch

from paradise_cli.data.base import DataBundle, DataInfo, MemorySplit, Preprocessing, Target, dataset
from paradise_cli.data.partition import others, stratified

_SIZE, _TEST = 1797, 360


def _describe(root: Path | None, *, split_seed: int) -> DataInfo:
    targets = (Target("digit", tuple("0123456789")),)
    return DataInfo("digits", (1, 8, 8), targets, _SIZE - _TEST, Preprocessing(1, 8, (8, 8)))


@dataset(_describe)
def digits(root: Path | None = None, *, split_seed: int = 0) -> DataBundle:
    """scikit-learn's digits, split 80/20 by `split_seed`, each class in proportion."""
    from sklearn.datasets import load_digits

    data = load_digits()  # values 0 to 16
    images = torch.from_numpy(np.rint(data.images * (255 / 16)).astype(np.uint8))[:, None]
    labels = torch.from_numpy(data.target.astype(np.int64))[:, None]
    # scikit-learn has no split of its own; without strata a class could be rare in the test part.
    everything = MemorySplit(images, labels, [f"digits/{i}" for i in range(_SIZE)])
    held = stratified(labels[:, 0], _TEST, split_seed, "digits")
    info = _describe(root, split_seed=split_seed)
    return DataBundle(
        info, train=everything.select(others(held, _SIZE)), test=everything.select(held)
    )
