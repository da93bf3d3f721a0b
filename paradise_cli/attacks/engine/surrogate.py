"""Other ways to the gradient of a classifier: scaled, smoothed, with its noise held (method.md
5.5).
"""

from threading import Lock

import torch
from torch import Tensor, nn

from paradise_cli.attacks.engine.classifier import Function, ThroughLatents
from paradise_cli.attacks.engine.smoothing import Smoothing


class Scaled(nn.Module):
    """The same classifier with its logits times `factor`."""

    def __init__(self, function: Function, factor: float) -> None:
        super().__init__()
        self.function, self.factor = function, factor

    def forward(self, images: Tensor) -> Tensor:
        return self.factor * self.function(images)


class Smoothed(nn.Module):
    """The classifier's own logits, with the gradient of a copy whose operations are smooth.

    What these are `smoothing.Smoothing` says. What a function does outside of PyTorch, or within
    compiled code, stays as it is.
    """

    asks = 2

    def __init__(self, function: Function) -> None:
        super().__init__()
        self.function = function

    def forward(self, images: Tensor) -> Tensor:
        with torch.no_grad():
            true = self.function(images.clone())  # it may write into what it is given
        try:
            with Smoothing():
                smooth = self.function(images.clone())
        except torch.OutOfMemoryError:
            raise
        except Exception:
            # Whatever the mode meets in a function it does not know: its own gradient is left.
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
