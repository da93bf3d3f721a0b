"""Two-phase estimation: exact intervals of a finite number, and what an attack makes of them."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from scipy.stats import hypergeom

from paradise_cli.attacks import AttackReport, attack, run
from paradise_cli.attacks import estimate as estimation
from paradise_cli.attacks.audit.audit import Audit
from paradise_cli.attacks.audit.canaries import network
from paradise_cli.attacks.estimate import estimated
from paradise_cli.attacks.search import Found, Sample
from paradise_cli.attacks.session.settings import AttackSettings
from paradise_cli.attacks.session.suite import SUITES, Stage, StageResult, Suite
from paradise_cli.core.errors import ParadiseError, UsageError
from paradise_cli.core.proportions import Proportion, clopper_pearson, hypergeometric
from paradise_cli.core.randomness import generator
from paradise_cli.data import DATASETS
from tests.attack_cases import balanced


def chance(k: int, m: int, size: int, having: int) -> Fraction:
    """That k of m drawn from `size` have what `having` of those have, exactly."""
    ways = math.comb(having, k) * math.comb(size - having, m - k)
    return Fraction(ways, math.comb(size, m))


@pytest.mark.parametrize(("m", "size"), [(1, 9), (7, 12), (12, 12), (10, 40), (33, 40)])
@pytest.mark.parametrize("error", [0.05, 0.2])
def test_an_interval_of_a_number_misses_it_as_rarely_as_it_says(
    m: int, size: int, error: float
) -> None:
    ends = [hypergeometric(k, m, size, error) for k in range(m + 1)]
    for having in range(size + 1):
        # Over all samples that there are.
        drawn = [k for k in range(m + 1) if k <= having and m - k <= size - having]
        missed = [k for k in drawn if not ends[k][0] <= having <= ends[k][1]]
        assert sum(chance(k, m, size, having) for k in missed) <= Fraction(error)
    if m == size:  # all were drawn: nothing is left open
        assert ends == [(k, k) for k in range(m + 1)]


def test_the_ends_are_the_first_numbers_that_are_not_too_unlikely() -> None:
    low, high = hypergeometric(17, 20, 100)
    at_least = [sum(chance(k, 20, 100, n) for k in range(17, 21)) for n in (low - 1, low)]
    at_most = [sum(chance(k, 20, 100, n) for k in range(18)) for n in (high, high + 1)]
    assert at_least[0] <= Fraction(1, 40) < at_least[1]
    assert at_most[0] > Fraction(1, 40) >= at_most[1]


def test_of_a_large_number_it_is_the_interval_of_a_probability() -> None:
    ends = [end / 10**7 for end in hypergeometric(90, 300, 10**7)]
    assert ends == pytest.approx(clopper_pearson(90, 300), abs=1e-4)


class Outcomes:
    """A session whose images fall, or not, as was settled before: no network is asked."""

    def __init__(self, cheap: set[int], whole: set[int], n: int) -> None:
        self.subject = SimpleNamespace(correct=torch.ones(n, dtype=torch.bool))
        self.fall = {True: cheap, False: whole}
        self.attacked = 0

    @contextmanager
    def phase(self, **_: Any) -> Iterator[Any]:
        yield SimpleNamespace(unfinished=[])

    def run(self, session: object, suite: Suite, eps: float, rows: list[int]) -> list[StageResult]:
        first = suite is SUITES["fast"]
        self.attacked += 0 if first else len(rows)
        entry: Any = None
        broken = {row: entry for row in rows if row in self.fall[first]}
        return [StageResult(Stage("pgd"), tuple(rows), broken)]


def test_the_truth_lies_in_the_interval_and_most_of_the_work_is_saved(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """200 repeats: 400 of 800 images stand after the cheap suite, and 12 fall to the other."""
    n, standing, fallen = 800, 400, 12
    settings = AttackSettings(eps=0.1, ci=0.02, estimate=True)
    monkeypatch.setattr(estimation, "run_in_fp32", lambda *_, **__: [])
    inside = general = attacked = 0
    for repeat in range(200):
        draw = generator(repeat, "outcomes")
        order = torch.randperm(n, generator=draw).tolist()
        session = Outcomes(set(range(standing, n)), set(range(fallen)), n)
        monkeypatch.setattr(estimation, "run_suite", session.run)
        found = estimated(session, SUITES["standard"], settings, order)  # type: ignore[arg-type]
        assert found.half_width <= 0.02
        inside += found.interval.low <= (standing - fallen) / n <= found.interval.high
        assert found.in_general is not None
        # Of the images there are in general it says less.
        general += found.in_general.low < found.interval.low
        attacked += found.sample is not None and len(found.sample.rows)
    assert inside >= 190 and general == 200
    assert attacked / 200 <= 0.5 * standing


def drawn(broken: set[int]) -> Found:
    """Of 200 images 100 stand after the cheap suite, 0 to 99; of the first 20 three fell."""
    entry: Any = None
    everything = {*range(100, 200), 0, 1, 2} | broken
    correct = frozenset(range(200))
    sample = Sample(frozenset(range(100)), tuple(range(20)), 17, 1.0)
    return Found(200, correct, [], dict.fromkeys(everything, entry), {}, (), 1, sample)


def test_what_the_audit_broke_is_taken_off_image_by_image() -> None:
    low, high = hypergeometric(17, 20, 100)
    plain = drawn(set()).interval
    assert (plain.value, plain.low, plain.high) == (0.85 / 2, low / 200, high / 200)
    fewer = drawn({5, 6})
    assert fewer.broken_otherwise == (2, 0)
    expected = ((85 - 2) / 200, (low - 2) / 200, (high - 2) / 200)
    assert (fewer.interval.value, fewer.interval.low, fewer.interval.high) == expected
    # One outside is of the 0.15 that fall already; nobody knows whether the suite would break it.
    beyond = drawn({5, 50})
    assert beyond.broken_otherwise == (1, 1)
    expected = ((85 - 1) / 200, (low - 2) / 200, (high - 1) / 200)
    found = beyond.interval
    assert (found.value, found.low, found.high) == pytest.approx(expected)
    # What stands in the sample stands, and no more than stands at all.
    all_but_one = drawn({*range(4, 20)}).interval
    assert all_but_one.low >= 1 / 200 and all_but_one.high <= (100 - 3 - 16) / 200


def test_the_truth_lies_in_the_interval_whatever_the_audit_breaks_in_the_sample() -> None:
    """600 of 1,000 images stand, standard would break 12, and the audit breaks 14 of the sample."""
    inside = 0
    for repeat in range(400):
        order = torch.randperm(600, generator=generator(repeat, "audited")).tolist()
        rows, fall = order[:200], set(range(12))
        left = [row for row in rows if row not in fall]
        broken: dict[int, Any] = dict.fromkeys([*range(600, 1000), *(fall & {*rows}), *left[:14]])
        sample = Sample(frozenset(range(600)), tuple(rows), len(left), 1.0)
        found = Found(1000, frozenset(range(1000)), [], broken, {}, (), 1, sample).interval
        inside += found.low <= (600 - 12 - 14) / 1000 <= found.high
    assert inside >= 380


def test_what_a_look_broke_that_time_cut_short_is_not_counted_twice() -> None:
    """Of 400 images 40 fall; 100 of them were drawn, and a later look broke some of the others."""
    values = []
    for repeat in range(200):
        rows = torch.randperm(400, generator=generator(repeat, "cut short")).tolist()
        fell = [row for row in rows[:150] if row < 40]
        left = 100 - sum(row in fell for row in rows[:100])
        sample = Sample(frozenset(range(400)), tuple(rows[:100]), left, 1.0)
        broken: dict[int, Any] = dict.fromkeys(fell)
        found = Found(400, frozenset(range(400)), [], broken, {}, (), 1, sample)
        assert found.interval.low <= found.interval.value <= found.interval.high
        values.append(found.interval.value)
    # The error of the mean is 0.03 / sqrt(200); counted twice, 5 images more would be missing.
    assert sum(values) / 200 == pytest.approx(0.9, abs=0.005)


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Suites of few steps, of which the second breaks more, and no audit."""
    monkeypatch.setitem(SUITES, "fast", Suite((Stage("fgsm"),)))
    monkeypatch.setitem(SUITES, "standard", Suite((Stage("pgd", {"steps": 12}),)))
    monkeypatch.setattr(run, "audit", lambda *_, **__: Audit("not detected", (), (), ()))


