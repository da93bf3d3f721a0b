"""Suites on a small network: what falls depends on the image alone, and looks and budgets end as
declared.
"""

import itertools
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from scipy.stats import binomtest
from torch import Tensor

from paradise_cli.attacks import AttackReport, attack, run
from paradise_cli.attacks.audit.audit import Audit
from paradise_cli.attacks.audit.canaries import network
from paradise_cli.attacks.audit.context import Case
from paradise_cli.attacks.engine.batches import Compute
from paradise_cli.attacks.methods.gradient import GradientSteps
from paradise_cli.attacks.protocol.lanes import Attack, State
from paradise_cli.attacks.session import session as session_module
from paradise_cli.attacks.session import suite
from paradise_cli.attacks.session.session import Session
from paradise_cli.attacks.session.subject import Subject, TransferSource
from paradise_cli.attacks.session.suite import (
    SUITES,
    Stage,
    Suite,
    looks,
    random_order,
    run_suite,
    worst_case,
)
from paradise_cli.core.proportions import clopper_pearson
from paradise_cli.core.randomness import generator, permutation
from paradise_cli.perturbations.threat import Threat
from tests.attack_cases import Linear

CPU = torch.device("cpu")
TINY = Suite(
    (
        Stage("square", {"queries": 12}, "Square", black_box=True),
        Stage("step_rand", {}, "Step-Rand"),
        Stage("multi_targeted", {"steps": 3, "restarts": 2, "targets": 3}, "Multi-Targeted"),
        Stage("apgd_targeted", {"steps": 6, "targets": 2}, "APGD-T", nearest=True),
    )
)
N, EPS = 24, 0.03


@pytest.fixture(autouse=True)
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    """A small suite, and no audit, which has tests of its own."""
    monkeypatch.setitem(SUITES, "tiny", TINY)
    monkeypatch.setattr(run, "audit", lambda *_, **__: Audit("not detected", (), (), ()))


