"""`paradise rd`: what a user gets, and what a mistake says."""

import csv
import json
import math
import os
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from paradise_cli.cli import app
from paradise_cli.core.errors import UsageError
from paradise_cli.core.ranges import parse_range


@pytest.fixture(autouse=True)
def empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def rd(*arguments: str) -> dict[str, Any]:
    result = CliRunner().invoke(app, ["rd", *arguments, "--json"])
    assert result.exit_code == 0, result.stderr
    value: dict[str, Any] = json.loads(result.stdout)
    return value


@pytest.mark.usefixtures("pictures")
def test_a_coin_is_solved_asked_and_drawn() -> None:
    solved = rd(
        "bernoulli", "--p", "0.3", "--at-distortion", "0.1", "--at-rate", "0.2", "--points", "6"
    )
    at_distortion, at_rate = solved["answers"]
    exact = -sum(p * math.log(p) for p in (0.3, 0.7)) + sum(d * math.log(d) for d in (0.1, 0.9))
    assert (
        at_distortion["lower"] <= exact <= at_distortion["upper"] <= at_distortion["lower"] + 1e-5
    )
    assert at_rate["upper"] - at_rate["lower"] <= 1e-5
    for row in solved["points"]:
        assert row["lower_nats"] - 1e-12 <= row["closed_form_nats"] <= row["upper_nats"] + 1e-12
        assert row["upper_bits"] == pytest.approx(row["upper_nats"] / math.log(2))
    with open("curves/bernoulli/curve.csv") as file:
        assert len(list(csv.DictReader(file))) == len(solved["points"]) == 7
    assert json.loads(Path("curves/bernoulli/curve.json").read_text()) == solved
    assert Path("curves/bernoulli/curve.png").read_bytes()[:4] == b"\x89PNG"


