"""The YAML that recipes are written in."""

import math
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from paradise_cli.core.yaml import dump, parse


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 1e-3), ("1E3", 1000.0), ("+.5", 0.5), ("5.", 5.0), ("-.inf", -math.inf),
        ("1.5e+2", 150.0),
        ("010", 10), ("0o10", 8), ("0x1F", 31), ("-7", -7), ("0b1", "0b1"), ("1_000", "1_000"),
        ("on", "on"), ("yes", "yes"), ("No", "No"), ("true", True), ("False", False),
        ("tRue", "tRue"),
        ("~", None), ("null", None), ("", None), ("12:30", "12:30"), ("2001-01-01", "2001-01-01"),
        ("'1e-3'", "1e-3"), ('"true"', "true"), ("!!str 5", "5"), ("1e", "1e"), (".", "."),
        ("<<", "<<"), ("=", "="),
    ],
)  # fmt: skip
def test_scalars_are_those_of_yaml_1_2(text: str, value: object) -> None:
    document = parse(f"a: {text}\n", "r.yaml")
    assert document.problems == []
    assert document.data["a"] == value and type(document.data["a"]) is type(value)


def test_not_a_number_is_read_and_left_to_the_schema() -> None:
    assert math.isnan(parse("a: .nan", "r.yaml").data["a"])


TEXT = st.text(st.characters(codec="utf-8"))
PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | TEXT,
    lambda inner: st.lists(inner) | st.dictionaries(st.text("abc19.eEon", min_size=1), inner),
    max_leaves=12,
)


@given(st.dictionaries(st.sampled_from(["a", "on", "1", "null", "1e3"]), PLAIN, min_size=1))
@example({"a": "\x85"})
@example({"a": "x\u2028 y\n"})
def test_what_is_dumped_is_parsed_back(data: dict[str, Any]) -> None:
    document = parse(dump(data), "r.yaml")
    assert document.problems == [] and document.data == data


@given(st.text())
def test_no_text_makes_the_parser_fail(text: str) -> None:
    document = parse(text, "r.yaml")
    assert isinstance(document.data, dict) and (
        document.data or document.problems or text.strip() == "{}"
    )
