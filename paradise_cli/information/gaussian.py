"""Diagonal Gaussian posteriors and the densities of their mixtures."""

import math
from typing import NamedTuple

import torch
from torch import Tensor

LOG_2PI = math.log(2 * math.pi)


class DiagonalGaussian(NamedTuple):
    """A batch of posteriors p(z|x) = N(mu, diag sigma^2); mu and sigma are [B, K].

    A deterministic encoder has sigma = 0: it can be sampled, but has no density.
    """

    mu: Tensor
    sigma: Tensor

    def rsample(self, noise: Tensor) -> Tensor:
        """z = mu + sigma * noise, differentiable in both; noise ~ N(0, I), [B, K]."""
        return self.mu + self.sigma * noise

    def entropy(self) -> Tensor:
        """Differential entropy in nats, [B] (method.md 2.1)."""
        return self.sigma.log().sum(1) + 0.5 * self.mu.shape[1] * (1 + LOG_2PI)

    def log_prob(self, z: Tensor) -> Tensor:
        """log p(z_i | x_i) in nats, [B]."""
        standard = (z - self.mu) / self.sigma
        return (
            -0.5 * standard.square().sum(1)
            - self.sigma.log().sum(1)
            - 0.5 * self.mu.shape[1] * LOG_2PI
        )

    def detach(self) -> "DiagonalGaussian":
        """The same posteriors as constants."""
        return DiagonalGaussian(self.mu.detach(), self.sigma.detach())

    def double(self) -> "DiagonalGaussian":
        """The same posteriors in float64."""
        return DiagonalGaussian(self.mu.double(), self.sigma.double())

    def kl_to_standard_normal(self) -> Tensor:
        """KL(p(z|x) || N(0, I)) in nats, [B] (method.md 2.7)."""
        return 0.5 * (self.mu.square() + self.sigma.square() - 1).sum(1) - self.sigma.log().sum(1)


def log_density_matrix(
    z: Tensor, components: DiagonalGaussian, variance: Tensor | float = 0.0
) -> Tensor:
    """log N(z_i; mu_j, diag sigma_j^2) in nats by two matrix products, [M, N] (method.md 2.5).

    z is [M, K], the components are [N, K]; with a `variance` [M, K] it is the expectation over
    noise of that variance around z. Time O(MNK), memory O(MN + (M+N)K). Both are first centred on
    the mean of mu: the error grows with (|mu|/sigma)^2. The caller keeps autocast out.
    """
    mu, sigma = components
    centre = mu.detach().mean(0)
    z, mu = z - centre, mu - centre
    precision = sigma.square().reciprocal()
    scaled = mu * precision
    per_component = (mu * scaled).sum(1) + 2 * sigma.log().sum(1) + mu.shape[1] * LOG_2PI  # [N]
    squares = torch.addmm(per_component, z.square() + variance, precision.T)  # [M, N]
    return torch.addmm(squares, z, scaled.T, beta=-0.5)


def kl_matrix(posterior: DiagonalGaussian, components: DiagonalGaussian) -> Tensor:
    """KL(p_i || component j) in nats by two matrix products, [M, N] (method.md 3.1).

    Hazards as above.
    """
    mu, sigma = posterior
    return -posterior.entropy()[:, None] - log_density_matrix(mu, components, sigma.square())


def kl_to_gaussian(posterior: DiagonalGaussian, mean: Tensor, covariance: Tensor) -> Tensor:
    """KL(p(z|x) || N(mean, covariance)) in nats, [B]; mean [K], covariance [K, K] > 0.

    Averaged over x it is I(X;Z) + KL(q || r): an upper bound of the rate for any r (method.md 2.6).
    A covariance that is not positive definite gives NaN, without waiting for the device.
    """
    mu, sigma = posterior
    factor = torch.linalg.cholesky_ex(covariance).L
    identity = torch.eye(len(covariance), dtype=factor.dtype, device=factor.device)
    whitening = torch.linalg.solve_triangular(factor, identity, upper=False)  # S^-1 = W^T W
    distance = ((mu - mean) @ whitening.T).square().sum(1)  # [B]
    spread = sigma.square() @ whitening.square().sum(0)  # [B]
    log_determinant = 2 * factor.diagonal().log().sum()
    rate: Tensor = 0.5 * (distance + spread - mu.shape[1] + log_determinant) - sigma.log().sum(1)
    return rate
