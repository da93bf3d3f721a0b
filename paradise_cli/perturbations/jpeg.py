"""JPEG with its losses and without its bits: pixels to quantised coefficients and back, in tensors.

As ITU-T T.81 (1992) and its customary tables and colours (annex K, JFIF) have it.
"""

import math

import torch
from torch import Tensor
from torch.nn.functional import interpolate, pad

# Annex K.1 and K.2: how coarsely each frequency of brightness and of colour is kept.
_LUMINANCE = [
    [16, 11, 10, 16, 24, 40, 51, 61],
    [12, 12, 14, 19, 26, 58, 60, 55],
    [14, 13, 16, 24, 40, 57, 69, 56],
    [14, 17, 22, 29, 51, 87, 80, 62],
    [18, 22, 37, 56, 68, 109, 103, 77],
    [24, 35, 55, 64, 81, 104, 113, 92],
    [49, 64, 78, 87, 103, 121, 120, 101],
    [72, 92, 95, 98, 112, 100, 103, 99],
]
_CHROMINANCE = [
    [17, 18, 24, 47, 99, 99, 99, 99],
    [18, 21, 26, 66, 99, 99, 99, 99],
    [24, 26, 56, 99, 99, 99, 99, 99],
    [47, 66, 99, 99, 99, 99, 99, 99],
    *[[99] * 8] * 4,
]
_HALF = 0.5 + 1e-7  # halves go away from 0, as in encoders; torch rounds them to even numbers


def round_trip(images: Tensor, quality: Tensor) -> Tensor:
    """Images [B, C, H, W] in [0, 1] after JPEG at whole qualities [B] from 1 to 100.

    Three channels are red, green and blue; colour is kept at half the resolution, as encoders do
    unless asked. Of another number each channel is a grey image of its own.
    """
    levels = (255 * images).round()  # a file holds whole grey levels
    if images.shape[1] != 3:
        return _kept(levels, quality, _LUMINANCE).to(images.dtype) / 255
    height, width = images.shape[2:]
    red, green, blue = levels.unbind(1)
    luma = 0.299 * red + 0.587 * green + 0.114 * blue
    from_blue = (blue - luma) / 1.772 + 128
    from_red = (red - luma) / 1.402 + 128
    luma = _kept(luma.round()[:, None], quality, _LUMINANCE)[:, 0]
    colour = torch.stack([from_blue, from_red], 1).round()
    colour = _kept(_halved(colour), quality, _CHROMINANCE)
    doubled = interpolate(colour, scale_factor=2, mode="bilinear", align_corners=False)
    from_blue, from_red = (doubled[:, :, :height, :width].round() - 128).unbind(1)
    red = luma + 1.402 * from_red
    blue = luma + 1.772 * from_blue
    green = (luma - 0.299 * red - 0.114 * blue) / 0.587
    decoded = torch.stack([red, green, blue], 1).round().clamp(0, 255)
    return decoded.to(images.dtype) / 255


def _halved(planes: Tensor) -> Tensor:
    """Means of squares of 2 x 2 pixels; an odd border counts twice."""
    height, width = planes.shape[2:]
    planes = pad(planes, (0, width % 2, 0, height % 2), mode="replicate")
    rows = planes[:, :, ::2] + planes[:, :, 1::2]
    total = rows[..., ::2] + rows[..., 1::2]
    # Encoders round halves down and up in turn, so that no colour grows stronger.
    turn = torch.arange(total.shape[3], device=planes.device) % 2
    return ((total + 1 + turn) / 4).floor()


def _kept(planes: Tensor, quality: Tensor, table: list[list[int]]) -> Tensor:
    """Planes [B, C, H, W] of grey levels after their 8 x 8 blocks of frequencies are rounded."""
    height, width = planes.shape[2:]
    # Blocks at the border are filled up with its pixels.
    filled = pad(planes, (0, -width % 8, 0, -height % 8), mode="replicate")
    # In double, and halves a little raised: a sum that a batch of another size rounds in another
    # way would else put a frequency half-way between two steps now on the one, now on the other.
    blocks = filled.double().unfold(2, 8, 8).unfold(3, 8, 8) - 128  # [B, C, h, w, 8, 8]
    basis = _basis(planes.device)
    steps = _steps(quality, table).double()[:, None, None, None]
    frequencies = basis @ blocks @ basis.T / steps
    rounded = (frequencies.abs() + _HALF).floor() * frequencies.sign()
    blocks = basis.T @ (rounded * steps) @ basis + 128
    decoded = blocks.round().clamp(0, 255).transpose(3, 4).reshape(filled.shape)
    return decoded[:, :, :height, :width].to(planes.dtype)


def _steps(quality: Tensor, table: list[list[int]]) -> Tensor:
    """The rounding steps of each image's quality, [B, 8, 8]: the table's own at quality 50."""
    percent = torch.where(quality < 50, (5000 / quality).floor(), 200 - 2 * quality)
    # Without `non_blocking` the host would wait for all that the device has still to do.
    base = torch.tensor(table).to(quality.device, non_blocking=True)
    return ((base * percent.view(-1, 1, 1) + 50) / 100).floor().clamp(1, 255)


def _basis(device: torch.device) -> Tensor:
    """The orthonormal cosine transform of 8 values, float64 [frequency, place]."""
    place = torch.arange(8, device=device, dtype=torch.float64)
    waves = torch.cos(torch.outer(place, 2 * place + 1) * (math.pi / 16)) / 2
    return torch.where(place[:, None] == 0, math.sqrt(1 / 8), waves)
