"""What a user's classifier may do: odd states, modes, infinite logits, errors at any time."""

import copy
import os
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn.functional import dropout
from torch.testing._internal.two_tensor import TwoTensor

from paradise_cli.attacks import AttackReport, attack, run
from paradise_cli.attacks.audit.audit import Audit
from paradise_cli.attacks.engine.classifier import LOWEST, apart, logit_spread
from paradise_cli.attacks.engine.examination import examine
from paradise_cli.attacks.engine.introspection import weights_digest
from paradise_cli.core.errors import ParadiseError, UsageError
from paradise_cli.core.user_code import settings_put_back
from paradise_cli.robustness.classifiers import open_classifier
from tests.attack_cases import balanced

CPU = torch.device("cpu")
LINEAR = balanced(3, 0)
IMAGES, LABELS = LINEAR.problem(12, 0)


@pytest.fixture(autouse=True)
def without_audit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "audit", lambda *_, **__: Audit("not detected", (), (), ()))


def report(function: Any, labels: Tensor = LABELS, **given: Any) -> AttackReport:
    quick = {"eps": 0.02, "suite": "quick", "audited": 1, "precision": "fp32"}
    return attack(function, IMAGES, labels, **quick | given)


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


def nested(*sizes: int, **layout: Any) -> Tensor:
    with warnings.catch_warnings(action="ignore"):  # a prototype, torch says
        return torch.nested.nested_tensor([torch.ones(size) for size in sizes], **layout)


def endless(held: Any) -> Any:
    """A dict or list that holds itself as well."""
    if isinstance(held, dict):
        held["self"] = held
    else:
        held.append(held)
    return held


class Text(str):
    def __repr__(self) -> str:
        raise RuntimeError("nothing to print")


class Unprintable(Extra):
    def __repr__(self) -> str:
        raise RuntimeError("nothing to print")


ONES = torch.ones(2)
IMAGINARY = torch.complex(ONES, ONES)
BYTES = torch.arange(8, dtype=torch.uint8)
WIDE = torch.ones(2, dtype=torch.float64)
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
    "jagged": (
        Extra(None, n=nested(2, 3, layout=torch.jagged)),
        Extra(None, n=nested(3, 2, layout=torch.jagged)),
    ),
    "conjugate": (Extra(None, c=IMAGINARY.conj()), Extra(None, c=2 * IMAGINARY.conj())),
    "negative": (Extra(None, c=IMAGINARY.conj().imag), Extra(None, c=IMAGINARY.imag.clone())),
    "4 bits": (Extra(None, b=BYTES.view(torch.uint4)), Extra(None, b=BYTES[1:].view(torch.uint4))),
    "every other": (
        Extra(None, b=BYTES.view(torch.int4)[::2]), Extra(None, b=BYTES.view(torch.int4)[1::2])
    ),
    "16 bits": (
        Extra(None, b=BYTES.view(torch.bits16)), Extra(None, b=BYTES.flip(0).view(torch.bits16))
    ),
    "packed": (
        Extra(None, p=TwoTensor(ONES, ONES)), Extra(None, p=TwoTensor(ONES, 2 * ONES))
    ),
    "float64": (Extra(None, w=WIDE / 3), Extra(None, w=WIDE / 3 + 1e-12)),
    "int64": (Extra(None, w=torch.tensor(2**60)), Extra(None, w=torch.tensor(2**60 + 1))),
    "array": (Extra(np.ones(2)), Extra(2 * np.ones(2))),
    "array of objects": (
        Extra(np.array([ONES, {}], object)), Extra(np.array([2 * ONES, {}], object))
    ),
    "bytes that change": (Extra(bytearray(b"a")), Extra(bytearray(b"b"))),
    "set": (Extra({0, 8}), Extra({0, 9})),
    "holds itself": (Extra(endless({"w": ONES})), Extra(endless({"w": 2 * ONES}))),
    "list that holds itself": (Extra(endless([1])), Extra(endless([2]))),
    "text of half a pair": (Extra({"\udc80": 1}), Extra({"\udc81": 1})),
    "cannot be printed": (Unprintable(1), Unprintable(2)),
}  # fmt: skip


