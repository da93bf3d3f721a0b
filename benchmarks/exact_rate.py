"""The exact empirical rate of 10,000 posteriors with 256 latents: time, memory, error."""

import json
import math
import sys
import time

import torch
from timing import finish, fresh, machine, options, peak_bytes, report, resident_bytes
from torch import Tensor

from paradise_cli.information.gaussian import DiagonalGaussian
from paradise_cli.information.rate import exact_rate, point_rates

N, K, ROWS = 10_000, 256, 64


def posterior(sigma: float) -> tuple[DiagonalGaussian, Tensor]:
    """Pairs of images about one sigma apart: both components of a pair count in every mixture."""
    draw = torch.Generator().manual_seed(0)
    centres = torch.randn(N // 2, K, generator=draw, dtype=torch.float64).repeat_interleave(2, 0)
    mu = centres + sigma * torch.randn(N, K, generator=draw, dtype=torch.float64) / math.sqrt(K)
    widths = sigma * (
        0.5 + torch.rand(N // 2, K, generator=draw, dtype=torch.float64)
    ).repeat_interleave(2, 0)
    return DiagonalGaussian(mu, widths), torch.randn(N, K, generator=draw, dtype=torch.float64)


def direct(q: DiagonalGaussian, noise: Tensor, row: int) -> Tensor:
    """One row as the formula is written, float64."""
    z = q.mu[row] + q.sigma[row] * noise[row]
    densities = (-0.5 * ((z - q.mu) / q.sigma).square() - q.sigma.log()).sum(1)
    return densities[row] - densities.logsumexp(0) + math.log(N)


def measure(sigma: float) -> None:
    q, noise = posterior(sigma)
    exact_rate(DiagonalGaussian(q.mu[:64], q.sigma[:64]))
    before, started = resident_bytes(), time.perf_counter()
    exact_rate(q)
    seconds, extra = time.perf_counter() - started, peak_bytes() - before
    rates = point_rates(q, noise)
    rows = torch.randperm(N, generator=torch.Generator().manual_seed(1))[:ROWS].tolist()
    error = max(float((rates[row] - direct(q, noise, row)).abs()) for row in rows)
    print(
        json.dumps(
            {"seconds": seconds, "gib": extra / 2**30, "error": error, "nats": float(rates.mean())}
        )
    )


if __name__ == "__main__":
    if len(sys.argv) == 2 and sys.argv[1][0] != "-":
        measure(float(sys.argv[1]))
    else:
        chosen = options(__doc__)
        machine()
        for sigma, bound in ((0.1, 1e-6), (1e-3, 1e-6), (1e-5, 1e-3)):
            found = json.loads(fresh(__file__, str(sigma)))
            nats = f"{found['nats']:.3f} nats of {math.log(N):.3f}"
            print(f"N={N}, K={K}, sigma {sigma:g} of the latent scale: {nats}")
            report("seconds", found["seconds"], 30, at_least=False)
            report("extra memory, GiB, fresh process", found["gib"], 1, at_least=False)
            report(f"largest error of {ROWS} rows, nats", found["error"], bound, at_least=False)
        what = f"The exact rate of {N:,} posteriors, {K} latents, at three widths of sigma"
        finish(chosen, what=what, data="random posteriors")
