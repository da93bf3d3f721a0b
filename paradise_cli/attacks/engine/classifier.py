"""The door to the classifier under attack: anyone's function from pixels to logits.

All calls go through `Classifier`. It hands the function memory of its own, in a layout that the
function takes, lets one call at a time through unless nothing is kept between calls, and says in
one message what it raises or answers wrongly. `examination.py` finds out what a function takes.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from threading import RLock
from typing import Any, Literal, Protocol, TypeVar, runtime_checkable

import torch
from torch import Tensor
from torch.nn.functional import log_softmax

from paradise_cli.attacks.engine.introspection import modules_of
from paradise_cli.attacks.engine.passes import Passes
from paradise_cli.attacks.protocol.foreign import foreign
from paradise_cli.attacks.protocol.lanes import Latent
from paradise_cli.core.errors import ParadiseError
from paradise_cli.core.machine import Precision, fast_layout, whole_batch
from paradise_cli.information.gaussian import Gaussian

T = TypeVar("T")
Function = Callable[[Tensor], Tensor]
Gradient = Literal["flows", "cut off", "refused"]
"""Whether logits have a gradient in the pixels, have none, or the function fails when asked for it.
"""

DRAWS = 16
"""Answers that are averaged to decide about one point of a classifier that draws at random."""
SURE_DRAWS = 256
"""The same, to confirm a success: a run that asks again and again would succeed by chance."""
AGREE = 1e-3
"""Of the spread of the logits: above rounding in fp32, below what changes a decision."""
LOWEST = -1e30
"""In place of a logit of minus infinity: as far below all others, and a number."""
_WANTED = "return one float tensor of logits, [batch, classes]"
# One for all: two classifiers may share what they keep, as a surrogate does with its original.
_ONE_AT_A_TIME = RLock()


@runtime_checkable
class ThroughLatents(Protocol):
    """A classifier that says what lies between its pixels and its logits."""

    def posterior(self, images: Tensor) -> Gaussian: ...

    def classify(self, z: Tensor) -> Tensor: ...


@dataclass(frozen=True)
class Behaviour:
    """What a few images show of a classifier before any attack.

    `random`: another answer to the same batch. `batch_dependent`: another answer to the same image
    in other company. `difference` is the largest one seen, relative to the spread of the logits.
    `channels_last`, `bf16` and `alone`: whether it takes images laid out so, in autocast to bf16,
    and a batch of one. `keeps`: whether it keeps something between two calls, or may do so.
    `half`: whether it computes in float16. `masks`: whether it rules classes out by minus infinity.
    `latents`: whether its `posterior` and `classify`, if it has them, are those of an encoder.
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
    half: bool = False
    masks: bool = False
    latents: bool = True
    operations: float = 0.0


class Classifier:
    """Images [B, C, H, W] in [0, 1] to logits [B, classes] in fp32 or better.

    Called, it answers once and is differentiable, through `quick` if there is one: a faster version
    of the function that leaves its input alone. `judge` decides: always `width` images together, in
    fp32, the function itself, the probabilities of several answers averaged where it draws at
    random. Without a `behaviour` the function is taken for one that may keep something. What passes
    it is counted in `passes`, `asks` times for each answer.
    """

    def __init__(
        self,
        function: Function,
        *,
        device: torch.device,
        width: int,
        random: bool = False,
        behaviour: Behaviour | None = None,
        passes: Passes | None = None,
        asks: int = 1,
    ) -> None:
        self.function, self.device, self.width = function, device, width
        self.passes, self.asks = passes or Passes(), asks
        self.behaviour = behaviour or Behaviour(classes=0, random=random)
        self.random = self.behaviour.random
        self.quick: Function | None = None
        self.latent: Latent | None = None
        if self.behaviour.latents and isinstance(function, ThroughLatents):
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
                batch = whole_batch(part, self.width).to(self.device)
                found.append(self._decide(batch, draws)[: len(part)])
        return torch.cat(found)

    def confirm(self, images: Tensor) -> Tensor:
        """The same, surer: what a claimed success has to stand up to after `judge`."""
        return self.judge(images, SURE_DRAWS if self.random else DRAWS)

    def ask(self, images: Tensor) -> Tensor:
        """What the function returns for images of its own, which it may write into.

        Raises ParadiseError for whatever it raises, and for what are no logits [B, classes].
        """
        with self._turn():
            fresh = images.contiguous(memory_format=self.layout)
            # An attack's point is a leaf of the gradient, which nobody may write into either.
            given = fresh.clone() if fresh is images else fresh
            with foreign("on", images):
                answer = self.function(given)
        return self._checked(answer, len(images))

    def _checked(self, answer: Any, count: int) -> Tensor:
        """The answer, if it is what all that follows takes it for."""
        if not isinstance(answer, Tensor):
            kind = type(answer).__name__
            first = ", such as its first item" if isinstance(answer, tuple | list) else ""
            raise ParadiseError(f"the classifier returns a {kind}: {_WANTED}{first}")
        classes = self.behaviour.classes or answer.shape[-1:].numel()
        dense = answer.layout == torch.strided and not answer.is_meta
        if not dense or not answer.is_floating_point() or answer.shape != (count, classes):
            kind = f"{answer.dtype} {list(answer.shape)}".removeprefix("torch.")
            where = "" if dense else " without values" if answer.is_meta else ", sparse"
            raise ParadiseError(
                f"for {count} images the classifier returns {kind}{where}: {_WANTED}"
                + (f", here [{count}, {classes}]" if self.behaviour.classes else "")
            )
        return answer

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
            logits = logits.to(self.device, kind, copy=self.behaviour.keeps)
            self.passes.watch(logits, self.asks)
        logits = without_minus_infinity(logits)
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

    def _posterior(self, images: Tensor) -> Gaussian:
        assert isinstance(self.function, ThroughLatents)
        with self._turn(), foreign("on", images):
            posterior = self.function.posterior(images.clone())
            # Until it is examined, it may be anything of that name.
            if isinstance(posterior, Gaussian):
                self.passes.watch(posterior.mu)
            return posterior

    def _classify(self, z: Tensor) -> Tensor:
        assert isinstance(self.function, ThroughLatents)
        with self._turn(), foreign("on its latents"):
            return self.function.classify(z.clone())


def without_minus_infinity(logits: Tensor) -> Tensor:
    """Logits [B, classes] whose ruled-out classes are at LOWEST; of an image without another class
    all are left as they are.
    """
    nothing_left = logits.amax(1, keepdim=True).isneginf()
    return torch.where(nothing_left, logits, logits.clamp(min=LOWEST))


def logit_spread(logits: Tensor) -> Tensor:
    """How far the best logit lies above the middle one, on average over images [N, classes]; [].

    Scale and offset of logits are a matter of taste: only their spread gives a unit. Classes that
    are ruled out do not count, nor do images without a number; 1 where there is nothing to measure.
    """
    counted = logits.masked_fill(logits <= LOWEST, torch.nan)
    spread = (logits.amax(1) - counted.nanmedian(1).values).nanmean()
    return torch.where((spread > 0) & spread.isfinite(), spread, torch.ones_like(spread))


def apart(one: Tensor, other: Tensor) -> Tensor:
    """The largest difference of two answers to the same images [N, classes]; [].

    Equal values, two NaN and two infinities among them, do not differ; otherwise NaN differs from
    everything, by infinity.
    """
    same = (one == other) | (one.isnan() & other.isnan())
    return (one - other).abs().nan_to_num(torch.inf, torch.inf).masked_fill(same, 0).max()
