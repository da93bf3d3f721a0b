"""Suite fast: which class is nearest, what is left of linear classifiers, and when it is backed."""

from typing import Any

import pytest
import torch
from torch import Tensor

from paradise_cli.attacks import AttackReport, attack, run
from paradise_cli.attacks.audit.audit import Audit, Verdict
from paradise_cli.attacks.engine.batches import Compute
from paradise_cli.attacks.session.nearest import CANDIDATES, Nearness
from paradise_cli.attacks.session.subject import Subject
from paradise_cli.attacks.session.suite import SUITES, Stage, Suite
from paradise_cli.perturbations.threat import threat_model
from tests.attack_cases import CPU, Linear, balanced

NORMS = ("linf", "l2")


def nearness(function: Any, images: Tensor, labels: Tensor, norm: str = "linf") -> Tensor:
    subject = Subject.examine(function, images, labels, norm, CPU)
    return Nearness(subject).of(range(len(images)), threat_model(norm, 0.1))


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("classes", [2, 3, 10])
def test_of_a_linear_classifier_the_distance_of_each_class_is_exact(
    norm: str, classes: int
) -> None:
    linear = balanced(classes, 0)
    images, labels = linear.problem(70, 1)
    logits = linear(images).double()
    gaps = logits.gather(1, labels[:, None]) - logits
    apart = (linear.weight[labels][:, None] - linear.weight[None]).double()
    slopes = apart.norm({"linf": 1, "l2": 2}[norm], dim=2)
    scores = nearness(linear, images, labels, norm)
    wrong = torch.ones_like(scores, dtype=torch.bool).scatter(1, labels[:, None], False)
    assert torch.allclose(scores[wrong].double(), -(gaps / slopes)[wrong], rtol=1e-4)
    assert (scores[~wrong] == -torch.inf).all()
    # The nearest class is the one that ends the ball in which nothing breaks.
    assert torch.allclose(-scores.amax(1).double(), linear.radius(images, labels, norm), rtol=1e-4)


def test_of_many_classes_the_likeliest_are_candidates_and_flat_ones_too() -> None:
    linear = balanced(30, 0)
    images, labels = linear.problem(5, 1)
    scores = nearness(linear, images, labels)
    assert (scores.isfinite().sum(1) == CANDIDATES).all()
    likeliest = linear(images).scatter(1, labels[:, None], -torch.inf).topk(CANDIDATES, 1).indices
    assert scores.gather(1, likeliest).isfinite().all()
    flat = nearness(
        lambda x: linear(x).round().detach() + 0 * x.sum((1, 2, 3))[:, None], images, labels
    )
    assert (flat.isfinite().sum(1) == CANDIDATES).all()


@pytest.mark.parametrize("norm", NORMS)
def test_what_it_leaves_of_a_linear_classifier_is_what_no_attack_can_break(
    norm: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "audit", lambda *_, **__: Audit("not detected", (), (), ()))
    linear = balanced(10, 3)
    images, labels = linear.problem(60, 2)
    radius = linear.radius(images, labels, norm)
    eps = float(radius.median())
    # No attack comes closer than that to an edge in so many steps.
    clear = (radius / eps - 1).abs() > 0.02
    found = attack(linear, images, labels, eps=eps, norm=norm, suite="fast")
    assert torch.equal(found.standing[clear], (radius > eps)[clear])


@pytest.fixture
def stages(monkeypatch: pytest.MonkeyPatch) -> None:
    """Suites of few steps."""
    monkeypatch.setitem(SUITES, "fast", Suite((Stage("fgsm", {}, "FGSM"),), backed_by="standard"))
    monkeypatch.setitem(SUITES, "standard", Suite((Stage("pgd", {"steps": 9}, "PGD"),)))


def judged(
    monkeypatch: pytest.MonkeyPatch, verdict: Verdict, budget: float | None = None
) -> AttackReport:
    """What `fast` finds where the audit says so whatever it is shown."""
    found = Audit(verdict, ("row 2: hidden",) if verdict != "not detected" else (), (), ())
    monkeypatch.setattr(run, "audit", lambda *_, **__: found)
    linear = Linear(4, 0)
    images, labels = linear.problem(40, 0)
    eps = 1.05 * float(linear.radius(images, labels, "linf").median())
    return attack(linear, images, labels, eps=eps, suite="fast", budget=budget)


