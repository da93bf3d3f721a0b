"""Gaussian posteriors, diagonal or full, and the densities of their mixtures."""

import math
from collections.abc import Sequence
from typing import NamedTuple, TypeAlias

import torch
from torch import Tensor

LOG_2PI = math.log(2 * math.pi)


class DiagonalGaussian(NamedTuple):
    """A batch of posteriors p(z|x) = N(mu, diag sigma^2); mu and sigma are [B, K].

    A deterministic encoder has sigma = 0: it can be sampled, but has no density. Quadratic forms
    are taken over `squares`, here [B, K].
    """

    mu: Tensor
    sigma: Tensor

    def marginals(self) -> "DiagonalGaussian":
        """Each latent by itself."""
        return self

    def rsample(self, noise: Tensor) -> Tensor:
        """z = mu + sigma * noise, differentiable in both; noise ~ N(0, I), [B, K]."""
        return self.mu + self.sigma * noise

    def log_volume(self) -> Tensor:
        """Half the logarithm of the covariance's determinant, [B]."""
        return self.sigma.log().sum(1)

    def entropy(self) -> Tensor:
        """Differential entropy in nats, [B] (method.md 2.1)."""
        return self.log_volume() + 0.5 * self.mu.shape[1] * (1 + LOG_2PI)

    def log_prob(self, z: Tensor) -> Tensor:
        """log p(z_i | x_i) in nats, [B]."""
        squares = ((z - self.mu) / self.sigma).square().sum(1)
        return -0.5 * squares - self.log_volume() - 0.5 * self.mu.shape[1] * LOG_2PI

    def detach(self) -> "DiagonalGaussian":
        """The same posteriors as constants."""
        return DiagonalGaussian(self.mu.detach(), self.sigma.detach())

    def rows(self, rows: Tensor | slice) -> "DiagonalGaussian":
        """Some of the posteriors."""
        return DiagonalGaussian(self.mu[rows], self.sigma[rows])

    def double(self) -> "DiagonalGaussian":
        """The same posteriors in float64."""
        return DiagonalGaussian(self.mu.double(), self.sigma.double())

    def kl_to_standard_normal(self) -> Tensor:
        """KL(p(z|x) || N(0, I)) in nats, [B] (method.md 2.7)."""
        return 0.5 * (self.mu.square() + self.sigma.square() - 1).sum(1) - self.log_volume()

    @staticmethod
    def squares(vectors: Tensor) -> Tensor:
        """v_k^2 of vectors [M, K]."""
        return vectors.square()

    def variances(self) -> Tensor:
        """What `squares` of z - mu are in the mean."""
        return self.sigma.square()

    def covariances(self) -> Tensor:
        """The covariance of each, [B, K, K]."""
        return torch.diag_embed(self.sigma.square())

    def precision(self) -> Tensor:
        """The inverse covariance, as weights of `squares`."""
        return self.sigma.square().reciprocal()

    def times_mu(self, precision: Tensor) -> Tensor:
        """The precision times mu, [B, K]."""
        return self.mu * precision

    def mean_covariance(self) -> Tensor:
        """The mean of the covariances, [K, K]."""
        return torch.diag(self.sigma.square().mean(0))

    def spread_under(self, whitening: Tensor) -> Tensor:
        """trace(W S W^T) of each covariance S, [B]; W is [K, K]."""
        return self.sigma.square() @ whitening.square().sum(0)


