"""The posteriors of a folder as `encode` writes them, checked against the folder and the model."""

import csv
import errno
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from paradise_cli.core.arrays import read_archive
from paradise_cli.core.errors import ParadiseError, UsageError
from paradise_cli.core.results import origin_at
from paradise_cli.core.units import counted
from paradise_cli.inference.encoding import index_path
from paradise_cli.inference.loading import LoadedModel, joined
from paradise_cli.information.gaussian import DiagonalGaussian

_CLOSE = 1e-3
"""Of a latent's spread over the images: what processors round otherwise is a hundredth of it."""
_AGAIN = "make it anew by --reindex"
_OF_SYSTEM = frozenset(map(os.strerror, errno.errorcode))
"""Why a file could not be read, in words that no decoder has."""


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


def of_folder(index: PosteriorIndex, folder: Path, images: Sequence[str]) -> PosteriorIndex:
    """The index, its images named as they lie below `folder`, where `images` are there now.

    Raises UsageError where it was made of another folder, or of other images of this one. What it
    lists as unreadable is known to it, unless it was the system that could not read it then and can
    now. A file counts as changed whose content or name has changed since the index was written.
    """
    names = [*index.ids, *(name for name, _ in index.skipped)]
    there = set(images)
    below = _names_below(names, there)
    _require_same(index.path, folder, names[0].removesuffix(below[0]))
    known, skipped = below[: len(index.ids)], below[len(index.ids) :]
    written = index.path.stat().st_mtime_ns
    read, listed = set(known), set(below)
    errors = [error for _, error in index.skipped]
    failed = [name for name, error in zip(skipped, errors, strict=True) if error in _OF_SYSTEM]
    for what, found in (
        (f"lacks images of {folder}", [i for i in images if i not in listed]),
        (f"has images that are not in {folder}", sorted(read - there)),
        (
            f"is older than images of {folder}",
            [i for i in images if i in read and _changed_at(folder / i) > written],
        ),
        (
            f"lacks images of {folder} that could not be read for a moment",
            [name for name in failed if _can_be_read(folder / name)],
        ),
    ):
        if found:
            raise UsageError(
                f"{index.path} {what}: {counted(len(found), 'image')}, such as"
                f" {folder / found[0]}; {_AGAIN}, or name another --index"
            )
    return replace(
        index,
        ids=[str(folder / name) for name in known],
        skipped=[(str(folder / n), error) for n, error in zip(skipped, errors, strict=True)],
    )


def _can_be_read(file: Path) -> bool:
    """Whether the system gives a file's content, whatever that is."""
    try:
        file.read_bytes()
    except OSError:
        return False
    return True


def _names_below(names: Sequence[str], there: set[str]) -> list[str]:
    """Names of images without the way to their folder, which need not lead there from here.

    All begin with the same one: so many folders that most of what is left of them is `there`.
    """
    depths = range(min(name.count("/") for name in names) + 1)
    below = ([name.split("/", depth)[depth] for name in names] for depth in depths)
    return max(below, key=lambda left: sum(name in there for name in left))


def _require_same(path: Path, folder: Path, way: str) -> None:
    """Raise UsageError where an index says, by its record or the names in it, that it was made of
    another folder.
    """
    made = (origin_at(path) or {}).get("images", [])
    own = made[0] if len(made) == 1 and os.path.isdir(made[0]) else os.path.realpath(way or ".")
    if own != os.path.realpath(folder):
        raise UsageError(
            f"{path} was made of images in {own}, not in {folder}: {_AGAIN}, or name another"
            " --index"
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
