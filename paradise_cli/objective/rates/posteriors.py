"""q made of the posteriors themselves: those of the batch, and of a bank of earlier ones."""

import math
from typing import Literal

import torch
from torch import Tensor

from paradise_cli.core.errors import UsageError
from paradise_cli.data.base import DataInfo
from paradise_cli.information.gaussian import (
    DiagonalGaussian,
    Gaussian,
    kl_matrix,
    log_density_matrix,
)
from paradise_cli.objective.rates.base import RATES, Rate, RateValue, full_precision

Gradient = Literal["full", "paper", "path"]


class BatchRate(Rate):
    """q is the mixture of the batch's own posteriors; the mean rate never exceeds log B."""

    bound = "lower"

    def __init__(self, gradient: Gradient) -> None:
        super().__init__()
        self.gradient = gradient

    def cap(self, batch_size: int) -> float:
        return math.log(batch_size)

    def forward(self, posterior: Gaussian, z: Tensor) -> RateValue:
        return self.of_rows(posterior, z, slice(0, len(z)))

    def of_rows(self, posterior: Gaussian, z: Tensor, rows: slice, *pseudo: Gaussian) -> RateValue:
        """See `Rate.of_rows`; of the matrix of densities there are these rows alone."""
        with full_precision(z.device):
            z, posterior = z[rows].double(), posterior.double()
            components = posterior if self.gradient == "full" else posterior.detach()
            densities = log_density_matrix(z, components)  # [b, B]
            log_q = self._log_q(densities, z)  # [b]
            own = densities.diagonal(rows.start)
            log_p = own if self.gradient == "path" else -posterior.rows(rows).entropy()
            return RateValue(log_p - log_q, (own - log_q).detach())

    def _log_q(self, densities: Tensor, z: Tensor) -> Tensor:
        """log q(z_i) from the densities under the batch's own components, [b, B]."""
        return densities.logsumexp(1) - math.log(densities.shape[1])


class BankRate(BatchRate):
    """q is the mixture of the batch's posteriors and of the last `size` before it, which are
    constants.

    The mean rate never exceeds log(B + size). It is a lower bound while the encoder moves little in
    the size/B steps that renew the ring; where posteriors have moved, it is too high, by their
    divergence.
    """

    # An example's copy from the last epoch may be in the ring, as a second component of its own.
    # That takes up to log 2 from the value at its cap, hence the margin, and is harmless to a lower
    # bound, which it can raise above the information by log(1 + 1 / (B + size - 1)) at most.
    inert_margin = Rate.inert_margin + math.log(2)
    learned = True
    mu: Tensor
    sigma: Tensor
    filled: Tensor

    def __init__(self, latent_dim: int, size: int, gradient: Gradient) -> None:
        super().__init__(gradient)
        self.size = size
        self.register_buffer("mu", torch.zeros(size, latent_dim))
        self.register_buffer("sigma", torch.ones(size, latent_dim))
        self.register_buffer("filled", torch.zeros((), dtype=torch.int64))  # posteriors ever put in

    def cap(self, batch_size: int) -> float:
        return math.log(batch_size + self.size)

    def _log_q(self, densities: Tensor, z: Tensor) -> Tensor:
        bank = DiagonalGaussian(self.mu, self.sigma).double()
        empty = torch.arange(self.size, device=z.device) >= self.filled
        # Masked, not cut: shapes stay fixed and nothing waits for the device.
        others = log_density_matrix(z, bank).masked_fill(empty, -math.inf)  # [b, size]
        count = densities.shape[1] + self.filled.clamp(max=self.size)
        return torch.cat([densities, others], 1).logsumexp(1) - count.double().log()

    @torch.no_grad()
    def remember(self, posterior: Gaussian) -> None:
        mu, sigma = (part[: self.size] for part in posterior.marginals())
        rows = (self.filled + torch.arange(len(mu), device=mu.device)) % self.size
        self.mu.index_copy_(0, rows, mu.to(self.mu.dtype))
        self.sigma.index_copy_(0, rows, sigma.to(self.sigma.dtype))
        self.filled += len(mu)


class PairwiseRate(Rate):
    """-log mean_j exp(-KL_ij) over the batch, without sampling: the rate of Nonlinear Information
    Bottleneck.

    An upper bound of I_B, the information within the batch, and like it at most log B: of I(X;Z) it
    is therefore no bound, save in the limit of large batches.
    """

    bound = "upper"
    estimand = "I_B"

    def cap(self, batch_size: int) -> float:
        return math.log(batch_size)

    def forward(self, posterior: Gaussian, z: Tensor) -> RateValue:
        return self.of_rows(posterior, z, slice(0, len(z)))

    def of_rows(self, posterior: Gaussian, z: Tensor, rows: slice, *pseudo: Gaussian) -> RateValue:
        """See `Rate.of_rows`; of the matrix of divergences there are these rows alone."""
        with full_precision(z.device):
            posterior = posterior.double()
            divergences = kl_matrix(posterior.rows(rows), posterior)  # [b, B]
            # Exactly 0, where the products leave a rounding: the cap rests on it.
            own = torch.eye(len(z), dtype=torch.bool, device=z.device)[rows]
            divergences = divergences.masked_fill(own, 0.0)
            rate = math.log(len(z)) - (-divergences).logsumexp(1)
            return RateValue(rate, rate.detach())


@RATES.register
def batch(latent_dim: int, info: DataInfo | None = None, *, gradient: Gradient = "full") -> Rate:
    """The paper's in-batch score; usable while the rate stays below about log B - 2 (method.md
    2.6).

    `paper` freezes q's parameters, `path` also those of log p(z|x), `full` neither: one expected
    gradient, three variances (method.md 2.2).
    """
    return BatchRate(gradient)


@RATES.register
def bank(
    latent_dim: int, info: DataInfo | None = None, *, size: int = 8192, gradient: Gradient = "path"
) -> Rate:
    """The batch and the last `size` posteriors, no more than there are training images (method.md
    2.6).

    `paper` and `path` are the two gradients of `batch` that hold q constant, one in expectation.
    `full` differentiates the value through the batch's own components, but not through the bank's:
    a smaller one.
    """
    if size < 1:
        raise UsageError(f"rate bank: size must be at least 1, not {size}")
    # A ring larger than the data would hold copies only, and a cap that no value could come near.
    return BankRate(latent_dim, size if info is None else min(size, info.train_size), gradient)


@RATES.register
def pairwise(latent_dim: int, info: DataInfo | None = None) -> Rate:
    """Nonlinear IB's pairwise bound, without sampling noise (Kolchinsky, Tracey and Wolpert
    2017).
    """
    return PairwiseRate()
