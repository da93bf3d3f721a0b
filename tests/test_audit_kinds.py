"""Shams of many kinds fail the row of the audit that is made for them, and honest networks none.

Only the rows in question are made here; `benchmarks/canaries.py` makes the whole audit of each.
"""

import pytest
import torch

from paradise_cli.attacks.audit.context import Case
from paradise_cli.attacks.audit.evidence import Result
from paradise_cli.attacks.audit.honest import HONEST
from paradise_cli.attacks.audit.kinds import SHAMS
from paradise_cli.attacks.audit.rows import ALL_ROWS
from paradise_cli.attacks.engine.batches import Compute
from paradise_cli.attacks.engine.classifier import Function
from paradise_cli.attacks.session.session import Session
from paradise_cli.attacks.session.subject import Subject
from paradise_cli.data import DATASETS

EPS, N = 0.1, 64
BY_ROW = {
    "stepped_activations": 15,
    "borrowed_scores": 15,
    "switching_ensemble": 15,
    "voted": 15,
    "median_filter": 15,
    "reversed_gradient": 3,
    "saturated_softmax": 8,
    "k_winners": 15,
    "quantised_logits": 15,
    "thermometer": 15,
    "distilled": 8,
    "decoy_classes": 3,
}
UNEVEN = ("attention", "dropout", "half_precision_logits", "saturated_inputs", "small_logits")


def case_of(function: Function) -> Case:
    test = DATASETS["digits"](None).test
    assert test is not None
    images = torch.cat(list(test.fetch(torch.arange(N), N, (), False))) / 255
    compute = Compute(torch.device("cpu"), width=N)
    subject = Subject.examine(function, images, test.labels[:N, 0], "linf", compute)
    return Case(Session(subject), EPS, tuple(range(N)), {}, {}, queries=100, draws=50)


def results(case: Case, *numbers: int) -> dict[int, Result]:
    return {row.number: row.examine(case).result for row in ALL_ROWS if row.number in numbers}


def test_every_sham_has_its_row() -> None:
    assert BY_ROW.keys() == SHAMS.keys()
    assert len(HONEST) >= 12


@pytest.mark.parametrize("name", sorted(SHAMS))
def test_a_sham_fails_the_row_that_is_made_for_it(name: str) -> None:
    case = case_of(SHAMS[name]())
    assert len(case.correct) > 0.85 * N
    assert results(case, BY_ROW[name]) == {BY_ROW[name]: "fail"}


@pytest.mark.parametrize("name", sorted(HONEST))
def test_an_honest_network_fails_none_of_these_rows(name: str) -> None:
    case = case_of(HONEST[name]())
    assert len(case.correct) > 0.85 * N
    # Rows 3 and 8 are dear, and could mistake only networks whose answers are somehow out of shape.
    found = results(case, *(3, 8) if name in UNEVEN else (), 15)
    assert "fail" not in found.values(), found
    assert found[15] == "pass"