class FullGaussian(NamedTuple):
    """A batch of posteriors p(z|x) = N(mu, L L^T); mu [B, K], `factor` L [B, K, K] is lower
    triangular with a diagonal above 0 (method.md 2.8).

    Everything as of a `DiagonalGaussian`, with `squares` [B, K * K].
    """

    mu: Tensor
    factor: Tensor

    @property
    def sigma(self) -> Tensor:
        """Standard deviation of each latent by itself, [B, K]."""
        return self.factor.square().sum(2).sqrt()

    def marginals(self) -> DiagonalGaussian:
        """Each latent by itself: what is left without the correlations."""
        return DiagonalGaussian(self.mu, self.sigma)

    def rsample(self, noise: Tensor) -> Tensor:
        """z = mu + L noise, differentiable in both; noise ~ N(0, I), [B, K]."""
        # No product of matrices: autocast would round it to bf16, and z would leave its posterior.
        return self.mu + (self.factor * noise.unsqueeze(1)).sum(2)

    def log_volume(self) -> Tensor:
        """Half the logarithm of the covariance's determinant, [B]."""
        return self.factor.diagonal(dim1=1, dim2=2).log().sum(1)

    def entropy(self) -> Tensor:
        """Differential entropy in nats, [B]."""
        return self.log_volume() + 0.5 * self.mu.shape[1] * (1 + LOG_2PI)

    def log_prob(self, z: Tensor) -> Tensor:
        """log p(z_i | x_i) in nats, [B]."""
        centred = (z - self.mu).unsqueeze(-1)
        standard = torch.linalg.solve_triangular(self.factor, centred, upper=False)
        squares: Tensor = standard.square().sum((1, 2))
        return -0.5 * squares - self.log_volume() - 0.5 * self.mu.shape[1] * LOG_2PI

    def detach(self) -> "FullGaussian":
        """The same posteriors as constants."""
        return FullGaussian(self.mu.detach(), self.factor.detach())

    def rows(self, rows: Tensor | slice) -> "FullGaussian":
        """Some of the posteriors."""
        return FullGaussian(self.mu[rows], self.factor[rows])

    def double(self) -> "FullGaussian":
        """The same posteriors in float64."""
        return FullGaussian(self.mu.double(), self.factor.double())

    def kl_to_standard_normal(self) -> Tensor:
        """KL(p(z|x) || N(0, I)) in nats, [B]."""
        squares = self.mu.square().sum(1) + self.factor.square().sum((1, 2))
        return 0.5 * (squares - self.mu.shape[1]) - self.log_volume()

    @staticmethod
    def squares(vectors: Tensor) -> Tensor:
        """v_k v_l of vectors [M, K]."""
        return (vectors.unsqueeze(2) * vectors.unsqueeze(1)).flatten(1)

    def variances(self) -> Tensor:
        """What `squares` of z - mu are in the mean."""
        return self.covariances().flatten(1)

    def covariances(self) -> Tensor:
        """L L^T, [B, K, K]."""
        return self.factor @ self.factor.mT

    def precision(self) -> Tensor:
        """The inverse covariance, as weights of `squares`."""
        inverse: Tensor = torch.cholesky_inverse(self.factor)
        return inverse.flatten(1)

    def times_mu(self, precision: Tensor) -> Tensor:
        """The precision times mu, [B, K]."""
        product: Tensor = precision.view_as(self.factor) @ self.mu.unsqueeze(2)
        return product.squeeze(2)

    def mean_covariance(self) -> Tensor:
        """The mean of the covariances, [K, K]."""
        return self.variances().mean(0).view(self.factor.shape[1:])

    def spread_under(self, whitening: Tensor) -> Tensor:
        """trace(W S W^T) of each covariance S, [B]; W is [K, K]."""
        return (whitening @ self.factor).square().sum((1, 2))


Gaussian: TypeAlias = DiagonalGaussian | FullGaussian


def joined(posteriors: Sequence[Gaussian]) -> Gaussian:
    """One batch of several of one kind."""
    parts = (torch.cat(part) for part in zip(*posteriors, strict=True))
    return posteriors[0]._replace(**dict(zip(posteriors[0]._fields, parts, strict=True)))


def aggregate_moments(posterior: Gaussian) -> tuple[Tensor, Tensor]:
    """Mean [K] and covariance [K, K] of the mixture of posteriors, by the law of total variance."""
    mean = posterior.mu.mean(0)
    centred = posterior.mu - mean
    return mean, centred.T @ centred / len(centred) + posterior.mean_covariance()


def log_density_matrix(z: Tensor, components: Gaussian, variance: Tensor | float = 0.0) -> Tensor:
    """log N(z_i; mu_j, S_j) in nats by two matrix products, [M, N] (method.md 2.5).

    z is [M, K], the components are [N, K]; with a `variance` of `squares` [M, F] it is the
    expectation over noise of that variance around z. Time O(MNF), memory O(MN + (M+N)F), F = K, or
    K^2 of full components. Both are first centred on the mean of mu: the error grows with
    (|mu|/sigma)^2. The caller keeps autocast out.
    """
    centre = components.mu.detach().mean(0)
    z, components = z - centre, components._replace(mu=components.mu - centre)
    precision = components.precision()
    scaled = components.times_mu(precision)
    per_component = (components.mu * scaled).sum(1) + 2 * components.log_volume()
    per_component = per_component + z.shape[1] * LOG_2PI  # [N]
    squares = torch.addmm(per_component, components.squares(z) + variance, precision.T)  # [M, N]
    return torch.addmm(squares, z, scaled.T, beta=-0.5)


def kl_matrix(posterior: Gaussian, components: Gaussian) -> Tensor:
    """KL(p_i || component j) in nats by two matrix products, [M, N] (method.md 3.1).

    Hazards as above.
    """
    expected = log_density_matrix(posterior.mu, components, posterior.variances())
    return -posterior.entropy()[:, None] - expected


def kl_to_gaussian(posterior: Gaussian, mean: Tensor, covariance: Tensor) -> Tensor:
    """KL(p(z|x) || N(mean, covariance)) in nats, [B]; mean [K], covariance [K, K] > 0.

    Averaged over x it is I(X;Z) + KL(q || r): an upper bound of the rate for any r (method.md 2.6).
    A covariance that is not positive definite gives NaN, without waiting for the device.
    """
    factor = torch.linalg.cholesky_ex(covariance).L
    identity = torch.eye(len(covariance), dtype=factor.dtype, device=factor.device)
    whitening = torch.linalg.solve_triangular(factor, identity, upper=False)  # S^-1 = W^T W
    distance = ((posterior.mu - mean) @ whitening.T).square().sum(1)  # [B]
    log_determinant = 2 * factor.diagonal().log().sum()
    squares = distance + posterior.spread_under(whitening) - len(covariance)
    rate: Tensor = 0.5 * (squares + log_determinant) - posterior.log_volume()
    return rate
