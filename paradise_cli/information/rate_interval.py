"""The rate as an interval: which of its bounds hold for which information, and how certainly."""

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any, Literal

from torch import Tensor

from paradise_cli.core.errors import UsageError
from paradise_cli.core.ranges import MOST_DRAWS, MOST_IMAGES, seed_number, whole
from paradise_cli.core.units import BITS, END_DIGITS, significant
from paradise_cli.information.bounds import batch_rates, held_out_rates, pairwise_rates
from paradise_cli.information.gaussian import Gaussian
from paradise_cli.information.rate import ExactRate, drawn_rates

Side = Literal["lower", "upper", "point"]
Estimand = Literal["I(X;Z)", "I_N"]

FEWEST = 4  # points that can be halved and leave a spread in each half
FEW = 100  # points below which ends fail more than three times as often as they promise
AT_CAP = 0.1  # nats below its cap at which a lower bound says nothing more
PAIRWISE_ROWS = 64, 512  # of the pairwise bounds, least and most
PAIRWISE_CELLS = 2**27  # rows * N * K, each a logarithm: about a second
STANDARD_ERRORS = 3.0
ROUNDING = 1e-7  # nats that every margin adds for the arithmetic, as `mixture.CANCELLATION`


@dataclass(frozen=True)
class Bound:
    """One bound in nats: on its side of its estimand in expectation, and with its margin in fact.

    `cap` is the largest value the bound can take, None where there is none. A point bounds nothing.
    """

    name: str
    side: Side
    estimand: Estimand
    nats: float
    standard_error: float
    margin: float
    cap: float | None = None

    @property
    def end(self) -> float | None:
        """The bound after its margin, which no information puts below 0; None for a point."""
        if self.side == "point":
            return None
        return max(0.0, self.nats + (self.margin if self.side == "upper" else -self.margin))

    @property
    def at_cap(self) -> bool:
        """Whether the bound would say the same of any larger information."""
        return self.cap is not None and self.nats > self.cap - AT_CAP

    def to_json(self) -> dict[str, Any]:
        """A JSON object, also in bits."""
        return asdict(self) | {"end": self.end, "bits": self.nats * BITS, "at_cap": self.at_cap}


@dataclass(frozen=True)
class Ends:
    """The tightest certified ends of one estimand in nats, and the bounds that they come from.

    `cap` is that of the lower end where it sits there: the information may then be any larger.
    """

    estimand: Estimand
    lower: float
    upper: float
    lower_by: str
    upper_by: str
    cap: float | None

    def __str__(self) -> str:
        low, high = significant(self.lower, END_DIGITS), significant(self.upper, END_DIGITS)
        return f"{low}{'' if self.cap is None else ' (at its cap)'} to {high} nats"

    @property
    def by(self) -> str:
        """The bounds that both ends come from, once where they are one."""
        return "; ".join(dict.fromkeys((self.lower_by, self.upper_by)))

    @property
    def bits(self) -> tuple[float, float]:
        """Lower and upper end in bits."""
        return self.lower * BITS, self.upper * BITS

    def to_json(self) -> dict[str, Any]:
        """A JSON object, also in bits."""
        return asdict(self) | {"lower_bits": self.bits[0], "upper_bits": self.bits[1]}


