"""How many nats a set of posteriors really carries about which of its images was encoded."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from paradise_cli.core.randomness import generator
from paradise_cli.core.shares import ALONE, Processes
from paradise_cli.information.gaussian import Gaussian
from paradise_cli.information.mixture import CELLS, Mixture


@dataclass(frozen=True)
class ExactRate:
    """I_N of N encoded points in nats: never above `cap` = log N, and a lower bound of I(X;Z).

    `standard_error` is that of the noise draws; with one draw a point it contains the spread
    between points too, and is then an upper bound of it.
    """

    nats: float
    standard_error: float
    cap: float
    n: int
    draws: int

    @classmethod
    def of(cls, rates: Tensor) -> "ExactRate":
        """Of the rates of N points in each of some draws, [draws, N]."""
        draws, n = rates.shape
        spread = (
            rates.var(0, correction=1).mean() if draws > 1 else rates.var(correction=int(n > 1))
        )
        cap = math.log(n)
        # No point is above the cap, but their mean may be by a rounding.
        return cls(
            min(float(rates.mean()), cap), math.sqrt(float(spread) / rates.numel()), cap, n, draws
        )


def exact_rate(
    posterior: Gaussian,
    *,
    seed: int = 0,
    draws: int = 1,
    progress: Callable[[int], None] | None = None,
) -> ExactRate:
    """The exact empirical rate of all N points, float64 on the posterior's device (method.md 2.4).

    I_N = mean_i E[log p(z|x_i) - logsumexp_j log p(z|x_j) + log N], with z ~ p(z|x_i) drawn `draws`
    times, a function of the seed. O(N^2 K) time, O(N K) memory; `progress` is called with how
    many rows are done. Raises ParadiseError as `point_rates`.
    """
    return ExactRate.of(drawn_rates(posterior, seed=seed, draws=draws, progress=progress))


def drawn_rates(
    posterior: Gaussian,
    *,
    seed: int = 0,
    draws: int = 1,
    progress: Callable[[int], None] | None = None,
    processes: Processes = ALONE,
) -> Tensor:
    """`point_rates` at `draws` draws of the noise, [draws, N]; their mean is `exact_rate`."""
    n, latent_dim = posterior.mu.shape
    # One block for all: what stays between the large ones of each draw would keep those apart.
    values = torch.empty(draws, n, dtype=torch.float64, device=posterior.mu.device)
    for draw in range(draws):
        # Drawn as a whole, so that no number depends on how the work is cut.
        noise = torch.randn(
            n, latent_dim, generator=generator(seed, "exact rate", draw), dtype=torch.float64
        )
        noise = noise.to(posterior.mu.device)
        values[draw] = point_rates(posterior, noise, progress=progress, processes=processes)
    return values


@torch.no_grad()
def point_rates(
    posterior: Gaussian,
    noise: Tensor,
    *,
    progress: Callable[[int], None] | None = None,
    processes: Processes = ALONE,
) -> Tensor:
    """log p(z_i|x_i) - log mean_j p(z_i|x_j) in nats, float64 [N], at z = mu + sigma noise [N, K].

    Several `processes` compute some of them each, and all find the same. Raises ParadiseError where
    mu or sigma is not finite, or sigma is 0: then z has no density.
    """
    mixture = Mixture(posterior)
    n = len(posterior.mu)
    noise = noise.double()
    blocks = torch.split(torch.arange(n, device=noise.device), max(1, CELLS // n))
    processes = processes.among(len(blocks))
    own = processes.own(blocks)
    # One block for all: small ones between the large ones of the mixture would keep those apart.
    first = int(own[0][0])
    rates = torch.empty(sum(map(len, own)), dtype=torch.float64, device=noise.device)
    for rows in own:
        rates[rows - first] = math.log(n) - mixture.gaps(rows, noise[rows]).logsumexp(1)
        if progress:
            progress(len(rows) * processes.world)
    return processes.joined(rates)
