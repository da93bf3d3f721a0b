"""Rate-distortion functions that are known exactly, in nats (method.md 1.3)."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from paradise_cli.core.errors import UsageError


@dataclass(frozen=True)
class ClosedForm:
    """R(D), 0 from `d_max` on, and the distortion at which it has slope -beta."""

    rate: Callable[[float], float]
    distortion: Callable[[float], float]
    d_max: float


def bernoulli(p: float) -> ClosedForm:
    """A coin with P(1) = p under Hamming distortion: h(p) - h(D); UsageError outside [0, 1]."""
    if not 0 <= p <= 1:
        raise UsageError(f"p is a probability, 0 to 1; got {p:g}")
    rarer = min(p, 1 - p)
    return ClosedForm(
        rate=lambda d: _binary_entropy(rarer) - _binary_entropy(d) if d < rarer else 0.0,
        distortion=lambda slope: min(math.exp(-slope) / (1 + math.exp(-slope)), rarer),
        d_max=rarer,
    )


def bernoulli_log_loss(p: float) -> ClosedForm:
    """A coin reproduced by a probability under log loss: h(p) - D (Courtade and Weissman 2014).

    A line of slope -1: `distortion` is 0 for steeper ones, h(p) for others.
    """
    entropy = _binary_entropy(p)
    return ClosedForm(
        rate=lambda d: max(0.0, entropy - d),
        distortion=lambda slope: 0.0 if slope > 1 else entropy,
        d_max=entropy,
    )


def uniform(m: int) -> ClosedForm:
    """m equally likely letters under Hamming distortion: log m - h(D) - D log(m - 1)."""
    if m < 2:
        raise UsageError(f"a source needs at least 2 letters; got m = {m}")
    d_max = 1 - 1 / m

    def rate(d: float) -> float:
        return math.log(m) - _binary_entropy(d) - d * math.log(m - 1) if d < d_max else 0.0

    def distortion(slope: float) -> float:
        return (m - 1) * math.exp(-slope) / (1 + (m - 1) * math.exp(-slope))

    return ClosedForm(rate, distortion, d_max)


def laplacian(scale: float) -> ClosedForm:
    """Density exp(-|x| / scale) / (2 scale) under absolute error: log(scale / D)."""
    _check_positive("scale", scale)
    return ClosedForm(
        rate=lambda d: max(0.0, math.log(scale / d)),
        distortion=lambda slope: min(1 / slope, scale),
        d_max=scale,
    )


def gaussian(variances: Sequence[float]) -> ClosedForm:
    """Independent Gaussians, summed squared error: reverse water-filling, slope 1 / (2 level)."""
    for variance in variances:
        _check_positive("variance", variance)
    values = np.array(variances, dtype=np.float64)
    levels = np.unique(np.append(values, 0.0))
    # The total distortion is linear in the level between two variances.
    totals = np.minimum(levels[:, None], values).sum(1)

    def rate(d: float) -> float:
        level = np.interp(d, totals, levels)
        return float(0.5 * np.log(values / np.minimum(level, values)).sum())

    return ClosedForm(
        rate, lambda slope: float(np.minimum(0.5 / slope, values).sum()), d_max=float(values.sum())
    )


def shannon_lower_bound(entropy: float, distortion: float) -> float:
    """Least rate under squared error, in nats, of any density with this differential entropy."""
    return max(0.0, entropy - 0.5 * math.log(2 * math.pi * math.e * distortion))


def _binary_entropy(p: float) -> float:
    return -sum(q * math.log(q) for q in (p, 1 - p) if q > 0)


def _check_positive(name: str, value: float) -> None:
    if not 0 < value < math.inf:
        raise UsageError(f"{name} must be a number > 0; got {value:g}")
