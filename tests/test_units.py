"""How measured numbers are written: small ones are not rounded away, and zero has no sign."""

import math

import pytest

from paradise_cli.core.units import counted, significant
from paradise_cli.information.rate_interval import Ends


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (2.302585, "2.303"),
        (0.5, "0.5000"),
        (0.0000123456, "1.235e-05"),
        (-0.00042, "-0.0004200"),
        (12345.6, "12346"),
        (9999.4, "9999"),
        (9999.6, "10000"),
        (-1234.5678, "-1235"),
        (0.0, "0.000"),
        (-0.0, "0.000"),
        (math.inf, "inf"),
        (math.nan, "nan"),
    ],
)
def test_numbers_keep_four_digits(value: float, text: str) -> None:
    assert significant(value) == text


@pytest.mark.parametrize("value", [3.0**power for power in range(-20, 12)])
def test_what_is_written_is_the_number_to_its_last_digit(value: float) -> None:
    assert float(significant(value)) == pytest.approx(value, rel=5e-4)
    assert float(significant(-value)) == pytest.approx(-value, rel=5e-4)


def test_the_ends_of_a_small_rate_are_told_apart() -> None:
    ends = Ends("I(X;Z)", 0.0, 0.00432, "exact", "pairwise", None)
    assert str(ends) == "0.00 to 0.00432 nats"
    assert str(Ends("I(X;Z)", 2.312, 2.398, "exact", "pairwise", None)) == "2.31 to 2.40 nats"


@pytest.mark.parametrize(
    ("number", "words"),
    [(0, "0 classes"), (1, "1 class"), (2, "2 classes"), (12_345, "12,345 classes")],
)
def test_one_thing_is_not_several(number: int, words: str) -> None:
    assert counted(number, "class", "classes") == words
    assert counted(number, "row") == words.replace("classes", "rows").replace("class", "row")
