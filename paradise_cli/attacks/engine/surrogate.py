"""Other ways to the gradient of a classifier: scaled, smoothed, with its noise held (method.md
5.5).
"""

from collections.abc import Callable, Mapping, Sequence
from threading import Lock
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from paradise_cli.attacks.engine.classifier import Function, ThroughLatents

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

    Roundings let the gradient through as if they were not there (BPDA, Athalye et al. 2018). What a
    function does outside of PyTorch, or within compiled code, stays as it is.
    """

    def __init__(self, function: Function) -> None:
        super().__init__()
        self.function = function

    def forward(self, images: Tensor) -> Tensor:
        with torch.no_grad():
            true = self.function(images.clone())  # it may write into what it is given
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
    getattr(owner, name)
    for owner in (torch, Tensor)
    for name in ("round", "floor", "ceil", "trunc", "sign")
}
