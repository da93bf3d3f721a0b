"""The door to anyone's classifier: its own memory, a layout that it takes, one call at a time."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier, BrokenBarrierError
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import relu
from torchvision.transforms import Normalize

from paradise_cli.attacks import ATTACKS, AttackReport, attack, run
from paradise_cli.attacks.audit.audit import Audit
from paradise_cli.attacks.audit.canaries import network
from paradise_cli.attacks.engine.batches import Compute
from paradise_cli.attacks.engine.classifier import Behaviour, Classifier, Function
from paradise_cli.attacks.engine.examination import examine
from paradise_cli.core.randomness import generator
from paradise_cli.perturbations.threat import Linf
from tests.attack_cases import Linear, LinearEncoder, attacked, balanced, fallen

CPU = torch.device("cpu")
LINEAR = balanced(3, 0)
IMAGES, LABELS = LINEAR.problem(12, 0)
COLOUR = torch.rand(6, 3, 8, 8, generator=generator(0, "colour"))


@pytest.fixture(autouse=True)
def without_audit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "audit", lambda *_, **__: Audit("not detected", (), (), ()))


def report(function: Any, images: Tensor, labels: Tensor, **given: Any) -> AttackReport:
    return attack(function, images, labels, **{"eps": 0.02, "suite": "quick", "audited": 1} | given)


def behaviour(function: Function, images: Tensor = IMAGES, **given: Any) -> Behaviour:
    return examine(function, images, torch.zeros(len(images), dtype=torch.int64), CPU, **given)


class Flat(nn.Module):
    """Two convolutions and a view of their map, which channels_last maps do not allow."""

    def __init__(self, flatten: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        draw = generator(0, "flat")
        self.convolutions = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 3))
        self.head, self.flatten = nn.Linear(64, 5), flatten
        with torch.no_grad():
            for weight in self.parameters():
                weight.copy_(torch.randn(weight.shape, generator=draw) / 4)

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.head(self.flatten(self.convolutions(images)))
        return logits


VIEWING = Flat(lambda maps: maps.view(maps.size(0), -1)).eval()
RESHAPING = Flat(lambda maps: maps.flatten(1)).eval()
SQUEEZING = Flat(lambda maps: maps.flatten(1).squeeze()).eval()


# What writes into its input


def pushing(images: Tensor) -> Tensor:
    images -= 0.25
    return LINEAR(images + 0.25)


@torch.no_grad()
def pushing_without_gradient(images: Tensor) -> Tensor:
    return pushing(images)


@pytest.mark.parametrize(
    "function",
    [
        pushing,
        pushing_without_gradient,
        lambda x: LINEAR(Normalize([0.25], [1.0], inplace=True)(x) + 0.25),
        lambda x: LINEAR(relu(x, inplace=True)),
    ],
    ids=["minus", "minus without gradient", "Normalize", "ReLU"],
)
def test_a_classifier_may_write_into_its_input(function: Function) -> None:
    # LABELS are LINEAR's own answers, and each function is LINEAR but for rounding.
    images = IMAGES.clone()
    found = report(function, images, LABELS)
    assert found.clean_accuracy.value == 1.0
    assert torch.equal(images, IMAGES)  # the caller's own
    assert not any("at random" in note for note in found.notes)
    if function is not pushing_without_gradient:
        plain = report(LINEAR, IMAGES, LABELS)
        assert torch.equal(found.standing, plain.standing) and 0 < int(plain.standing.sum()) < 12


def test_gradients_come_back_through_a_classifier_that_writes_into_its_input() -> None:
    x = IMAGES.clone().requires_grad_()
    victim = Classifier(pushing, device=CPU, width=12)
    (slope,) = torch.autograd.grad(victim(x)[:, 1].sum(), [x])
    assert torch.equal(slope.flatten(1), LINEAR.weight[1].expand(12, -1))
    assert torch.equal(x, IMAGES)


def test_a_classifier_may_answer_from_the_same_memory_every_time() -> None:
    buffer = torch.zeros(4, 3)

    def reusing(images: Tensor) -> Tensor:
        return buffer.copy_(LINEAR(images))

    with torch.no_grad():
        judged = Classifier(reusing, device=CPU, width=4).judge(IMAGES)
    torch.testing.assert_close(judged, LINEAR(IMAGES))


# Layout, batches of one, empty batches


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_view_behind_a_convolution_is_attacked_as_a_reshape_is(precision: str) -> None:
    labels = RESHAPING(COLOUR).argmax(1)
    found = report(VIEWING, COLOUR, labels, precision=precision)
    same = report(RESHAPING, COLOUR, labels, precision=precision)
    assert found.clean_accuracy.value == 1.0
    assert torch.equal(found.standing, same.standing)


def test_channels_last_is_kept_where_it_works() -> None:
    seen = set()

    def watched(images: Tensor) -> Tensor:
        seen.add(images.is_contiguous(memory_format=torch.channels_last))
        return RESHAPING(images)

    found, other = behaviour(RESHAPING, COLOUR), behaviour(VIEWING, COLOUR)
    assert found.channels_last and found.gradient == "flows" and not found.keeps
    assert not other.channels_last and other.gradient == "flows"
    Classifier(watched, device=CPU, width=6, behaviour=found)(COLOUR)
    assert seen == {True}
    Classifier(watched, device=CPU, width=6, behaviour=other)(COLOUR)
    assert seen == {True, False}


def test_a_layout_that_fails_with_gradients_alone_is_not_taken() -> None:
    class Viewed(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, maps: Tensor) -> Tensor:
            return maps.clone()

        @staticmethod
        def backward(ctx: Any, slope: Any) -> Tensor:
            # The map of a convolution of channels_last images has a slope so laid out.
            return slope.view(slope.size(0), -1).view_as(slope)

    def function(images: Tensor) -> Tensor:
        return RESHAPING.head(Viewed.apply(RESHAPING.convolutions(images)).flatten(1))

    found = behaviour(function, COLOUR)
    assert found.gradient == "flows"
    x = COLOUR.clone().requires_grad_()
    logits = Classifier(function, device=CPU, width=6, behaviour=found)(x)
    (slope,) = torch.autograd.grad(logits.sum(), [x])
    (expected,) = torch.autograd.grad(RESHAPING(x).sum(), [x])
    torch.testing.assert_close(slope, expected)


def test_a_classifier_that_cannot_take_one_image_is_asked_about_two() -> None:
    found = behaviour(SQUEEZING, COLOUR)
    assert not found.alone and behaviour(RESHAPING, COLOUR).alone
    logits = Classifier(SQUEEZING, device=CPU, width=6, behaviour=found)(COLOUR[:1])
    torch.testing.assert_close(logits, RESHAPING(COLOUR[:1]))
    labels = RESHAPING(COLOUR).argmax(1)
    assert report(SQUEEZING, COLOUR, labels).clean_accuracy.value == 1.0


def test_a_classifier_is_never_asked_about_an_empty_batch() -> None:
    sizes = []

    def watched(images: Tensor) -> Tensor:
        sizes.append(len(images))
        return LINEAR(images - 0 * images.min())  # an empty batch has no minimum

    known = Classifier(watched, device=CPU, width=4, behaviour=Behaviour(3))
    for logits in (known(IMAGES[:0]), known.judge(IMAGES[:0]), known.confirm(IMAGES[:0])):
        assert logits.shape == (0, 3) and logits.dtype == torch.float32
    assert sizes == []
    # Where nobody said how many classes there are, one blank image says it.
    assert Classifier(watched, device=CPU, width=4)(IMAGES[:0]).shape == (0, 3) and sizes == [1]


# Gradients that do not come back


def through_numpy(images: Tensor) -> Tensor:
    pixels = np.asarray(images).reshape(len(images), -1)
    return torch.from_numpy(pixels @ LINEAR.weight.numpy().T + LINEAR.bias.numpy())


def network_through_numpy(images: Tensor) -> Tensor:
    return torch.from_numpy(RESHAPING.head(RESHAPING.convolutions(images).flatten(1)).numpy())


def cut_off(images: Tensor) -> Tensor:
    with torch.no_grad():
        return LINEAR(images)


def rounded(images: Tensor) -> Tensor:
    return LINEAR((images * 255).round() / 255)  # a gradient, though it is 0


@pytest.mark.parametrize(
    ("function", "gradient"),
    [
        (LINEAR, "flows"),
        (through_numpy, "refused"),
        (cut_off, "cut off"),
        (torch.inference_mode()(cut_off), "cut off"),
        (rounded, "flows"),
        (lambda x: torch.ones(3, requires_grad=True) * cut_off(x), "cut off"),
    ],
    ids=["honest", "NumPy", "no_grad", "inference_mode", "round", "weights alone"],
)
def test_whether_gradients_come_back_is_seen(function: Function, gradient: str) -> None:
    found = behaviour(function)
    assert (found.gradient, found.classes) == (gradient, 3)
    with torch.no_grad():  # the caller may have turned them off
        assert behaviour(function).gradient == gradient


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_classifier_through_numpy_is_attacked_without_gradients(precision: str) -> None:
    found = report(through_numpy, IMAGES, LABELS, precision=precision, eps=0.5)
    assert found.clean_accuracy.value == 1.0
    assert "no gradient of the logits comes back" in "".join(found.notes)
    assert not any("no gradient" in note for note in report(LINEAR, IMAGES, LABELS).notes)
    # Queries alone go where they would go for the classifier with gradients.
    square = ATTACKS["square"](Linf(0.03), queries=60)
    fell = [fallen(attacked(square, each, IMAGES, LABELS), 12) for each in (through_numpy, LINEAR)]
    assert torch.equal(*fell) and 0 < int(fell[0].sum()) < 12


def test_a_classifier_that_fails_in_bf16_is_asked_in_fp32() -> None:
    # NumPy knows no bf16, which is what convolutions answer with in autocast.
    found = behaviour(network_through_numpy, COLOUR, precision="bf16")
    assert found.gradient == "refused" and not found.bf16
    assert behaviour(RESHAPING, COLOUR, precision="bf16").bf16
    labels = RESHAPING(COLOUR).argmax(1)
    result = report(network_through_numpy, COLOUR, labels, precision="bf16")
    assert result.clean_accuracy.value == 1.0


# Several threads


class Keeping(nn.Module):
    """Leaves its features in an attribute, and lets another thread overwrite them if it can."""

    def __init__(self) -> None:
        super().__init__()
        self.network, self.meeting = network("standard"), Barrier(2)

    def forward(self, images: Tensor) -> Tensor:
        self.features = images.flatten(1)
        try:
            self.meeting.wait(0.05)  # passed if two calls run at the same time
        except BrokenBarrierError:
            self.meeting.reset()
        logits: Tensor = self.network(self.features.view_as(images))
        return logits


def digits(n: int) -> Tensor:
    return torch.rand(n, 1, 8, 8, generator=generator(0, "threads"))


def test_a_classifier_that_keeps_something_answers_each_thread_with_its_own() -> None:
    images, function = digits(32), Keeping().eval()
    found = behaviour(function, images)
    assert found.keeps
    victim = Classifier(function, device=CPU, width=8, behaviour=found)
    with torch.no_grad(), ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda part: victim(part), images.split(8)))
    torch.testing.assert_close(torch.cat(answers), network("standard")(images))


def test_two_doors_to_one_classifier_are_never_open_at_once() -> None:
    images, function = digits(32), Keeping().eval()
    doors = [Classifier(function, device=CPU, width=8) for _ in range(4)]
    with torch.no_grad(), ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda door, part: door(part), doors, images.split(8)))
    torch.testing.assert_close(torch.cat(answers), network("standard")(images))


class Counting(nn.Module):
    def __init__(self, change: Callable[["Counting", Tensor], None]) -> None:
        super().__init__()
        self.change, self.calls, self.log = change, 0, {"seen": [0]}
        self.scratch = np.zeros(36, dtype=np.float32)
        self.register_buffer("mean", torch.zeros(36))

    def forward(self, images: Tensor) -> Tensor:
        self.change(self, images)
        return LINEAR(images)


def count(module: Counting, images: Tensor) -> None:
    module.calls += 1


def note(module: Counting, images: Tensor) -> None:
    module.log["seen"].append(len(images))


def store(module: Counting, images: Tensor) -> None:
    module.scratch[:] = images[0].detach().numpy().ravel()


def average(module: Counting, images: Tensor) -> None:
    module.get_buffer("mean").copy_(images.detach().flatten(1).mean(0))


SHARED = {"last": torch.zeros(1)}


def share(module: Counting, images: Tensor) -> None:
    SHARED["last"] = images


def nothing(module: Counting, images: Tensor) -> None:
    pass


class Session:
    """Something that runs elsewhere: nothing of what it keeps can be seen from here."""

    __slots__ = ("weight",)

    def __init__(self) -> None:
        self.weight = LINEAR.weight

    def run(self, images: Tensor) -> Tensor:
        return images.flatten(1) @ self.weight.T


def closing() -> Function:
    calls = 0

    def function(images: Tensor) -> Tensor:
        nonlocal calls
        calls += 1
        return LINEAR(images)

    return function


def hooked() -> Function:
    seen = {}
    net = network("standard")
    list(net.modules())[1].register_forward_hook(lambda module, given, out: seen.update(last=out))
    return net


KEEPING: dict[str, Function] = {
    "a counter": Counting(count).eval(),
    "a list in an attribute": Counting(note).eval(),
    "a NumPy array": Counting(store).eval(),
    "a buffer": Counting(average).eval(),
    "a global": Counting(share).eval(),
    "a variable closed over": closing(),
    "what cannot be seen": Session().run,
}
HONEST: dict[str, Function] = {
    "a module": Counting(nothing).eval(),
    "an object": LINEAR,
    "a lambda": lambda images: LINEAR(images),
    "layers of torch": nn.Sequential(nn.Flatten(), nn.BatchNorm1d(36), nn.Linear(36, 3)).eval(),
    "a decorated function": cut_off,
}


@pytest.mark.parametrize("name", KEEPING)
def test_what_keeps_something_is_seen(name: str) -> None:
    assert behaviour(KEEPING[name]).keeps


def test_hooks_keep_something_too() -> None:
    assert behaviour(hooked(), digits(12)).keeps


@pytest.mark.parametrize("name", HONEST)
def test_what_keeps_nothing_runs_side_by_side(name: str) -> None:
    assert not behaviour(HONEST[name]).keeps


@pytest.mark.parametrize("name", ["standard", "robust", "encoder"])
def test_our_own_networks_run_side_by_side(name: str) -> None:
    net = network(name)
    assert not behaviour(net, digits(12)).keeps
    together = Barrier(2)

    def meeting(images: Tensor) -> Tensor:
        together.wait(20)  # BrokenBarrierError if the calls came one after the other
        return net(images)

    door = Classifier(meeting, device=CPU, width=8, behaviour=behaviour(net, digits(12)))
    with torch.no_grad(), ThreadPoolExecutor(2) as pool:
        answers = list(pool.map(door, digits(16).split(8)))
    torch.testing.assert_close(torch.cat(answers), net(digits(16)))


def test_an_attack_in_two_threads_is_that_of_a_classifier_that_keeps_nothing() -> None:
    images = digits(24)
    labels = network("standard")(images).argmax(1)
    compute = Compute(CPU, 8, blocks=2)
    pgd = ATTACKS["pgd"](Linf(0.03), steps=4)
    found = [
        attacked(pgd, function, images, labels, compute=compute)
        for function in (Keeping().eval(), network("standard"))
    ]
    one, other = ({o.job.image: (o.succeeded, o.step) for o in each} for each in found)
    assert one == other and 0 < sum(fell for fell, _ in one.values()) < 24


def test_linear_is_what_these_tests_take_it_for() -> None:
    assert isinstance(LINEAR, Linear) and len(set(LABELS.tolist())) > 1


class Named(nn.Module):
    """LINEAR with methods that are called as those of an encoder are."""

    def __init__(self, posterior: Any, classify: Any = lambda z: z) -> None:
        super().__init__()
        self.posterior, self.classify = posterior, classify

    def forward(self, images: Tensor) -> Tensor:
        return LINEAR(images)


@pytest.mark.parametrize(
    ("function", "latents"),
    [
        (LinearEncoder(3, 0), True),
        (Named(LinearEncoder(3, 0).posterior), True),
        (Named(lambda images: (LINEAR(images), LINEAR(images))), False),
        (Named(lambda images: torch.distributions.Normal(LINEAR(images), 1.0)), False),
        (Named(lambda images, labels: labels), False),
        (Named(LinearEncoder(3, 0).posterior, lambda z: z.argmax(1)), False),
        (LINEAR, False),
    ],
)
def test_methods_of_an_encoder_s_names_are_believed_where_they_are_one_s(
    function: Function, latents: bool
) -> None:
    found = behaviour(function)
    assert found.latents == latents
    door = Classifier(function, device=CPU, width=8, behaviour=found)
    assert (door.latent is not None) == latents


class Unasked:
    """A classifier whose attributes nobody may ask for."""

    def __getattr__(self, name: str) -> Any:
        raise RuntimeError(f"{name} is not loaded")

    def __call__(self, images: Tensor) -> Tensor:
        return LINEAR(images)


def test_an_object_that_fails_at_unknown_attributes_is_a_function_like_others() -> None:
    assert behaviour(Unasked()).classes == 3
