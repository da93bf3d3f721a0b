"""The calibration of the audit is made once for a machine, and again whatever it depends on."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from paradise_cli.attacks.audit import calibration
from paradise_cli.attacks.engine.batches import Compute
from paradise_cli.attacks.session.session import Session
from paradise_cli.core import temporary

IMAGES = 20


class Found:
    """Stands for the attack: counts how often it is made."""

    made = 0

    def __call__(self) -> frozenset[int]:
        self.made += 1
        return frozenset({3, 17})


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PARADISE_CACHE", str(tmp_path))
    return tmp_path / "calibration"


def reference(width: int = 8, images: int = IMAGES) -> Session:
    return calibration.reference(Compute(torch.device("cpu"), width), images)[0]


def test_the_second_audit_reads_what_the_first_found(cache: Path) -> None:
    find = Found()
    session = reference()
    assert not cache.exists()
    for _ in range(3):
        assert calibration.kept(session, 0.15, find) == {3, 17}
    assert find.made == 1
    (file,) = cache.iterdir()
    kept = json.loads(file.read_text())
    assert kept["broken"] == [3, 17]
    assert kept["conditions"]["machine"]["torch"] == torch.__version__
    assert {"paradise", "code", "width", "precision", "weights"} <= kept["conditions"].keys()


def test_what_a_killed_attack_left_is_swept_out(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = reference()
    calibration.kept(session, 0.15, lambda: frozenset({3}))
    (cache / ".a.json.0123abcd.tmp").mkdir()
    monkeypatch.setattr(temporary, "_swept", set())  # as in the next process
    assert calibration.kept(session, 0.15, frozenset) == {3}
    assert not list(cache.glob(".*"))


def test_other_conditions_are_another_calibration(cache: Path) -> None:
    find = Found()
    session = reference()
    calibration.kept(session, 0.15, find)
    calibration.kept(session, 0.1, find)
    calibration.kept(reference(images=IMAGES - 1), 0.15, find)
    wider = replace(session.subject.compute, width=session.subject.compute.width + 1)
    calibration.kept(Session(replace(session.subject, compute=wider)), 0.15, find)
    in_bf16 = replace(session.subject.compute, precision="bf16")
    calibration.kept(Session(replace(session.subject, compute=in_bf16)), 0.15, find)
    before = torch.get_num_threads()
    torch.set_num_threads(before + 1)
    try:
        calibration.kept(session, 0.15, find)
    finally:
        torch.set_num_threads(before)
    assert find.made == len(list(cache.iterdir())) == 6


@pytest.mark.parametrize(
    "damage",
    ["", "{", "[]", '{"broken": [3]}', "truncated", "foreign", "outside"],
)
def test_a_damaged_file_is_computed_anew(cache: Path, damage: str) -> None:
    find = Found()
    session = reference()
    calibration.kept(session, 0.15, find)
    (file,) = cache.iterdir()
    whole = file.read_text()
    kept = json.loads(whole)
    contents = {
        "truncated": whole[: len(whole) // 2],
        "foreign": json.dumps(kept | {"conditions": {**kept["conditions"], "torch": "0"}}),
        "outside": json.dumps(kept | {"broken": [3, IMAGES]}),
    }
    file.write_text(contents.get(damage, damage))
    assert calibration.kept(session, 0.15, find) == {3, 17}
    assert find.made == 2 and file.read_text() == whole


def test_a_cache_that_cannot_be_written_only_costs_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("PARADISE_CACHE", str(tmp_path / "file"))
    find = Found()
    session = reference()
    assert calibration.kept(session, 0.15, find) == calibration.kept(session, 0.15, find)
    assert find.made == 2


def test_what_time_cut_short_is_not_kept(cache: Path) -> None:
    late = Session(reference().subject, deadline=0.0)

    def find() -> frozenset[int]:
        return frozenset(late.attack("pgd", 0.15, range(IMAGES), hyper={"steps": 5}))

    calibration.kept(late, 0.15, find)
    assert late.unfinished and not cache.exists()
