"""What a report counts: nothing that is known to fool a classifier may leave its accuracy as it was."""

from pathlib import Path
from typing import Any

import pytest
import torch

from paradise_cli.attacks import attack, run
from paradise_cli.attacks.arena import Arena
from paradise_cli.attacks.audit import Audit
from paradise_cli.attacks.canaries import CANARIES, network
from paradise_cli.attacks.suite import SUITES, Stage, Suite
from paradise_cli.attacks.threat import L2
from paradise_cli.data import DATASETS
from paradise_cli.errors import ParadiseError
from paradise_cli.randomness import generator

N, EPS = 24, 0.15


@pytest.fixture
def digits(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Images, labels and what else an attack by hardly anything needs; an audit that runs PGD and no more."""

    def audit(arena: Arena, eps: float, **_: Any) -> Audit:
        arena.attack("pgd", eps, arena.correct(), hyper={"steps": 20})
        return Audit("not detected", (), (), ((eps, 0.125, N),))

    monkeypatch.setattr(run, "audit", audit)
    monkeypatch.setitem(SUITES, "weak", Suite((Stage("random_search", {"draws": 1}, "One draw"),)))
    monkeypatch.setitem(SUITES, "aimed", Suite((Stage("pgd_rand", {"steps": 20}, goal="reach"),), apart=True))
    weak = Suite((Stage("fgsm", {}, "FGSM", black_box=True),), apart=True, transfer=True)
    monkeypatch.setitem(SUITES, "borrowed", weak)
    test = DATASETS["digits"](None).test
    assert test is not None
    images = torch.cat(list(test.fetch(torch.arange(N), N, (), False)))
    return {"images": images, "labels": test.labels[:N, 0], "eps": EPS}


def test_what_the_audit_fells_is_broken(digits: dict[str, Any]) -> None:
    found = attack(network("standard"), suite="weak", **digits)
    by_audit = [name for name in found.broken_by if name == "audit: pgd"]
    assert len(by_audit) > N / 2
    assert found.robust_accuracy.value == float(found.standing.double().mean())
    points = found.adversarial[torch.tensor([name == "audit: pgd" for name in found.broken_by])]
    labels = digits["labels"][torch.tensor([name == "audit: pgd" for name in found.broken_by])]
    assert not (network("standard")(points).argmax(1) == labels).any()


def test_a_target_reached_is_a_wrong_class(digits: dict[str, Any]) -> None:
    found = attack(network("standard"), suite="aimed", **digits)
    assert found.stages[0].fell > 0
    assert int((~found.standing).sum()) >= found.stages[0].fell


def test_transfer_says_that_it_bounds_nothing(digits: dict[str, Any]) -> None:
    found = attack(network("robust"), suite="borrowed", sources={"a": network("standard")}, **digits)
    assert {name for name in found.broken_by if name} <= {"clean", "FGSM from a"}
    assert any("made on other models" in note and "12.5% of 24" in note for note in found.notes)


def test_a_defence_taken_away_is_another_classifier(digits: dict[str, Any], tmp_path: Path) -> None:
    attack(CANARIES["zero_gradient"](), suite="weak", out=tmp_path, **digits)
    with pytest.raises(ParadiseError, match="classifier"):
        attack(network("standard"), suite="weak", out=tmp_path, **digits)


def test_the_ball_of_l2_holds_what_is_projected_into_it_also_for_large_images() -> None:
    images = torch.rand(8, 3, 224, 224, generator=generator(0, "large"))
    threat = L2(3.0)
    away = images + 0.1 * torch.randn(images.shape, generator=generator(1, "large"))
    projected = threat.project(away, images)
    assert bool(threat.contains(projected, images).all())
    lengths = (projected - images).double().flatten(1).norm(dim=1)
    assert bool((lengths <= 3 + 1e-6).all())


def test_the_steepest_direction_of_a_tiny_gradient_has_length_one() -> None:
    gradient = 1e-30 * torch.randn(2, 3, 8, 8, generator=generator(0, "tiny"))
    lengths = L2(1.0).steepest(gradient).double().flatten(1).norm(dim=1)
    assert lengths.tolist() == pytest.approx([1.0, 1.0], rel=1e-6)
    assert not L2(1.0).steepest(torch.zeros(1, 3, 8, 8)).any()