def problem(n: int = N, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Noise with the network's own labels, every eighth of them wrong."""
    images = torch.rand(n, 1, 8, 8, generator=generator(seed, "suite"))
    with torch.no_grad():
        labels = network("standard")(images).argmax(1)
    labels[::8] = (labels[::8] + 1) % 10
    return images, labels


IMAGES, LABELS = problem()


def session_of(images: Tensor, labels: Tensor, width: int = 8, blocks: int = 1) -> Session:
    compute = Compute(CPU, width, blocks)
    return Session(Subject.examine(network("standard"), images, labels, "linf", compute))


def outcome(session: Session, eps: float = EPS) -> list[tuple[Any, ...]]:
    """Of each image: whether it was right, what broke it where, and all runs on record that
    count.
    """
    subject = session.subject
    fell = worst_case(run_suite(session, TINY, eps, range(len(subject.images))), subject.correct)
    found = []
    for row in range(len(subject.images)):
        runs = []
        for label in sorted(session.ledger._runs):
            first = session.ledger.success(label, row)
            for run_, entry in sorted(session.ledger.runs(label, row).items()):
                if first is None or run_ <= first.run:
                    runs.append(
                        (label, run_, entry.target, entry.step, entry.distance, pixels(entry.point))
                    )
        broken = None if row not in fell else (fell[row][0], pixels(fell[row][1].point))
        found.append((bool(subject.correct[row]), broken, tuple(runs)))
    return found


def pixels(point: Tensor | None) -> bytes | None:
    return None if point is None else point.numpy().tobytes()


def test_the_audit_asks_square_nothing_that_the_suite_has_asked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    session = session_of(IMAGES[:2], LABELS[:2])
    results = run_suite(session, SUITES["standard"], 0.001, range(2))
    case = Case(session, 0.001, tuple(range(2)), {}, {})
    assert case.standing  # PGD is run here, and Square not yet
    monkeypatch.setattr(session.ledger, "add", None)  # whatever runs now would be recorded
    assert case.square == results[-1].broken.keys()
    assert set(case.square_ends) == case.standing - case.square


@pytest.fixture(scope="module")
def usual() -> list[tuple[Any, ...]]:
    found = outcome(session_of(IMAGES, LABELS))
    broken_by = {broken[0] for _, broken, _ in found if broken}
    assert len(broken_by) >= 3 and any(right and not broken for right, broken, _ in found)
    return found


def test_the_result_does_not_depend_on_how_many_images_are_under_way(
    usual: list[tuple[Any, ...]],
) -> None:
    for blocks in (2, 5):
        assert outcome(session_of(IMAGES, LABELS, blocks=blocks)) == usual


def test_the_result_does_not_depend_on_the_order(usual: list[tuple[Any, ...]]) -> None:
    for seed in range(2):
        order = permutation(N, seed, "order").tolist()
        assert outcome(session_of(IMAGES[order], LABELS[order])) == [usual[row] for row in order]


def test_the_result_does_not_depend_on_the_other_images(usual: list[tuple[Any, ...]]) -> None:
    for rows in ([3], [1, 20], [*range(5, 19)]):
        assert outcome(session_of(IMAGES[rows], LABELS[rows])) == [usual[row] for row in rows]
    others, their_labels = problem(9, seed=1)
    mixed = session_of(torch.cat([others, IMAGES]), torch.cat([their_labels, LABELS]))
    assert outcome(mixed)[9:] == usual


def document(report: AttackReport) -> dict[str, Any]:
    """Everything but the time it took."""
    found = report.to_json()
    told = {
        name: value
        for name, value in found["settings"].items()
        if name not in ("seconds", "passes", "budget")
    }
    return {**found, "settings": told}


def assert_same(one: AttackReport, other: AttackReport) -> None:
    assert document(one) == document(other)
    assert torch.equal(one.adversarial, other.adversarial)


def test_one_call_gives_the_same_for_every_batch_size() -> None:
    found = [
        attack(network("standard"), IMAGES, LABELS, eps=EPS, suite="tiny", batch_size=size)
        for size in (1, 65, None)
    ]
    for other in found[1:]:
        assert_same(found[0], other)


@pytest.mark.parametrize("apart", [False, True])
def test_what_is_broken_stays_broken_at_every_larger_eps(
    apart: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(SUITES, "tiny", Suite(TINY.stages[:2], independent=apart))
    given = {"suite": "tiny", "norm": "linf"}
    small = attack(network("standard"), IMAGES, LABELS, eps=0.01, **given)  # type: ignore[arg-type]
    large = attack(
        network("standard"), IMAGES, LABELS, eps=0.03, curve=[0.02, 0.01, 0.04], **given  # type: ignore[arg-type]
    )  # fmt: skip
    assert 0 < int((~small.standing).sum()) < int((~large.standing).sum())
    assert not (large.standing & ~small.standing).any()
    fell = ~small.standing
    assert torch.equal(large.adversarial[fell], small.adversarial[fell])
    assert [large.broken_by[row] for row in fell.nonzero()] == [
        small.broken_by[row] for row in fell.nonzero()
    ]
    assert [eps for eps, _ in large.curve] == [0.01, 0.02, 0.03, 0.04]
    shares = [share.value for _, share in large.curve]
    assert shares == sorted(shares, reverse=True)
    assert shares[0] == small.robust_accuracy.value and shares[2] == large.robust_accuracy.value


def test_success_is_for_the_caller_to_judge_also_of_transferred_points(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Outside(GradientSteps):
        def result(self, state: State) -> Tensor:
            return state["x"] + 1.0

    def outside(threat: Threat) -> Attack:
        return Outside(threat, moves=1, step_size=0.01)

    linear = Linear(2, 0)
    images, labels = linear.problem(6, 0)
    monkeypatch.setattr(session_module, "ATTACKS", {"outside": outside})

    def turned(x: Tensor) -> Tensor:
        """Wrong for whatever is too bright to be an image."""
        return torch.where(x.flatten(1).amax(1, keepdim=True) > 1, -linear(x), linear(x))

    subject = Subject.examine(turned, images, labels, "linf", Compute(CPU, 8))
    assert subject.correct.all() and bool((turned(images + 1.0).argmax(1) != labels).all())
    itself = TransferSource.examine("itself", linear, subject)
    assert Session(subject).transfer("outside", EPS, range(6), itself) == {}


def test_in_l2_the_steps_of_the_paper_are_no_pixel_level() -> None:
    """A step of 1/255 would leave most of these balls half uncrossed."""
    linear = Linear(2, 0)
    images, labels = linear.problem(40, 0)
    radius = linear.radius(images, labels, "l2")
    eps = float(radius.median()) + 1e-6
    session = Session(Subject.examine(linear, images, labels, "l2", Compute(CPU, 40)))
    paper = Suite((SUITES["paper"].stages[1],), independent=True)
    (result,) = run_suite(session, paper, eps, range(40))
    assert result.broken.keys() == set((radius <= eps).nonzero().flatten().tolist())


def test_a_source_that_draws_at_random_is_known_again() -> None:
    linear = Linear(2, 0)
    images, labels = linear.problem(12, 0)
    draw, asked = generator(0, "noise"), itertools.count()

    def noisy(x: Tensor) -> Tensor:
        next(asked)
        return linear(x) + 20 * torch.randn(len(x), 2, generator=draw)

    subject = Subject.examine(linear, images, labels, "linf", Compute(CPU, 12))
    first = Session(subject)
    source = TransferSource.examine("noisy", noisy, subject)
    fell = first.transfer("fgsm", 0.1, range(12), source)
    before = next(asked)
    again = Session(subject, first.ledger)
    looked_at_anew = TransferSource.examine("noisy", noisy, subject)
    assert again.transfer("fgsm", 0.1, range(12), looked_at_anew).keys() == fell.keys()
    assert next(asked) - before < 30  # it is looked at, and not attacked again


@pytest.mark.parametrize(
    ("n", "expected"),
    [
        (50, [50]),
        (100, [100]),
        (101, [100, 101]),
        (400, [100, 200, 400]),
        (1000, [100, 200, 400, 800, 1000]),
    ],
)
def test_looks_double_until_all_images_are_in(n: int, expected: list[int]) -> None:
    assert list(looks(n)) == expected


@pytest.mark.parametrize("error", [0.05, 0.05 / 2, 0.05 / 5])
def test_clopper_pearson_is_the_exact_interval(error: float) -> None:
    for k, n in [
        (0, 1),
        (1, 1),
        (0, 100),
        (100, 100),
        (37, 100),
        (1, 800),
        (611, 800),
        (999, 1000),
    ]:
        exact = binomtest(k, n).proportion_ci(1 - error, method="exact")
        assert clopper_pearson(k, n, error) == pytest.approx((exact.low, exact.high), abs=1e-9)


# Where all n stand the interval reaches down to (error / 2)^(1 / n), here with error 0.05 / 3:
# 0.619 for 10 images, 0.787 for 20, 0.887 for all 40, and to 1.
@pytest.mark.parametrize(("ci", "n"), [(0.39, 10), (0.38, 20), (0.22, 20), (0.21, 40), (0.01, 40)])
def test_it_stops_at_the_first_look_at_which_the_interval_is_narrow_enough(
    ci: float, n: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(suite, "FIRST_LOOK", 10)
    linear = Linear(2, 0)
    images, labels = linear.problem(40, 0)
    report = attack(linear, images, labels, eps=1e-6, suite="tiny", ci=ci)
    assert len(report.rows) == n and report.standing.all()
    assert report.robust_accuracy.low == pytest.approx((0.05 / 3 / 2) ** (1 / n), abs=1e-12)
    assert (report.robust_accuracy.value, report.robust_accuracy.high) == (1.0, 1.0)
    assert "3 looks" in report.interval


def test_stopped_at_a_look_it_is_the_attack_on_those_images(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(suite, "FIRST_LOOK", 10)
    report = attack(network("standard"), IMAGES, LABELS, eps=EPS, suite="tiny", ci=0.49)
    assert len(report.rows) == 10
    rows = sorted(random_order(session_of(IMAGES, LABELS).subject.ids, 0)[:10])
    assert report.rows.tolist() == rows
    alone = attack(network("standard"), IMAGES[rows], LABELS[rows], eps=EPS, suite="tiny")
    assert (
        torch.equal(report.adversarial, alone.adversarial) and report.broken_by == alone.broken_by
    )
    assert report.robust_accuracy.value == alone.robust_accuracy.value
    assert document(report)["attacks"] == document(alone)["attacks"]


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """Time stands still but for a second whenever somebody looks."""
    told: list[int] = []
    count = itertools.count()

    def monotonic() -> float:
        told.append(next(count))
        return float(told[-1])

    for module in (run, session_module):
        monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=monotonic))
    yield told


@pytest.mark.parametrize("budget", [4, 20])
def test_out_of_time_it_ends_and_goes_on_to_the_same_result(
    budget: int, clock: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: dict[str, Any] = {"eps": EPS, "suite": "tiny", "curve": [0.01]}
    monkeypatch.setattr(run, "choose_compute", lambda *_: Compute(CPU, 8))
    cut = attack(network("standard"), IMAGES, LABELS, out=tmp_path, budget=budget, **given)
    # The suite has three quarters of the time; each stage after that looks at the clock once.
    assert clock[-1] <= 0.75 * budget + 2 * len(TINY.stages) + 2
    whole = attack(network("standard"), IMAGES, LABELS, **given)
    assert cut.unfinished and not whole.unfinished
    # What is named is in the table, and there it says so.
    assert {*cut.unfinished} <= {stage.name for stage in TINY.stages}
    assert {each.attack for each in cut.stages if each.cut_short} == {*cut.unfinished}
    assert all(each.shown.endswith(", cut short") == each.cut_short for each in cut.stages)
    assert not (whole.standing & ~cut.standing).any()
    assert int(cut.standing.sum()) > int(whole.standing.sum())
    on = attack(network("standard"), IMAGES, LABELS, out=tmp_path, **given)
    assert_same(on, whole)


def test_time_that_ends_after_a_look_leaves_what_was_found_there(
    clock: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(suite, "FIRST_LOOK", 10)
    monkeypatch.setattr(run, "choose_compute", lambda *_: Compute(CPU, 8))
    rows = sorted(random_order(session_of(IMAGES, LABELS).subject.ids, 0)[:10])
    given: dict[str, Any] = {"eps": EPS, "suite": "tiny"}
    alone = attack(network("standard"), IMAGES[rows], LABELS[rows], budget=1e6, **given)
    used = clock[-1]
    found = attack(network("standard"), IMAGES, LABELS, ci=0.01, budget=(used + 3) / 0.75, **given)
    assert found.rows.tolist() == rows and torch.equal(found.adversarial, alone.adversarial)
    assert not found.unfinished and found.verdict == "not detected"
    assert "not 1.0%: images or time ended" in found.notes[-1]
