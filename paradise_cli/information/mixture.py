"""N posteriors as the components of their own mixture, pair by pair."""

import torch
from torch import Tensor

from paradise_cli.core.errors import ParadiseError
from paradise_cli.information.gaussian import LOG_2PI, DiagonalGaussian

CELLS = 2**22  # of a matrix of pairs at a time: 32 MiB in float64
PAIRS = 2**12  # whose densities are recomputed directly at a time
NEGLIGIBLE = -40.0  # nats below its own density at which a component no longer counts
CANCELLATION = (
    1e-7  # scale of the rounding error, in nats, that two matrix products may leave in a density
)


class Mixture:
    """Log-densities of all pairs by two matrix products, float64, exact where these would cancel.

    The components are centred: errors grow with (|mu|/sigma)^2. Raises ParadiseError where mu or
    sigma is not finite, or sigma is 0: then z has no density.
    """

    def __init__(self, posterior: DiagonalGaussian) -> None:
        mu, self.sigma = posterior.double()
        _check(mu, self.sigma)
        self.mu = mu - mu.mean(0)  # [N, K]
        self.precision = self.sigma.square().reciprocal()
        self.scaled = self.mu * self.precision
        squares = (self.mu * self.scaled).sum(1)  # [N]
        log_sigma = self.sigma.log().sum(1)
        self.constant = squares + 2 * log_sigma + mu.shape[1] * LOG_2PI
        self.log_peak = -log_sigma - 0.5 * mu.shape[1] * LOG_2PI
        # z near component j makes terms as large as its squares cancel.
        self.inexact = squares * torch.finfo(torch.float64).eps > CANCELLATION
        self.any_inexact = bool(self.inexact.any())

    def gaps(self, rows: Tensor, noise: Tensor) -> Tensor:
        """log p(z_i|x_j) - log p(z_i|x_i) at z_i = mu_i + sigma_i * noise_i, [M, N] of M rows."""
        own = self.log_peak[rows] - 0.5 * noise.square().sum(1)  # directly: nothing cancels
        return self._gaps(
            rows, self.mu[rows] + self.sigma[rows] * noise, torch.zeros_like(noise), own
        )

    def divergences(self, rows: Tensor) -> Tensor:
        """-KL(p(z|x_i) || p(z|x_j)), the expectation of `gaps` over the noise, [M, N] of M rows."""
        own = self.log_peak[rows] - 0.5 * self.mu.shape[1]
        return self._gaps(rows, self.mu[rows], self.sigma[rows].square(), own)

    def _gaps(self, rows: Tensor, mean: Tensor, variance: Tensor, own: Tensor) -> Tensor:
        """E log p(z|x_j) - own for z of this mean and variance, [M, K]; 0 for the row itself."""
        gaps = torch.addmm(self.constant, mean.square() + variance, self.precision.T)  # [M, N]
        gaps = gaps.addmm_(mean, self.scaled.T, beta=-0.5).sub_(own[:, None])
        if self.any_inexact:
            self._recompute(gaps, mean, variance, own)
        gaps[torch.arange(len(rows), device=rows.device), rows] = 0.0
        return gaps

    def _recompute(self, gaps: Tensor, mean: Tensor, variance: Tensor, own: Tensor) -> None:
        """Directly, for the components that count and whose products cancelled too much."""
        at, component = ((gaps > NEGLIGIBLE) & self.inexact).nonzero(as_tuple=True)
        for i, j in zip(torch.split(at, PAIRS), torch.split(component, PAIRS), strict=True):
            standard = ((mean[i] - self.mu[j]) / self.sigma[j]).square() + variance[
                i
            ] * self.precision[j]
            gaps[i, j] = self.log_peak[j] - 0.5 * standard.sum(1) - own[i]


def _check(mu: Tensor, sigma: Tensor) -> None:
    if not bool(mu.isfinite().all() & sigma.isfinite().all()):
        raise ParadiseError(
            "the rate is not defined: some posterior means or widths are not finite numbers"
        )
    if not bool((sigma > 0).all()):
        raise ParadiseError(
            "the rate is not defined: the encoder is deterministic (z = mu), its information about"
            " distinct images is infinite"
        )
