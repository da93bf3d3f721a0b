"""Hits and false alarms of the audit: shams must be caught, honest networks must not (README, Attack).

Thresholds are those of method.md for every classifier. A sham whose accuracy the attacks bring down to that
of its smooth twin needs no alarm: nothing false was reported.
"""

import pytest
import torch

from paradise_cli.attacks import AttackReport, attack
from paradise_cli.attacks.canaries import CANARIES, network
from paradise_cli.attacks.classifier import Function
from paradise_cli.data import DATASETS

EPS, N = 0.1, 40
HONEST = ["robust", "standard", "encoder"]


def attacked(function: Function) -> AttackReport:
    test = DATASETS["digits"](None).test
    assert test is not None
    images = torch.cat(list(test.fetch(torch.arange(N), N, (), False)))
    torch.manual_seed(0)  # `sampled_dvib` draws from the global generator, as users' classifiers do
    return attack(function, images, test.labels[:N, 0], eps=EPS, suite="quick", audited=N)


@pytest.mark.parametrize("name", CANARIES)
def test_a_sham_is_caught(name: str) -> None:
    found = attacked(CANARIES[name]())
    if found.verdict == "not detected":
        twin = attacked(CANARIES[name].twin())
        assert found.robust_accuracy.value <= twin.robust_accuracy.value + 0.02


@pytest.mark.parametrize("name", HONEST)
def test_an_honest_network_raises_no_alarm(name: str) -> None:
    assert attacked(network(name)).verdict == "not detected"
