"""N posteriors as the components of their own mixture, pair by pair."""

import torch
from torch import Tensor

from paradise_cli.core.errors import ParadiseError
from paradise_cli.information.gaussian import LOG_2PI, Gaussian

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

    def __init__(self, posterior: Gaussian) -> None:
        posterior = posterior.double()
        _check(posterior)
        self.mu = posterior.mu - posterior.mu.mean(0)  # [N, K]
        self.posterior = posterior._replace(mu=self.mu)
        self.precision = posterior.precision()  # [N, F]
        self.scaled = self.posterior.times_mu(self.precision)
        squares = (self.mu * self.scaled).sum(1)  # [N]
        log_volume, constant = posterior.log_volume(), self.mu.shape[1] * LOG_2PI
        self.constant = squares + 2 * log_volume + constant
        self.log_peak = -log_volume - 0.5 * constant
        # z near component j makes terms as large as its squares cancel.
        self.inexact = squares * torch.finfo(torch.float64).eps > CANCELLATION
        self.any_inexact = bool(self.inexact.any())

    def gaps(self, rows: Tensor, noise: Tensor) -> Tensor:
        """log p(z_i|x_j) - log p(z_i|x_i) at z_i drawn by noise_i, [M, N] of M rows."""
        own = self.log_peak[rows] - 0.5 * noise.square().sum(1)  # directly: nothing cancels
        drawn = self.posterior.rows(rows).rsample(noise)
        return self._gaps(rows, drawn, torch.zeros_like(self.precision[rows]), own)

    def divergences(self, rows: Tensor) -> Tensor:
        """-KL(p(z|x_i) || p(z|x_j)), the expectation of `gaps` over the noise, [M, N] of M rows."""
        own = self.log_peak[rows] - 0.5 * self.mu.shape[1]
        return self._gaps(rows, self.mu[rows], self.posterior.rows(rows).variances(), own)

    def _gaps(self, rows: Tensor, mean: Tensor, variance: Tensor, own: Tensor) -> Tensor:
        """E log p(z|x_j) - own, z of this mean [M, K] and variance [M, F]; 0 for the row itself."""
        squares = self.posterior.squares(mean) + variance
        gaps = torch.addmm(self.constant, squares, self.precision.T)  # [M, N]
        gaps = gaps.addmm_(mean, self.scaled.T, beta=-0.5).sub_(own[:, None])
        if self.any_inexact:
            self._recompute(gaps, mean, variance, own)
        gaps[torch.arange(len(rows), device=rows.device), rows] = 0.0
        return gaps

    def _recompute(self, gaps: Tensor, mean: Tensor, variance: Tensor, own: Tensor) -> None:
        """Directly, for the components that count and whose products cancelled too much."""
        at, component = ((gaps > NEGLIGIBLE) & self.inexact).nonzero(as_tuple=True)
        for i, j in zip(torch.split(at, PAIRS), torch.split(component, PAIRS), strict=True):
            squares = self.posterior.squares(mean[i] - self.mu[j]) + variance[i]
            gaps[i, j] = self.log_peak[j] - 0.5 * (squares * self.precision[j]).sum(1) - own[i]


def _check(posterior: Gaussian) -> None:
    if not all(bool(part.isfinite().all()) for part in posterior):
        raise ParadiseError(
            "the rate is not defined: some posterior means or widths are not finite numbers"
        )
    if not bool((posterior.sigma > 0).all()):
        raise ParadiseError(
            "the rate is not defined: the encoder is deterministic (z = mu), its information about"
            " distinct images is infinite"
        )
