"""Hits and false alarms of the audit: shams must be caught, honest networks must not.

Thresholds are those of method.md for every classifier. A sham whose accuracy the attacks bring down
to that of its smooth twin needs no alarm: nothing false was reported. `benchmarks/canaries.py`
makes the table of the README, with the whole audit of every classifier; here those that need it not
are judged without.
"""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from paradise_cli.attacks import AttackReport, attack, run
from paradise_cli.attacks.audit.audit import Audit, audit, judged
from paradise_cli.attacks.audit.canaries import CANARIES, network
from paradise_cli.attacks.audit.context import Siblings
from paradise_cli.attacks.engine.batches import Compute
from paradise_cli.attacks.engine.classifier import Function
from paradise_cli.attacks.session.session import Session
from paradise_cli.attacks.session.suite import SUITES, Stage, Suite
from paradise_cli.data import DATASETS

EPS, N = 0.1, 24
ENOUGH = 80
"""Images that decide every row without which the verdict is open: 74 by `evidence.resolves`."""
BRIEF = Suite(
    (
        Stage("apgd", {"steps": 50}),
        Stage("pgd", {"steps": 50, "loss": "margin"}),
        Stage("square", {"queries": 100}),
    )
)
TO_BE_FLAGGED = ["zero_gradient", "quantiser", "large_logits", "jpeg"]


@pytest.fixture
def brief(monkeypatch: pytest.MonkeyPatch) -> Callable[[Function], AttackReport]:
    """Attack with the brief suite; `audited=True` adds the whole audit."""
    monkeypatch.setitem(SUITES, "brief", BRIEF)
    test = DATASETS["digits"](None).test
    assert test is not None
    images = torch.cat(list(test.fetch(torch.arange(ENOUGH), ENOUGH, (), False)))

    def unaudited(session: Session, eps: float, **_: Any) -> Audit:
        behaviour = session.subject.behaviour
        return Audit(*judged([], behaviour.batch_dependent, behaviour.difference), (), ())

    def alone(*given: Any, siblings: Siblings, **named: Any) -> Audit:
        return audit(
            *given, **named, queries=100, draws=100
        )  # of so few images calibration would say nothing

    def attacked(function: Function, *, n: int = N, audited: bool = False) -> AttackReport:
        torch.manual_seed(
            0
        )  # `sampled_dvib` draws from the global generator, as users' classifiers do
        monkeypatch.setattr(run, "audit", alone if audited else unaudited)
        labels = test.labels[:n, 0]
        # A batch of just as many: its shape is what an attack costs.
        monkeypatch.setattr(run, "choose_compute", lambda device, *_: Compute(device, n))
        return attack(function, images[:n], labels, eps=EPS, suite="brief", audited=n)

    return attacked


@pytest.mark.parametrize("name", TO_BE_FLAGGED)
def test_what_hides_gradients_is_called_obfuscated(name: str, brief: Any) -> None:
    assert brief(CANARIES[name](), audited=True).verdict == "obfuscated"


def test_an_honest_robust_network_raises_no_alarm(brief: Any) -> None:
    found = brief(network("robust"), n=ENOUGH, audited=True)
    assert found.verdict == "not detected"
    assert found.robust_accuracy.value > 0.75


@pytest.mark.parametrize("name", sorted(set(CANARIES) - set(TO_BE_FLAGGED)))
def test_other_shams_are_no_better_than_their_twins_or_said_to_be_suspect(
    name: str, brief: Any
) -> None:
    found = brief(CANARIES[name]())
    if found.verdict == "not detected":
        twin = brief(CANARIES[name].twin())
        assert found.robust_accuracy.value <= twin.robust_accuracy.value + 0.02
