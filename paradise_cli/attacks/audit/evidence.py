"""What a comparison of two attacks on the same images shows, and when there are too few of them."""

import math
from dataclasses import dataclass
from functools import cache
from typing import Literal

from paradise_cli.core.proportions import clopper_pearson

Result = Literal["pass", "fail", "inconclusive", "not applicable"]

ERROR = 0.05
"""Of every one-sided bound; shared out where a row makes several comparisons."""
GROSS = 0.10
"""A row passes only if so much above its threshold would have been seen with probability 1 -
ERROR.
"""


def lower_bound(more: int, less: int | None, n: int, error: float = ERROR) -> float:
    """Of the share of images that A breaks and B does not, less that which only B breaks: a 95%
    bound.

    `more` and `less` of n images were broken by A and by B alone; None where B breaks nothing that
    A does not, by construction. Then it is the exact bound of Clopper and Pearson. Otherwise the
    two exact bounds are joined as if both errors were normal (MOVER: Newcombe 1998, Zou and Donner
    2008), correlated as those of two shares of one sample, -sqrt(p q / (1 - p) (1 - q)). Summed
    over all outcomes it covers, from 30 images on, differences up to 30 points
    (`tests/test_evidence.py`); where one attack alone breaks nearly every image, and the other the
    rest, it may miss three times as often. -1 for no images.
    """
    if n == 0:
        return -1.0
    # One end of a two-sided interval of twice the error is the one-sided bound.
    low = clopper_pearson(more, n, 2 * error)[0]
    if less is None:
        return low
    p, q = more / n, less / n
    # The distance from each share to the end of its own interval that lowers the difference.
    up, down = clopper_pearson(less, n, 2 * error)[1] - q, p - low
    # An image that only A breaks cannot be one that only B breaks: more of one means less of the
    # other, and the bound is wider than for two separate samples.
    together = math.sqrt(p * q / ((1 - p) * (1 - q))) if p < 1 and q < 1 else 0.0
    return p - q - math.sqrt(down**2 + 2 * together * down * up + up**2)


def upper_bound(more: int, less: int | None, n: int, error: float = ERROR) -> float:
    """The other end of `lower_bound`: 1 for no images."""
    if n == 0:
        return 1.0
    if less is None:
        return clopper_pearson(more, n, 2 * error)[1]
    return -lower_bound(less, more, n, error)


@cache
def resolves(n: int, threshold: float, *, nested: bool, error: float = ERROR) -> bool:
    """Whether n images would show a share of GROSS above the threshold, with probability 1 -
    ERROR.
    """
    from scipy.special import bdtrc

    # The friendliest case: if even then too few would be seen, no sample of this size decides.
    less = None if nested else 0
    enough = next((k for k in range(n + 1) if lower_bound(k, less, n, error) > threshold), None)
    truth = min(1.0, threshold + GROSS)
    return enough is not None and bool(bdtrc(enough - 1, n, truth) >= 1 - ERROR)


@dataclass(frozen=True)
class Gap:
    """How many of n images only one and only the other attack broke, against a threshold on the
    difference.

    `less` is None where the other breaks nothing that the first does not. The comparison takes one
    of so many `shares` of ERROR.
    """

    more: int
    less: int | None
    n: int
    threshold: float
    shares: float = 1

    @property
    def estimate(self) -> float:
        """The difference seen, as a share of the images."""
        return (self.more - (self.less or 0)) / max(1, self.n)

    @property
    def result(self) -> Result:
        """Fail if the difference is shown to be above the threshold.

        Pass if what was seen is not above it, and either the truth is shown not to be, or n
        resolves.
        """
        if self.n == 0:
            return "inconclusive"
        # Several comparisons in one row would each have their chance of a false alarm.
        error = ERROR / self.shares
        if lower_bound(self.more, self.less, self.n, error) > self.threshold:
            return "fail"
        # Few images can rule out a violation only if hardly any of them shows one.
        within = upper_bound(self.more, self.less, self.n, error) <= self.threshold
        sure = within or resolves(self.n, self.threshold, nested=self.less is None, error=error)
        return "pass" if self.estimate <= self.threshold and sure else "inconclusive"


def together(*results: Result) -> Result:
    """Of several comparisons: one failure is a failure, and all must have passed for a pass."""
    for result in ("fail", "inconclusive", "pass"):
        if result in results:
            return result
    return "not applicable"
