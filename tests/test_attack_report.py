"""What a report counts: nothing that is known to fool a classifier may leave its accuracy as it
was.
"""

from pathlib import Path
from typing import Any

import pytest
import torch

from paradise_cli.attacks import attack, run
from paradise_cli.attacks.audit.audit import Audit
from paradise_cli.attacks.audit.canaries import CANARIES, network
from paradise_cli.attacks.engine.batches import Compute
from paradise_cli.attacks.session.session import Session
from paradise_cli.attacks.session.subject import Subject
from paradise_cli.attacks.session.suite import SUITES, Stage, Suite
from paradise_cli.core.errors import ParadiseError
from paradise_cli.core.randomness import generator
from paradise_cli.data import DATASETS
from paradise_cli.perturbations.threat import L2

N, EPS = 24, 0.15
CPU = torch.device("cpu")


@pytest.fixture
def digits(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Images, labels and what else an attack by hardly anything needs; an audit that runs PGD and
    no more.
    """

    def audit(session: Session, eps: float, **_: Any) -> Audit:
        session.attack("pgd", eps, session.subject.correct_rows(), hyper={"steps": 20})
        return Audit("not detected", (), (), ((eps, 0.125, N),))

    monkeypatch.setattr(run, "audit", audit)
    monkeypatch.setitem(SUITES, "weak", Suite((Stage("random_search", {"draws": 1}, "One draw"),)))
    monkeypatch.setitem(
        SUITES, "aimed", Suite((Stage("pgd_rand", {"steps": 20}, goal="reach"),), independent=True)
    )
    weak = Suite((Stage("fgsm", {}, "FGSM", black_box=True),), independent=True, transfer=True)
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


def test_what_is_known_to_fall_counts_at_every_eps_from_there_on(
    digits: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    net, near, far = network("standard"), EPS / 1.5, 2 * EPS

    def audit(session: Session, eps: float, **_: Any) -> Audit:
        session.attack("pgd", near, session.subject.correct_rows(), hyper={"steps": 20})
        return Audit("not detected", (), (), ())

    monkeypatch.setattr(run, "audit", audit)
    found = attack(net, suite="weak", curve=[near / 2, near, far], precision="fp32", **digits)
    pixels = digits["images"].float() / 255
    session = Session(Subject.examine(net, pixels, digits["labels"], "linf", Compute(CPU, 64)))
    fell = session.attack("pgd", near, session.subject.correct_rows(), hyper={"steps": 20})
    suite = {row for row, name in enumerate(found.broken_by) if name == "One draw"}
    left = len(session.subject.correct_rows()) - len(fell.keys() | suite)
    shares = {level: share.value for level, share in found.curve}
    assert len(fell) > N / 4 and shares[near / 2] > shares[near]
    assert shares[near] >= shares[EPS] == left / N >= shares[far]
    assert shares[near] <= 1 - len(fell) / N


def test_what_another_suite_felled_in_the_same_folder_is_not_the_audits(
    digits: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(SUITES, "strong", Suite((Stage("apgd", {"steps": 20}, "APGD"),)))
    attack(network("robust"), suite="strong", out=tmp_path, **digits)
    after, alone = (
        attack(network("robust"), suite="weak", out=out, **digits) for out in (tmp_path, None)
    )
    assert after.broken_by == alone.broken_by and torch.equal(after.adversarial, alone.adversarial)


def test_too_many_images_for_the_memory_are_said_to_be(digits: dict[str, Any]) -> None:
    net = network("standard")

    def large(images: torch.Tensor) -> torch.Tensor:
        if torch.is_grad_enabled():
            raise torch.OutOfMemoryError("out of memory")
        logits: torch.Tensor = net(images)
        return logits

    with pytest.raises(ParadiseError, match=r"pgd: \d+ images at once are too many .*--batch-size"):
        attack(large, suite="weak", **digits)


def test_a_target_reached_is_a_wrong_class(digits: dict[str, Any]) -> None:
    found = attack(network("standard"), suite="aimed", **digits)
    assert found.stages[0].broken > 0
    assert int((~found.standing).sum()) >= found.stages[0].broken


def test_what_is_called_its_target_already_is_not_led_there(digits: dict[str, Any]) -> None:
    """Of one that always answers 7 about a ninth; none that is led gets anywhere."""

    def sevens(images: torch.Tensor) -> torch.Tensor:
        return 9 * torch.eye(10)[7].expand(len(images), 10) + 0 * images.flatten(1)[:, :1]

    (stage,) = attack(sevens, suite="aimed", **digits).stages
    assert (stage.broken, stage.share.value) == (0, 0) and 0 < stage.attacked < N


def test_transfer_says_that_it_bounds_nothing(digits: dict[str, Any]) -> None:
    found = attack(
        network("robust"), suite="borrowed", sources={"a": network("standard")}, **digits
    )
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
