"""The engine against `reference_lane.py`, bit by bit: what falls out of a lane is its run alone."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from paradise_cli.attacks import ATTACKS
from paradise_cli.attacks.audit.canaries import network
from paradise_cli.attacks.engine.batches import Compute, Judge, Search
from paradise_cli.attacks.engine.classifier import Behaviour, Classifier
from paradise_cli.attacks.engine.jobs import Goal, Outcome, digests, jobs_of
from paradise_cli.attacks.engine.lane_batch import run_jobs
from paradise_cli.attacks.protocol.lanes import Attack
from paradise_cli.core.machine import Precision
from paradise_cli.core.randomness import generator
from paradise_cli.core.threads import one_thread_each
from paradise_cli.perturbations.threat import NORMS
from tests.reference_lane import run_lane

WIDTH = 8
IMAGES = torch.rand(10, 1, 8, 8, generator=generator(0, "reference"))
LABELS = network("standard")(IMAGES).argmax(1)


def classifier() -> Classifier:
    behaviour = Behaviour(10, keeps=False)
    return Classifier(
        network("standard"), device=torch.device("cpu"), width=WIDTH, behaviour=behaviour
    )


def stricter(judge: Judge, by: float) -> Judge:
    """Denies a success that is not clear by so much of a logit: the clean class is favoured."""

    def strict(points: Tensor) -> Tensor:
        nearest = torch.cdist(points.flatten(1), IMAGES.flatten(1)).argmin(1)
        return judge(points).scatter_add(
            1, LABELS[nearest][:, None], torch.full((len(points), 1), by)
        )

    return strict


CASES: list[tuple[str, dict[str, Any], str, float]] = [
    ("pgd", {"steps": 12}, "linf", 0.04),
    ("pgd", {"steps": 12, "restarts": 3}, "l2", 0.2),
    ("apgd", {"steps": 23, "loss": "dlr"}, "linf", 0.03),
    ("fab_targeted", {"steps": 4, "targets": 2}, "l2", 0.25),  # cycles of two, and ends early
    ("fab_targeted", {"steps": 4, "targets": 2}, "linf", 0.03),
    ("spsa", {"steps": 3, "samples": 3, "lr": 0.05}, "linf", 0.1),
    ("multi_targeted", {"steps": 11, "restarts": 1, "targets": 3}, "linf", 0.03),
]


def both(
    attack: Attack,
    goal: Goal,
    *,
    by: float = 0.0,
    precision: Precision = "fp32",
    sure: bool = False,
    begin: dict[int, Tensor] | None = None,
) -> tuple[list[Outcome], list[tuple[bool, Tensor, int]]]:
    """Outcomes of the engine, and of the reference for each of its jobs."""
    victim, begin = classifier(), begin or {}
    judge = stricter(victim.judge, by)
    confirm = stricter(victim.judge, 2 * by) if sure else None
    compute = Compute(torch.device("cpu"), WIDTH, 2, precision)
    jobs = jobs_of("attack", attack, victim.judge(IMAGES), LABELS, digests(IMAGES), range(10))
    run: Callable[..., Any] = run_jobs
    found = list(
        run(
            attack, victim, judge, IMAGES, LABELS, jobs, compute,
            goal=goal, confirm=confirm, begin=begin,
        )
    )  # fmt: skip
    judges = (judge,) if confirm is None else (judge, confirm)
    search = Search(attack, victim, judges, goal, compute)
    with one_thread_each():
        return found, [
            run_lane(search, o.job, IMAGES[row], LABELS[row], begin.get(row, IMAGES[row]))
            for o in found
            for row in [o.job.image]
        ]


def assert_same(found: list[Outcome], expected: list[tuple[bool, Tensor, int]]) -> None:
    for outcome, (succeeded, point, step) in zip(found, expected, strict=True):
        assert (outcome.succeeded, outcome.step) == (succeeded, step), outcome.job
        assert torch.equal(outcome.point, point), outcome.job


@pytest.mark.parametrize("goal", ["fool", "reach", "none"])
@pytest.mark.parametrize(("name", "hyper", "norm", "eps"), CASES, ids=str)
def test_a_lane_does_what_the_reference_does(
    name: str, hyper: dict[str, Any], norm: str, eps: float, goal: Goal
) -> None:
    found, expected = both(ATTACKS[name](NORMS[norm](eps), **hyper), goal)
    assert_same(found, expected)
    succeeded = sum(outcome.succeeded for outcome in found)
    aims = name in ("fab_targeted", "multi_targeted")
    if goal == "fool" or (goal == "reach" and aims):
        assert 0 < succeeded < len(found)  # else little is compared
    elif goal == "none":
        assert succeeded == 0


@pytest.mark.parametrize(("precision", "sure"), [("fp32", False), ("bf16", True)])
@pytest.mark.parametrize(("name", "hyper", "norm", "eps"), CASES[:5], ids=str)
def test_also_where_successes_are_denied(
    name: str, hyper: dict[str, Any], norm: str, eps: float, precision: Precision, sure: bool
) -> None:
    attack = ATTACKS[name](NORMS[norm](eps), **hyper)
    granted = both(attack, "fool", precision=precision)[0]
    found, expected = both(attack, "fool", by=0.15, precision=precision, sure=sure)
    assert_same(found, expected)
    first = {(o.job.image, o.job.run): o.step for o in granted if o.succeeded}
    later = [o for o in found if first.get((o.job.image, o.job.run), o.step) != o.step]
    assert later  # runs went on behind a success that was denied


def test_also_from_given_points() -> None:
    begin = {row: (IMAGES[row] + 0.02).clamp(0, 1) for row in range(0, 10, 2)}
    attack = ATTACKS["apgd"](NORMS["linf"](0.03), steps=10, start="image")
    assert_same(*both(attack, "fool", begin=begin))
    ends = [[o.point for o in both(attack, "none", begin=given)[0]] for given in (begin, {})]
    assert not torch.equal(torch.stack(ends[0]), torch.stack(ends[1]))
