"""What a few images show of a classifier before it is attacked: how to ask it, and whether to."""

from dataclasses import replace

import torch
from torch import Tensor
from torch.fx import GraphModule
from torch.nn.modules.batchnorm import _BatchNorm

from paradise_cli.attacks.engine.classifier import (
    AGREE,
    LOWEST,
    Behaviour,
    Classifier,
    Function,
    Gradient,
    ThroughLatents,
    apart,
    logit_spread,
    without_minus_infinity,
)
from paradise_cli.attacks.engine.introspection import Memory, counted, if_it_works, modules_of
from paradise_cli.core.errors import ParadiseError, UsageError
from paradise_cli.core.machine import Precision
from paradise_cli.information.gaussian import Gaussian

_PROBES = 64


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
    _check_function(function)
    some = images[:_PROBES].to(device)
    way = _way_of(function, some, device, precision)
    door = Classifier(function, device=device, width=len(some), behaviour=way)
    with torch.no_grad():
        some, answer = _with_numbers(door, some)
        whole = _clean(answer)
        # From here on an answer with another number of logits is refused.
        way = door.behaviour = replace(way, classes=whole.shape[1])
        # Looked at after the first calls, which may fill what stays as it is from then on.
        before = Memory(function)
        again, operations = counted(lambda: _clean(door.ask(some)))
        # In other company: the first image alone where that works, and fewer neighbours.
        first = if_it_works(lambda: _clean(door.ask(some[:1])))
        parts = [] if first is None else [first]
        if len(some) > 1:
            parts.append(_clean(door.ask(some[len(parts) : 8])))
        elsewhere = torch.cat(parts)
        keeps = not Memory(function).same_as(before)
    _check_classes(whole, labels)
    spread = float(logit_spread(whole))
    by_chance = float(apart(whole, again)) / spread
    by_company = float(apart(whole[: len(elsewhere)], elsewhere)) / spread
    random = by_chance > AGREE
    return replace(
        way,
        random=random,
        batch_dependent=not random and by_company > AGREE,
        difference=max(by_chance, by_company),
        alone=first is not None,
        keeps=keeps,
        half=answer.dtype == torch.float16,
        masks=bool((whole == LOWEST).any()),
        latents=way.latents and bool(if_it_works(lambda: _through_latents(door, some, whole))),
        operations=operations / len(some),
    )


def _through_latents(door: Classifier, images: Tensor, logits: Tensor) -> bool:
    """Whether what it calls posterior and classify are an encoder's: a VAE of somebody's own may
    have methods of these names that give and take other things.
    """
    if door.latent is None:
        return False
    posterior = door.latent.encode(images)
    if not isinstance(posterior, Gaussian):
        return False
    return door.latent.decode(posterior.mu).shape == logits.shape


def _check_classes(logits: Tensor, labels: Tensor) -> None:
    classes = logits.shape[1]
    if classes < 2:
        raise ParadiseError(
            f"the classifier gives logits [N, {classes}], and two or more are needed, one for each"
            " class: of a single logit x return 0 and x"
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


def _check_function(function: Function) -> None:
    if not callable(function):
        raise UsageError(
            f"a {type(function).__name__} is no classifier: give a torch module in eval mode, or a"
            " function from pixels [B, C, H, W] in [0, 1] to logits [B, classes]"
        )
    # A module without parameters, such as a normalisation of torchvision, is often left in training
    # mode.
    judged = [
        module for module in modules_of(function) if next(module.parameters(), None) is not None
    ]
    # What an exported program does is settled; the mode that it names is not, nor can it be set.
    if any(module.training and not isinstance(module, GraphModule) for module in judged):
        raise UsageError("the model is in training mode: call model.eval() first")
    # Dropout that was turned on again is a defence; statistics of the batch are a mistake.
    if any(
        part.training and isinstance(part, _BatchNorm)
        for module in judged
        for part in module.modules()
    ):
        raise UsageError(
            "batch normalisation is in training mode, where an answer depends on the batch: call"
            " model.eval() first, and then .train() of no other layers than dropout"
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
    # An object whose attributes cannot be asked for has none of ours.
    latents = if_it_works(lambda: isinstance(function, ThroughLatents)) is not None
    for bf16 in (True, False) if precision == "bf16" else (False,):
        for channels_last in (True, False):
            way = Behaviour(0, channels_last=channels_last, bf16=bf16, latents=latents)
            door = Classifier(function, device=device, width=2, behaviour=way)
            # Success is decided in fp32, also after a search in bf16.
            found = [_gradient(door, two, in_bf16) for in_bf16 in (False, True)[: 1 + bf16]]
            if None in found:
                continue
            if "refused" not in found:
                return replace(way, gradient=found[0] or "cut off")
            refusing.append(replace(way, gradient="refused"))
    # Where nothing works, what is wrong with the function is said by whoever asks it next.
    silent = Behaviour(0, channels_last=False, bf16=False, latents=latents)
    return refusing[0] if refusing else silent


def _gradient(door: Classifier, images: Tensor, in_bf16: bool) -> Gradient | None:
    """Whether a gradient comes back through the door, or None where not even an answer does."""

    def climb() -> Gradient:
        x = images.clone().requires_grad_(True)
        answer = door.ask(x)
        if not answer.requires_grad:
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


def _with_numbers(door: Classifier, images: Tensor) -> tuple[Tensor, Tensor]:
    """The images [N, C, H, W] whose logits are numbers, or all where none are, and those logits."""
    answer = door.ask(images)
    there = answer.float().amax(1).isfinite().to(images.device)
    if there.all() or not there.any():
        return images, answer
    # Wherever they stand, some others count as misclassified; that is no reason to refuse a model.
    return images[there], door.ask(images[there])


def _clean(answer: Tensor) -> Tensor:
    """Logits [B, classes] of clean images, copied in fp32; raises ParadiseError where some say
    nothing.
    """
    answer = answer.float()
    # Under attack such logits count as fooled; on clean images the model itself is broken.
    if bad := int((~answer.amax(1).isfinite()).sum()):
        raise ParadiseError(
            f"the classifier returns NaN or infinite logits for {bad} of {len(answer)} clean"
            " images; nothing can be said of such a model (minus infinity is allowed, but for the"
            " largest logit)"
        )
    return without_minus_infinity(answer)


def _are_probabilities(logits: Tensor) -> bool:
    # Logits may sum to 1 by chance for one image, but hardly for all, and with no negative one.
    in_range = bool((logits >= 0).all() and (logits <= 1).all())
    return in_range and bool(((logits.sum(1) - 1).abs() < 1e-3).all())