def attacked(folder: Path | None, n: int = 340, **given: Any) -> AttackReport:
    test = DATASETS["digits"](None).test
    assert test is not None
    images = torch.cat(list(test.fetch(torch.arange(n), n, (), False)))
    asked = {"eps": 0.06, "audited": 1, "estimate": True}
    return attack(network("standard"), images, test.labels[:n, 0], out=folder, **asked | given)


@pytest.mark.usefixtures("short")
def test_an_estimate_is_of_what_both_suites_leave_and_a_full_run_goes_on_from_it(
    tmp_path: Path,
) -> None:
    found = attacked(tmp_path, ci=0.2)
    estimate = found.estimate
    assert estimate is not None and len(estimate.rows) == 100 < estimate.standing
    again = attacked(tmp_path, ci=0.2)
    # All is on record: what is left are the first looks at the classifier.
    assert again.provenance.spent.suite[1] < 0.2 < 1 < found.provenance.spent.suite[1]
    assert again.to_json() | {"settings": 0} == found.to_json() | {"settings": 0}
    exact = attacked(tmp_path, ci=1e-4)
    whole = attacked(tmp_path, estimate=False)
    # The sample is all that stands: nothing is left to estimate.
    assert exact.estimate is not None and len(exact.estimate.rows) == exact.estimate.standing
    truth = exact.robust_accuracy
    assert truth.low == truth.value == truth.high == int(exact.standing.sum()) / 340
    assert whole.robust_accuracy.value <= truth.value
    assert found.robust_accuracy.low <= truth.value <= found.robust_accuracy.high
    # In the sample the same images stand, whatever else was attacked.
    stands = dict(zip(exact.rows.tolist(), exact.standing.tolist(), strict=True))
    assert sum(stands[row] for row in estimate.rows) == estimate.left
    share = estimate.standing * estimate.left / 100 / 340
    assert found.robust_accuracy.value == pytest.approx(share)
    # 100, 150, 225 and all of them: so many looks there may be.
    assert 225 < estimate.standing <= 337
    assert found.interval == "hypergeometric 95% for these 340 images, over up to 4 looks"
    (note,) = [line for line in found.notes if "estimated" in line]
    assert "100 were drawn for suite standard" in note and "audit broke" not in note
    # The row of an attack on the sample says what it leaves of all, and so do 8-bit images.
    before, after = (stage.share.value for stage in found.stages)
    assert after == pytest.approx(share) and after < before
    lattice = exact.lattice_accuracy
    assert lattice.low == lattice.value == lattice.high
    assert found.lattice_accuracy.low <= lattice.value <= found.lattice_accuracy.high


