"""What numbers say of a claim."""

import math
from collections.abc import Sequence

from paradise_cli.core.proportions import NORMAL_95
from paradise_cli.core.units import significant
from paradise_cli.information.rate_interval import student
from paradise_cli.reproduction.ledger.claims import Check, Number, Verdict, threshold
from paradise_cli.reproduction.quantities import Measured

ROUNDING = 1e-6
"""Relative, of numbers in fp32 that are computed in two ways."""
MOST_TIMES = 1000


def difference(of: Measured, minus: Measured | None) -> Measured:
    """`of` less `minus`; the interval is that of independent errors."""
    if minus is None:
        return of
    value = of.value - minus.value
    below = math.hypot(of.value - of.low, minus.high - minus.value)
    above = math.hypot(of.high - of.value, minus.value - minus.low)
    return Measured(value, value - below, value + above, min(of.n, minus.n))


def over_seeds(found: Sequence[Measured]) -> Number:
    """The mean of one measurement a seed, with Student's interval over seeds; of a single seed its
    own interval over images, which is also the least that several leave on either side.
    """
    n = found[0].n
    if len(found) == 1:
        only = found[0]
        return Number(value=only.value, interval=(only.low, only.high), n=n)
    values = [each.value for each in found]
    mean = math.fsum(values) / len(values)
    variance = math.fsum((value - mean) ** 2 for value in values) / (len(values) - 1)
    margin = student(NORMAL_95, len(values)) * math.sqrt(variance / len(values))
    # Seeds may agree by chance. They share their images, which say no more for being asked often.
    below = math.fsum(each.value - each.low for each in found) / len(found)
    above = math.fsum(each.high - each.value for each in found) / len(found)
    return Number(value=mean, interval=(mean - max(margin, below), mean + max(margin, above)), n=n)


def beyond(number: Number, bound: str) -> bool:
    """Whether the whole interval lies beyond a bound."""
    return all(passes(end, bound) for end in number.interval)


def agree(one: Number, other: Number) -> bool:
    """Whether two numbers differ by no more than the errors of both."""
    gap = abs(one.value - other.value)
    # The larger half: an interval of a share or a rank need not be symmetric.
    errors = [
        max(each.interval[1] - each.value, each.value - each.interval[0]) for each in (one, other)
    ]
    return gap <= math.hypot(*errors) + ROUNDING * max(1.0, abs(one.value))


def verdict(
    check: Check, found: Number, control: Number | None, second: Number | None
) -> tuple[Verdict, str]:
    """What a check says, and what to know of it."""
    # First: a check that anything passes decides nothing, whatever its number.
    if control is not None and beyond(control, check.supported):
        return "void", "the control passes the check too, so that the check shows nothing"
    if second is not None and not agree(found, second):
        return "void", f"computed in another way it is {significant(second.value)}"
    if beyond(found, check.refuted):
        return "refuted", ""
    held = [bound for bound in (check.supported, check.refuted) if _holds(found, bound)]
    if held:
        return "undecided", _more(found, held[0])
    if not beyond(found, check.supported):
        return "differs", "between what would support and what would refute it"
    # Its interval is so wide that it says nothing of what the check can tell apart.
    if control is not None and passes(control.value, check.supported):
        return "undecided", "the control's number passes the check, within its error"
    return "reproduced", ""


def passes(value: float, bound: str) -> bool:
    """Whether a value lies beyond a bound."""
    more, limit = threshold(bound)
    return value > limit if more else value < limit


def _holds(number: Number, bound: str) -> bool:
    low, high = number.interval
    return low <= threshold(bound)[1] <= high


def _more(found: Number, bound: str) -> str:
    """What would decide on which side of a bound a number lies that holds it."""
    limit = threshold(bound)[1]
    low, high = found.interval
    distance = abs(found.value - limit)
    half = high - found.value if limit > found.value else found.value - low
    # Intervals shrink with the root of what they rest on.
    times = math.inf if distance == 0 else math.ceil((half / distance) ** 2)
    if times > MOST_TIMES:
        return f"the value lies on the bound {bound}, as far as anyone could tell"
    # On the bound itself is not beyond it.
    many = max(times, 2)
    return f"its interval holds the bound {bound}: about {many:,} times the seeds or images decide"
