"""How many nats a set of posteriors really carries about which of its images was encoded."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from paradise_cli.errors import ParadiseError
from paradise_cli.information.gaussian import LOG_2PI, DiagonalGaussian
from paradise_cli.randomness import generator

CELLS = 2**22  # of the density matrix at a time: 32 MiB in float64
PAIRS = 2**12  # whose densities are recomputed directly at a time
NEGLIGIBLE = -40.0  # nats below its own density at which a component no longer counts
CANCELLATION = 1e-7  # scale of the rounding error, in nats, that two matrix products may leave in a density


@dataclass(frozen=True)
class ExactRate:
    """I_N of N encoded points in nats: never above `cap` = log N, and a lower bound of I(X;Z).

    `standard_error` is that of the noise draws; with one draw a point it contains the spread between points
    too, and is then an upper bound of it.
    """

    nats: float
    standard_error: float
    cap: float
    n: int
    draws: int


def exact_rate(
    posterior: DiagonalGaussian,
    *,
    seed: int = 0,
    draws: int = 1,
    progress: Callable[[int], None] | None = None,
) -> ExactRate:
    """The exact empirical rate of all N points, float64 on the posterior's device (method.md 2.4).

    I_N = mean_i E[log p(z|x_i) - logsumexp_j log p(z|x_j) + log N], with z ~ p(z|x_i) drawn `draws` times,
    a function of the seed. O(N^2 K) time, O(N K) memory; `progress` is told how many rows were done. Raises
    ParadiseError as `point_rates`.
    """
    n, latent_dim = posterior.mu.shape
    values = []
    for draw in range(draws):
        # Drawn as a whole, so that no number depends on how the work is cut.
        noise = torch.randn(n, latent_dim, generator=generator(seed, "exact rate", draw), dtype=torch.float64)
        values.append(point_rates(posterior, noise.to(posterior.mu.device), progress=progress))
    rates = torch.stack(values)  # [draws, N]
    spread = rates.var(0, correction=1).mean() if draws > 1 else rates.var(correction=int(n > 1))
    cap = math.log(n)
    # No point is above the cap, but their mean may be by a rounding.
    return ExactRate(
        min(float(rates.mean()), cap), math.sqrt(float(spread) / rates.numel()), cap, n=n, draws=draws
    )


@torch.no_grad()
def point_rates(
    posterior: DiagonalGaussian, noise: Tensor, *, progress: Callable[[int], None] | None = None
) -> Tensor:
    """log p(z_i|x_i) - log mean_j p(z_i|x_j) in nats, float64 [N], at z = mu + sigma * noise, noise [N, K].

    Raises ParadiseError where mu or sigma is not finite, or sigma is 0: then z has no density.
    """
    mixture = _Mixture(posterior)
    n = len(posterior.mu)
    noise = noise.double()
    rates = []
    for rows in torch.split(torch.arange(n, device=noise.device), max(1, CELLS // n)):
        rates.append(math.log(n) - mixture.excess(rows, noise[rows]))
        if progress:
            progress(len(rows))
    return torch.cat(rates)


class _Mixture:
    """N posteriors as the components of their own mixture, centred: errors grow with (|mu|/sigma)^2."""

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

    def excess(self, rows: Tensor, noise: Tensor) -> Tensor:
        """log sum_j p(z_i|x_j) - log p(z_i|x_i) for z_i = mu_i + sigma_i * noise_i, [M] of M rows."""
        z = self.mu[rows] + self.sigma[rows] * noise  # [M, K]
        own = self.log_peak[rows] - 0.5 * noise.square().sum(1)  # directly: nothing cancels
        gaps = torch.addmm(self.constant, z.square(), self.precision.T)  # [M, N]
        gaps = gaps.addmm_(z, self.scaled.T, beta=-0.5).sub_(own[:, None])
        if self.any_inexact:
            self._recompute(gaps, z, own)
        gaps[torch.arange(len(rows), device=rows.device), rows] = 0.0
        return gaps.logsumexp(1)

    def _recompute(self, gaps: Tensor, z: Tensor, own: Tensor) -> None:
        """Directly, for the components that count and whose products cancelled too much."""
        at, component = ((gaps > NEGLIGIBLE) & self.inexact).nonzero(as_tuple=True)
        for i, j in zip(torch.split(at, PAIRS), torch.split(component, PAIRS), strict=True):
            standard = (z[i] - self.mu[j]) / self.sigma[j]
            gaps[i, j] = self.log_peak[j] - 0.5 * standard.square().sum(1) - own[i]


def _check(mu: Tensor, sigma: Tensor) -> None:
    if not bool(mu.isfinite().all() & sigma.isfinite().all()):
        raise ParadiseError("the rate is not defined: some posterior means or widths are not finite numbers")
    if not bool((sigma > 0).all()):
        raise ParadiseError(
            "the rate is not defined: the encoder is deterministic (z = mu), its information about distinct"
            " images is infinite"
        )
