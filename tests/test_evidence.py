"""The bounds by which rows of the audit pass and fail."""

import numpy as np
import pytest
from scipy.stats import multinomial

from paradise_cli.attacks.audit.evidence import Gap, lower_bound, resolves, together, upper_bound


@pytest.mark.parametrize("n", [1, 20, 200])
def test_one_sided_bounds_at_the_ends_are_the_closed_forms(n: int) -> None:
    assert lower_bound(n, None, n) == pytest.approx(0.05 ** (1 / n))
    assert upper_bound(0, None, n) == pytest.approx(1 - 0.05 ** (1 / n))
    assert lower_bound(0, None, n) == 0 and upper_bound(n, None, n) == 1
    # With nobody on the one side the other side's own bound is all that is left.
    assert lower_bound(0, 0, n) == pytest.approx(-upper_bound(0, None, n))
    assert lower_bound(n, 0, n) < lower_bound(n, None, n)


def test_no_images_show_nothing() -> None:
    assert lower_bound(0, None, 0) == lower_bound(0, 0, 0) == -1
    assert upper_bound(0, None, 0) == 1
    assert Gap(0, 0, 0, 0.0).result == Gap(0, None, 0, 0.01).result == "inconclusive"


@pytest.mark.parametrize("error", [0.05, 0.05 / 6])
@pytest.mark.parametrize("n", [30, 45])
def test_the_bound_on_a_difference_is_right_wherever_a_threshold_may_lie(
    n: int, error: float
) -> None:
    outcomes = [(a, b) for a in range(n + 1) for b in range(n + 1 - a)]
    bounds = np.array([lower_bound(a, b, n, error) for a, b in outcomes])
    counts = np.array([(a, b, n - a - b) for a, b in outcomes])
    for difference in (0.0, 0.01, 0.02, 0.03, 0.1, 0.3):
        most = (1 - difference) / 2  # of what the other breaks alone
        for less in (0.0, 0.003, 0.01, 0.03, 0.1, 0.2, 0.3, 0.99 * most, most):
            more = less + difference
            chance = multinomial.pmf(counts, n, [more, less, max(0.0, 1 - more - less)])
            assert chance.sum() == pytest.approx(1)
            assert chance[bounds > difference + 1e-12].sum() <= error


def test_the_smallest_number_that_resolves_is_the_closed_form() -> None:
    # Above threshold 0 one image is enough, and 0.9^n is the chance to see none at a truth of 10%.
    assert 0.9**29 <= 0.05 < 0.9**28
    assert resolves(29, 0.0, nested=True) and not resolves(28, 0.0, nested=True)
    assert not resolves(29, 0.0, nested=False)


@pytest.mark.parametrize(
    ("gap", "result"),
    [
        (Gap(0, None, 29, 0.0), "pass"),
        (Gap(0, None, 28, 0.0), "inconclusive"),
        (Gap(1, None, 29, 0.0), "fail"),
        (Gap(0, None, 5, 0.9), "pass"),  # 1 - 0.05^(1/5) = 0.45
        (Gap(3, None, 200, 0.01), "inconclusive"),  # 1.5 points, but the bound is 0.4
        (Gap(2, None, 200, 0.01), "pass"),
        (Gap(8, None, 200, 0.01), "fail"),  # bound 2.0
        (Gap(40, 0, 200, 0.02), "fail"),
        (Gap(40, 40, 200, 0.02), "pass"),
        (Gap(0, 60, 200, 0.02), "pass"),
    ],
)
def test_results(gap: Gap, result: str) -> None:
    assert gap.result == result


def test_one_failure_fails_and_all_must_pass() -> None:
    assert together("pass", "inconclusive", "fail") == "fail"
    assert together("pass", "inconclusive") == "inconclusive"
    assert together("pass", "pass") == "pass"
    assert together() == "not applicable"
