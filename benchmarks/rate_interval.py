"""The rate of 50,000 posteriors with 128 latents as an interval: time and memory (`--n 5000` for a
taste).
"""

import json
import sys
import time

import torch
from timing import finish, fresh, machine, options, peak_bytes, report, resident_bytes

from paradise_cli.information.gaussian import DiagonalGaussian
from paradise_cli.information.rate import exact_rate
from paradise_cli.information.rate_interval import RateInterval, rate_interval

N, K = 50_000, 128


def posterior(n: int) -> DiagonalGaussian:
    """Half of the latents carry about half a nat each, the others nothing."""
    draw = torch.Generator().manual_seed(0)
    mu = torch.randn(n, K, generator=draw, dtype=torch.float64)
    mu[:, K // 2 :] *= 1e-3
    sigma = 0.5 + torch.rand(n, K, generator=draw, dtype=torch.float64)
    return DiagonalGaussian(mu, sigma)


def measure(n: int, what: str) -> None:
    q = posterior(n)
    rate_interval(DiagonalGaussian(q.mu[:64], q.sigma[:64]))
    before, started = resident_bytes(), time.perf_counter()
    found = exact_rate(q) if what == "exact" else rate_interval(q)
    seconds, extra = time.perf_counter() - started, peak_bytes() - before
    said = str(found.population) if isinstance(found, RateInterval) else f"{found.nats:.3f} nats"
    print(json.dumps({"seconds": seconds, "gib": extra / 2**30, "said": said}))


if __name__ == "__main__":
    if len(sys.argv) == 3 and sys.argv[1].isdigit():
        measure(int(sys.argv[1]), sys.argv[2])
    else:
        chosen = options(__doc__, n=N)
        n = chosen.n
        machine()
        for what, bound in (("exact", 180), ("interval", 300)):
            found = json.loads(fresh(__file__, str(n), what))
            print(f"{what}, N={n}, K={K}: {found['said']}")
            report("seconds", found["seconds"], bound, at_least=False)
            report("extra memory, GiB, fresh process", found["gib"], 2, at_least=False)
        what = f"The rate of {n:,} posteriors, {K} latents: the exact rate, then all bounds"
        finish(chosen, what=what, data="random posteriors")
