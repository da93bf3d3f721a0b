"""What the engine promises, by attacks that ask about given points of images of one pixel."""

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor

from paradise_cli.attacks import ATTACKS
from paradise_cli.attacks.audit.canaries import network
from paradise_cli.attacks.engine.batches import Compute
from paradise_cli.attacks.engine.classifier import Classifier
from paradise_cli.attacks.engine.jobs import Goal, Job, Outcome, reached
from paradise_cli.attacks.engine.lane_batch import run_jobs
from paradise_cli.attacks.protocol.lanes import Answer, Attack, Lanes, State, Victim
from paradise_cli.attacks.session.ledger import Entry, Ledger
from paradise_cli.core.machine import Precision
from paradise_cli.core.randomness import generator
from paradise_cli.perturbations.threat import L2, Linf, Threat
from tests.attack_cases import attacked, fallen

EPS = 0.25
IMAGE = 0.25  # class 0; its ball ends at 0.5
LOW = 0.3125  # also class 0
NAN, INF = float("nan"), float("inf")


class Scripted(Attack):
    """Run r asks about the pixels of paths[r], whatever the answers, and ends early after `ends` of
    them.
    """

    gradient = False

    def __init__(self, paths: Sequence[Sequence[float]], ends: int = 1000) -> None:
        super().__init__(Linf(EPS), steps=len(paths[0]))
        self.paths, self.ends = torch.tensor(paths), ends

    def start(self, lanes: Lanes, victim: Victim) -> State:
        return self._at(lanes, lanes.step)

    def step(self, lanes: Lanes, state: State, answer: Answer) -> State:
        return self._at(lanes, lanes.step + 1)

    def loss(self, logits: Tensor, lanes: Lanes) -> Tensor:
        return logits[:, 0]

    def _at(self, lanes: Lanes, step: Tensor) -> State:
        pixels = self.paths[lanes.targets, step.clamp(max=self.steps - 1)]
        return {"x": pixels.view(-1, 1, 1, 1), "ended": step >= self.ends}


def three_eighths(images: Tensor) -> Tensor:
    """Class 1 above 3/8, and class 0 below."""
    away = images.flatten(1) - 0.375
    return torch.cat([-away, away], 1)


def always_one(images: Tensor) -> Tensor:
    return torch.tensor([[0.0, 1.0]]).expand(len(images), -1)


def scripted(
    paths: Sequence[Sequence[float]],
    *,
    function: Callable[[Tensor], Tensor] = three_eighths,
    judge: Callable[[Tensor], Tensor] | None = None,
    image: float = IMAGE,
    copies: int = 1,
    width: int = 4,
    ends: int = 1000,
    precision: Precision = "fp32",
    **given: Any,
) -> list[Outcome]:
    """Every path is a run on each of the copies of one image."""
    images = torch.full((copies, 1, 1, 1), image)
    jobs = [Job(row, run, run, 0) for row in range(copies) for run in range(len(paths))]
    compute = Compute(torch.device("cpu"), width, precision=precision)
    victim = Classifier(function, device=compute.device, width=width)
    labels = torch.zeros(copies, dtype=torch.int64)
    attack = Scripted(paths, ends)
    return list(
        run_jobs(attack, victim, judge or victim.judge, images, labels, jobs, compute, **given)
    )


def test_a_run_ends_at_the_first_point_that_fools() -> None:
    (outcome,) = scripted([[LOW, IMAGE, 0.4375, 0.5, LOW, LOW]])
    assert outcome.succeeded and float(outcome.point) == 0.4375 and outcome.step == 3


def test_a_run_that_fools_nothing_ends_where_it_stands() -> None:
    (outcome,) = scripted([[LOW, IMAGE, LOW, IMAGE, LOW, IMAGE, LOW, 0.125]])
    assert not outcome.succeeded and float(outcome.point) == 0.125 and outcome.step == 8


@pytest.mark.parametrize(("ends", "asked"), [(0, 1), (1, 1), (2, 2), (5, 5), (8, 6)])
def test_a_run_may_end_itself_and_what_comes_after_is_not_asked(ends: int, asked: int) -> None:
    # The first point is asked about in any case.
    (fools,) = scripted([[LOW] * (asked - 1) + [0.4375] * (7 - asked)], ends=ends)
    assert fools.succeeded and fools.step == asked
    (fails,) = scripted([[LOW] * asked + [0.4375] * (6 - asked)], ends=ends)
    assert not fails.succeeded and fails.step == asked