def test_a_picture_that_cannot_be_drawn_costs_no_number(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        assert Path("curves/bernoulli/curve.json").exists()  # before the picture
        raise RuntimeError("no fonts")

    monkeypatch.setattr("paradise_cli.theory.picture.draw_curve", fail)
    done = CliRunner().invoke(app, ["rd", "bernoulli", "--points", "3"])
    assert done.exit_code == 0, done.output
    assert "curve.png cannot be drawn, and is left out (RuntimeError: no fonts)" in done.stderr
    assert "curves/bernoulli: curve.csv, curve.json\n" in done.stderr
    assert "R(D) in nats" in done.stdout


def test_the_table_shows_every_point() -> None:
    result = CliRunner().invoke(app, ["rd", "uniform", "--m", "5", "--slopes", "2,4"])
    assert result.exit_code == 0
    assert "0.3512" in result.stdout and "0.47436" in result.stdout and "D_min" in result.stdout


def test_a_grid_says_nothing_below_its_resolution() -> None:
    solved = rd("laplacian", "--letters", "201", "--slopes", "1.2,5", "--tol", "1e-4")
    fine, coarse = solved["points"]  # D about 0.8 and 0.2, with steps of 0.1
    assert fine["closed_form_nats"] == pytest.approx(fine["upper_nats"], abs=5e-3)
    assert coarse["closed_form_nats"] is None


@pytest.mark.parametrize("sigma", [1.0, 0.1, 0.01, 1e4])
def test_a_gaussian_has_one_rate_in_every_unit(sigma: float) -> None:
    """R = log(sigma^2 / D) / 2, which is log(2) / 2 at half the variance."""
    half = str(sigma**2 / 2)
    solved = rd("gaussian", "--sigma", str(sigma), "--at-distortion", half, "--points", "2")
    (answer,) = solved["answers"]
    assert answer["upper"] - answer["lower"] <= 1e-5
    assert answer["lower"] == pytest.approx(math.log(2) / 2, abs=1e-3)  # of the grid of 401 letters


def test_what_a_grid_does_not_resolve_is_refused_in_every_unit() -> None:
    # Both ask for log(64516) / 2 = 5.5373 nats, of which the grid shows 4.97.
    for sigma, distortion, ends in (("1", "1.55e-5", "0.15, 1"), ("1e4", "1550", r"1.5e\+07, 1")):
        fails(
            ["gaussian", "--sigma", sigma, "--at-distortion", distortion, "--points", "2"],
            rf"outside \[{ends}.*more --letters resolve less",
        )


def test_a_small_distortion_is_shown_with_its_digits() -> None:
    arguments = ["rd", "laplacian", "--scale", "1e-7", "--at-rate", "1", "--points", "4"]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.stderr
    found = re.search(r"at rate 1: D between (\S+) and (\S+)", result.stdout)
    assert found is not None
    low, high = map(float, found.groups())
    exact = 1e-7 / math.e
    assert low == pytest.approx(exact, rel=2e-3) and high == pytest.approx(exact, rel=2e-3)
    assert len(found.group(1).partition("e")[0]) > 5


def test_distortions_of_any_size_are_solved_without_a_warning() -> None:
    name = write("far.json", {"p": [0.5, 0.5], "d": [[0, 1e12], [1e12, 0]]})
    solved = rd(name, "--at-distortion", "2.5e11", "--points", "3")  # warnings are errors here
    exact = math.log(2) + 0.25 * math.log(0.25) + 0.75 * math.log(0.75)
    assert solved["answers"][0]["lower"] <= exact + 1e-9
    assert solved["answers"][0]["upper"] == pytest.approx(exact, abs=2e-5)
    assert [row["slope"] for row in solved["points"]].count(None) == 1


def write(name: str, value: Any) -> str:
    path = Path(name)
    match path.suffix:
        case ".npz":
            np.savez(path, **value)
        case ".npy":
            np.save(path, value)
        case _:
            path.write_text(value if isinstance(value, str) else json.dumps(value))
    return name


HAMMING = [[0, 1], [1, 0]]


@pytest.mark.parametrize(
    ("name", "value", "options"),
    [
        ("coin.npz", {"p": [0.3, 0.7], "d": HAMMING}, []),
        ("coin.json", {"p": [0.3, 0.7], "d": HAMMING}, []),
        ("coin.json", [0.3, 0.7], ["--distortion", "hamming"]),
        ("coin.json", {"p": [0.3, 0.7], "x": [2, 3]}, ["--distortion", "absolute"]),
        ("coin.npy", [0.3, 0.7], ["--distortion", "squared"]),
    ],
)
def test_files_give_what_the_built_in_coin_gives(name: str, value: Any, options: list[str]) -> None:
    own = rd(write(name, value), *options, "--slopes", "1.5,3")
    known = rd("bernoulli", "--p", "0.7", "--slopes", "1.5,3")
    for mine, theirs in zip(own["points"], known["points"], strict=True):
        assert mine["upper_nats"] == pytest.approx(theirs["upper_nats"], abs=1e-12)


@pytest.mark.parametrize(
    ("name", "value", "options", "message"),
    [
        ("s.json", {"p": [0.5, 0.6], "d": HAMMING}, [], "s.json: probabilities must sum to 1"),
        ("s.json", {"p": [0.5, 0.5], "d": [[0, 1], [-1, 0]]}, [],
         r"s.json: distortions .* d\[1, 0\] is -1"),
        ("s.json", '{"p": [0.5, 0.5], "d": [[0, NaN], [1, 0]]}', [], r"d\[0, 1\] is nan"),
        ("s.json", {"p": [0.5, 0.5], "d": [[0, 1], [1]]}, [], "'d' is not a full array of numbers"),
        ("s.json", {"p": ["a", "b"], "d": HAMMING}, [], "'p' is not a full array of numbers"),
        ("s.json", {"d": HAMMING}, [], "no 'p'"),
        ("s.json", {"p": [1], "d": [[0]], "q": [1]}, [], r"unknown \['q'\]; it holds p"),
        ("s.json", {"p": [0.5, 0.5]}, [], "no distortion matrix 'd': choose --distortion hamming"),
        ("s.json", {"p": [0.5, 0.5], "d": HAMMING}, ["--distortion", "hamming"], "not both"),
        ("s.json", {"p": [0.5, 0.5], "x": [1]}, ["--distortion", "squared"], r"letters 'x' \[1\]"),
        ("s.json", [0.5, 0.5], ["--distortion", "euclid"], "unknown distortion 'euclid'; known:"
                                                           " hamming"),
        ("s.json", "[0.5, ", [], "s.json is not readable JSON"),
        ("s.json", "[" * 100_000, [], "s.json is not readable JSON"),
        ("s.json", '{"p": [1e999], "d": [[0]]}', [], "number 0 is not"),
        ("s.json", f'{{"p": [1{"0" * 400}], "d": [[0]]}}', [], "'p' is not a full array of num"),
        ("s.json", f'{{"p": [1], "d": {"[" * 900}{"]" * 900}}}', [], "'d' is not a full array"),
        ("s.json", "3", ["--distortion", "hamming"], "do not fit"),
        ("s.npz", {"p": np.array([None, 1], dtype=object), "d": HAMMING}, [], "never unpickled"),
        ("s.npy", np.zeros((2, 2)), ["--distortion", "hamming"], "do not fit"),
        ("s.npy", np.array([0.5, 0.5 + 1j]), ["--distortion", "hamming"], r"\(.*complex"),
        ("s.json", [0.5, 0.5], ["--distortion", "hamming", "--p", "0.3"],
         "--p is for built-in sources"),
    ],
)  # fmt: skip
def test_bad_files_get_one_message(name: str, value: Any, options: list[str], message: str) -> None:
    fails([write(name, value), *options], message)


def test_what_is_no_text_of_numbers_is_not_read() -> None:
    with Path("s.json").open("wb") as file:
        file.truncate(2 * 2**30)  # takes none of the disk
    fails(["s.json"], "2,147,483,648 bytes; JSON of up to 67,108,864 is read: save it as .npz")
    os.mkfifo("pipe.json")
    fails(["pipe.json"], "cannot read pipe.json: it is no regular file")


@pytest.mark.parametrize("rate", ["0.693147", "0.6931472", "0.6931479"])
def test_an_end_of_the_curve_may_be_asked_for_as_it_is_printed(rate: str) -> None:
    (answer,) = rd("bernoulli", "--at-rate", rate, "--points", "2")["answers"]
    assert answer["lower"] == pytest.approx(0, abs=1e-5)  # D(log 2) of a fair coin


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["coin"], "unknown source 'coin'; known: bernoulli, uniform"),
        (["missing.npz"], "no such file: missing.npz"),
        (["gaussian", "--p", "0.3"], "gaussian has no --p; it takes --sigma, --letters"),
        (["gaussian", "--distortion", "squared"], "--distortion is for files"),
        (["gaussian", "--sigma", "0"], "sigma is a length, 1e-100 to 1e100; got 0"),
        (["gaussian", "--sigma", "-1"], "sigma is a length, 1e-100 to 1e100; got -1"),
        (["laplacian", "--scale", "1e300"], "scale is a length, 1e-100 to 1e100; got 1e"),
        (["banana", "--sigma", "2"], "banana has no --sigma; it takes no parameters"),
        (["gaussian", "--letters", "1"], "at least 2 letters"),
        (["gaussian", "--letters", "1000000"], r"alphabets of 1,000,000 .* use fewer letters"),
        (["laplacian", "--letters", "9"], "too coarse"),
        (["bernoulli", "--p", "1.5"], "p is a probability"),
        (["uniform", "--m", "1"], "at least 2 letters"),
        (["bernoulli", "--slopes", ","], "not a list of numbers > 0"),
        (["bernoulli", "--slopes", "1,-2"], "not a list of numbers > 0"),
        (["bernoulli", "--at-distortion", "0.9"], r"distortion 0\.9 is outside \[0, 0\.5\]"),
        (["bernoulli", "--at-rate", "0.7"], r"rate 0\.7 is outside \[0, 0\.693147\]"),
        (["gaussian", "--at-distortion", "0.01", "--points", "2"], r"outside \[0\.15, 1"),
    ],
)  # fmt: skip
def test_mistakes_get_one_message(arguments: list[str], message: str) -> None:
    fails(arguments, message)


