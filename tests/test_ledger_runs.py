"""Runs of the ledger: what goes wrong with one part of a claim leaves the others."""

import math
import re
import threading
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from paradise_cli.core.errors import ParadiseError
from paradise_cli.core.locks import waited_for
from paradise_cli.reproduction.ledger import bench as ledger_bench
from paradise_cli.reproduction.ledger import run as ledger_run
from paradise_cli.reproduction.ledger.claims import Result, open_ledger, read_claim
from paradise_cli.reproduction.ledger.plan import plan
from paradise_cli.reproduction.ledger.results import keep
from paradise_cli.reproduction.ledger.run import Outcome, reproduce
from paradise_cli.reproduction.quantities import QUANTITIES, Measured
from paradise_cli.reproduction.quantities.base import Network
from paradise_cli.sweep.plan import SweepPoint
from paradise_cli.sweep.run import FinishedRun

NETWORKS = """\
radius: {smoke: 0.1}
attacked: {smoke: 10}
networks:
  a: {smoke: {recipe: digits}}
  b: {smoke: {recipe: digits}}
"""
CLAIM = """\
claim: C1
kind: claim
place: here
says: Something.
check: {quantity: {name: fall, term: loss}, of: [a], supported: "> 0", refuted: "< -1"}
no_control: Of nothing here.
"""
CELLS = """\
cells:
  - {row: one, column: loss, quantity: {name: fall, term: loss}, of: [b]}
  - {row: two, column: loss, quantity: {name: fall, term: loss}, of: [a]}
seeds: 1
"""
KNOWN = "largest_rise"
"""A quantity that needs no network."""


def ledger_of(folder: Path, **texts: str) -> Path:
    folder.mkdir()
    (folder / "networks.yaml").write_text(NETWORKS)
    for name, text in texts.items():
        (folder / f"{name}.yaml").write_text(text.replace("claim: C1", f"claim: {name}"))
    return folder


def result(value: float) -> Result:
    return Result.model_validate(
        {
            "scale": "smoke",
            "verdict": "reproduced",
            "found": {"value": value, "interval": (value, value), "n": 1},
            "seeds": [0],
            "commit": "a" * 40,
            "machine": "cpu",
            "command": "paradise reproduce C1",
        }
    )


def values(path: Path) -> list[float]:
    return [each.found.value for each in read_claim(path).results]


def test_results_that_others_added_meanwhile_stay(tmp_path: Path) -> None:
    path = ledger_of(tmp_path / "claims", C1=CLAIM) / "C1.yaml"
    one, other = read_claim(path), read_claim(path)  # two processes begin
    assert keep(path, one, result(0.1)) and keep(path, other, result(0.2))
    assert values(path) == [0.1, 0.2]
    assert not keep(path, one, result(0.2))  # which is the newest by now


def test_a_result_waits_for_another_that_is_being_written(tmp_path: Path) -> None:
    path = ledger_of(tmp_path / "claims", C1=CLAIM) / "C1.yaml"
    claim = read_claim(path)
    adding = threading.Thread(target=keep, args=(path, claim, result(0.1)))
    with waited_for(path.with_name("networks.yaml")):
        adding.start()
        adding.join(0.3)
        assert adding.is_alive() and values(path) == []
    adding.join(30)
    assert values(path) == [0.1]


def test_a_result_of_another_question_is_not_kept(tmp_path: Path) -> None:
    path = ledger_of(tmp_path / "claims", C1=CLAIM) / "C1.yaml"
    claim = read_claim(path)
    path.write_text(CLAIM.replace("Something.", "The same."))  # of which no number depends
    assert keep(path, claim, result(0.1))
    path.write_text(path.read_text().replace('"> 0"', '"> 0.5"'))
    with pytest.raises(ParadiseError, match="was changed while it was measured"):
        keep(path, claim, result(0.2))
    assert values(path) == [0.1]


def of_nothing(**_: Any) -> Any:
    def of(networks: Sequence[Network]) -> Measured:
        return Measured.exactly(1 / len(networks))

    return of


def endless(value: float, low: float) -> Any:
    return lambda **_: lambda networks: Measured(value, low, 1.0, 1)


@pytest.mark.parametrize(
    ("quantity", "message"),
    [
        (of_nothing, f"{KNOWN} is no number: .*division"),
        (endless(math.nan, 0.0), f"{KNOWN} is no finite number: nan"),
        (endless(0.0, -math.inf), f"{KNOWN} is no finite number: 0.0 \\(-inf to 1.0\\)"),
    ],
)
def test_what_is_no_number_leaves_only_its_own_claim_out(
    quantity: Any, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    none = CLAIM.replace("{name: fall, term: loss}, of: [a]", KNOWN)
    fine = none.replace(KNOWN, "distance_from_optimum").replace('"> 0"', '"> -1e-3"')
    ledger = open_ledger(ledger_of(tmp_path / "claims", C1=none, C2=fine))
    known = {"distance_from_optimum": QUANTITIES["distance_from_optimum"], KNOWN: quantity}
    monkeypatch.setattr(ledger_bench, "QUANTITIES", known)
    chosen = plan(ledger, [*ledger.claims.values()], "smoke")
    outcomes = {each.claim.claim: each for each in reproduce(ledger, chosen, tmp_path / "out")}
    assert outcomes["C1"].result is None
    assert outcomes["C2"].result is not None and outcomes["C2"].result.verdict == "reproduced"
    assert re.search(message, outcomes["C1"].why_not)


@pytest.fixture
def outcomes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Outcome]:
    """Of claims about networks whose losses halve, where trainings of a and b fail."""
    failing = {"a-2": "out of memory", "b-0": "loss is not finite"}

    def trained(points: Sequence[SweepPoint], runs: Path, **_: Any) -> list[FinishedRun]:
        return [FinishedRun(each, runs, {}, failing.get(each.name)) for each in points]

    def network(name: str, path: Path, **_: Any) -> Any:
        assert path.name not in failing
        run = SimpleNamespace(records=lambda: [{"train": {"loss": each}} for each in (2.0, 1.0)])
        return SimpleNamespace(name=name, run=run, loaded=SimpleNamespace(digest=name))

    monkeypatch.setattr(ledger_run, "run_points", trained)
    monkeypatch.setattr(ledger_bench, "Network", network)
    folder = ledger_of(tmp_path / "claims", C1=CLAIM + CELLS, C2=CLAIM, C3=CLAIM + "seeds: 2\n")
    ledger = open_ledger(folder)
    chosen = plan(ledger, [*ledger.claims.values()], "smoke")
    found = reproduce(ledger, chosen, tmp_path / "out", device="cpu")
    return {each.claim.claim: each for each in found}


def test_a_cell_without_its_network_stays_empty(outcomes: dict[str, Outcome]) -> None:
    found = outcomes["C1"].result
    assert found is not None and found.found.value == 0.5
    one, two = found.cells
    assert one is None and two is not None and two.value == 0.5
    why = "one, loss: b (seed 0) was not trained: loss is not finite"
    assert outcomes["C1"].why_not == why


def test_a_failed_training_is_missed_only_by_claims_of_its_seed(
    outcomes: dict[str, Outcome],
) -> None:
    assert outcomes["C3"].result is not None and outcomes["C3"].result.seeds == [0, 1]
    assert outcomes["C2"].result is None
    assert outcomes["C2"].why_not == "a (seed 2) was not trained: out of memory"
