"""Random vectors whose rate-distortion function is known, so that an encoder can be checked.

Every example is a float32 "image" [1, 1, K] of values, not of pixels.
"""

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from paradise_cli.core.errors import UsageError
from paradise_cli.core.randomness import generator
from paradise_cli.data.base import DataBundle, DataInfo, MemorySplit, Preprocessing, dataset
from paradise_cli.information.known_sources import bend

Draw = Callable[[int, torch.Generator], Tensor]
"""`(n, generator) -> values` float32 [n, K]."""


def _gaussian_info(root: Path | None, *, variances: list[float], n: int, test: int) -> DataInfo:
    return _info("gaussian_source", len(variances), n)


@dataset(_gaussian_info, reads_root=False)
def gaussian_source(
    root: Path | None = None,
    *,
    variances: list[float] = [1.0],  # noqa: B006 (read only)
    n: int = 50_000,
    test: int = 10_000,
) -> DataBundle:
    """Independent zero-mean Gaussians of these variances."""
    if not variances or min(variances) <= 0:
        raise UsageError(f"gaussian_source: variances are a list of numbers > 0, not {variances}")
    scale = torch.tensor(variances).sqrt()  # [K]
    info = _gaussian_info(root, variances=variances, n=n, test=test)
    return _bundle(info, test, lambda n, draw: scale * torch.randn(n, len(scale), generator=draw))


def _bernoulli_info(root: Path | None, *, p: float, n: int, test: int) -> DataInfo:
    return _info("bernoulli_source", 1, n)


@dataset(_bernoulli_info, reads_root=False)
def bernoulli_source(
    root: Path | None = None, *, p: float = 0.5, n: int = 50_000, test: int = 10_000
) -> DataBundle:
    """A coin, 1 with probability p and else 0."""
    if not 0 < p < 1:
        raise UsageError(f"bernoulli_source: p is a probability between 0 and 1, not {p:g}")
    info = _bernoulli_info(root, p=p, n=n, test=test)
    return _bundle(info, test, lambda n, draw: (torch.rand(n, 1, generator=draw) < p).float())


def _laplacian_info(root: Path | None, *, scale: float, n: int, test: int) -> DataInfo:
    return _info("laplacian_source", 1, n)


@dataset(_laplacian_info, reads_root=False)
def laplacian_source(
    root: Path | None = None, *, scale: float = 1.0, n: int = 50_000, test: int = 10_000
) -> DataBundle:
    """The density exp(-|x| / scale) / (2 scale)."""
    if scale <= 0:
        raise UsageError(f"laplacian_source: scale is a number > 0, not {scale:g}")

    def sample(n: int, draw: torch.Generator) -> Tensor:
        # |x| of a Laplacian is exponential, and its sign a fair coin.
        sign = 2 * torch.randint(0, 2, (n, 1), generator=draw) - 1
        return sign * torch.empty(n, 1).exponential_(1 / scale, generator=draw)

    return _bundle(_laplacian_info(root, scale=scale, n=n, test=test), test, sample)


def _banana_info(root: Path | None, *, n: int, test: int) -> DataInfo:
    return _info("banana_source", 2, n)


@dataset(_banana_info, reads_root=False)
def banana_source(root: Path | None = None, *, n: int = 50_000, test: int = 10_000) -> DataBundle:
    """A two-dimensional Gaussian bent along a parabola: see `information.known_sources.bend`."""
    info = _banana_info(root, n=n, test=test)
    return _bundle(info, test, lambda n, draw: bend(torch.randn(n, 2, generator=draw)))


def _info(name: str, dimensions: int, n: int) -> DataInfo:
    # One channel and one row: networks of images read vectors too.
    preprocessing = Preprocessing(1, None, (1, dimensions))
    return DataInfo(name, (1, 1, dimensions), (), n, preprocessing, pictures=False)


def _bundle(info: DataInfo, test: int, sample: Draw) -> DataBundle:
    """Training and test values, drawn independently; always the same ones."""

    def split(name: str, n: int) -> MemorySplit:
        if n < 1:
            raise UsageError(
                f"{info.label}: n and test are numbers of examples, at least 1, not {n}"
            )
        # Without the recipe's seed: runs of several seeds learn from the same data.
        values = sample(n, generator(info.label, name)).view(n, *info.shape)
        no_labels = torch.empty(n, 0, dtype=torch.int64)
        return MemorySplit(values, no_labels, [f"{name}/{i}" for i in range(n)])

    return DataBundle(info, split("train", info.train_size), test=split("test", test))
