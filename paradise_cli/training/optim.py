"""Optimisers and learning-rate schedules by name."""

import math
from collections.abc import Callable, Iterable
from typing import Any, TypeAlias

from torch import nn
from torch.optim import SGD, Adam, AdamW, Optimizer

from paradise_cli.core.errors import UsageError
from paradise_cli.core.registry import Registry

Schedule: TypeAlias = Callable[[int, int, int], float]
"""`(step, steps per epoch, steps in all) -> factor on the learning rate`, without a state."""

Parameters: TypeAlias = Iterable[nn.Parameter] | Iterable[dict[str, Any]]
"""What is optimised, or groups of it with options of their own."""

OPTIMIZERS: Registry[Optimizer] = Registry("optimiser")
SCHEDULES: Registry[Schedule] = Registry("schedule")


@OPTIMIZERS.register
def sgd(
    params: Parameters,
    *,
    lr: float,
    momentum: float = 0.9,
    nesterov: bool = True,
    weight_decay: float = 0.0,
) -> Optimizer:
    """Stochastic gradient descent with momentum; weight decay acts on every parameter."""
    params, fused = _with_kernel(params)
    return SGD(
        params, lr=lr, momentum=momentum, nesterov=nesterov, weight_decay=weight_decay, fused=fused
    )


@OPTIMIZERS.register
def adam(
    params: Parameters,
    *,
    lr: float,
    beta1: float = 0.9,
    beta2: float = 0.999,
    weight_decay: float = 0.0,
) -> Optimizer:
    """Adam, with weight decay as an L2 term of the gradient."""
    params, fused = _with_kernel(params)
    return Adam(params, lr=lr, betas=(beta1, beta2), weight_decay=weight_decay, fused=fused)


@OPTIMIZERS.register
def adamw(
    params: Parameters,
    *,
    lr: float,
    beta1: float = 0.9,
    beta2: float = 0.999,
    weight_decay: float = 0.01,
) -> Optimizer:
    """Adam with decoupled weight decay."""
    params, fused = _with_kernel(params)
    return AdamW(params, lr=lr, betas=(beta1, beta2), weight_decay=weight_decay, fused=fused)


def _with_kernel(params: Parameters) -> tuple[Parameters, bool | None]:
    """The same parameters, and whether one kernel updates them; None: as torch chooses.

    It does on CPUs, where torch would make a dozen calls for each parameter, a third of a small
    step's time. There a gradient laid out otherwise than its parameter would be read in the wrong
    order (docs/pitfalls.md); those of `backward` are laid out alike.
    """
    listed: list[Any] = list(params)  # once: it may be a generator
    groups = [each["params"] if isinstance(each, dict) else [each] for each in listed]
    on_cpu = all(each.device.type == "cpu" for group in groups for each in group)
    return listed, True if on_cpu else None


@SCHEDULES.register
def constant() -> Schedule:
    """The same learning rate throughout."""
    return lambda step, per_epoch, total: 1.0


@SCHEDULES.register
def steps(
    *, at: list[int], factor: float, warmup_steps: int = 0, warmup_factor: float = 0.1
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
def exponential(*, factor: float, every: int = 1) -> Schedule:
    """Multiplied by `factor` after every `every` epochs."""
    return lambda step, per_epoch, total: factor ** (step // (every * per_epoch))


def _require_share(name: str, share: float) -> None:
    if not 0 <= share < 1:
        raise UsageError(
            f"schedule {name}: warmup is a share of all steps, at least 0 and below 1, not {share}"
        )
