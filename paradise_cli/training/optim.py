"""Optimisers and learning-rate schedules by name."""

import math
from collections.abc import Callable, Iterable
from typing import Annotated, Any, TypeAlias

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.optim import SGD, Adam, AdamW, Optimizer

from paradise_cli.core.errors import UsageError
from paradise_cli.core.registry import Registry

Schedule: TypeAlias = Callable[[int, int, int], float]
"""`(step, steps per epoch, steps in all) -> factor on the learning rate`, without a state."""

Parameters: TypeAlias = Iterable[nn.Parameter] | Iterable[dict[str, Any]]
"""What is optimised, or groups of it with options of their own."""

Momentum = Annotated[float, Field(ge=0, lt=1)]
"""Of an average: how much of it stays at a step."""
Decay = Annotated[float, Field(ge=0)]
Factor = Annotated[float, Field(gt=0)]

OPTIMIZERS: Registry[Optimizer] = Registry("optimiser")
SCHEDULES: Registry[Schedule] = Registry("schedule")


@OPTIMIZERS.register
def sgd(
    params: Parameters,
    *,
    lr: float,
    momentum: Momentum = 0.9,
    nesterov: bool = True,
    weight_decay: Decay = 0.0,
) -> Optimizer:
    """Stochastic gradient descent with momentum; weight decay acts on every parameter.

    Without momentum `nesterov` is the same step.
    """
    # Torch refuses the two together.
    nesterov = nesterov and momentum > 0
    return _fused(
        SGD(params, lr=lr, momentum=momentum, nesterov=nesterov, weight_decay=weight_decay)
    )


@OPTIMIZERS.register
def adam(
    params: Parameters,
    *,
    lr: float,
    beta1: Momentum = 0.9,
    beta2: Momentum = 0.999,
    weight_decay: Decay = 0.0,
) -> Optimizer:
    """Adam, with weight decay as an L2 term of the gradient."""
    return _fused(Adam(params, lr=lr, betas=(beta1, beta2), weight_decay=weight_decay))


@OPTIMIZERS.register
def adamw(
    params: Parameters,
    *,
    lr: float,
    beta1: Momentum = 0.9,
    beta2: Momentum = 0.999,
    weight_decay: Decay = 0.01,
) -> Optimizer:
    """Adam with decoupled weight decay."""
    return _fused(AdamW(params, lr=lr, betas=(beta1, beta2), weight_decay=weight_decay))


def _fused(optimizer: Optimizer) -> Optimizer:
    """The same, in one kernel on CPUs, where torch would make a dozen calls for each parameter.

    That kernel reads in the order of memory: a gradient laid out otherwise than its parameter would
    move the wrong weights (docs/pitfalls.md). Those of `backward` are laid out alike where the
    parameter is dense.
    """
    parameters = [each for group in optimizer.param_groups for each in group["params"]]
    if all(_is_plain(each) for each in parameters):
        for group in optimizer.param_groups:
            group["fused"] = True
    return optimizer


def _is_plain(parameter: Tensor) -> bool:
    dense = torch.empty_like(parameter, device="meta").stride() == parameter.stride()
    return dense and parameter.device.type == "cpu" and parameter.is_floating_point()


@SCHEDULES.register
def constant() -> Schedule:
    """The same learning rate throughout."""
    return lambda step, per_epoch, total: 1.0


@SCHEDULES.register
def steps(
    *,
    at: list[int],
    factor: Factor,
    warmup_steps: Annotated[int, Field(ge=0)] = 0,
    warmup_factor: Factor = 0.1,
) -> Schedule:
    """Times `factor` at each epoch of `at`, after `warmup_steps` steps at `warmup_factor`."""
    # From epoch 1 on: a drop at 0 would be another learning rate.
    if at != sorted(set(at)) or any(epoch < 1 for epoch in at):
        raise UsageError(f"schedule steps: 'at' must be increasing epochs from 1 on, not {at}")

    def schedule(step: int, per_epoch: int, total: int) -> float:
        drops = sum(step >= epoch * per_epoch for epoch in at)
        # A deep network may not begin to learn at its full rate (ResNet-110, He et al. 2016).
        warming: float = warmup_factor if step < warmup_steps else 1.0
        return warming * factor**drops

    return schedule


@SCHEDULES.register
def one_cycle(*, warmup: float = 0.3) -> Schedule:
    """Linear from 0 up over the share `warmup` of all steps, then linear down to 0."""
    _require_share("one_cycle", warmup)

    def schedule(step: int, per_epoch: int, total: int) -> float:
        # Between 0 and 1 but never at them: a step of learning rate 0 would be wasted.
        done = (step + 1) / (total + 1)
        return done / warmup if done < warmup else (1 - done) / (1 - warmup)

    return schedule


@SCHEDULES.register
def cosine(*, warmup: float = 0.0) -> Schedule:
    """Half a cosine to 0, after a linear rise over the share `warmup` of all steps."""
    _require_share("cosine", warmup)

    def schedule(step: int, per_epoch: int, total: int) -> float:
        done = (step + 1) / (total + 1)
        if done < warmup:
            return done / warmup
        after = (done - warmup) / (1 - warmup)
        return 0.5 * (1 + math.cos(math.pi * after))

    return schedule


@SCHEDULES.register
def exponential(*, factor: Factor, every: Annotated[int, Field(ge=1)] = 1) -> Schedule:
    """Multiplied by `factor` after every `every` epochs."""
    return lambda step, per_epoch, total: factor ** (step // (every * per_epoch))


def _require_share(name: str, share: float) -> None:
    if not 0 <= share < 1:
        raise UsageError(
            f"schedule {name}: warmup is a share of all steps, at least 0 and below 1, not {share}"
        )
