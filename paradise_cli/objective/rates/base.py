"""What a rate is: the q-step of Blahut-Arimoto and its gradient (method.md 2.2-2.7)."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from paradise_cli.core.registry import Registry
from paradise_cli.information.gaussian import Gaussian


class RateValue(NamedTuple):
    """`loss` [B] carries the gradient and Monte-Carlo noise; `rate` [B] is what may be logged, in
    nats.

    `fit` [B], where q has parameters that `loss` takes as constants, is what these minimise: -log
    q(z).
    """

    loss: Tensor
    rate: Tensor
    fit: Tensor | None = None


class Rate(nn.Module):
    """Base of all q-steps: `forward(posterior, z)` gives a `RateValue`.

    `bound` says which side of `estimand` the logged mean lies on, in expectation; I_B is the
    information between z and which image of its batch was encoded, at most log B. `cap(batch_size)`
    is the largest value the mean can take, and within `inert_margin` nats of it the rate has no
    gradient. A `learned` q cannot be made again from a trained encoder and images. `examples`
    training images are given to `start` before the first step; where `pseudo_inputs` is not None,
    `forward` also wants its posterior. A `separable` rate of an image is the same whatever other
    images are in its batch.
    """

    bound: Literal["lower", "upper"]
    # A subclass says what its number bounds, as results are compared by it.
    estimand: Literal["I(X;Z)", "I_B"] = "I(X;Z)"
    inert_margin: float = 0.1
    learned: bool = False
    separable: bool = False
    examples: int = 0

    @property
    def pseudo_inputs(self) -> Tensor | None:
        """Images [U, C, H, W] that q is made of."""
        return None

    def cap(self, batch_size: int) -> float:
        """In nats; infinite where the estimator cannot saturate."""
        return math.inf

    def start(self, images: Tensor) -> None:
        """Begin q from training images [examples, C, H, W]."""

    def remember(self, posterior: Gaussian) -> None:
        """Keep what later steps need; called once a training step, after the rate was taken."""

    def forward(self, posterior: Gaussian, z: Tensor) -> RateValue:
        raise NotImplementedError

    def of_rows(self, posterior: Gaussian, z: Tensor, rows: slice, *pseudo: Gaussian) -> RateValue:
        """As `forward`, the values of some rows of the batch alone.

        Of several processes each takes those of its own images among the posteriors of all.
        """
        value = self(posterior, z, *pseudo)
        fit = None if value.fit is None else value.fit[rows]
        return RateValue(value.loss[rows], value.rate[rows], fit)


RATES: Registry[Rate] = Registry("rate")
"""Factories `(latent_dim, info=None, *, <hyper>) -> Rate`; `info` describes the training data."""


@contextmanager
def full_precision(device: torch.device) -> Iterator[None]:
    """Keep autocast out of a rate: it is computed in float64, since errors grow with
    (|mu|/sigma)^2.
    """
    with torch.autocast(device.type, enabled=False):
        yield
