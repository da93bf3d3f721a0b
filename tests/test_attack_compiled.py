"""A compiled search: the classifier itself still decides, and what cannot be compiled is said."""

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor

from paradise_cli.attacks.audit.canaries import CANARIES, network
from paradise_cli.attacks.engine.batches import Compute
from paradise_cli.attacks.session.session import Session
from paradise_cli.attacks.session.subject import Subject
from paradise_cli.core.errors import ParadiseError, UsageError
from tests.attack_cases import Linear

LINEAR = Linear(classes=3, seed=0)
IMAGES, LABELS = LINEAR.problem(12, seed=0)
COMPUTE = Compute(torch.device("cpu"), width=8, compiled=True)


def session(
    function: Callable[[Tensor], Tensor], images: Tensor = IMAGES, labels: Tensor = LABELS
) -> Session:
    return Session(Subject.examine(function, images, labels, "linf", COMPUTE))


def test_the_search_goes_through_what_was_compiled_and_the_classifier_decides(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked = {"compiled": 0, "itself": 0}

    def itself(images: Tensor) -> Tensor:
        asked["itself"] += 1
        return LINEAR(images)

    def compile(function: Any, *, dynamic: bool) -> Callable[[Tensor], Tensor]:
        def quick(images: Tensor) -> Tensor:
            asked["compiled"] += 1
            # Elsewhere it would call everything wrong: success is for the classifier to grant.
            true = LINEAR(images)
            return (
                true
                if asked["compiled"] <= 2
                else true - 100 * torch.nn.functional.one_hot(true.argmax(1), 3)
            )

        return quick

    monkeypatch.setattr(torch, "compile", compile)
    found = session(itself)
    assert asked["compiled"] == 2
    before = asked["itself"]
    radius = LINEAR.radius(IMAGES, LABELS, "linf")
    fell = found.attack("pgd", float(radius.min()) / 2, range(12), hyper={"steps": 3})
    assert fell == {} and asked["compiled"] > 2 and asked["itself"] > before


def test_a_compiled_network_is_attacked_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="eager"))
    net = network("standard").requires_grad_(False)
    images = torch.rand(8, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    labels = net(images).argmax(1)
    itself = Compute(torch.device("cpu"), width=8)
    plain = Session(Subject.examine(net, images, labels, "linf", itself))
    quick = session(net, images, labels)
    for eps in (0.02, 0.05):
        found = [each.attack("pgd", eps, range(8), hyper={"steps": 20}) for each in (plain, quick)]
        assert found[0].keys() == found[1].keys()


def refusing(function: Any, *, dynamic: bool) -> Callable[[Tensor], Tensor]:
    def quick(images: Tensor) -> Tensor:
        raise RuntimeError("no C++ compiler\nand more")

    return quick


def bent(function: Any, *, dynamic: bool) -> Callable[[Tensor], Tensor]:
    return lambda images: function(images) + images.mean()


@pytest.mark.parametrize(
    ("compile", "message"),
    [
        (refusing, "cannot be compiled: RuntimeError: no C\\+\\+ compiler and more$"),
        (bent, "compiled, the classifier has other gradients"),
    ],
)
def test_what_does_not_compile_is_said(
    compile: Any, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch, "compile", compile)
    with pytest.raises(ParadiseError, match=message):
        session(LINEAR)


def test_a_classifier_that_answers_at_random_is_not_compiled() -> None:
    images = torch.rand(12, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    with pytest.raises(UsageError, match="answers at random is not compiled"):
        session(CANARIES["sampled_dvib"](), images, torch.zeros(12, dtype=torch.int64))
