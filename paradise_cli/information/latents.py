"""Scale-free facts of a latent space (method.md 7)."""

import math
from dataclasses import dataclass

from paradise_cli.information.gaussian import Gaussian

# Of a dimension's variance, the least that an active one's mean carries. In nats of a Gaussian
# channel, -log(1 - 0.01) / 2 = 0.005.
ACTIVE_RATIO = 0.01


@dataclass(frozen=True)
class Latents:
    """Scale-free facts of the latent space.

    A dimension is active where Var(mu) > 1% of Var(mu) + E sigma^2. It is concentric where it is
    not active and yet tells images apart by the size of sigma alone: where the geometric mean of
    sigma^2 lies more than 1% below its mean. `relative_sigma` is mean sigma over the root mean
    square, across dimensions, of std(mu), None where all means are one.
    """

    dimensions: int
    active: int
    concentric: int
    relative_sigma: float | None


def latents(posterior: Gaussian) -> Latents:
    """Active and concentric dimensions, and relative sigma, of N posteriors."""
    mu, sigma = posterior.double().marginals()
    spread = mu.var(0, correction=0)  # [K]
    noise = sigma.square().mean(0)  # [K]
    active = spread > ACTIVE_RATIO * (spread + noise)
    # A moment-matched Gaussian q gives half the log of these two ratios as the rate of a dimension:
    # (spread + noise) / noise for the means, noise / typical for the sigmas.
    typical = sigma.square().log().mean(0).exp()  # [K], 0 where sigma is
    concentric = (typical < (1 - ACTIVE_RATIO) * noise) & ~active
    scale = math.sqrt(float(spread.mean()))
    return Latents(
        dimensions=mu.shape[1],
        active=int(active.sum()),
        concentric=int(concentric.sum()),
        relative_sigma=float(sigma.mean()) / scale if scale > 0 else None,
    )
