"""Bounds of the rate, point by point: every mean over the points is one bound (method.md 2.4)."""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from paradise_cli.core.randomness import generator, permutation
from paradise_cli.information.gaussian import (
    FullGaussian,
    Gaussian,
    aggregate_moments,
    kl_to_gaussian,
)
from paradise_cli.information.mixture import CELLS, Mixture

POINTS_PER_LATENT = 2  # fewer in a half than this, and its covariance is taken as diagonal


class BatchRates(NamedTuple):
    """What batches of B points say of the rate, in nats, a value for each point used, [M].

    In expectation `in_batch` is a lower bound of I(X;Z), at most log B, `leave_one_out` an upper
    one, of such variance that its mean is no interval's end, and `stratified` an upper bound of
    I_N, at most log N.
    """

    in_batch: Tensor
    leave_one_out: Tensor
    stratified: Tensor


class PairwiseRates(NamedTuple):
    """Sampling-free bounds of I_N in nats, for each row used, [M] (Kolchinsky and Tracey 2017)."""

    bhattacharyya: Tensor
    kl: Tensor


@torch.no_grad()
def batch_rates(
    posterior: Gaussian, batch_size: int, *, n: int | None = None, seed: int = 0
) -> BatchRates:
    """The rates in disjoint random batches of B >= 2 points out of an n-point data set, float64.

    Points that fill no batch are left out; `n`, which counts in `stratified` alone, is by default
    the number of points. Noise and batches are functions of the seed.
    """
    points, latent_dim = posterior.mu.shape
    noise = torch.randn(
        points, latent_dim, generator=generator(seed, "rate batches"), dtype=torch.float64
    )
    noise = noise.to(posterior.mu.device)
    order = permutation(points, seed, "rate batches", "order").to(noise.device)
    found = []
    for rows in torch.split(order[: points - points % batch_size], batch_size):
        batch = Mixture(posterior.rows(rows))
        gaps = batch.gaps(torch.arange(batch_size, device=rows.device), noise[rows])  # [B, B]
        found.append(_rates_of(gaps, points if n is None else n))
    return BatchRates(*(torch.cat(column) for column in zip(*found, strict=True)))


def _rates_of(gaps: Tensor, n: int) -> BatchRates:
    """The three estimates from log p(z_i|x_j) - log p(z_i|x_i), [B, B].

    The stratified weights are 1/N on the diagonal and (N-1)/(N(B-1)) off it: the symmetric form of
    Chen et al. 2018, whose published matrix fills a column in place of the diagonal (method.md
    2.3).
    """
    size = len(gaps)
    own = torch.eye(size, dtype=torch.bool, device=gaps.device)
    log_weight = torch.full_like(gaps, math.log((n - 1) / (n * (size - 1))))
    return BatchRates(
        math.log(size) - gaps.logsumexp(1),
        math.log(size - 1) - gaps.masked_fill(own, -math.inf).logsumexp(1),
        -(gaps + log_weight.masked_fill_(own, -math.log(n))).logsumexp(1),
    )


@torch.no_grad()
def pairwise_rates(posterior: Gaussian, rows: int, *, seed: int = 0) -> PairwiseRates:
    """The pairwise bounds over all N components for at most `rows` random rows, float64.

    O(rows N K) time, with a logarithm for each in the Bhattacharyya distance; O(N K) memory.
    """
    n = len(posterior.mu)
    mixture = Mixture(posterior)
    chosen = permutation(n, seed, "pairwise rate")[:rows].sort().values.to(posterior.mu.device)
    kl = [
        math.log(n) - mixture.divergences(part).logsumexp(1)
        for part in torch.split(chosen, max(1, CELLS // n))
    ]
    size = max(1, CELLS // mixture.precision.numel())
    near = [
        math.log(n) - _bhattacharyya(mixture, part).neg_().logsumexp(1)
        for part in torch.split(chosen, size)
    ]
    return PairwiseRates(torch.cat(near), torch.cat(kl))


def _bhattacharyya(mixture: Mixture, rows: Tensor) -> Tensor:
    """Bhattacharyya distances of M rows from all components, in nats, [M, N] (method.md 3.1)."""
    log_volume = mixture.posterior.log_volume()
    separation, middle = _between(mixture.posterior, rows)
    distances = separation.add_(middle).sub_(0.5 * (log_volume[rows, None] + log_volume))
    distances[torch.arange(len(rows), device=rows.device), rows] = 0.0
    return distances


def _between(posterior: Gaussian, rows: Tensor) -> tuple[Tensor, Tensor]:
    """Of M rows and all N: an eighth of the squared distance of their means under the mean of both
    covariances, and half the log determinant of that mean, [M, N] each.
    """
    apart = posterior.mu[rows, None] - posterior.mu  # [M, N, K]
    if isinstance(posterior, FullGaussian):
        size = apart.shape[2]
        covariances = posterior.variances().view(-1, size, size)
        middle = (covariances[rows, None] + covariances).div_(2)  # [M, N, K, K]
        factor = torch.linalg.cholesky(middle)
        standard = torch.linalg.solve_triangular(factor, apart.unsqueeze(3), upper=False)
        logarithms = factor.diagonal(dim1=2, dim2=3).log().sum(2)
        return standard.square_().sum((2, 3)).mul_(0.125), logarithms
    squares = posterior.sigma.square()
    sums = squares[rows, None] + squares  # [M, N, K]
    return apart.square_().div_(sums).sum(2).mul_(0.25), sums.div_(2).log_().sum(2).mul_(0.5)


@torch.no_grad()
def held_out_rates(posterior: Gaussian, *, seed: int = 0) -> Tensor:
    """KL(p(z|x_i) || r) in nats, float64 [N]; r is the Gaussian fitted to the half without i.

    r does not know the points that it is used for, so each half's mean is an upper bound of I(X;Z)
    in expectation; the same r fitted to all of them may fall below. N >= 4.
    """
    n, posterior = len(posterior.mu), posterior.double()
    order = permutation(n, seed, "held-out rate").to(posterior.mu.device)
    rates = torch.empty(n, dtype=torch.float64, device=order.device)
    halves = order[: n // 2], order[n // 2 :]
    for measured, fitted in (halves, halves[::-1]):
        mean, covariance = _aggregate(posterior.rows(fitted))
        rates[measured] = kl_to_gaussian(posterior.rows(measured), mean, covariance)
    return rates


def _aggregate(posterior: Gaussian) -> tuple[Tensor, Tensor]:
    """The moments of the posteriors' mixture; only the diagonal of its covariance where the points
    are too few to give more, or rounding leaves the whole not positive definite.
    """
    mean, covariance = aggregate_moments(posterior)
    few = len(posterior.mu) < POINTS_PER_LATENT * len(mean)
    if few or int(torch.linalg.cholesky_ex(covariance).info):
        covariance = torch.diag(covariance.diagonal())
    return mean, covariance
