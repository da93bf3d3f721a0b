"""Posteriors of anyone's encoder, read from plain arrays; nothing is ever unpickled."""

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from paradise_cli.core.arrays import read_archive, read_array, type_of
from paradise_cli.core.errors import UsageError
from paradise_cli.inference.answers import SCALE_TRIL
from paradise_cli.information.gaussian import DiagonalGaussian, FullGaussian, Gaussian

MEANS = ("mu", "mean")
LOG_VARIANCES = ("logvar", "log_var", "log_variance")
SIGMAS = ("sigma", "scale", "std")
WIDTHS = (*LOG_VARIANCES, *SIGMAS)
LABELS = ("labels",)
LARGEST_LOG_VARIANCE = 200.0  # and its negative: squares and their quotients stay within float64
LARGEST_MEAN = 1e60
_WHITE = 255  # of a mask in 8 bits, which marks a class as 1 does


def read_posterior(
    path: Path, widths: Path | None = None, *, sigma: bool | None = None
) -> tuple[Gaussian, Tensor | None]:
    """Posteriors [N, K] in float64, and the classes [N] where the file holds labels (`classes_of`).

    `path` is one `.npz` or `.safetensors` with a mean (`mu`, `mean`), a width (`logvar`, `log_var`,
    `log_variance`, `sigma`, `scale` or `std`), for full covariances `scale_tril` in place of it or
    beside it, and perhaps `labels`; or an `.npy` of means beside an
    `.npy` of widths: standard deviations if `sigma`, log variances if it is False, and if it is
    None log variances that cannot be taken for standard deviations. Raises UsageError for what does
    not exist or is no such array, ParadiseError for a damaged file.
    """
    if path.suffix == ".npy":
        if widths is None:
            raise UsageError(
                f"{path} is one array: add a second .npy with the log variances, or give one .npz"
                " or .safetensors that holds mu and logvar"
            )
        means, raw = read_array(path), read_array(widths)
        if sigma is None:
            _check_not_sigma(path, widths, raw)
        kind = "sigma" if sigma else "logvar"
        return posterior_of(means, raw, str(path), str(widths), kind), None
    if sigma is not None:
        raise UsageError(
            f"{path} names what it holds, as {' or '.join(WIDTHS)}: leave out --sigma and --logvar"
        )
    if widths is not None:
        raise UsageError(
            f"{widths}: a second file belongs to an .npy of means; {path} holds everything"
        )
    # An archive names its widths, and needs no flag.
    arrays, names = read_archive(path, (*MEANS, *WIDTHS, SCALE_TRIL, *LABELS))
    mean = _only(path, arrays, names, MEANS)
    # A width beside it is that of each latent by itself: what `encode` writes.
    width = SCALE_TRIL if SCALE_TRIL in arrays else _only(path, arrays, names, WIDTHS)
    posterior = posterior_of(
        arrays[mean], arrays[width], f"{path}: {mean}", f"{path}: {width}", width
    )
    if "labels" not in arrays:
        return posterior, None
    classes = classes_of(arrays["labels"], len(posterior.mu), f"{path}: labels")
    return posterior, classes if bool((classes >= 0).any()) else None


def read_labels(path: Path, n: int) -> Tensor:
    """The classes of n points from an `.npy` (`classes_of`); UsageError where none is labelled."""
    classes = classes_of(read_array(path), n, str(path))
    if not bool((classes >= 0).any()):
        raise UsageError(f"{path}: no row is labelled")
    return classes


def classes_of(labels: NDArray[Any], n: int, where: str) -> Tensor:
    """Class numbers 0, 1, ... of n labels, int64 [n]; -1 where a label is negative, so unknown.

    Labels are integers or text, [N] or [N, T]: as in the pictures, the first of T counts, and a
    warning says so. Raises UsageError for another length or kind.
    """
    if labels.ndim not in (1, 2) or len(labels) != n:
        raise UsageError(
            f"{where} is {_shape(labels)}; there are N = {n:,} posteriors, it must be [N]"
        )
    if labels.ndim == 2 and labels.shape[1] > 1 and _one_hot(labels):
        raise UsageError(
            f"{where} is {_shape(labels)} and marks a class in each row: give the classes' numbers,"
            " labels.argmax(1)"
        )
    if labels.dtype.kind not in "biuU":
        raise UsageError(f"{where} is of type {labels.dtype}: labels are integers or text")
    if labels.ndim == 2 and labels.shape[1] > 1:
        warnings.warn(
            f"{where} is {_shape(labels)}, several labels a row: the first counts", stacklevel=2
        )
    if labels.ndim == 2:
        labels = labels[:, 0] if labels.shape[1] else np.full(n, -1)
    # Text and truth values have no number for the unknown.
    known = np.ones(n, bool) if labels.dtype.kind in "bU" else labels >= 0
    classes = np.full(n, -1, np.int64)
    classes[known] = np.unique(labels[known], return_inverse=True)[1]
    return torch.from_numpy(classes)


def _one_hot(labels: NDArray[Any]) -> bool:
    """Whether a row marks one class or none: the first column alone would be another label."""
    if labels.dtype.kind not in "biuf":
        return False
    marked = labels != 0
    alike = bool(np.isin(labels[marked], (1, _WHITE)).all()) and len(np.unique(labels)) <= 2
    # Of two columns of which one is empty nothing is marked.
    return alike and bool((marked.sum(1) <= 1).all() and marked.any(0).sum() > 1)