def fails(arguments: list[str], message: str) -> None:
    result = CliRunner().invoke(app, ["rd", *arguments])
    assert result.exit_code == 2
    assert result.stderr.count("error:") == 1 and not Path("curves").exists()
    assert re.search(message, result.stderr), result.stderr


@pytest.mark.parametrize(
    ("text", "numbers"),
    [("2", [2]), ("0.1, 1", [0.1, 1]), ("1:100:3", [1, 10, 100]), (".03:.7:2", [0.03, 0.7]),
     ("3:3:1", [3])],
)  # fmt: skip
def test_ranges(text: str, numbers: list[float]) -> None:
    assert parse_range(text, "--slopes") == pytest.approx(numbers)


@pytest.mark.parametrize(
    "text", ["", "a", "0", "1,,2", "1:2", "1:2:0", "1:2:1", "0:2:3", "1:inf:3", "nan", "1:2:2.5"]
)
def test_ranges_that_are_none(text: str) -> None:
    with pytest.raises(UsageError, match=r"--alpha .* is not a list of numbers"):
        parse_range(text, "--alpha")


def test_a_small_rate_is_not_shown_as_0() -> None:
    """h(1e-9) = 1e-9 (1 - ln 1e-9) = 2.17233e-08 nats, at D = 0."""
    result = CliRunner().invoke(app, ["rd", "bernoulli", "--p", "1e-9", "--points", "1"])
    assert "2.1723e-08" in result.stdout and "0.00000" not in result.stdout
