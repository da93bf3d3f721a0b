"""The door to the classifier under attack: anyone's function from pixels to logits.

All calls go through `Classifier`. It hands the function memory of its own, in a layout that the
function takes, and lets one call at a time through unless nothing is kept between calls. `examine`
finds out on a few images what a function takes.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from threading import RLock
from typing import Any, Literal, Protocol, TypeVar, runtime_checkable

import torch
from torch import Tensor
from torch.nn.functional import log_softmax

from paradise_cli.attacks.engine.introspection import Memory, counted, if_it_works, modules_of
from paradise_cli.attacks.protocol.lanes import Latent
from paradise_cli.core.errors import ParadiseError, UsageError
from paradise_cli.core.machine import Precision, fast_layout
from paradise_cli.information.gaussian import DiagonalGaussian

T = TypeVar("T")
Function = Callable[[Tensor], Tensor]
Gradient = Literal["flows", "cut off", "refused"]
"""Whether logits have a gradient in the pixels, have none, or the function fails when asked for it.
"""

DRAWS = 16
"""Answers that are averaged to decide about one point of a classifier that draws at random."""
SURE_DRAWS = 256
"""The same, to confirm a success: a run that asks again and again would succeed by chance."""
_PROBES = 64
AGREE = 1e-3
"""Of the spread of the logits: above rounding in fp32, below what changes a decision."""
# One for all: two classifiers may share what they keep, as a surrogate does with its original.
_ONE_AT_A_TIME = RLock()


@runtime_checkable
class ThroughLatents(Protocol):
    """A classifier that says what lies between its pixels and its logits."""

    def posterior(self, images: Tensor) -> DiagonalGaussian: ...

    def classify(self, z: Tensor) -> Tensor: ...


@dataclass(frozen=True)
class Behaviour:
    """What a few images show of a classifier before any attack.

    `random`: another answer to the same batch. `batch_dependent`: another answer to the same image
    in other company. `difference` is the largest one seen, relative to the spread of the logits.
    `channels_last`, `bf16` and `alone`: whether it takes images laid out so, in autocast to bf16,
    and a batch of one. `keeps`: whether it keeps something between two calls, or may do so.
    `operations` are the multiplications and additions for an image, 0 where nobody can count them.
    """

    classes: int
    random: bool = False
    batch_dependent: bool = False
    difference: float = 0.0
    channels_last: bool = True
    bf16: bool = True
    alone: bool = True
    gradient: Gradient = "flows"
    keeps: bool = True
    operations: float = 0.0


class Classifier:
    """Images [B, C, H, W] in [0, 1] to logits [B, classes] in fp32 or better.

    Called, it answers once and is differentiable, through `quick` if there is one: a faster version
    of the function that leaves its input alone. `judge` decides: always `width` images together, in
    fp32, the function itself, the probabilities of several answers averaged where it draws at
    random. Without a `behaviour` the function is taken for one that may keep something.
    """

    def __init__(
        self,
        function: Function,
        *,
        device: torch.device,
        width: int,
        random: bool = False,
        behaviour: Behaviour | None = None,
    ) -> None:
        self.function, self.device, self.width = function, device, width
        self.behaviour = behaviour or Behaviour(classes=0, random=random)
        self.random = self.behaviour.random
        self.quick: Function | None = None
        self.latent: Latent | None = None
        if isinstance(function, ThroughLatents):
            self.latent = Latent(self._posterior, self._classify)
        modules = modules_of(function) if self.behaviour.channels_last else []
        kinds: tuple[Precision, ...] = ("fp32", "bf16")
        self._layouts = {kind: fast_layout(device, kind, *modules) for kind in kinds}

    def __call__(self, images: Tensor) -> Tensor:
        return self._logits(images, self.quick or self.ask)

    def judge(self, images: Tensor, draws: int = DRAWS) -> Tensor:
        """Logits [N, classes] of any number of images."""
        found = []
        with torch.no_grad(), torch.autocast(self.device.type, enabled=False):
            if not len(images):
                return self._logits(images.to(self.device), self.ask)
            # Always one shape: how a point is decided must not depend on how many are asked about.
            for part in torch.split(images, self.width):
                padding = part[:1].expand(self.width - len(part), *part.shape[1:])
                batch = torch.cat([part, padding]).to(self.device)
                found.append(self._decide(batch, draws)[: len(part)])
        return torch.cat(found)

    def confirm(self, images: Tensor) -> Tensor:
        """The same, surer: what a claimed success has to stand up to after `judge`."""
        return self.judge(images, SURE_DRAWS if self.random else DRAWS)

    def ask(self, images: Tensor) -> Any:
        """What the function returns for images of its own, which it may write into."""
        with self._turn():
            fresh = images.contiguous(memory_format=self.layout)
            # An attack's point is a leaf of the gradient, which nobody may write into either.
            return self.function(fresh.clone() if fresh is images else fresh)

    @property
    def layout(self) -> torch.memory_format:
        """How images are laid out that are asked about now, in autocast or not."""
        in_bf16 = torch.is_autocast_enabled(self.device.type) and self.behaviour.bf16
        return self._layouts["bf16" if in_bf16 else "fp32"]

    def _decide(self, batch: Tensor, draws: int) -> Tensor:
        if not self.random:
            return self._logits(batch, self.ask)
        # The mean of probabilities, up to a constant that changes no decision.
        each = [log_softmax(self._logits(batch, self.ask), 1) for _ in range(draws)]
        return torch.stack(each).logsumexp(0)

    def _logits(self, images: Tensor, ask: Function) -> Tensor:
        if not len(images):  # many functions fail at an empty batch: it is not theirs to answer
            blank = images.new_zeros(1, *images.shape[1:])
            classes = self.behaviour.classes or self._logits(blank, ask).shape[1]
            return torch.zeros(0, classes, device=self.device)
        asked = images
        if len(images) == 1 and not self.behaviour.alone:
            asked = images.expand(2, *images.shape[1:])
        with self._turn():
            logits = ask(asked)
            kind = torch.promote_types(logits.dtype, torch.float32)
            # What keeps something may write its next answer into the memory of this one.
            logits = logits.to(kind, copy=self.behaviour.keeps)
        return logits if asked is images else logits[:1]

    def _turn(self) -> AbstractContextManager[Any]:
        """One call of the function, in the way that it takes."""
        behaviour = self.behaviour
        usual = behaviour.bf16 and behaviour.gradient != "refused" and not behaviour.keeps
        return nullcontext() if usual else self._unusual_turn()

    @contextmanager
    def _unusual_turn(self) -> Iterator[None]:
        behaviour, kind = self.behaviour, self.device.type
        with (
            _ONE_AT_A_TIME if behaviour.keeps else nullcontext(),
            nullcontext() if behaviour.bf16 else torch.autocast(kind, enabled=False),
            torch.no_grad() if behaviour.gradient == "refused" else nullcontext(),
        ):
            yield

    def _posterior(self, images: Tensor) -> DiagonalGaussian:
        assert isinstance(self.function, ThroughLatents)
        with self._turn():
            return self.function.posterior(images.clone())

    def _classify(self, z: Tensor) -> Tensor:
        assert isinstance(self.function, ThroughLatents)
        with self._turn():
            return self.function.classify(z.clone())


def examine(
    function: Function,
    images: Tensor,
    labels: Tensor,
    device: torch.device,
    precision: Precision = "fp32",
) -> Behaviour:
    """How the function behaves on the first of these images, on its device.

    With `precision` bf16 it is also looked at as a search in bf16 asks it. Raises UsageError or
    ParadiseError, saying what to return instead, for what cannot be attacked: training mode, an
    answer that is no tensor [B, classes], probabilities, values that are not numbers, and labels
    that are no class.
    """
    _check_mode(function)
    some = images[:_PROBES].to(device)
    way = _way_of(function, some, device, precision)
    door = Classifier(function, device=device, width=len(some), behaviour=way)
    with torch.no_grad():
        whole = _checked_logits(door, some)
        # Looked at after the first calls, which may fill what stays as it is from then on.
        before = Memory(function)
        again, operations = counted(lambda: _checked_logits(door, some))
        # In other company: the first image alone where that works, and fewer neighbours.
        first = if_it_works(lambda: _checked_logits(door, some[:1]))
        parts = [] if first is None else [first]
        if len(some) > 1:
            parts.append(_checked_logits(door, some[len(parts) : 8]))
        apart = torch.cat(parts)
        keeps = not Memory(function).same_as(before)
    _check_classes(whole, labels)
    spread = float((whole.amax(1) - whole.amin(1)).mean()) or 1.0
    by_chance = float((whole - again).abs().max()) / spread
    by_company = float((whole[: len(apart)] - apart).abs().max()) / spread
    random = by_chance > AGREE
    return replace(
        way,
        classes=whole.shape[1],
        random=random,
        batch_dependent=not random and by_company > AGREE,
        difference=max(by_chance, by_company),
        alone=first is not None,
        keeps=keeps,
        operations=operations / len(some),
    )


def _check_classes(logits: Tensor, labels: Tensor) -> None:
    classes = logits.shape[1]
    if classes < 2:
        raise ParadiseError(
            f"the classifier tells {classes} class apart; an attack needs two or more logits"
        )
    if _are_probabilities(logits):
        raise ParadiseError(
            "the classifier returns probabilities (0 to 1, of sum 1), whose gradients vanish when"
            " it is sure: return the logits before the softmax, or log_softmax"
        )
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or high >= classes:
        raise ParadiseError(
            f"labels run from {low} to {high}, but the classifier returns {classes} logits: 0 to"
            f" {classes - 1} are allowed"
        )


def _check_mode(function: Function) -> None:
    # A module without parameters, such as a normalisation of torchvision, is often left in training
    # mode.
    judged = [
        module for module in modules_of(function) if next(module.parameters(), None) is not None
    ]
    if any(part.training for module in judged for part in module.modules()):
        raise UsageError(
            "the model is in training mode, where an answer depends on the batch: call"
            " model.eval() first"
        )


def _way_of(
    function: Function, images: Tensor, device: torch.device, precision: Precision
) -> Behaviour:
    """The fastest way to ask this function: layout, precision, and whether gradients come back.

    Without channels_last, as a view of a convolution's map needs it, is slower; without bf16 is
    slower still; and without a gradient most attacks find nothing.
    """
    two = torch.cat([images, images])[:2]
    refusing: list[Behaviour] = []
    for bf16 in (True, False) if precision == "bf16" else (False,):
        for channels_last in (True, False):
            way = Behaviour(0, channels_last=channels_last, bf16=bf16)
            door = Classifier(function, device=device, width=2, behaviour=way)
            # Success is decided in fp32, also after a search in bf16.
            found = [_gradient(door, two, in_bf16) for in_bf16 in (False, True)[: 1 + bf16]]
            if None in found:
                continue
            if "refused" not in found:
                return replace(way, gradient=found[0] or "cut off")
            refusing.append(replace(way, gradient="refused"))
    # Where nothing works, what is wrong with the function is said by whoever asks it next.
    return refusing[0] if refusing else Behaviour(0, channels_last=False, bf16=False)


def _gradient(door: Classifier, images: Tensor, in_bf16: bool) -> Gradient | None:
    """Whether a gradient comes back through the door, or None where not even an answer does."""

    def climb() -> Gradient:
        x = images.clone().requires_grad_(True)
        answer = door.ask(x)
        if not isinstance(answer, Tensor) or not answer.requires_grad:
            return "cut off"
        (slope,) = torch.autograd.grad(answer.sum(), [x], allow_unused=True)
        return "cut off" if slope is None else "flows"

    def climb_within_memory() -> Gradient:
        try:
            return climb()
        except torch.OutOfMemoryError:
            return "flows"  # too large a model is no refusal: the first attack says what to do

    with torch.autocast(door.device.type, torch.bfloat16, enabled=in_bf16):
        with torch.enable_grad():  # the caller may have turned gradients off
            found = if_it_works(climb_within_memory)
        if found is not None:
            return found
        with torch.no_grad():
            answers = if_it_works(lambda: [door.ask(images)])
    return None if answers is None else "refused"


def _checked_logits(door: Classifier, images: Tensor) -> Tensor:
    """Logits [B, classes] in fp32; raises ParadiseError, saying what should be returned."""
    wanted = "return one float tensor of logits, [batch, classes]"
    try:
        answer = door.ask(images)
    except Exception as error:
        given = f"{list(images.shape)} on {images.device}"
        raise ParadiseError(
            f"the classifier fails on float32 images {given}: {type(error).__name__}: {error}"
        ) from error
    if not isinstance(answer, Tensor):
        kind = type(answer).__name__
        first = ", such as its first item" if isinstance(answer, tuple | list) else ""
        raise ParadiseError(f"the classifier returns a {kind}: {wanted}{first}")
    if answer.ndim != 2 or len(answer) != len(images) or not answer.is_floating_point():
        kind = f"{answer.dtype} {list(answer.shape)}".removeprefix("torch.")
        raise ParadiseError(f"for {len(images)} images the classifier returns {kind}: {wanted}")
    # Under attack infinite logits count as fooled; on clean images the model itself is broken.
    if bad := int((~answer.isfinite()).any(1).sum()):
        raise ParadiseError(
            f"the classifier returns NaN or infinite logits for {bad} of {len(images)} clean"
            " images; nothing can be said of such a model"
        )
    return answer.to(torch.float32, copy=True)


def _are_probabilities(logits: Tensor) -> bool:
    # Logits may sum to 1 by chance for one image, but hardly for all, and with no negative one.
    in_range = bool((logits >= 0).all() and (logits <= 1).all())
    return in_range and bool(((logits.sum(1) - 1).abs() < 1e-3).all())