@pytest.mark.parametrize(("standing", "wanted"), [(2500, 35), (5000, 35), (2500, 50), (900, 9)])
def test_the_first_sample_suffices_if_all_of_it_stands_and_one_image_less_does_not(
    standing: int, wanted: int
) -> None:
    first, *further = estimation._sizes([], range(standing), wanted)
    # If one more than wanted fell, none of the sample would with at most half of a half of 5%.
    unseen = [hypergeom.pmf(0, standing, wanted + 1, size) for size in (first - 1, first)]
    assert unseen[0] > 0.0125 >= unseen[1]
    assert further[-1] == standing and all(a < b for a, b in pairwise([first, *further]))
    # All looks together miss no more often than 1 time in 20.
    assert sum(0.05 * estimation._part(place) for place in range(1 + len(further))) <= 0.05


@pytest.mark.usefixtures("short")
def test_the_first_sample_holds_what_the_audit_looks_at() -> None:
    found = attacked(None, ci=0.2, audited=300)
    plain = attacked(None, ci=0.2)
    assert found.estimate is not None and plain.estimate is not None
    assert 100 == len(plain.estimate.rows) < len(found.estimate.rows) < found.estimate.standing
    assert {*plain.estimate.rows} < {*found.estimate.rows}


@pytest.mark.usefixtures("short")
@pytest.mark.parametrize(("eps", "shift"), [(1.0, 0), (0.01, 1)])
def test_where_nothing_stands_nothing_is_estimated(eps: float, shift: int) -> None:
    """Each image falls at 1; and with wrong labels none is right from the start."""
    linear = balanced(3, 0)
    images, labels = linear.problem(120, 0)
    given = {"audited": 1, "estimate": True}
    found = attack(linear, images, (labels + shift) % 3, eps=eps, **given)  # type: ignore[arg-type]
    assert found.robust_accuracy == Proportion(0, 0, 0) and not found.standing.any()
    assert found.estimate is not None and found.estimate.rows == ()


@pytest.mark.usefixtures("short")
@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        ({"suite": "transfer"}, UsageError, "suite standard: before suite transfer there is no"),
        ({"suite": "quick"}, UsageError, "suite standard: before suite quick there is no"),
        ({"curve": [0.1]}, UsageError, "estimate is of one eps"),
        ({"n": 99}, UsageError, "99 images, and a sample takes 100 or more: leave it out"),
        ({"budget": 1e-9}, ParadiseError, "1e-09 s, ended before the first sample was attacked"),
    ],
    ids=["transfer", "quick", "curve", "n", "budget"],
)
def test_what_cannot_be_estimated_is_said(
    given: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        attacked(None, **given)
