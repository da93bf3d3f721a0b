"""Random images in the shape of any data set, where its own are not at hand."""

import dataclasses

import torch

from paradise_cli.core.randomness import generator
from paradise_cli.data.base import DataBundle, DataInfo, MemorySplit


def synthetic(info: DataInfo, n: int = 64, seed: int = 0) -> DataBundle:
    """Random images and labels in the shape of `info`, n in each of the three splits."""
    draw = generator(seed, "synthetic")

    def split(name: str) -> MemorySplit:
        images = torch.randint(0, 256, (n, *info.shape), generator=draw, dtype=torch.uint8)
        columns = [torch.randint(0, len(t.classes), (n,), generator=draw) for t in info.targets]
        labels = torch.stack(columns, 1) if columns else torch.empty(n, 0, dtype=torch.int64)
        return MemorySplit(images, labels, [f"{name}/{i}" for i in range(n)])

    # One generator for all: the splits must not hold the same images.
    info = dataclasses.replace(info, train_size=n)
    return DataBundle(info, split("train"), split("validation"), split("test"))