def _check_not_sigma(path: Path, widths: Path, raw: NDArray[Any]) -> None:
    """Refuse widths that may be standard deviations: as log variances their rate is another."""
    # Standard deviations are positive; log variances are, all of them, only for huge posteriors.
    if any(word in widths.stem.lower() for word in SIGMAS):
        reason = "is named as standard deviations are"
    elif raw.dtype.kind in "fiu" and raw.size and (raw > 0).all():
        reason = "holds positive numbers only, as standard deviations are"
    else:
        return
    raise UsageError(
        f"{widths} {reason}, but would be read as log variances, which give another rate; say which"
        f" they are:\n  paradise rate {path} {widths} --sigma    standard deviations"
        f"\n  paradise rate {path} {widths} --logvar   log variances, log sigma^2"
    )


def _only(
    path: Path, arrays: dict[str, NDArray[Any]], names: Sequence[str], allowed: Sequence[str]
) -> str:
    """The one name of those allowed that the archive holds."""
    # Two names for one thing may disagree: which one is meant is not ours to guess.
    found = [name for name in allowed if name in arrays]
    if len(found) == 1:
        return found[0]
    wrong = f"both {' and '.join(found)}" if found else f"none of {', '.join(allowed)}"
    raise UsageError(
        f"{path} holds {wrong}; give exactly one (in it: {', '.join(names) or 'nothing'})"
    )


def posterior_of(
    mean: NDArray[Any], width: NDArray[Any], mean_name: str, width_name: str, kind: str
) -> Gaussian:
    """Posteriors [N, K] in float64 from arrays of means and of widths, a `kind` of `WIDTHS`.

    The kind `scale_tril` is lower triangular L [N, K, K], of covariances L L^T. Raises UsageError,
    by the names given, for arrays that are none.
    """
    if kind == SCALE_TRIL:
        return _full(mean, width, mean_name, width_name)
    for array, name in ((mean, mean_name), (width, width_name)):
        if array.dtype.kind not in "fiu":
            raise UsageError(f"{name} is of type {type_of(array)}: it must hold numbers")
        if array.ndim != 2 or array.shape[1] == 0:
            raise UsageError(f"{name} is {_shape(array)}: it must be [N, latent_dim]")
    if mean.shape != width.shape:
        raise UsageError(
            f"{mean_name} is {_shape(mean)}, {width_name} is {_shape(width)}: they must be alike"
        )
    # In one order of memory: sums over columns would round in another way in Fortran's.
    mu, raw = (torch.from_numpy(array.astype(np.float64, order="C")) for array in (mean, width))
    logarithmic = kind in LOG_VARIANCES
    # A deterministic encoder writes -inf or 0: another mistake than a NaN, with another remedy.
    zero = raw == (-torch.inf if logarithmic else 0)
    _refuse(~mu.isfinite(), mean_name, "is not finite (NaN or infinite)")
    _refuse(~raw.isfinite() & ~zero, width_name, "is not finite (NaN or infinite)")
    _refuse(zero, width_name, "has sigma = 0: the rate of a deterministic encoder is infinite")
    if not logarithmic:
        _refuse(
            raw < 0,
            width_name,
            "has a negative sigma; if these are log variances, call them logvar, or of an .npy say"
            " --logvar",
        )
    log_variance = raw if logarithmic else 2 * raw.log()
    extreme = (
        f"is out of range: |log variance| must be at most {LARGEST_LOG_VARIANCE:g} to be"
        " computed with"
    )
    _refuse(log_variance.abs() > LARGEST_LOG_VARIANCE, width_name, extreme)
    _refuse(
        mu.abs() > LARGEST_MEAN,
        mean_name,
        f"is out of range: |mu| must be at most {LARGEST_MEAN:g}",
    )
    return DiagonalGaussian(mu, (0.5 * raw).exp() if logarithmic else raw)


def _full(
    mean: NDArray[Any], factor: NDArray[Any], mean_name: str, factor_name: str
) -> FullGaussian:
    """Posteriors N(mean, L L^T), as `posterior_of`, from lower triangular L [N, K, K]."""
    if factor.dtype.kind not in "fiu" or factor.shape != (*mean.shape, *mean.shape[1:]):
        raise UsageError(
            f"{factor_name} is {_shape(factor)} of type {type_of(factor)}: beside {mean_name},"
            f" {_shape(mean)}, it must hold numbers, [N, latent_dim, latent_dim]"
        )
    lower = torch.from_numpy(factor.astype(np.float64, order="C"))
    widths = lower.diagonal(dim1=1, dim2=2)
    # What is said of a width by itself is said of these, too.
    mu = posterior_of(mean, widths.numpy(), mean_name, factor_name, "sigma").mu
    tilts = lower.flatten(1)
    _refuse(~tilts.isfinite(), factor_name, "(of the matrix in one row) is not finite")
    if bool(lower.triu(1).any()):
        raise UsageError(
            f"{factor_name} has numbers above the diagonal: give the lower triangular L of the"
            " covariance L L^T, as numpy.linalg.cholesky does"
        )
    return FullGaussian(mu, lower)


def _refuse(wrong: Tensor, name: str, what: str) -> None:
    """Raise where any element of [N, K] is wrong, naming the first."""
    if bool(wrong.any()):
        row, column = wrong.nonzero()[0].tolist()
        raise UsageError(f"{name}: row {row:,}, dimension {column} {what}")


def _shape(array: NDArray[Any]) -> str:
    return str(list(array.shape))