@pytest.mark.filterwarnings("ignore:TypedStorage")  # how torch copies what is quantised
@pytest.mark.parametrize("name", STATES)
def test_states_of_every_kind_tell_classifiers_apart(name: str) -> None:
    one, other = STATES[name]
    assert weights_digest(one) == weights_digest(copy.deepcopy(one)) != weights_digest(other)


@pytest.mark.parametrize(
    "one, other",
    [(object(), object()), (Unprintable(1), Unprintable(1)), ({0, 8}, {8, 0})],
    ids=["address", "cannot be printed", "order of a set"],
)  # fmt: skip
def test_a_digest_is_that_of_the_next_process(one: object, other: object) -> None:
    assert weights_digest(Extra(one)) == weights_digest(Extra(other))


def test_nested_tensors_of_other_parts_are_others() -> None:  # which torch cannot copy
    one, same, other = (Extra(None, n=nested(*sizes)) for sizes in ((2, 3), (2, 3), (3, 2)))
    assert weights_digest(one) == weights_digest(same) != weights_digest(other)


class Printing(Extra):
    def extra_repr(self) -> str:
        return f"kept={self.kept}"


def test_an_address_that_a_module_prints_is_not_in_its_digest() -> None:
    one, other = Printing(object()), Printing(object())
    assert repr(one) != repr(other) and weights_digest(one) == weights_digest(other)
    assert weights_digest(Printing(1)) != weights_digest(Printing(2))


class Stateless(nn.Module):
    def state_dict(self, *_: Any, **__: Any) -> Any:
        return None


def fake() -> Tensor:
    with FakeTensorMode():
        return torch.ones(2)


def holding(kind: type[nn.Module]) -> nn.Module:
    """A module that holds itself."""
    module = kind()
    module.itself = module
    return module


UNREADABLE: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "no mapping": (Stateless, r"state_dict\(\) of the classifier returns a NoneType: it must"),
    "meta": (lambda: Extra(None, b=ONES.to("meta")), "b of .* is on the device meta and has no v"),
    "fake": (lambda: Extra(None, b=fake()), "b of the classifier is a FakeTensor and has no valu"),
    "meta beside": (lambda: Extra([ONES.to("meta")]), "for its state '_extra_state': NotImpl"),
    "no weight yet": (lambda: nn.LazyLinear(2), "fails when asked for its state 'weight': ValueEr"),
    "text that fails": (lambda: Extra(Text("a")), "'_extra_state': RuntimeError: nothing to print"),
    "itself": (lambda: holding(nn.Module), "when asked for its state_dict: RecursionError"),
}  # fmt: skip


@pytest.mark.parametrize("name", UNREADABLE)
def test_a_state_that_cannot_be_read_is_one_message(name: str) -> None:
    make, message = UNREADABLE[name]
    with pytest.raises(ParadiseError, match=message):
        weights_digest(make())


class Odd(Unprintable):
    def forward(self, images: Tensor) -> Tensor:
        return LINEAR(images)


def test_a_classifier_of_an_odd_state_is_attacked_and_resumed(tmp_path: Path) -> None:
    buffers = {"n": nested(2, 3), "c": IMAGINARY.conj(), "b": BYTES.view(torch.uint4)}
    first, again = (report(Odd(endless({}), **buffers).eval(), out=tmp_path) for _ in range(2))
    assert torch.equal(first.standing, report(LINEAR).standing)
    assert torch.equal(first.standing, again.standing)


# Where it is opened: `package.module:function`


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], str]]:
    """Writes a module of that text in a folder from which it can be imported, gives its name."""
    folder = tmp_path / "work"
    folder.mkdir()
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.chdir(folder)

    def write(text: str) -> str:
        (folder / "own_classifier.py").write_text(f"import os, sys, torch\n{text}")
        return "own_classifier"

    yield write
    sys.modules.pop("own_classifier", None)


LOW = """\
for limit in range(20, 1000):
    try:
        sys.setrecursionlimit(limit)
        break
    except RecursionError:  # lower than where we are
        pass"""
