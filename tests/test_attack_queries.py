"""Queries asked ahead: each run ends as it does query by query, however many lanes there are."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from paradise_cli.attacks import ATTACKS
from paradise_cli.attacks.engine.batches import Compute
from paradise_cli.attacks.engine.classifier import Classifier
from paradise_cli.attacks.engine.jobs import Goal, Outcome, digests, jobs_of
from paradise_cli.attacks.engine.lane_batch import run_jobs
from paradise_cli.attacks.engine.queries import run_attack
from paradise_cli.perturbations.threat import NORMS
from tests.attack_cases import balanced

CPU = torch.device("cpu")
LINEAR = balanced(classes=4, seed=0)
IMAGES, LABELS = LINEAR.problem(11, seed=0)
EPS = {"linf": 0.006, "l2": 0.04}

Ended = dict[tuple[int, int], tuple[bool, int, Tensor]]


def ended(outcomes: list[Outcome]) -> Ended:
    return {(o.job.image, o.job.run): (o.succeeded, o.step, o.point) for o in outcomes}


def outcomes(
    run: Callable[..., Any],
    name: str,
    norm: str,
    hyper: dict[str, Any],
    *,
    width: int,
    blocks: int = 1,
    goal: Goal = "fool",
    strict: float = 0.0,
    told: list[int] | None = None,
) -> Ended:
    attack = ATTACKS[name](NORMS[norm](EPS[norm]), **hyper)
    victim = Classifier(LINEAR, device=CPU, width=width)
    logits = victim.judge(IMAGES)
    jobs = jobs_of(name, attack, logits, LABELS, digests(IMAGES), range(11))

    def judge(points: Tensor) -> Tensor:
        """Grants a success only by a margin."""
        found = LINEAR(points)
        return found.scatter_add(1, labels_of(points), torch.full((len(points), 1), strict))

    def labels_of(points: Tensor) -> Tensor:
        nearest = torch.cdist(points.flatten(1), IMAGES.flatten(1)).argmin(1)
        return LABELS[nearest][:, None]

    pulse = (lambda done: None) if told is None else told.append
    compute = Compute(CPU, width, blocks)
    return ended(
        list(run(attack, victim, judge, IMAGES, LABELS, jobs, compute, goal=goal, pulse=pulse))
    )


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize(
    ("name", "hyper"),
    [
        ("square", {"queries": 60}),
        ("square", {"queries": 1}),
        ("random_search", {"draws": 40, "kind": "corner"}),
    ],
)
@pytest.mark.parametrize(("goal", "strict"), [("fool", 0.0), ("fool", 0.002), ("none", 0.0)])
def test_runs_are_those_of_one_query_after_another(
    norm: str, name: str, hyper: dict[str, Any], goal: Goal, strict: float
) -> None:
    expected = outcomes(run_jobs, name, norm, hyper, width=11, goal=goal, strict=strict)
    if goal == "fool" and not strict and len(expected) > 1 and hyper != {"queries": 1}:
        assert 0 < sum(fell for fell, _, _ in expected.values()) < 11  # else little is compared
    for width, blocks in ((64, 1), (7, 3), (1, 1)):
        found = outcomes(
            run_attack, name, norm, hyper, width=width, blocks=blocks, goal=goal, strict=strict
        )
        assert found.keys() == expected.keys()
        for run, (succeeded, step, point) in expected.items():
            assert found[run][:2] == (succeeded, step)
            torch.testing.assert_close(found[run][2], point)


def test_what_is_done_is_told_up_to_the_total() -> None:
    told: list[int] = []
    outcomes(run_attack, "square", "linf", {"queries": 30}, width=4, blocks=2, told=told)
    assert told[0] == 0 and told[-1] == 30 * 11 and told == sorted(told)


def test_fewer_passes_where_lanes_are_free() -> None:
    passes = []

    class Counted(Classifier):
        def __call__(self, images: Tensor) -> Tensor:
            passes.append(len(images))
            return super().__call__(images)

    attack = ATTACKS["square"](NORMS["linf"](0.001), queries=400)
    victim = Counted(LINEAR, device=CPU, width=16)
    jobs = jobs_of("square", attack, victim.judge(IMAGES), LABELS, digests(IMAGES), [0])
    (outcome,) = run_attack(attack, victim, victim.judge, IMAGES, LABELS, jobs, Compute(CPU, 16))
    assert not outcome.succeeded and outcome.step == 400
    assert set(passes) == {16} and len(passes) < 400 / 2
