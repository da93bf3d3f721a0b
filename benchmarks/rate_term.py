"""The B x B log-density: two matrix products against the broadcast formulation."""

import math
import sys

import torch
from timing import (
    finish,
    fresh,
    machine,
    median,
    options,
    pairs,
    peak_bytes,
    ratio,
    report,
    resident_bytes,
)

from paradise_cli.information.gaussian import DiagonalGaussian
from paradise_cli.objective.rates import RATES

B, D = 512, 640


def posterior() -> tuple[DiagonalGaussian, torch.Tensor]:
    draw = torch.Generator().manual_seed(0)
    mu = torch.randn(B, D, generator=draw)
    sigma = torch.rand(B, D, generator=draw) + 0.5
    noise = torch.randn(B, D, generator=draw)
    return DiagonalGaussian(mu.requires_grad_(), sigma.requires_grad_()), noise


def ours() -> torch.Tensor:
    q, noise = posterior()
    loss = RATES["batch"](D)(q, q.rsample(noise)).loss.mean()
    loss.backward()
    return loss.detach()


def broadcast(dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """As written in the paper: every sample under every component, [B, B, D] at once."""
    q, noise = posterior()
    mu, sigma, noise = q.mu.to(dtype), q.sigma.to(dtype), noise.to(dtype)
    z = mu + sigma * noise
    standard = (z[:, None] - mu) / sigma
    densities = (-0.5 * standard.square() - sigma.log() - 0.5 * math.log(2 * math.pi)).sum(2)
    score = (densities.logsumexp(1) - math.log(B)).mean()
    entropy = sigma.log().sum(1).mean() + 0.5 * D * (1 + math.log(2 * math.pi))
    loss = -entropy - score
    loss.backward()
    return loss.detach()


def memory() -> None:
    q, noise = posterior()
    RATES["batch"](D)(DiagonalGaussian(q.mu[:8], q.sigma[:8]), noise[:8]).loss.mean().backward()
    before = resident_bytes()
    ours()
    print((peak_bytes() - before) / 2**20)


if __name__ == "__main__":
    if sys.argv[1:] == ["memory"]:
        memory()
    else:
        chosen = options(__doc__, pairs=3)
        machine()
        timed = pairs(broadcast, ours, chosen.pairs)
        print(
            f"B={B}, D={D}: broadcast {median(timed, 0):.3f}s, ours {median(timed, 1):.3f}s both"
            " ways"
        )
        report("times faster than broadcasting", ratio(timed), 50, at_least=True)
        exact = broadcast(torch.float64)
        report(
            "relative error against fp64",
            float((ours() - exact).abs() / exact.abs()),
            1e-4,
            at_least=False,
        )
        report(
            "extra memory, MiB, fresh process", float(fresh(__file__, "memory")), 64, at_least=False
        )
        what = f"Two matrix products against the broadcast form, B = {B}, D = {D}"
        finish(chosen, what=what, data="random posteriors")