@dataclass(frozen=True)
class RateInterval:
    """What N encoded points, drawn independently from a population, tell of the rate.

    Two informations are bounded: I(X;Z) of the population, and I_N, between z and which of these N
    points was encoded, which `exact` estimates without bias. I_N never exceeds log N, and in
    expectation over the points it is a lower bound of I(X;Z); no upper bound of I_N is one of
    I(X;Z). `rows` is how many of the N points the pairwise bounds average over. The margins are
    `standard_errors` wide, or of few points what Student's t makes of these, and upper ones more
    where values are skewed.
    """

    exact: ExactRate
    bounds: tuple[Bound, ...]
    batch_size: int
    rows: int
    seed: int
    standard_errors: float

    @property
    def population(self) -> Ends:
        """Of I(X;Z)."""
        return self._ends("I(X;Z)", ())

    @property
    def empirical(self) -> Ends:
        """Of I_N; the cap log N is one of its upper bounds."""
        exact = self.exact
        margin = student(self.standard_errors, exact.n) * exact.standard_error + ROUNDING
        lower, upper = (
            Bound("exact", side, "I_N", exact.nats, exact.standard_error, margin, exact.cap)
            for side in ("lower", "upper")
        )
        return self._ends(
            "I_N", (lower, upper, Bound("log N", "upper", "I_N", exact.cap, 0.0, 0.0))
        )

    @property
    def warning(self) -> str | None:
        """Why the ends of I(X;Z) say little, where they do."""
        reasons = []
        if self.exact.n < FEW:
            reasons.append(
                f"{self.exact.n} points show little of their population, and the ends fail more"
                f" often than their margins promise: give {FEW} or more"
            )
        if self.alike:
            reasons.append(
                "all posteriors are alike: the upper end is what a part of the population could"
                " hold that these points have missed"
            )
        cap = self.population.cap
        if cap is not None:
            reasons.append(
                f"the lower end of I(X;Z) is within {AT_CAP:g} nat of its cap, {cap:.2f} nats, and"
                " would be the same for any larger information: only the upper end limits it; more"
                " points raise the cap"
            )
        return "; ".join(reasons) or None

    @property
    def alike(self) -> bool:
        """Whether no upper bound of I(X;Z) varies from point to point."""
        return all(
            bound.standard_error <= ROUNDING
            for bound in self.bounds
            if bound.estimand == "I(X;Z)" and bound.side == "upper"
        )

    def to_json(self) -> dict[str, Any]:
        """A JSON object, in nats and bits: both intervals, the exact rate and every bound."""
        return {
            "population": self.population.to_json(),
            "empirical": self.empirical.to_json(),
            "warning": self.warning,
            "exact": asdict(self.exact) | {"bits": self.exact.nats * BITS},
            "bounds": [bound.to_json() for bound in self.bounds],
            "settings": {
                "batch_size": self.batch_size,
                "pairwise_rows": self.rows,
                "seed": self.seed,
                "margin_in_standard_errors": self.standard_errors,
            },
        }

    def _ends(self, estimand: Estimand, more: tuple[Bound, ...]) -> Ends:
        bounds = [bound for bound in (*more, *self.bounds) if bound.estimand == estimand]
        lowers = [
            (bound.end, bound)
            for bound in bounds
            if bound.side == "lower" and bound.end is not None
        ]
        uppers = [
            (bound.end, bound)
            for bound in bounds
            if bound.side == "upper" and bound.end is not None
        ]
        lower, low = max(lowers, key=lambda pair: pair[0])
        upper, high = min(uppers, key=lambda pair: pair[0])
        return Ends(estimand, lower, upper, low.name, high.name, low.cap if low.at_cap else None)


