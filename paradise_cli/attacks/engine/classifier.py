"""The classifier under attack: anyone's function from pixels to logits, asked at one fixed batch
shape.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from dis import get_instructions
from functools import partial
from types import CellType, CodeType, FunctionType, MethodType
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn
from torch.nn.functional import log_softmax

from paradise_cli.attacks.protocol.lanes import Latent
from paradise_cli.core.errors import ParadiseError, UsageError
from paradise_cli.core.machine import fast_layout
from paradise_cli.information.gaussian import DiagonalGaussian

Function = Callable[[Tensor], Tensor]

DRAWS = 16
"""Fresh answers whose mean decides about one point of a classifier that draws at random."""
SURE_DRAWS = 256
"""The same, to confirm a success: a run that asks again and again would be let through by
chance.
"""
_PROBES = 64
_EMPTY = CellType()
_AGREE = 1e-3  # of the spread of the logits: above rounding in fp32, below what changes a decision


@runtime_checkable
class ThroughLatents(Protocol):
    """A classifier that says what lies between its pixels and its logits."""

    def posterior(self, images: Tensor) -> DiagonalGaussian: ...

    def classify(self, z: Tensor) -> Tensor: ...


@dataclass(frozen=True)
class Behaviour:
    """What a few images told of a classifier before any attack.

    `random`: another answer to the same batch. `batch_dependent`: another answer to the same image
    in other company. Both with the largest difference seen, relative to the spread of the logits.
    """

    classes: int
    random: bool
    batch_dependent: bool
    difference: float


class Classifier:
    """Images [B, C, H, W] in [0, 1] to logits [B, classes] in fp32, whatever way the function
    answers.

    Called, it answers once and is differentiable, through the `quick` version of the function if
    there is one. `judge` decides: always `width` images together, in fp32, the function itself, the
    probabilities of so many fresh answers averaged where it draws at random.
    """

    def __init__(
        self, function: Function, *, device: torch.device, width: int, random: bool = False
    ) -> None:
        self.function, self.device, self.width, self.random = function, device, width, random
        self.quick = function
        self.latent: Latent | None = None
        if isinstance(function, ThroughLatents):
            self.latent = Latent(function.posterior, function.classify)
        modules = modules_of(function)
        self._layout, self._bf16_layout = (
            fast_layout(device, kind, *modules) for kind in ("fp32", "bf16")
        )

    def __call__(self, images: Tensor) -> Tensor:
        return self._ask(self.quick, images)

    def judge(self, images: Tensor, draws: int = DRAWS) -> Tensor:
        """Logits [N, classes] of any number of images."""
        found = []
        with torch.no_grad(), torch.autocast(self.device.type, enabled=False):
            for part in torch.split(images, self.width):
                padding = part[:1].expand(self.width - len(part), *part.shape[1:])
                batch = torch.cat([part, padding]).to(self.device)
                found.append(self._decide(batch, draws)[: len(part)])
        return torch.cat(found)

    def confirm(self, images: Tensor) -> Tensor:
        """The same, surer: what a claimed success has to stand up to after `judge`."""
        return self.judge(images, SURE_DRAWS if self.random else DRAWS)

    def _decide(self, batch: Tensor, draws: int) -> Tensor:
        if not self.random:
            return self._ask(self.function, batch)
        each = [log_softmax(self._ask(self.function, batch), 1) for _ in range(draws)]
        return torch.stack(each).logsumexp(0)

    def _ask(self, function: Function, images: Tensor) -> Tensor:
        in_bf16 = torch.is_autocast_enabled(self.device.type)
        layout = self._bf16_layout if in_bf16 else self._layout
        logits = function(images.contiguous(memory_format=layout))
        return logits.to(torch.promote_types(logits.dtype, torch.float32))


def modules_of(function: Function) -> list[nn.Module]:
    """The torch modules behind a function: itself, its attributes, and through other functions what
    they use.

    That is what they close over, globals of their own file, the object they are bound to, what a
    partial holds; each once, in one order.
    """
    modules: list[nn.Module] = []
    seen: set[int] = set()
    waiting: list[Any] = [function, *getattr(function, "__dict__", {}).values()]
    if not isinstance(function, nn.Module):
        waiting.append(type(function).__call__)
    while waiting:
        part = waiting.pop(0)
        if id(part) in seen:
            continue
        seen.add(id(part))
        if isinstance(part, nn.Module):
            modules.append(part)
        else:
            waiting += _held_by(part)
    return modules


def weights_digest(function: Function) -> str:
    """A digest of the modules behind a function: their layers and every tensor."""
    digest = hashlib.sha256()
    for module in modules_of(function):
        digest.update(repr(module).encode())
        for name, value in module.state_dict().items():
            digest.update(
                name.encode() + value.detach().cpu().float().contiguous().numpy().tobytes()
            )
    return digest.hexdigest()[:16]


def _held_by(part: Any) -> list[Any]:
    if isinstance(part, list | tuple):
        return [*part]
    if isinstance(part, partial):
        return [part.func, *part.args, *part.keywords.values()]
    if isinstance(part, MethodType):
        return [part.__self__, *getattr(part.__self__, "__dict__", {}).values(), part.__func__]
    if isinstance(part, FunctionType):
        closed_over = [cell.cell_contents for cell in part.__closure__ or () if cell != _EMPTY]
        used = (part.__globals__.get(name) for name in _global_names(part.__code__))
        # What a library keeps in its globals is no classifier.
        own = [
            held
            for held in used
            if not isinstance(held, FunctionType) or held.__module__ == part.__module__
        ]
        return closed_over + own
    return []


def _global_names(code: CodeType) -> list[str]:
    """In the order in which they are used, also within comprehensions and inner functions."""
    names = [used.argval for used in get_instructions(code) if used.opname == "LOAD_GLOBAL"]
    inner = [
        name
        for part in code.co_consts
        if isinstance(part, CodeType)
        for name in _global_names(part)
    ]
    return [*dict.fromkeys(names + inner)]


def examine(function: Function, images: Tensor, labels: Tensor, device: torch.device) -> Behaviour:
    """How the function behaves on the first of these images, on its device.

    Raises UsageError or ParadiseError, saying what to return instead, for what cannot be attacked:
    training mode, an answer that is no tensor [B, classes], probabilities, values that are not
    numbers, and labels that are no class.
    """
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
    some = images[:_PROBES].to(device)
    with torch.no_grad():
        whole = _answer(function, some)
        again = _answer(function, some)
        apart = torch.cat(
            [_answer(function, some[:1]), _answer(function, some[1:8])]
            if len(some) > 1
            else [again]
        )
    classes = whole.shape[1]
    if classes < 2:
        raise ParadiseError(
            f"the classifier tells {classes} class apart; an attack needs two or more logits"
        )
    if _are_probabilities(whole):
        raise ParadiseError(
            "the classifier returns probabilities (0 to 1, of sum 1), whose gradients vanish when"
            " it is sure:"
            " return the logits before the softmax, or log_softmax"
        )
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or high >= classes:
        raise ParadiseError(
            f"labels run from {low} to {high}, but the classifier returns {classes} logits: 0 to"
            f" {classes - 1} are allowed"
        )
    spread = float((whole.amax(1) - whole.amin(1)).mean()) or 1.0
    by_chance = float((whole - again).abs().max()) / spread
    by_company = float((whole[: len(apart)] - apart).abs().max()) / spread
    random = by_chance > _AGREE
    return Behaviour(
        classes, random, not random and by_company > _AGREE, max(by_chance, by_company)
    )


def _answer(function: Function, images: Tensor) -> Tensor:
    """The function's logits [B, classes] in fp32, or the ParadiseError that says what it should
    return.
    """
    wanted = "return one float tensor of logits, [batch, classes]"
    try:
        answer: Any = function(images)
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
    if bad := int((~answer.isfinite()).any(1).sum()):
        raise ParadiseError(
            f"the classifier returns NaN or infinite logits for {bad} of {len(images)} clean"
            " images;"
            " nothing can be said of such a model"
        )
    return answer.float()


def _are_probabilities(logits: Tensor) -> bool:
    in_range = bool((logits >= 0).all() and (logits <= 1).all())
    return in_range and bool(((logits.sum(1) - 1).abs() < 1e-3).all())
