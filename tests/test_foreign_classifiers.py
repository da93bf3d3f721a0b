"""What a user's classifier may do: odd states, modes, infinite logits, errors at any time."""

import copy
import sys
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import dropout

from paradise_cli.attacks import AttackReport, attack, run
from paradise_cli.attacks.audit.audit import Audit
from paradise_cli.attacks.engine.classifier import LOWEST, apart, logit_spread
from paradise_cli.attacks.engine.examination import examine
from paradise_cli.attacks.engine.introspection import weights_digest
from paradise_cli.core.errors import ParadiseError, UsageError
from tests.attack_cases import balanced

CPU = torch.device("cpu")
LINEAR = balanced(3, 0)
IMAGES, LABELS = LINEAR.problem(12, 0)


@pytest.fixture(autouse=True)
def without_audit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "audit", lambda *_, **__: Audit("not detected", (), (), ()))


def report(function: Any, labels: Tensor = LABELS) -> AttackReport:
    return attack(function, IMAGES, labels, eps=0.02, suite="quick", audited=1, precision="fp32")


# Whatever is raised, or answered wrongly, at any time


def raising(error: type[BaseException]) -> Callable[[Tensor], Any]:
    def fail(images: Tensor) -> Tensor:
        raise error("of its own")

    return fail


WRONG: dict[str, tuple[Callable[[Tensor], Any], str]] = {
    "ValueError": (raising(ValueError), "fails on float32 images .*: ValueError: of its own"),
    "MemoryError": (raising(MemoryError), "MemoryError: of its own"),
    "StopIteration": (raising(StopIteration), "StopIteration: of its own"),
    "sys.exit": (lambda images: sys.exit(0), "SystemExit: 0"),
    "tuple": (lambda images: (LINEAR(images),), "returns a tuple: .* such as its first item"),
    "None": (lambda images: None, "returns a NoneType: return one float tensor"),
    "fewer images": (lambda images: LINEAR(images)[1:], r"returns float32 \[\d+, 3\]: "),
    "one more class": (lambda images: LINEAR(images)[:, [0, 1, 2, 2]], r"float32 \[\d+, 4\]"),
    "integers": (lambda images: LINEAR(images).long(), r"returns int64 \["),
    "sparse": (lambda images: LINEAR(images).to_sparse(), ", sparse: return one float tensor"),
    "meta": (lambda images: LINEAR(images).to("meta"), "without values: return one float tensor"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_goes_wrong_after_the_examination_is_one_message(name: str) -> None:
    wrong, message = WRONG[name]
    calls = 0

    def later(images: Tensor) -> Any:
        nonlocal calls
        calls += 1
        return wrong(images) if calls > 20 else LINEAR(images)

    with pytest.raises(ParadiseError, match=message):
        report(later)
    assert calls > 20


@pytest.mark.parametrize("after", range(12))
def test_so_is_another_number_of_logits_whenever_it_comes(after: int) -> None:
    calls = 0

    def later(images: Tensor) -> Tensor:
        nonlocal calls
        calls += 1
        return LINEAR(images)[:, : 3 if calls <= after else 2]

    # Labels of the third class fit no classifier of two.
    with pytest.raises(ParadiseError, match=r"float32 \[\d+, 2\]: |labels run from 0 to 2, but"):
        report(later)


def test_a_gradient_that_fails_later_is_one_message() -> None:
    calls = 0

    class Failing(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Tensor) -> Tensor:
            return x.clone()

        @staticmethod
        def backward(ctx: Any, *slopes: Tensor) -> Tensor:
            nonlocal calls
            calls += 1
            if calls > 3:
                raise ValueError("no way back")
            return slopes[0]

    with pytest.raises(ParadiseError, match=r"when asked for its gradient at .*: no way back"):
        report(lambda images: LINEAR(Failing.apply(images)))


def test_what_a_classifier_sets_for_all_of_torch_is_undone() -> None:
    def setting(images: Tensor) -> Tensor:
        torch.set_default_dtype(torch.float64)
        answer = LINEAR(images)
        torch.set_grad_enabled(False)
        return answer

    found, plain = report(setting), report(LINEAR)
    assert torch.equal(found.standing, plain.standing)
    assert torch.get_default_dtype() == torch.float32 and torch.is_grad_enabled()


# Modes


class Net(nn.Module):
    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Flatten(), *layers, nn.Linear(36, 3))
        with torch.no_grad():
            self.layers[-1].weight.copy_(LINEAR.weight)  # type: ignore[arg-type]
            self.layers[-1].bias.copy_(LINEAR.bias)  # type: ignore[arg-type]

    def forward(self, images: Tensor) -> Tensor:
        answer: Tensor = self.layers(images)
        return answer


def test_an_exported_program_is_attacked_as_the_module_it_was_made_from() -> None:
    net = Net().eval()
    batch = torch.export.Dim("batch", min=1)
    exported = torch.export.export(net, (IMAGES,), dynamic_shapes=({0: batch},)).module()
    assert exported.training  # whatever it was exported from
    assert torch.equal(report(exported).standing, report(net).standing)


def test_dropout_that_was_turned_on_again_is_a_random_classifier() -> None:
    net = Net(nn.Dropout(0.1)).eval()
    net.layers[1].train()
    by_module = examine(net, IMAGES, LABELS, CPU)
    by_function = examine(lambda x: LINEAR(dropout(x, 0.1)), IMAGES, LABELS, CPU)
    assert by_module.random and by_function.random


@pytest.mark.parametrize(
    "net, message",
    [
        (Net().train(), "in training mode: call model.eval"),
        (Net(nn.BatchNorm1d(36)).eval(), "batch normalisation is in training mode"),
    ],
)
def test_training_mode_is_refused(net: Net, message: str) -> None:
    if not net.training:
        net.layers[1].train()
    with pytest.raises(UsageError, match=message):
        examine(net, IMAGES, LABELS, CPU)


# States


class Extra(nn.Module):
    """A state of every kind beside the weight that it is given."""

    def __init__(self, kept: Any, **buffers: Tensor) -> None:
        super().__init__()
        self.kept = kept
        for name, buffer in buffers.items():
            self.register_buffer(name, buffer)

    def get_extra_state(self) -> Any:
        return self.kept

    def set_extra_state(self, state: Any) -> None:
        self.kept = state


def quantised(values: Tensor) -> Tensor:
    with warnings.catch_warnings(action="ignore"):  # torch says that it will remove them
        return torch.quantize_per_tensor(values, 0.1, 0, torch.qint8)


ONES = torch.ones(2)
STATES: dict[str, tuple[nn.Module, nn.Module]] = {
    "mapping": (Extra({"scale": 1.0}), Extra({"scale": 2.0})),
    "nested": (Extra([{"w": ONES}, "a"]), Extra([{"w": 2 * ONES}, "a"])),
    "imaginary": (
        Extra(None, c=torch.complex(ONES, ONES)),
        Extra(None, c=torch.complex(ONES, -ONES)),
    ),
    "sparse": (Extra(None, s=ONES.to_sparse()), Extra(None, s=(2 * ONES).to_sparse())),
    "quantised": (Extra(None, q=quantised(ONES)), Extra(None, q=quantised(2 * ONES))),
    "bfloat16": (Extra(None, b=ONES.bfloat16()), Extra(None, b=2 * ONES.bfloat16())),
}  # fmt: skip


@pytest.mark.filterwarnings("ignore:TypedStorage")  # how torch copies what is quantised
@pytest.mark.parametrize("name", STATES)
def test_states_of_every_kind_tell_classifiers_apart(name: str) -> None:
    one, other = STATES[name]
    assert weights_digest(one) == weights_digest(copy.deepcopy(one)) != weights_digest(other)


def test_an_object_in_a_state_does_not_change_the_digest_by_its_address() -> None:
    assert weights_digest(Extra(object())) == weights_digest(Extra(object()))


# Logits that are no numbers


def masked(value: float) -> Callable[[Tensor], Tensor]:
    """LINEAR with two more classes that are ruled out."""

    def answer(images: Tensor) -> Tensor:
        return torch.cat([LINEAR(images), torch.full((len(images), 2), value)], 1)

    return answer


def test_a_class_at_minus_infinity_is_one_that_is_never_predicted() -> None:
    infinite, finite = report(masked(-torch.inf)), report(masked(LOWEST))
    assert infinite.clean_accuracy.value == 1.0
    assert torch.equal(infinite.standing, finite.standing)
    assert any("minus infinity" in note for note in infinite.notes)


@pytest.mark.parametrize("value", [torch.inf, torch.nan])
def test_logits_that_are_no_numbers_on_clean_images_are_refused(value: float) -> None:
    with pytest.raises(ParadiseError, match="NaN or infinite logits for 12 of 12"):
        report(masked(value))


def test_logits_that_are_no_numbers_under_attack_are_named() -> None:
    images = IMAGES.flatten(1)
    closest = float(LINEAR(IMAGES).amax(1).min())

    def overflowing(x: Tensor) -> Tensor:
        # Not on the clean images, whose largest logit lies above this.
        logits = LINEAR(x)
        return torch.where(logits.amax(1, keepdim=True) < closest - 1e-4, torch.nan, logits)

    found = report(overflowing)
    assert images.isfinite().all() and found.robust_accuracy.value < 1
    assert any("images that attacks broke have NaN or infinite" in note for note in found.notes)


def test_a_network_in_half_precision_is_called_that() -> None:
    found = report(lambda images: LINEAR(images).half())
    assert any("answers in float16" in note for note in found.notes)


def test_the_spread_of_logits_is_that_of_classes_that_can_be_predicted() -> None:
    logits = torch.tensor([[4.0, 1.0, 2.0], [8.0, 0.0, 3.0]])
    # The best less the middle one: 4 - 2 and 8 - 3.
    assert float(logit_spread(logits)) == 3.5
    ruled_out = torch.full((2, 5), LOWEST)
    assert float(logit_spread(torch.cat([logits, ruled_out], 1))) == 3.5
    assert float(logit_spread(torch.zeros(2, 3))) == 1.0
    assert float(logit_spread(torch.full((2, 3), torch.nan))) == 1.0


@pytest.mark.parametrize(
    "one, other, expected",
    [([1.0, 2.0], [1.0, 2.5], 0.5), ([torch.nan, 1.0], [torch.nan, 1.0], 0.0),
     ([torch.nan, 1.0], [0.0, 1.0], torch.inf),
     ([torch.inf, 1.0], [torch.inf, 1.0], 0.0)],
)  # fmt: skip
def test_answers_that_are_no_numbers_differ_from_all_others(
    one: list[float], other: list[float], expected: float
) -> None:
    assert float(apart(torch.tensor([one]), torch.tensor([other]))) == expected


def test_an_attack_leaves_the_callers_random_numbers_alone() -> None:
    def drawing(images: Tensor) -> Tensor:
        return LINEAR(images) + 1e-3 * torch.randn(len(images), 3)

    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    report(drawing)
    assert torch.equal(torch.rand(3), expected)
