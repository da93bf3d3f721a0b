"""Scale-free facts of a latent space."""

import math
from dataclasses import dataclass

from paradise_cli.information.gaussian import DiagonalGaussian

ACTIVE_RATIO = (
    0.01  # of a dimension's variance, the least that an active one's mean carries (method.md 7)
)


@dataclass(frozen=True)
class Latents:
    """Scale-free facts of the latent space.

    `relative_sigma` is mean sigma over the root mean square, across dimensions, of std(mu), None
    where all means are one. A dimension is active where Var(mu) > 1% of Var(mu) + E sigma^2.
    """

    dimensions: int
    active: int
    relative_sigma: float | None


def latents(posterior: DiagonalGaussian) -> Latents:
    """Active dimensions and relative sigma of N posteriors."""
    mu, sigma = posterior.double()
    spread, noise = mu.var(0, correction=0), sigma.square().mean(0)  # [K]
    active = int((spread > ACTIVE_RATIO * (spread + noise)).sum())
    scale = math.sqrt(float(spread.mean()))
    return Latents(mu.shape[1], active, float(sigma.mean()) / scale if scale > 0 else None)
