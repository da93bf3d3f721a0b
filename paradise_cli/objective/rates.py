"""The rate term alpha multiplies: the q-step of Blahut-Arimoto and its gradient (method.md 2.2-2.7)."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from paradise_cli.information.gaussian import DiagonalGaussian, kl_to_gaussian, log_density_matrix
from paradise_cli.registry import Registry


class RateValue(NamedTuple):
    """`loss` [B] carries the gradient and Monte-Carlo noise; `rate` [B] is what may be logged, in nats."""

    loss: Tensor
    rate: Tensor


class Rate(nn.Module):
    """Base of all q-steps: `forward(posterior, z)` gives a `RateValue`.

    `bound` says which side of I(X;Z) the logged mean lies on, in expectation; `cap(batch_size)` is the
    largest value the mean can take.
    """

    bound: Literal["lower", "upper"]

    def cap(self, batch_size: int) -> float:
        """In nats; infinite where the estimator cannot saturate."""
        return math.inf

    def forward(self, posterior: DiagonalGaussian, z: Tensor) -> RateValue:
        raise NotImplementedError


RATES: Registry[Rate] = Registry("rate")


@contextmanager
def full_precision(device: torch.device) -> Iterator[None]:
    """Keep autocast out of a rate: it is computed in float64, since errors grow with (|mu|/sigma)^2."""
    with torch.autocast(device.type, enabled=False):
        yield


class BatchRate(Rate):
    """q is the mixture of the batch's own posteriors; the mean rate never exceeds log B."""

    bound = "lower"

    def __init__(self, gradient: Literal["full", "paper", "path"]) -> None:
        super().__init__()
        self.gradient = gradient

    def cap(self, batch_size: int) -> float:
        return math.log(batch_size)

    def forward(self, posterior: DiagonalGaussian, z: Tensor) -> RateValue:
        with full_precision(z.device):
            z, posterior = z.double(), posterior.double()
            components = posterior if self.gradient == "full" else posterior.detach()
            densities = log_density_matrix(z, components)  # [B, B]
            log_q = densities.logsumexp(1) - math.log(len(z))  # [B]
            log_p = densities.diagonal() if self.gradient == "path" else -posterior.entropy()
            return RateValue(log_p - log_q, (densities.diagonal() - log_q).detach())


class FixedRate(Rate):
    """q is N(0, I), never learned: beta-VAE and DVIB."""

    bound = "upper"

    def forward(self, posterior: DiagonalGaussian, z: Tensor) -> RateValue:
        rate = posterior.kl_to_standard_normal()
        return RateValue(rate, rate.detach())


class FittedRate(Rate):
    """q is a Gaussian with the running moments of the aggregate posterior: an upper bound without a cap.

    E KL(p(z|x) || r) = I(X;Z) + KL(q || r). The moments are constants of each step, as q_t in Eq. 5.
    """

    bound = "upper"
    first: Tensor
    second: Tensor
    weight: Tensor

    def __init__(self, latent_dim: int, covariance: Literal["full", "diagonal"], momentum: float) -> None:
        super().__init__()
        self.covariance, self.momentum = covariance, momentum
        self.register_buffer("first", torch.zeros(latent_dim, dtype=torch.float64))
        self.register_buffer("second", torch.zeros(latent_dim, latent_dim, dtype=torch.float64))
        self.register_buffer("weight", torch.zeros((), dtype=torch.float64))

    def forward(self, posterior: DiagonalGaussian, z: Tensor) -> RateValue:
        with full_precision(z.device):
            posterior = posterior.double()
            if self.training:
                self._observe(posterior.detach())
            mean = self.first / self.weight
            covariance = self.second / self.weight - torch.outer(mean, mean)
            if self.covariance == "diagonal":
                covariance = torch.diag(covariance.diagonal())
            rate = kl_to_gaussian(posterior, mean, covariance)
            return RateValue(rate, rate.detach())

    def _observe(self, posterior: DiagonalGaussian) -> None:
        """Move the running raw moments of the aggregate posterior towards those of this batch."""
        mu, sigma = posterior
        second = mu.T @ mu / len(mu) + torch.diag(sigma.square().mean(0))  # law of total variance
        self.first.lerp_(mu.mean(0), 1 - self.momentum)
        self.second.lerp_(second, 1 - self.momentum)
        self.weight.lerp_(torch.ones_like(self.weight), 1 - self.momentum)


@RATES.register
def batch(latent_dim: int, *, gradient: Literal["full", "paper", "path"] = "full") -> Rate:
    """The paper's in-batch score; usable while the rate stays below about log B - 2 (method.md 2.6).

    `paper` freezes q's parameters, `path` also those of log p(z|x), `full` neither: one expected gradient,
    three variances (method.md 2.2).
    """
    return BatchRate(gradient)


@RATES.register
def fitted(
    latent_dim: int, *, covariance: Literal["full", "diagonal"] = "full", momentum: float = 0.99
) -> Rate:
    """A Gaussian q by moment matching: an upper bound that never saturates (method.md 2.6)."""
    return FittedRate(latent_dim, covariance, momentum)


@RATES.register
def fixed(latent_dim: int) -> Rate:
    """q = N(0, I): beta-VAE and DVIB (method.md 2.7)."""
    return FixedRate()