@pytest.mark.usefixtures("stages")
@pytest.mark.parametrize(
    ("verdict", "ends"),
    [("not detected", [37.5, 50]), ("suspect", [37.5, 50, 87.5, 100])],
)
def test_a_budget_leaves_time_for_what_is_behind_the_suite(
    monkeypatch: pytest.MonkeyPatch, verdict: Verdict, ends: list[float]
) -> None:
    """Half of it is for either, and of each half a quarter for the audit."""
    asked: list[float] = []
    after = run._Task._after

    def noted(task: Any, share: float) -> float | None:
        asked.append(100 * share)
        return after(task, share)

    monkeypatch.setattr(run._Task, "_after", noted)
    judged(monkeypatch, verdict, budget=100.0)
    assert asked == ends


@pytest.mark.usefixtures("stages")
@pytest.mark.parametrize("verdict", ["undecided", "suspect", "obfuscated"])
def test_where_the_audit_speaks_against_it_standard_goes_on_and_the_report_says_why(
    monkeypatch: pytest.MonkeyPatch, verdict: Verdict
) -> None:
    alone = judged(monkeypatch, "not detected")
    assert [stage.attack for stage in alone.stages] == ["FGSM"]
    assert not any("goes on" in note for note in alone.notes)
    backed = judged(monkeypatch, verdict)
    assert [stage.attack for stage in backed.stages] == ["FGSM", "PGD"]
    assert "suite fast is not enough (row 2: hidden): suite standard goes on" in backed.notes
    # What fell before has fallen, and of each image that broke first what broke it is kept.
    assert not (backed.standing & ~alone.standing).any()
    assert [by for by in backed.broken_by if by == "FGSM"] == [
        by for by in alone.broken_by if by == "FGSM"
    ]
    assert backed.stages[1].attacked == int(alone.standing.sum())
    # The first suite is not made again, and both count as the suite's.
    assert backed.provenance.spent.suite[1] > alone.provenance.spent.suite[1]


@pytest.mark.usefixtures("stages")
def test_what_time_cut_short_is_gone_on_with_by_the_suite_behind(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The time of the first is over at once, and the audit saw nothing against it."""
    first = Suite((Stage("pgd", {"steps": 5}, "PGD-5"),), backed_by="standard")
    monkeypatch.setitem(SUITES, "fast", first)
    # In several batches, between which the clock is looked at.
    monkeypatch.setattr(run, "choose_compute", lambda *_: Compute(torch.device("cpu"), 8))
    times = iter([0.0, 0.0, None, None])
    monkeypatch.setattr(run._Task, "_after", lambda *_: next(times))
    found = judged(monkeypatch, "not detected", budget=100.0)
    assert [stage.attack for stage in found.stages] == ["PGD-5", "PGD"]
    assert found.unfinished == () and found.verdict == "not detected"
    assert not any(stage.cut_short for stage in found.stages)


@pytest.mark.usefixtures("stages")
@pytest.mark.parametrize("place", [0, 69])
def test_a_clean_image_without_numbers_is_misclassified_wherever_it_stands(
    monkeypatch: pytest.MonkeyPatch, place: int
) -> None:
    monkeypatch.setattr(run, "audit", lambda *_, **__: Audit("not detected", (), (), ()))
    linear = Linear(4, 0)
    images, labels = linear.problem(70, 0)

    def broken(x: Tensor) -> Tensor:
        same = (x - images[place]).abs().amax((1, 2, 3)) < 1e-6
        return torch.where(same[:, None], torch.nan, linear(x))

    whole = attack(linear, images, labels, eps=1e-3, suite="fast")
    found = attack(broken, images, labels, eps=1e-3, suite="fast")
    assert found.standing.tolist() == [
        stands and row != place for row, stands in enumerate(whole.standing.tolist())
    ]
    assert any("1 of all 70 clean images are NaN" in note for note in found.notes)


@pytest.mark.usefixtures("stages")
def test_an_answer_at_random_is_backed_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    linear = Linear(4, 0)
    audits = 0

    def once(*_: Any, **__: Any) -> Audit:
        nonlocal audits
        audits += 1
        return Audit("not detected", (), (), ())

    monkeypatch.setattr(run, "audit", once)
    images, labels = linear.problem(40, 0)
    found = attack(
        lambda x: linear(x) + 1e-3 * torch.randn(len(x), 4), images, labels, eps=0.1, suite="fast"
    )
    # The first suite alone is not audited: it could not be believed.
    assert audits == 1 and [stage.attack for stage in found.stages] == ["FGSM", "PGD"]
    assert any("(the classifier answers at random)" in note for note in found.notes)
