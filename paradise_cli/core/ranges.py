"""Numbers, lists of them and durations as users write them."""

import math
import operator
from typing import Any

from paradise_cli.core.errors import UsageError, printable

MOST_NUMBERS = 10_000  # in one range: each is the work of seconds at least
MOST_RUNS = 1_000  # of a sweep: each is a training
# Limits of counts: far above what anyone needs, and below what no memory holds.
MOST_DRAWS = 10_000
MOST_AT_ONCE = 16_384  # images
MOST_COPIES = 10_000_000  # noisy ones of an image: a hundred times those of published certificates
MOST_IMAGES = 10**9
MOST_PROCESSES = 100_000


def whole(value: Any, what: str, least: int, most: int) -> int:
    """A count within these limits; raises UsageError, naming `what`, for anything else."""
    try:
        found = None if isinstance(value, bool) else operator.index(value)
    except TypeError:
        found = None
    if found is None or not least <= found <= most:
        raise UsageError(
            f"{what} must be a whole number from {least:,} to {most:,}, not"
            f" {printable(repr(value), 40)}"
        )
    return found


def real(value: Any, what: str, kind: str = "a number") -> float:
    """A number as a user of the library gives it; raises UsageError for anything else, naming
    `what` and the `kind` of number that it is.
    """
    try:
        # Of '0.5' it could be made, but not of '1%' and '8/255': text is for the command line.
        if not isinstance(value, str | bytes | bool):
            return float(value)
    except (TypeError, ValueError, OverflowError, RuntimeError):  # the last is torch's
        pass
    raise UsageError(f"{what} is {kind}, not {printable(repr(value), 40)}")


def seed_number(value: Any) -> int:
    """A seed as a user of the library gives it: 64 bits; raises UsageError for anything else."""
    return whole(value, "seed", -(2**63), 2**63 - 1)


def parse_range(text: str, what: str) -> list[float]:
    """`0.1,1,10` as written, or `0.1:10:5` as 5 numbers from 0.1 to 10 in equal ratios.

    Raises UsageError, naming `what`, for anything that is not a list of finite numbers > 0, or of
    more than `MOST_NUMBERS`.
    """
    ends = text.split(":")
    between = len(ends) == 3
    numbers = [math.nan]
    count = 0
    try:
        count = int(ends[2]) if between else text.count(",") + 1
        # Nine digits of a count would fill the memory.
        if count <= MOST_NUMBERS:
            if between:
                numbers = _geometric(float(ends[0]), float(ends[1]), count)
            else:
                numbers = [float(part) for part in text.split(",")]
    except ValueError:
        pass
    if count > MOST_NUMBERS:
        raise UsageError(f"{what} '{printable(text)}': at most {MOST_NUMBERS:,} numbers")
    # Written so that NaN, which compares as nothing, is refused.
    if all(0 < number < math.inf for number in numbers):
        return numbers
    raise UsageError(
        f"{what} '{printable(text)}' is not a list of numbers > 0: write 0.1,1,10 or"
        " first:last:count, as in 0.1:10:5"
    )


def number(text: str, what: str) -> float:
    """`0.03`, `8/255` or `1%`; raises UsageError, naming `what`, for anything else."""
    value = text.strip()
    try:
        # Radii are published as 8/255 and shares as 1%: nobody should have to convert them.
        share = value.endswith("%")
        top, slash, bottom = value.removesuffix("%").partition("/")
        found = float(top) / float(bottom) if slash else float(top)
        found = found / 100 if share else found
    except (ValueError, ZeroDivisionError):
        found = math.nan
    if math.isfinite(found):
        return found
    raise UsageError(f"{what} {text}: not a number; write 0.03, 8/255 or 1%")


def seconds(text: str, what: str) -> float:
    """`90s`, `10m`, `1.5h` or a number of seconds.

    Raises UsageError, naming `what`, for anything else.
    """
    scale = {"s": 1, "m": 60, "h": 3600}
    value = text.strip()
    try:
        found = float(value[:-1]) * scale[value[-1]] if value[-1:] in scale else float(value)
    except ValueError:
        found = math.nan
    if 0 < found < math.inf:
        return found
    raise UsageError(f"{what} {text}: not a duration; write 90s, 10m or 2h")


def _geometric(first: float, last: float, count: int) -> list[float]:
    """`count` numbers in equal ratios; ValueError where there are none."""
    positive = 0 < first < math.inf and 0 < last < math.inf
    # One number from first to last is both of them, or it is a mistake.
    if not positive or count < 1 or (count == 1 and first != last):
        raise ValueError
    return [first * (last / first) ** (index / max(1, count - 1)) for index in range(count)]