def rate_interval(
    posterior: Gaussian,
    *,
    seed: int = 0,
    batch_size: int = 128,
    draws: int = 1,
    standard_errors: float = STANDARD_ERRORS,
    rates: Tensor | None = None,
    progress: Callable[[int], None] | None = None,
) -> RateInterval:
    """All bounds of the rate of N >= 4 posteriors, float64 on their device (method.md 2.4).

    A function of the seed, not of how the work is cut. `draws` is how many z the exact rate takes
    for each point; `progress` is called with how many of its draws * N rows are done. `rates` are
    the `drawn_rates` of this seed where they are known already. O(N^2 K) time, O(N K) memory.
    Raises UsageError for fewer points or a batch of one, ParadiseError where mu or sigma is
    infinite or sigma is 0.
    """
    n = len(posterior.mu)
    if n < FEWEST:
        raise UsageError(f"N = {n}: a rate with its errors needs at least {FEWEST} posteriors")
    draws, seed = whole(draws, "draws", 1, MOST_DRAWS), seed_number(seed)
    batch_size = min(whole(batch_size, "batch_size", 2, MOST_IMAGES), n)
    batch = batch_rates(posterior, batch_size, seed=seed)
    least, most = PAIRWISE_ROWS
    rows = min(n, most, max(least, PAIRWISE_CELLS // posterior.mu.numel()))
    if rates is None:
        rates = drawn_rates(posterior, seed=seed, draws=draws, progress=progress)
    exact = ExactRate.of(rates)

    bound = partial(_bound, standard_errors)
    held_out = held_out_rates(posterior, seed=seed)
    standard = posterior.double().kl_to_standard_normal()
    bounds = (
        bound("exact", "lower", "I(X;Z)", rates.mean(0), exact.cap),
        bound("in-batch", "lower", "I(X;Z)", batch.in_batch, math.log(batch_size)),
        # Each half is judged by what the other fitted: that varies as n / 2 points do.
        bound("fitted Gaussian, held out", "upper", "I(X;Z)", held_out, seen=n // 2),
        bound("fixed N(0, I)", "upper", "I(X;Z)", standard, seen=n),
        bound("leave-one-out", "point", "I(X;Z)", batch.leave_one_out),
        *_of_pairs(bound, posterior, rows, seed, exact.cap),
        bound("stratified", "upper", "I_N", batch.stratified, exact.cap),
    )
    return RateInterval(exact, bounds, batch_size, rows, seed, standard_errors)


def _of_pairs(
    bound: Callable[..., Bound], posterior: Gaussian, rows: int, seed: int, cap: float
) -> tuple[Bound, Bound]:
    """The bounds of I_N that average over some of the rows."""
    found = pairwise_rates(posterior, rows, seed=seed)
    # Drawn without replacement: all n of them leave no error.
    left_out = 1 - rows / len(posterior.mu)
    share = math.sqrt(left_out)
    return (
        bound("Bhattacharyya", "lower", "I_N", found.bhattacharyya, cap, share),
        bound("pairwise KL", "upper", "I_N", found.kl, cap, share, seen=rows if left_out else None),
    )


def _bound(
    standard_errors: float,
    name: str,
    side: Side,
    estimand: Estimand,
    values: Tensor,
    cap: float | None = None,
    share: float = 1.0,
    *,
    seen: int | None = None,
) -> Bound:
    """The mean of values [M], with `share` of the standard error of M independent ones.

    `seen` is how many points an upper bound rests on, where there are more.
    """
    nats = float(values.mean())
    error = share * math.sqrt(float(values.var()) / len(values))
    # No value is above the cap, but their mean may be by a rounding.
    nats = nats if cap is None else min(nats, cap)
    margin = student(standard_errors, seen or len(values)) * error
    if side == "upper":
        margin += _skewed(standard_errors, values, seen or len(values)) * error
    if seen is not None:
        # Values that are nearly one say how exact a mean is of what they have seen, and nothing of
        # what they have not.
        unseen = _unseen(standard_errors, seen)
        # Of all points each may lie at the cap; of a population see `_apart`.
        margin = max(margin, _apart(unseen, seen) if cap is None else unseen * (cap - nats))
    return Bound(name, side, estimand, nats, error, margin + ROUNDING, cap)


def student(standard_errors: float, n: int) -> float:
    """Standard errors of n values that are as sure as so many of known deviation (Student 1908)."""
    from scipy.special import ndtr, stdtrit

    return -float(stdtrit(n - 1, ndtr(-standard_errors)))


def _skewed(standard_errors: float, values: Tensor, n: int) -> float:
    """Standard errors more above the mean of values with a long upper tail (Johnson 1978).

    Few of them miss the tail, and then both their mean and their spread are too small.
    """
    apart = values - values.mean()
    spread = apart.square().mean().sqrt().clamp(min=ROUNDING)
    skewness = max(0.0, float((apart / spread).pow(3).mean()))
    return skewness / (6 * math.sqrt(n)) * (1 + 2 * student(standard_errors, n) ** 2)


def _unseen(standard_errors: float, n: int) -> float:
    """The share s of which n independent points see nothing, (1 - s)^n, as seldom as a margin
    fails.
    """
    from scipy.special import log_ndtr

    return -math.expm1(float(log_ndtr(-standard_errors)) / n)


def _apart(share: float, n: int) -> float:
    """Nats that a share s of the population may hold of which n points have seen nothing.

    It is told from the rest, h(s), and into no more than n of its own, s log n.
    """
    entropy = -share * math.log(share) - (1 - share) * math.log1p(-share)
    return entropy + share * math.log(n)
