"""Distances between the posteriors, or the outputs, of two views of each image."""

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.linalg import vector_norm

from paradise_cli.core.registry import Registry
from paradise_cli.information.gaussian import DiagonalGaussian
from paradise_cli.information.latents import ACTIVE_RATIO


class Distance(NamedTuple):
    """How far apart two views of the same B images are: `per_example(a, b)` is [B].

    Of a `posterior`, a and b are `DiagonalGaussian`s [B, K]; of `outputs`, logits [B, classes].
    `scale_free` is the same but for the scale of what is compared: a network that makes all its
    latents smaller lowers an L1 distance and gains nothing (method.md 3.2). Both are differentiable
    in a and b.
    """

    of: Literal["posterior", "outputs"]
    # Not typed further: what they take depends on `of`.
    per_example: Callable[[Any, Any], Tensor]
    scale_free: Callable[[Any, Any], Tensor]


DISTANCES: Registry[Distance] = Registry("distance")


@DISTANCES.register
def l1(*, normalise: bool = False) -> Distance:
    """|mu - mu'| + |sigma - sigma'|, the mean over latents: the paper's choice (method.md 3.1).

    With `normalise` each latent is divided by the detached deviation of its mu over the batch.
    """

    # The mean and not the sum: gamma then means the same for every number of latents.
    def per_example(a: DiagonalGaussian, b: DiagonalGaussian) -> Tensor:
        return ((a.mu - b.mu).abs() + (a.sigma - b.sigma).abs()).mean(1)

    return _of_latents(per_example, normalise)


@DISTANCES.register
def wasserstein(*, normalise: bool = False) -> Distance:
    """(mu - mu')^2 + (sigma - sigma')^2, the mean over latents (method.md 3.1).

    It is the squared 2-Wasserstein or Frechet distance (Dowson and Landau 1982) over their number.

    With `normalise` each latent is divided by the detached deviation of its mu over the batch.
    """

    def per_example(a: DiagonalGaussian, b: DiagonalGaussian) -> Tensor:
        return ((a.mu - b.mu).square() + (a.sigma - b.sigma).square()).mean(1)

    return _of_latents(per_example, normalise)


@DISTANCES.register
def symmetric_kl() -> Distance:
    """KL(p || p') + KL(p' || p) in nats, summed over latents (method.md 3.1); sigma > 0."""

    def per_example(a: DiagonalGaussian, b: DiagonalGaussian) -> Tensor:
        shift = (a.mu - b.mu).square()
        # As a square, which never falls below 0: a ratio and its inverse less 2 can by rounding.
        spread = (a.sigma / b.sigma - b.sigma / a.sigma).square()
        return 0.5 * (spread + shift / a.sigma.square() + shift / b.sigma.square()).sum(1)

    return Distance("posterior", per_example, per_example)


@DISTANCES.register
def bhattacharyya() -> Distance:
    """-log of the integral of sqrt(p p') in nats (method.md 3.1); sigma > 0."""
    return Distance("posterior", _bhattacharyya, _bhattacharyya)


@DISTANCES.register
def hellinger() -> Distance:
    """1 - the integral of sqrt(p p'), the squared Hellinger distance (method.md 3.1); sigma > 0.

    It ends at 1, and has no slope there: posteriors far apart are not pulled together.
    """

    def per_example(a: DiagonalGaussian, b: DiagonalGaussian) -> Tensor:
        # expm1 keeps the digits of a small distance, which 1 - exp loses.
        return -torch.expm1(-_bhattacharyya(a, b))

    return Distance("posterior", per_example, per_example)


@DISTANCES.register
def kl() -> Distance:
    """KL(softmax a || softmax b) in nats (TRADES: a is the image; method.md 3.4).

    Not symmetric. Nats of a prediction have no scale that could be taken off. Its absolute error
    in float32 is about 1e-7.
    """

    def per_example(a: Tensor, b: Tensor) -> Tensor:
        # torch's function takes the second of the two first, and the gradient reaches both.
        return F.kl_div(b.log_softmax(1), a.log_softmax(1), reduction="none", log_target=True).sum(
            1
        )

    return Distance("outputs", per_example, per_example)


@DISTANCES.register
def squared() -> Distance:
    """(a - b)^2, the mean over classes: what logit pairing weighs (ALP, CLP; method.md 3.4)."""

    def per_example(a: Tensor, b: Tensor) -> Tensor:
        return (a - b).square().mean(1)

    def scale_free(a: Tensor, b: Tensor) -> Tensor:
        scale = _deviation(a, b)
        return per_example(a / scale, b / scale)

    return Distance("outputs", per_example, scale_free)


@DISTANCES.register
def norm() -> Distance:
    """(||a|| + ||b||) / 2: logit squeezing, LSQ (method.md 3.4), which is no distance.

    It is the scale itself that is made small, so that there is no other form without it.
    """

    def per_example(a: Tensor, b: Tensor) -> Tensor:
        both: Tensor = (vector_norm(a, dim=1) + vector_norm(b, dim=1)) / 2
        return both

    return Distance("outputs", per_example, per_example)


def _of_latents(
    per_example: Callable[[DiagonalGaussian, DiagonalGaussian], Tensor], normalise: bool
) -> Distance:
    """A distance that depends on the scale of z, with its form that does not."""

    def scale_free(a: DiagonalGaussian, b: DiagonalGaussian) -> Tensor:
        noise = torch.cat([a.sigma, b.sigma]).detach().square().mean(0)  # [K]
        scale = _deviation(a.mu, b.mu, noise)
        scaled = [DiagonalGaussian(mu / scale, sigma / scale) for mu, sigma in (a, b)]
        return per_example(*scaled)

    return Distance("posterior", scale_free if normalise else per_example, scale_free)


def _deviation(a: Tensor, b: Tensor, noise: Tensor | float = 0.0) -> Tensor:
    """Standard deviation of each column of both batches [B, K] together, detached, [K].

    Not below that of the least active latent with this `noise` variance.
    """
    # Detached: else the distance falls where the batch is spread out, and nothing is matched.
    variance = torch.cat([a, b]).detach().var(0, correction=0)
    # An unused latent has means that hardly differ: over their spread alone it would outweigh all.
    variance = torch.maximum(variance, ACTIVE_RATIO * (variance + noise))
    # Where nothing varies at all, 0 / 0 would be no number.
    deviation: Tensor = variance.clamp(min=torch.finfo(variance.dtype).tiny).sqrt()
    return deviation


def _bhattacharyya(a: DiagonalGaussian, b: DiagonalGaussian) -> Tensor:
    shift = (a.mu - b.mu).square() / (a.sigma.square() + b.sigma.square())
    # (s^2 + s'^2) / (2 s s') is 1 more than this, which keeps its digits where the two are close.
    excess = (a.sigma - b.sigma).square() / (2 * a.sigma * b.sigma)
    return (0.25 * shift + 0.5 * torch.log1p(excess)).sum(1)
