"""What an attack notices of its subject: rounding of the search, answers that turn random, first
looks.
"""

import itertools
from collections.abc import Callable
from dataclasses import FrozenInstanceError
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn.functional import linear, relu

from paradise_cli.attacks import attack, run
from paradise_cli.attacks.audit.audit import Audit
from paradise_cli.attacks.audit.context import Siblings
from paradise_cli.attacks.engine.batches import Compute
from paradise_cli.attacks.session.session import Session
from paradise_cli.attacks.session.settings import AttackSettings
from paradise_cli.attacks.session.subject import Subject
from paradise_cli.attacks.session.suite import SUITES, Stage, Suite, run_suite
from paradise_cli.core.errors import ParadiseError, UsageError
from paradise_cli.core.randomness import generator
from tests.attack_cases import Linear, balanced

CPU = torch.device("cpu")
Function = Callable[[Tensor], Tensor]


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """A suite of seconds, and no audit."""
    monkeypatch.setattr(run, "audit", lambda *_, **__: Audit("not detected", (), (), ()))
    stages = (Stage("fgsm"), Stage("multi_targeted", {"steps": 20, "restarts": 1}))
    monkeypatch.setitem(SUITES, "small", Suite(stages))


def two_kinds(model: Linear, eps: float, n: int = 12) -> tuple[Tensor, Tensor, Tensor]:
    """Images of which half fall well within eps and half stand well beyond it, labels, and which
    stand.
    """
    images, labels = model.problem(2000, 0)
    radius = model.radius(images, labels, "linf")
    near = (radius < 0.6 * eps).nonzero().flatten()[: n // 2]
    far = ((radius > 1.6 * eps) & (radius < 3 * eps)).nonzero().flatten()[: n // 2]
    assert len(near) == len(far) == n // 2
    rows = torch.cat([near, far])
    return images[rows], labels[rows], torch.arange(n) >= n // 2


def test_what_a_search_in_bf16_rounds_away_is_tried_again_in_fp32(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = balanced(2, 0)
    images, labels, standing = two_kinds(model, 0.01)

    def far_from_zero(x: Tensor) -> Tensor:
        # In bf16 all logits near 1,000 are alike: APGD sees no point better than its start.
        return linear(x.flatten(1), model.weight, model.bias + 1000)

    weak = Suite((Stage("apgd", {"loss": "ce", "steps": 10}, "APGD-CE"),))
    monkeypatch.setitem(SUITES, "small", weak)
    subject = Subject.examine(
        far_from_zero, images, labels, "linf", Compute(CPU, 16, precision="bf16")
    )
    alone = run_suite(Session(subject), weak, 0.01, range(12))
    assert len(alone[0].broken) < 6
    found = attack(far_from_zero, images, labels, eps=0.01, suite="small", precision="bf16")
    assert torch.equal(found.standing, standing)
    assert [stage.name for stage in found.stages] == ["APGD-CE", "APGD-T again, in fp32"]
    assert found.stages[-1].share.value == found.robust_accuracy.value == 0.5
    assert "APGD-T again, in fp32" in found.broken_by
    plain = attack(far_from_zero, images, labels, eps=0.01, suite="small", precision="fp32")
    assert torch.equal(plain.standing, standing) and len(plain.stages) == 1


def turning_random(model: Linear, when: Callable[[Tensor, int], bool]) -> Function:
    """Noise on the logits, from some time or place on."""
    calls, draw = itertools.count(1), generator(0, "noise")

    def classifier(x: Tensor) -> Tensor:
        logits = model(x)
        if when(x, next(calls)):
            logits = logits + 0.5 * torch.randn(logits.shape, generator=draw)
        return logits

    return classifier


@pytest.mark.parametrize(
    "when",
    [
        lambda x, call: call >= 9,
        # Clean images lie within these bounds, and what is made of them does not.
        lambda x, call: bool(x.amin() < 0.395 or x.amax() > 0.605),
    ],
)
def test_a_classifier_that_turns_random_is_attacked_as_a_random_one(
    when: Callable[[Tensor, int], bool], tmp_path: Path
) -> None:
    """The noise is symmetric: the mean probability of two classes decides as the logits do."""
    model = balanced(2, 0)
    images, labels, standing = two_kinds(model, 0.01)
    found = attack(
        turning_random(model, when), images, labels, eps=0.01, suite="small", out=tmp_path / "out"
    )
    assert torch.equal(found.standing, standing)
    assert found.robust_accuracy.value == 0.5
    assert any("one answer when it was first asked and others later" in n for n in found.notes)
    assert any("answers at random: gradients average 20" in note for note in found.notes)
    again = attack(
        turning_random(model, when), images, labels, eps=0.01, suite="small", out=tmp_path / "out"
    )
    assert torch.equal(again.standing, standing) and again.notes == found.notes


def test_randomness_that_no_success_brought_to_light_is_found_at_the_end() -> None:
    model = Linear(2, 0)
    images, labels = model.problem(12, 0)
    # So little is allowed that nothing breaks: nobody confirms anything.
    classifier = turning_random(model, lambda x, call: call >= 9)
    found = attack(classifier, images, labels, eps=1e-6, suite="small")
    assert any("others later" in note for note in found.notes)


def test_a_base_that_turns_random_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def audited(session: Session, eps: float, *, siblings: Siblings, **_: object) -> Audit:
        assert siblings.base is not None
        siblings.base.attack("pgd", eps, range(12), hyper={"steps": 3})
        return Audit("not detected", (), (), ())

    monkeypatch.setattr(run, "audit", audited)
    model = balanced(2, 0)
    images, labels, standing = two_kinds(model, 0.01)
    base = turning_random(model, lambda x, call: call >= 9)
    found = attack(model, images, labels, eps=0.01, suite="small", base=base)
    assert torch.equal(found.standing, standing)
    assert not any("others later" in note for note in found.notes)


def test_a_session_is_written_into_by_itself_alone() -> None:
    model = Linear(2, 0)
    subject = Subject.examine(model, *model.problem(4, 0), "linf", Compute(CPU, 4))
    with pytest.raises(FrozenInstanceError):
        subject.norm = "l2"  # type: ignore[misc]
    session = Session(subject, deadline=5.0)
    for name in ("deadline", "pulse", "unfinished"):
        with pytest.raises(AttributeError):
            setattr(session, name, None)
    with session.phase("a: ", denominator=2, deadline=7.0) as outer:
        with session.phase("b: ") as inner:
            assert (inner.title, inner.denominator, inner.deadline) == ("b: ", 2, 7.0)
            inner.unfinished.append("b: pgd")
        assert session.deadline == 7.0 and outer.unfinished == ["b: pgd"]
        outer.discard()
    assert session.deadline == 5.0 and session.unfinished == ()


@pytest.mark.parametrize(
    ("norm", "radius", "text"),
    [
        ("linf", 0.0, "0"), ("linf", 8 / 255, "8/255"), ("linf", 0.1, "25.5/255"),
        ("linf", 0.05, "12.75/255"), ("linf", 64 / 255, "64/255"), ("linf", 1.0, "255/255"),
        ("linf", 0.03, "7.65/255"), ("linf", 0.001, "0.255/255"), ("linf", 2e-6, "0.00051/255"),
        ("l2", 0.0, "0"), ("l2", 0.5, "0.5"), ("l2", 27.7128, "27.71"),
    ],
)  # fmt: skip
def test_a_radius_is_written_in_steps_of_images_or_as_a_decimal(
    norm: str, radius: float, text: str
) -> None:
    assert AttackSettings(eps=0.5, norm=norm).words_for(radius) == text


def test_settings_check_themselves_and_say_their_radius() -> None:
    settings = AttackSettings(eps=8 / 255, curve=[4 / 255, 16 / 255])
    assert settings.levels == [4 / 255, 8 / 255, 16 / 255] and settings.eps_text == "8/255"
    assert AttackSettings(eps=torch.tensor(0.5), norm="l2").eps_text == "0.5"  # type: ignore[arg-type]
    with pytest.raises(FrozenInstanceError):
        settings.eps = 1.0  # type: ignore[misc]
    with pytest.raises(UsageError, match="unknown suite 'quik'; did you mean 'quick'"):
        AttackSettings(eps=0.1, suite="quik")


def hints(function: Function, images: Tensor, labels: Tensor) -> tuple[list[str], list[str]]:
    """What is told before the first attack, and the notes of the report."""
    told: list[str] = []
    found = attack(
        function,
        images,
        labels,
        eps=1e-6,
        suite="small",
        tell=told.append,
        pulse=lambda *_: told.append("attacked"),
    )
    before = told[: told.index("attacked")] if "attacked" in told else told
    assert before == list(found.notes[: len(before)])
    return before, list(found.notes)


def test_accuracy_no_better_than_chance_is_said_with_its_likely_cause() -> None:
    model = balanced(5, 0)
    images, labels = model.problem(60, 0)
    assert hints(model, images, labels)[0] == []
    (shifted,) = hints(model, images, (labels - 2) % 5)[0]
    assert shifted == (
        "clean accuracy is 0.0%, below chance (20.0% for 5 classes): the labels look shifted: with"
        " 2 added to each (modulo 5) it would be 100.0%"
    )
    common = int(labels.bincount().argmin())
    (constant,) = hints(
        lambda x: 9 * torch.eye(5)[torch.full((len(x),), common)] + 0 * model(x), images, labels
    )[0][:1]
    assert constant.endswith(
        f"it gives class {common} for every image (wrong pixel range or weights?)"
    )
    mixed = torch.randint(5, (60,), generator=generator(0, "labels"))
    mixed = torch.where(mixed == labels, (mixed + 1 + mixed % 3) % 5, mixed)
    (lost,) = hints(model, images, mixed)[0]
    assert "below chance" in lost and "classes in another order" in lost
    # Some shift fits any single image, and no accuracy is told by one.
    assert hints(model, images[:1], (labels[:1] - 2) % 5)[0] == []


def blackened(images: Tensor) -> Tensor:
    """Half of the pixels black."""
    return images * (torch.rand(images.shape, generator=generator(0, "black")) < 0.5)


@pytest.mark.parametrize(
    ("layer", "expected"),
    [
        (lambda x: x, None),
        (lambda x: x.detach() + 0 * x, "no gradient of the logits comes back"),
        (lambda x: x.clamp(0, 1), "pixels that are exactly 0 (50% of all) have gradient 0"),
        (relu, "is x.clamp(0, 1), hardtanh or ReLU the first layer?"),
        (torch.sigmoid, None),
    ],
)
def test_gradients_that_are_lost_are_said_before_anything_is_attacked(
    layer: Function, expected: str | None
) -> None:
    model = Linear(2, 0)
    images = blackened(model.problem(40, 0)[0])

    def classifier(x: Tensor) -> Tensor:
        return model(layer(x))

    with torch.no_grad():
        labels = classifier(images).argmax(1)
    before, _ = hints(classifier, images, labels)
    if expected is None:
        assert before == []
    else:
        (hint,) = before
        assert expected in hint


def test_a_folder_is_begun_anew_if_that_is_asked_for(tmp_path: Path) -> None:
    model = balanced(3, 0)
    images, labels = model.problem(12, 0)

    def made(seed: int, fresh: bool) -> None:
        attack(model, images, labels, eps=0.01, suite="small", seed=seed, out=tmp_path, fresh=fresh)

    made(0, False)
    with pytest.raises(ParadiseError, match="with other seed"):
        made(1, False)
    made(1, True)
    lines = (tmp_path / "ledger.jsonl").read_text().splitlines()
    assert '"seed": 1' in lines[0]
    made(1, False)
    assert (tmp_path / "ledger.jsonl").read_text().splitlines() == lines
