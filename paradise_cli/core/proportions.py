"""Shares of images, with the intervals of the probabilities behind them."""

import math
from dataclasses import dataclass
from typing import Any

NORMAL_95 = 1.959963984540054  # 97.5% of a standard normal lie below


@dataclass(frozen=True)
class Proportion:
    """A share, with the Wilson 95% interval of the probability behind it."""

    value: float
    low: float
    high: float

    @classmethod
    def of(cls, k: int, n: int) -> "Proportion":
        """k of n."""
        return cls(k / n, *wilson(k, n))


def wilson(k: int, n: int) -> tuple[float, float]:
    """95% interval of a probability after k successes in n trials (method.md 7).

    It is (0, 1) for n = 0.
    """
    if n == 0:
        return 0.0, 1.0
    z, p = NORMAL_95, k / n
    centre = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    # At the ends the exact bound is 0 or 1, which rounding may miss.
    return (0.0 if k == 0 else centre - half), (1.0 if k == n else centre + half)


def clopper_pearson(k: int, n: int, error: float = 0.05) -> tuple[float, float]:
    """Exact interval of a probability after k successes in n trials.

    It misses the probability with at most that `error`.
    """
    # What failures are not at least, successes are at most.
    return lower_bound(k, n, error / 2), 1.0 - lower_bound(n - k, n, error / 2)


def paired_difference(only_first: int, only_second: int, n: int) -> tuple[float, float]:
    """95% score interval of p2 - p1, two shares of the same n, of which so many have the one alone.

    Tango 1998: the differences that the data would not refute, where McNemar's test asks after 0
    (method.md 7). With the images that only one has, how many they are is uncertain too.
    """
    from scipy.optimize import brentq

    observed = (only_second - only_first) / n

    def score(difference: float) -> float:
        # The likeliest share that only the first has, if this is the difference.
        a = 2 * n
        b = (2 * n - only_second + only_first) * difference - only_second - only_first
        c = -only_first * difference * (1 - difference)
        share = (math.sqrt(max(b * b - 4 * a * c, 0.0)) - b) / (2 * a)
        variance = n * (2 * share + difference * (1 - difference))
        away = n * abs(observed - difference)
        return away and (away / math.sqrt(variance) if variance > 0 else math.inf)

    def end(limit: float) -> float:
        if observed == limit:
            return limit
        return float(brentq(lambda d: score(d) - NORMAL_95, observed, limit))

    return end(-1.0), end(1.0)


def hypergeometric(k: int, m: int, size: int, error: float = 0.05) -> tuple[int, int]:
    """Exact interval of how many of `size` have a property, after k of m drawn had it.

    Drawn without putting back: an interval of Clopper and Pearson's kind, which misses the number
    with at most that `error`.
    """
    # What do not have it are not at least so many where those that have it are at most the rest.
    return _at_least(k, m, size, error / 2), size - _at_least(m - k, m, size, error / 2)


def _at_least(k: int, m: int, size: int, error: float) -> int:
    """The smallest number of `size` with which k or more of m are likelier than `error`."""
    import numpy as np
    from scipy.special import gammaln

    def log_choose(n: Any, r: Any) -> Any:
        return gammaln(n + 1) - gammaln(r + 1) - gammaln(n - r + 1)

    def likelihood(having: int) -> float:
        x = np.arange(max(k, m - (size - having)), min(m, having) + 1)
        ways = log_choose(having, x) + log_choose(size - having, m - x) - log_choose(size, m)
        return float(np.exp(ways).sum())

    # It grows with the number: halve where it lies.
    low, high = k, size - (m - k)
    while low < high:
        middle = (low + high) // 2
        if likelihood(middle) > error:
            high = middle
        else:
            low = middle + 1
    return low


def lower_bound(k: int, n: int, error: float) -> float:
    """Exact lower bound of a probability after k successes in n trials (Clopper and Pearson 1934).

    It lies above the probability with at most that `error`: at the bound, k successes or more are
    as likely as that.
    """
    from scipy.special import betaincinv

    return 0.0 if k == 0 else float(betaincinv(k, n - k + 1, error))
