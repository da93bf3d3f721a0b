"""Intervals of shares and of their differences keep what they promise."""

import math

import pytest

from paradise_cli.core.proportions import NORMAL_95, paired_difference


@pytest.mark.parametrize(
    ("only_first", "only_second"), [(0.45, 0.01), (0.2, 0.1), (0.05, 0.05), (0.3, 0.3), (0.8, 0.1)]
)
def test_the_difference_of_paired_shares_is_covered(only_first: float, only_second: float) -> None:
    """Over all that 20 images can show, each weighted by its multinomial probability."""
    n, neither = 20, 1 - only_first - only_second
    covered = 0.0
    for b in range(n + 1):
        for c in range(n - b + 1):
            low, high = paired_difference(b, c, n)
            if low <= only_second - only_first <= high:
                ways = math.comb(n, b) * math.comb(n - b, c)
                covered += ways * only_first**b * only_second**c * neither ** (n - b - c)
    # A score interval is not exact: it covers 95% but for little.
    assert covered >= 0.94


@pytest.mark.parametrize("n", [1, 7, 15])
def test_a_difference_of_0_is_refuted_where_mcnemar_refutes_it(n: int) -> None:
    for b in range(n + 1):
        for c in range(n - b + 1):
            low, high = paired_difference(b, c, n)
            assert -1 <= low <= (c - b) / n <= high <= 1
            assert (-high, -low) == pytest.approx(paired_difference(c, b, n))
            refuted = (c - b) ** 2 > NORMAL_95**2 * (b + c)
            assert (low > 0 or high < 0) == refuted
