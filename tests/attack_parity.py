"""What the parity tests share: a small smooth network, images for it, and the noise given to
torchattacks.
"""

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from paradise_cli.core.randomness import generator, keyed_uniform

CLASSES, SIDE = 10, 8


def smooth_network(seed: int) -> nn.Module:
    """Random weights; pixels [B, 3, 8, 8] to ten logits, without a kink for rounding to fall
    over.
    """
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        net = nn.Sequential(
            nn.Conv2d(3, 8, 3, padding=1),
            nn.Tanh(),
            nn.Conv2d(8, 16, 3, stride=2, padding=1),
            nn.Tanh(),
            nn.Flatten(),
            nn.Linear(256, CLASSES),
        )
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.mul_(2.0)
    return net.eval().requires_grad_(False)


def smooth_images(n: int, seed: int) -> Tensor:
    """[n, 3, 8, 8], some pixels black or white."""
    coarse = torch.rand(n, 3, 4, 4, generator=generator(seed, "smooth"))
    fine = interpolate(coarse, SIDE, mode="bilinear", align_corners=False)
    return (1.4 * fine - 0.2).clamp(0, 1)


def noise_as_ours(patch: pytest.MonkeyPatch, keys: Tensor) -> None:
    """Makes the next random start of torchattacks that of our runs with these keys [B]."""
    uniform = keyed_uniform(keys, (3, SIDE, SIDE))
    patch.setattr(torch, "rand", lambda *_, **__: uniform)
    patch.setattr(torch, "randn", lambda *_, **__: torch.special.ndtri(uniform))
