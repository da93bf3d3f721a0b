"""Other ways to the gradient of a classifier: scaled, smoothed, with its noise held (method.md 5.5)."""

from collections.abc import Callable, Mapping, Sequence
from threading import Lock
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from paradise_cli.attacks.classifier import Function, ThroughLatents
from paradise_cli.attacks.gradient import GradientSteps
from paradise_cli.attacks.lanes import ATTACKS, Attack, Lanes, State, Victim
from paradise_cli.attacks.threat import Threat
from paradise_cli.randomness import keyed_uniform

SHARPNESS = 10.0
"""Of the softplus that stands in for a ReLU: log(1 + exp(10 x)) / 10."""


class Scaled(nn.Module):
    """The same classifier with its logits times `factor`."""

    def __init__(self, function: Function, factor: float) -> None:
        super().__init__()
        self.function, self.factor = function, factor

    def forward(self, images: Tensor) -> Tensor:
        return self.factor * self.function(images)


class Smoothed(nn.Module):
    """The classifier's own logits, with the gradient of a copy in which each ReLU is a softplus.

    Roundings let the gradient through as if they were not there (BPDA, Athalye et al. 2018). What a function
    does outside of PyTorch, or within compiled code, stays as it is.
    """

    def __init__(self, function: Function) -> None:
        super().__init__()
        self.function = function

    def forward(self, images: Tensor) -> Tensor:
        with torch.no_grad():
            true = self.function(images)
        with _Smooth():
            smooth = self.function(images)
        return smooth + (true - smooth).detach()


class HeldNoise(nn.Module):
    """A classifier that draws at random, with the same draws at every call."""

    def __init__(self, function: Function, seed: int) -> None:
        super().__init__()
        self.function, self.seed, self._one = function, seed, Lock()

    def forward(self, images: Tensor) -> Tensor:
        devices = [images.device] if images.device.type == "cuda" else []
        with self._one, torch.random.fork_rng(devices):
            torch.manual_seed(self.seed)
            return self.function(images)


class MeanPath(nn.Module):
    """An encoder's logits at the mean of the posterior."""

    def __init__(self, function: ThroughLatents) -> None:
        super().__init__()
        self.function = function

    def forward(self, images: Tensor) -> Tensor:
        return self.function.classify(self.function.posterior(images).mu)


class _Smooth(TorchFunctionMode):
    """Within it, ReLUs are smooth and roundings pass gradients on."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        kwargs = dict(kwargs or {})
        if func in _RELUS:
            return functional.softplus(args[0] if args else kwargs["input"], beta=SHARPNESS)
        if func in _STEPS:
            x = args[0] if args else kwargs["input"]
            return x + (func(*args, **kwargs) - x).detach()
        return func(*args, **kwargs)


_RELUS = {functional.relu, torch.relu, Tensor.relu}
_STEPS = {
    getattr(owner, name) for owner in (torch, Tensor) for name in ("round", "floor", "ceil", "trunc", "sign")
}


class NoisySteps(GradientSteps):
    """PGD along a gradient averaged over `draws` points: x, and the others up to half of eps around it."""

    def __init__(self, threat: Threat, *, moves: int, draws: int) -> None:
        super().__init__(threat, moves=moves, step_size=threat.eps / 4)
        self.draws = draws

    def evaluate(self, victim: Victim, x: Tensor, lanes: Lanes, state: State) -> tuple[Tensor, Tensor]:
        logits = victim(x)
        total = self.loss(logits, lanes)
        for draw in range(1, self.draws):
            noise = self.threat.random(keyed_uniform(lanes.key, x.shape[1:], lanes.step, draw)) / 2
            # Pixels stay pixels, and those at the edge keep their gradient.
            noisy = x + ((x + noise).clamp(0, 1) - x).detach()
            total = total + self.loss(victim(noisy), lanes)
        return logits, total / self.draws


@ATTACKS.register
def noisy_pgd(threat: Threat, *, steps: int = 50, draws: int = 4) -> Attack:
    """PGD on cross-entropy with gradients averaged over noise in the image."""
    return NoisySteps(threat, moves=steps, draws=draws)