SETTINGS = {
    "type": "torch.set_default_dtype(torch.float64)",
    "device": "torch.set_default_device('meta')",
    "folder": "os.chdir('..')",
    "recursion": LOW,
    "gradients": "torch.set_grad_enabled(False)",
}
PLACES = {
    "import": "{setting}\nload = lambda: torch.nn.Flatten()",
    "failing import": "{setting}\n1 / 0",
    "call": "net = torch.nn.Flatten()\ndef load():\n    exec({setting!r})\n    return net",
    "failing call": "def load():\n    exec({setting!r})\n    1 / 0",
}


def settings() -> tuple[Any, ...]:
    torchs = torch.get_default_dtype(), torch.get_default_device(), torch.is_grad_enabled()
    return (*torchs, Path.cwd(), sys.getrecursionlimit())


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("setting", SETTINGS)
def test_what_a_module_sets_for_the_process_is_put_back(
    module: Callable[[str], str], setting: str, place: str
) -> None:
    name, before = module(PLACES[place].format(setting=SETTINGS[setting])), settings()
    failing = pytest.raises(ParadiseError, match="ZeroDiv") if "fail" in place else nullcontext()
    with settings_put_back():  # for the tests after this one, should it fail
        with failing:
            assert isinstance(open_classifier(f"{name}:load", device="cpu").function, nn.Flatten)
        assert settings() == before


def test_more_recursion_stays_allowed_as_a_deep_classifier_needs_it(
    module: Callable[[str], str],
) -> None:
    before = sys.getrecursionlimit()
    name = module(f"sys.setrecursionlimit({before + 7})\nload = torch.nn.Flatten")
    try:
        open_classifier(f"{name}:load", device="cpu")
        assert sys.getrecursionlimit() == before + 7
    finally:
        sys.setrecursionlimit(before)


OPENED = {
    "meta": (
        "load = lambda: torch.nn.Linear(2, 2, device='meta')",
        "weight of the classifier is on the device meta and has no values: load them before",
    ),
    "fake": (
        "from torch._subclasses.fake_tensor import FakeTensorMode\n"
        "def load():\n    with FakeTensorMode(): return torch.nn.Linear(2, 2)",
        "weight of the classifier is a FakeTensor and has no values",
    ),
    "cannot be moved": (
        "class load(torch.nn.Flatten):\n    def to(self, device): 1 / 0",
        "the classifier fails when moved to cpu: ZeroDivisionError",
    ),
    "odd names": (
        "def __getattr__(name): 1 / 0",
        "own_classifier:load: importing own_classifier fails: ZeroDivisionError",
    ),
}


@pytest.mark.parametrize("name", OPENED)
def test_what_cannot_be_opened_is_one_message(module: Callable[[str], str], name: str) -> None:
    text, message = OPENED[name]
    with pytest.raises(ParadiseError, match=message):
        open_classifier(f"{module(text)}:load", device="cpu")


def test_a_method_that_moves_a_module_may_return_nothing(module: Callable[[str], str]) -> None:
    name = module("class load(torch.nn.Flatten):\n    def to(self, device): pass")
    assert isinstance(open_classifier(f"{name}:load", device="cpu").function, nn.Flatten)


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


def moved_away(images: Tensor) -> Tensor:
    os.chdir("/")
    sys.setrecursionlimit(120)
    torch.set_default_device("meta")
    return LINEAR(images)


def test_what_a_classifier_sets_while_it_answers_is_put_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    limit = sys.getrecursionlimit()
    assert torch.equal(report(moved_away).standing, report(LINEAR).standing)
    assert (os.getcwd(), sys.getrecursionlimit()) == (str(tmp_path), limit)
    assert torch.get_default_device() == torch.device("cpu")


class Speechless(Exception):
    def __str__(self) -> str:
        raise ValueError("no words")


def test_an_error_that_cannot_say_what_it_is_is_named() -> None:
    with pytest.raises(ParadiseError, match=r"fails on float32 images .*: Speechless$"):
        report(raising(Speechless))