def test_a_success_that_the_judge_denies_does_not_end_the_run() -> None:
    def strict(points: Tensor) -> Tensor:
        return three_eighths(points - 0.0625)  # class 1 only above 7/16

    (late,) = scripted([[LOW, 0.40625, LOW, 0.5, LOW, LOW, LOW]], judge=strict)
    assert late.succeeded and float(late.point) == 0.5 and late.step == 4
    # Also after the engine looked, which it does after five steps and seldom after more than ten.
    (later,) = scripted([[0.40625] * 23 + [0.5] + [LOW] * 6], judge=strict)
    assert later.succeeded and float(later.point) == 0.5 and later.step == 24
    (never,) = scripted([[LOW, 0.40625, LOW, LOW, LOW, 0.40625]], judge=strict)
    assert not never.succeeded and never.step == 6


def test_a_run_in_bf16_that_is_denied_again_and_again_takes_no_longer() -> None:
    batches = []

    def counted(images: Tensor) -> Tensor:
        batches.append(len(images))
        return three_eighths(images)

    asked = []
    for pixel in (LOW, 0.40625):
        batches.clear()
        (outcome,) = scripted(
            [[pixel] * 60],
            function=counted,
            judge=lambda x: three_eighths(x - 0.0625),
            precision="bf16",
        )
        assert not outcome.succeeded and outcome.step == 60
        asked.append(len(batches))
    # The first success halts its run until it is denied, which costs one look more.
    assert asked[0] <= asked[1] <= asked[0] + 10


def test_a_second_judge_may_deny_what_the_first_allowed() -> None:
    asked = []

    def second(points: Tensor) -> Tensor:
        asked.append(points.flatten().tolist())
        return three_eighths(points - 0.0625)

    (outcome,) = scripted([[LOW, 0.40625, LOW, 0.5, LOW, LOW, LOW]], confirm=second)
    assert float(outcome.point) == 0.5 and asked == [[0.40625], [0.5]]


@pytest.mark.parametrize(
    ("image", "point", "counts"),
    [
        (0.25, 0.5, True),
        (0.25, 0.5 + 0.5e-6, True),  # rounding
        (0.25, 0.5 + 2e-6, False),
        (0.25, 0.0, True),
        (0.25, -1e-7, False),
        (0.875, 1.0, True),
        (0.875, 1.0000002, False),
        (0.25, NAN, False),
    ],
)
def test_points_outside_the_ball_or_the_pixel_range_never_count(
    image: float, point: float, counts: bool
) -> None:
    (outcome,) = scripted([[point]], function=always_one, image=image)
    assert outcome.succeeded == counts


@pytest.mark.parametrize("bad", [NAN, INF, -INF])
def test_logits_that_are_no_numbers_are_neither_right_nor_the_target(bad: float) -> None:
    def breaks(images: Tensor) -> Tensor:
        return torch.where(images.flatten(1) > 0.375, bad, three_eighths(images))

    (outcome,) = scripted([[LOW, 0.4375]], function=breaks)
    assert outcome.succeeded and float(outcome.point) == 0.4375
    logits, zero = torch.full((1, 2), bad), torch.zeros(1, dtype=torch.int64)
    assert [bool(reached(goal, logits, zero, zero)) for goal in ("fool", "reach", "none")] == [
        True,
        False,
        False,
    ]


FOOLS_LATE = [LOW] * 8 + [0.4375] + [LOW] * 3
FOOLS_SOON = [LOW, 0.5] + [LOW] * 10
FOOLS_NEVER = [LOW] * 12


def runs_of(outcomes: Sequence[Outcome]) -> list[tuple[int, bool]]:
    return [(outcome.job.run, outcome.succeeded) for outcome in outcomes]


def test_the_lowest_run_counts_also_where_a_higher_one_succeeds_earlier() -> None:
    outcomes = scripted([FOOLS_LATE, FOOLS_SOON, FOOLS_NEVER], width=2)
    assert runs_of(outcomes) == [(1, True), (0, True)]  # run 2 was waiting, and was dropped
    for order in (outcomes, outcomes[::-1]):
        ledger = Ledger()
        for outcome in order:
            ledger.add(
                Entry(
                    "a", 0, outcome.job.run, 0, outcome.step, 0.0, outcome.succeeded, outcome.point
                )
            )
        entry = ledger.success("a", 0)
        assert entry is not None and entry.run == 0 and float(entry.point or 0) == 0.4375


def test_runs_behind_a_success_are_dropped_under_way_and_waiting() -> None:
    for width in (1, 2, 3, 4):
        assert runs_of(scripted([FOOLS_SOON, FOOLS_NEVER, FOOLS_LATE], width=width)) == [(0, True)]
    outcomes = scripted([FOOLS_NEVER, FOOLS_SOON, FOOLS_NEVER], copies=5, width=4)
    assert sorted(runs_of(outcomes)) == [(0, False)] * 5 + [(1, True)] * 5


