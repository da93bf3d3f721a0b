"""Decision boundaries that jump, and the attack that reads nothing but the class."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from paradise_cli.attacks import ATTACKS
from paradise_cli.attacks.audit.boundaries import boundary_jumps
from paradise_cli.attacks.audit.context import Case
from paradise_cli.attacks.audit.rows import ALL_ROWS
from paradise_cli.attacks.engine.batches import Compute
from paradise_cli.attacks.engine.classifier import logit_spread
from paradise_cli.attacks.session.session import Session
from paradise_cli.attacks.session.subject import Subject
from paradise_cli.perturbations.threat import Linf
from tests.attack_cases import attacked, balanced, fallen

PAIRS = 60
LINEAR = balanced(3, 1)
IMAGES, LABELS = LINEAR.problem(4 * PAIRS, seed=0)


def pairs() -> tuple[Tensor, Tensor]:
    """Images of class 0, each with one of another class."""
    one, other = IMAGES[LABELS == 0], IMAGES[LABELS != 0]
    n = min(len(one), len(other), PAIRS)
    assert n >= 30
    return one[:n], other[:n]


def stepped(height: float) -> Callable[[Tensor], Tensor]:
    """The linear classifier, whose best logit is raised by a height."""

    def answer(images: Tensor) -> Tensor:
        logits = LINEAR(images)
        best = logits.argmax(1, keepdim=True)
        return logits.scatter_add(1, best, torch.full_like(best, height, dtype=logits.dtype))

    return answer


@pytest.mark.parametrize("height", [0.01, 0.3])
def test_a_jump_is_as_large_as_the_step_between_the_classes(height: float) -> None:
    # On both sides of the boundary two logits are equal but for the height that the best one has.
    function = stepped(height)
    jumps = boundary_jumps(function, *pairs())
    expected = height / logit_spread(function(pairs()[0]))
    torch.testing.assert_close(jumps.size, expected.expand(len(jumps.size)), rtol=1e-3, atol=1e-5)


def test_a_continuous_classifier_jumps_by_rounding_alone() -> None:
    jumps = boundary_jumps(LINEAR, *pairs())
    assert float(jumps.size.max()) < 6e-6
    # An answer in half precision jumps by a step of its numbers, and says so.
    half = boundary_jumps(lambda images: LINEAR(images).half().float(), *pairs())
    assert float(half.size.max()) > 1e-5
    assert (half.size <= 2 * half.resolution + 6e-6).all()


def test_classes_that_are_masked_out_do_not_hide_a_jump() -> None:
    def masked(images: Tensor) -> Tensor:
        nowhere = torch.full((len(images), 2), -1e9)
        return torch.cat([stepped(0.3)(images), nowhere[:, :1]], 1)

    jumps = boundary_jumps(masked, *pairs())
    assert float(jumps.size.min()) > 1e-2


def found(number: int, function: Callable[[Tensor], Tensor], eps: float, n: int = 100) -> str:
    compute = Compute(torch.device("cpu"), width=64)
    session = Session(Subject.examine(function, IMAGES[:n], LABELS[:n], "linf", compute))
    case = Case(session, eps, tuple(range(n)), {}, {}, queries=50, draws=50)
    (row,) = (row for row in ALL_ROWS if row.number == number)
    return row.examine(case).result


def test_the_row_passes_continuous_classifiers_and_fails_those_that_jump() -> None:
    assert found(15, LINEAR, 0.01) == "pass"
    assert found(15, lambda images: LINEAR(images).bfloat16().float(), 0.01) == "pass"
    assert found(15, stepped(0.05), 0.01) == "fail"
    assert found(15, lambda images: LINEAR(images) + torch.rand(len(images), 3), 0.01) == (
        "not applicable"
    )


def test_where_scores_mislead_the_predicted_class_alone_leads_on() -> None:
    other = balanced(3, 2)

    def borrowed(images: Tensor) -> Tensor:
        label, logits = LINEAR(images).argmax(1, keepdim=True), other(images)
        best = logits.argmax(1, keepdim=True)
        swapped = logits.scatter(1, best, logits.gather(1, label))
        return swapped.scatter(1, label, logits.gather(1, best))

    radius = LINEAR.radius(IMAGES, LABELS, "linf")
    eps = float(radius.median())
    assert found(16, borrowed, eps, n=25) == "fail"


def test_reading_the_class_alone_finds_nearly_all_that_there_is_and_nothing_else() -> None:
    radius = LINEAR.radius(IMAGES[:60], LABELS[:60], "linf")
    threat = Linf(float(radius.median()))
    attack = ATTACKS["label_only"](threat, queries=500, restarts=4)

    def class_alone(images: Tensor) -> Tensor:
        return torch.nn.functional.one_hot(LINEAR(images).argmax(1), 3).float()

    outcomes = attacked(attack, class_alone, IMAGES[:60], LABELS[:60])
    broken = fallen(outcomes, 60)
    assert not (broken & (radius > threat.eps)).any()
    assert int(broken.sum()) >= 0.8 * int((radius <= threat.eps).sum())
