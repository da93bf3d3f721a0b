"""The posteriors of a folder as `encode` writes them, checked against the folder and the model."""

import csv
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from paradise_cli.core.arrays import read_archive
from paradise_cli.core.errors import ParadiseError, UsageError
from paradise_cli.core.units import counted
from paradise_cli.inference.encoding import index_path
from paradise_cli.inference.loading import LoadedModel, joined
from paradise_cli.information.gaussian import DiagonalGaussian

_CLOSE = 1e-3
"""Of a latent's spread over the images: what processors round otherwise is a hundredth of it."""
_AGAIN = "make it anew by --reindex"


@dataclass(frozen=True)
class PosteriorIndex:
    """Posteriors float32 [N, K] of the images `ids`, read from `path`; others were `skipped`."""

    path: Path
    posterior: DiagonalGaussian
    ids: list[str]
    skipped: list[tuple[str, str]]

    @property
    def stochastic(self) -> bool:
        """Whether every posterior has a width, without which there is no overlap."""
        return bool((self.posterior.sigma > 0).all())


def read_index(path: Path) -> PosteriorIndex:
    """The posteriors of an `.npz` of `encode`; UsageError and ParadiseError for another file."""
    arrays, names = read_archive(path, ("mean", "log_variance", "ids"))
    lacking = [name for name in ("mean", "log_variance", "ids") if name not in arrays]
    if lacking:
        raise UsageError(
            f"{path} is no index: it lacks {', '.join(lacking)} (in it: {', '.join(names)}); an"
            " index is written by paradise search, or by paradise encode with --out FILE.npz"
        )
    mean, log_variance, ids = (arrays[name] for name in ("mean", "log_variance", "ids"))
    fits = (
        mean.ndim == 2
        and mean.size > 0
        and mean.shape == log_variance.shape
        and ids.shape == mean.shape[:1]
        and mean.dtype.kind == log_variance.dtype.kind == "f"
        and ids.dtype.kind == "U"
    )
    # A deterministic encoder has a log-variance of -inf, and that is a number here.
    if not fits or not np.isfinite(mean).all() or not (log_variance < np.inf).all():
        raise ParadiseError(f"{path}: mean, log_variance and ids are no posteriors of images")
    # Not doubled as a whole: a million rows are compared a block at a time.
    mu, width = torch.from_numpy(mean), torch.from_numpy(log_variance)
    return PosteriorIndex(
        path, DiagonalGaussian(mu, (0.5 * width).exp()), ids.tolist(), _skipped(path)
    )


def check_files(index: PosteriorIndex, folder: str, files: Sequence[Path]) -> None:
    """Raise UsageError where the images of a folder are not those that the index was made of.

    What the index lists as unreadable is known to it. A file counts as changed whose content or
    name has changed since the index was written.
    """
    known = {os.path.abspath(name) for name in index.ids}
    skipped = {os.path.abspath(name) for name, _ in index.skipped}
    there = {os.path.abspath(file): file for file in files}
    written = index.path.stat().st_mtime_ns
    new = [file for name, file in there.items() if name not in known | skipped]
    gone = sorted(known - there.keys())
    changed = [
        file for name, file in there.items() if name in known and _changed_at(file) > written
    ]
    for what, found in (
        (f"lacks images of {folder}", new),
        (f"has images that are not in {folder}", gone),
        (f"is older than images of {folder}", changed),
    ):
        if found:
            raise UsageError(
                f"{index.path} {what}: {counted(len(found), 'image')}, such as {found[0]};"
                f" {_AGAIN}, or name another --index"
            )


def _changed_at(file: Path) -> int:
    """When a file was last changed in any way, in nanoseconds; copies keep older times."""
    status = file.stat()
    return max(status.st_mtime_ns, status.st_ctime_ns)


def _skipped(path: Path) -> list[tuple[str, str]]:
    """The images that could not be read when an index was made, as the list beside it says."""
    try:
        with index_path(path).open(encoding="utf-8", errors="surrogateescape", newline="") as file:
            rows = list(csv.DictReader(file))
            return [(row["path"], row["error"]) for row in rows if row["error"]]
    # Without the list, or with another of its name, all that is missing is new.
    except (OSError, KeyError, csv.Error):
        return []


def encoded_beside(
    index: PosteriorIndex, model: LoadedModel, files: Sequence[Path]
) -> DiagonalGaussian:
    """Posteriors float32 [M, K] of other image files, by the model of an index.

    Raises UsageError for a model that is not that of the index, UnreadableImage for a file that is
    no image.
    """
    # The first image again: whose posterior differs was made by other weights.
    source = model.open([index.ids[0], *files])
    blocks = list(model.stream(source, model.posterior()))
    for block in blocks:
        for _, error in block.skipped:
            raise error
    posterior = DiagonalGaussian(
        *(torch.from_numpy(joined(blocks, name)) for name in ("mean", "sigma"))
    )
    if not _same_model(index.posterior, posterior):
        raise UsageError(
            f"{index.path} was made by another model than {model.source}, or by other weights of"
            f" it: name its own by --model, or {_AGAIN}"
        )
    return posterior.rows(slice(1, None))


def _same_model(known: DiagonalGaussian, found: DiagonalGaussian) -> bool:
    """Whether the first row is the same in both, but for what processors round otherwise."""
    if known.mu.shape[1] != found.mu.shape[1]:
        return False
    close = _CLOSE * (known.mu.std(0, correction=0) + known.sigma[0]) + 1e-6
    return all(
        bool(((one[0] - other[0]).abs() <= close).all())
        for one, other in zip(known, found, strict=True)
    )