@pytest.mark.parametrize(
    ("goal", "expected"),
    [("fool", [(0, False), (1, True)]), ("reach", [(0, True)]), ("none", [(0, False), (1, False)])],
)
def test_the_goal_decides_what_ends_a_run(goal: Goal, expected: list[tuple[int, bool]]) -> None:
    # Run r aims at class r, and the image itself is of class 0.
    assert runs_of(scripted([FOOLS_NEVER, FOOLS_LATE], goal=goal)) == expected


@pytest.mark.parametrize("width", [1, 3, 8])
@pytest.mark.parametrize(
    "paths",
    [[FOOLS_SOON, FOOLS_NEVER, FOOLS_NEVER], [FOOLS_NEVER, FOOLS_LATE, FOOLS_SOON], [FOOLS_NEVER]],
)
def test_the_pulse_rises_from_nothing_to_the_total(paths: list[list[float]], width: int) -> None:
    told: list[int] = []
    scripted(paths, copies=4, width=width, pulse=told.append)
    assert told[0] == 0 and told[-1] == 12 * 4 * len(paths)
    assert all(before <= after for before, after in pairwise(told))


def test_without_jobs_nothing_is_told() -> None:
    told: list[int] = []
    assert scripted([FOOLS_NEVER], copies=0, pulse=told.append) == [] and told == []


class GradientShown(Attack):
    """One step, whose gradient is the point that the run ends with."""

    def __init__(self, threat: Threat) -> None:
        super().__init__(threat, steps=1)

    def start(self, lanes: Lanes, victim: Victim) -> State:
        return {"x": lanes.images, "seen": lanes.images}

    def step(self, lanes: Lanes, state: State, answer: Answer) -> State:
        return {"x": state["x"], "seen": answer.gradient}

    def loss(self, logits: Tensor, lanes: Lanes) -> Tensor:
        return logits.sum(1)

    def result(self, state: State) -> Tensor:
        return state["seen"]


def test_gradients_that_are_no_numbers_or_cut_off_are_zero() -> None:
    image = torch.tensor([0.0, 0.25]).view(1, 1, 1, 2)
    label = torch.zeros(1, dtype=torch.int64)
    functions: dict[str, tuple[Callable[[Tensor], Tensor], list[float]]] = {
        "honest": (lambda x: 3 * x.flatten(1) - 1, [3, 3]),
        "infinite": (lambda x: x.flatten(1).sqrt(), [0, 1]),  # 1 / (2 sqrt(x))
        "not a number": (lambda x: (x.flatten(1) * 0).sqrt() + 2 * x.flatten(1), [0, 0]),
        "cut off": (lambda x: x.flatten(1).detach(), [0, 0]),
        "cut off in part": (
            lambda x: x.flatten(1).detach() * torch.ones(2, requires_grad=True),
            [0, 0],
        ),
    }
    for name, (function, expected) in functions.items():
        (outcome,) = attacked(
            GradientShown(Linf(0.1)), function, image, label, rows=[0], goal="none"
        )
        assert outcome.point.flatten().tolist() == expected, name


@pytest.mark.parametrize(("norm", "eps"), [(Linf, 0.03), (L2, 0.2)])
@pytest.mark.parametrize("loss", ["ce", "margin"])
def test_more_steps_and_nested_restarts_never_let_an_image_stand_again(
    norm: type[Threat], eps: float, loss: str
) -> None:
    for seed in range(2):
        images = torch.rand(24, 1, 8, 8, generator=generator(seed, "monotone"))
        with torch.no_grad():
            labels = network("standard")(images).argmax(1)
        found = {
            (steps, restarts): fallen(
                attacked(
                    ATTACKS["pgd"](
                        norm(eps), steps=steps, step_size=eps / 4, loss=loss, restarts=restarts
                    ),
                    network("standard"),
                    images,
                    labels,
                ),
                24,
            )
            for steps, restarts in [(1, 1), (3, 1), (7, 1), (12, 1), (1, 2), (3, 2), (7, 4)]
        }
        for (few, once), less in found.items():
            for (many, often), more in found.items():
                if few <= many and once <= often:
                    assert not (less & ~more).any()
        assert 0 < found[1, 1].sum() < found[12, 1].sum()
        assert found[7, 1].sum() <= found[7, 4].sum() < 24


def test_a_lane_without_a_job_asks_about_no_image_that_nobody_gave() -> None:
    """One job in eight lanes: all that is asked about lies within EPS of the image."""
    asked = []

    def watched(images: Tensor) -> Tensor:
        asked.append(images.detach())
        return three_eighths(images)

    found = attacked(
        ATTACKS["pgd"](Linf(EPS), steps=3),
        watched,
        torch.full((1, 1, 1, 1), 0.5),
        torch.tensor([1]),
        compute=Compute(torch.device("cpu"), width=8),
    )
    assert len(found) == 1 and {len(images) for images in asked} == {8}
    assert min(float(images.min()) for images in asked) >= 0.5 - EPS - 1e-6
