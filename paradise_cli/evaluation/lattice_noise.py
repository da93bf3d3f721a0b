"""Gaussian noise on a lattice of pixels, where rounding takes nothing from a proof (method.md 8.2).

A certificate is about real numbers, and a computer adds rounded ones: of a float32 sum a classifier
can read where the image was, which no real noise would tell (Voracek and Hein 2023). Here image and
noise are whole numbers of steps. Their sum is exact, and is distributed as the image plus real
Gaussian noise, rounded to the lattice: rounding is then a part of the classifier.
"""

import math

import torch
from torch import Tensor

from paradise_cli.core.randomness import keyed_bits, shifted

STEPS = 4080
"""Of 1/4080 from black to white: 16 for each level of an 8-bit pixel."""
_UNIT = 2.0**-53


def to_lattice(image: Tensor) -> tuple[Tensor, float]:
    """An image [C, H, W] in [0, 1] as steps, float64, and how far it was moved for that.

    The Euclidean distance is in pixel units, and 0 for every 8-bit image.
    """
    steps = (image.double() * STEPS).round()
    moved = image.double() - steps / STEPS
    # What float32 holds of a level, as k / 255, is that level.
    there = to_pixels(steps.float()) == image.float()
    return steps, float(moved.masked_fill(there, 0.0).square().sum().sqrt())


def to_pixels(steps: Tensor) -> Tensor:
    """Whole steps, float32, as pixels; overwrites its argument."""
    return steps.div_(STEPS)


def noisy(steps: Tensor, sigma: float, key: int, draws: Tensor) -> Tensor:
    """An image of steps [C, H, W] under Gaussian noise, as pixels float32 [B, C, H, W].

    `sigma` is in pixel units. Nothing is clipped. Draw i is a function of the image, the key and
    draws[i], int64 [B], alone.
    """
    noise = lattice_normal(sigma, key, draws, steps.numel())  # [B, C * H * W]
    # Exact: up to LARGEST_SIGMA = 10 they stay below (1 + 8.3 * 10) * 4080 < 2^24.
    summed = noise.add_(steps.flatten()).to(torch.float32)
    return to_pixels(summed).view(len(draws), *steps.shape)


def lattice_normal(sigma: float, key: int, draws: Tensor, size: int) -> Tensor:
    """Normal noise of standard deviation sigma, rounded to whole steps; float64 [B, size]."""
    bits = keyed_bits(torch.full_like(draws, key), (size,), draws)
    # The odd multiples of 2^-53 in (-1, 1): each is a float64, and none is 0 or an end.
    odd = shifted(bits, 11).mul_(2).add_(1 - 2**53)
    uniform = odd.to(torch.float64).mul_(_UNIT)
    return uniform.erfinv_().mul_(sigma * STEPS * math.sqrt(2)).round_()


def sampling_error(sigma: float, size: int) -> float:
    """How much more probable a set of noisy images of `size` values may be than under real noise.

    A bound of the total variation between what `lattice_normal` draws, from ideal bits, and normal
    noise that is rounded to steps. Source: method.md 8.2.
    """
    return size * (sigma * STEPS + 1) * 2.0**-48
