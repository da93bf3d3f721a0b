"""Nats, in which everything is computed, as bits, and how measured numbers are written."""

import math

BITS = 1 / math.log(2)  # of a nat
END_DIGITS = 3  # of the ends of a rate, which carry margins of several hundredths of a nat
SUSTAINED = 1e14
"""Operations a second that a wide network keeps up on one large GPU of 2022 in bf16. Small ones are
slower: a GPU that waits for the host computes nothing.
"""


def counted(number: int, one: str, several: str | None = None) -> str:
    """A number of things in words: `1 image`, `2,000 images`, `2 classes`."""
    return f"{number:,} {one if number == 1 else several or f'{one}s'}"


def significant(value: float, digits: int = 4) -> str:
    """A number with so many significant digits, or all those before the point; never `-0`."""
    # An exponent for the small alone: nobody counts nats as 1.2e+04.
    if abs(value) >= 10**digits - 0.5:
        return f"{value:.0f}"
    return f"{value + 0.0:#.{digits}g}".rstrip(".")  # -0.0 + 0.0 is 0.0


def quantity(value: float, unit: str) -> str:
    """A number in its unit, or without one a share in percent."""
    # Two decimals: at 10,000 images a hundredth of a percent is one image.
    return f"{significant(value)} {unit}" if unit else f"{value:.2%}"
