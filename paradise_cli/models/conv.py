"""Convolutional backbones and decoder, mostly for 28x28 and 64x64 images (method.md 4.4)."""

import math
from typing import Literal

from torch import Tensor, nn

from paradise_cli.core.errors import UsageError
from paradise_cli.models.base import BACKBONES, HEADS, Backbone, Head, Shape, require_positive

STAGES = 4
# Each stage halves the size, and one pixel must be left.
SMALLEST = 2**STAGES


@BACKBONES.register
def conv(in_shape: Shape, *, width: int = 128) -> Backbone:
    """Four convolutions 4x4/2 of width 1, 2, 4, 8 times `width`, each with BN-ReLU.

    Their maps are flattened. At width 128: 1,024 features for 28x28, 16,384 for 64x64. Raises
    UsageError for images below 16x16.
    """
    return ConvBackbone(in_shape, width)


@BACKBONES.register
def strided_conv(in_shape: Shape, *, widths: list[int], batch_norm: bool = False) -> Backbone:
    """Convolutions 3x3 with ReLU of the given widths, all but the first of stride 2, flattened.

    For images of any size, as the digits' 8x8; with `batch_norm` each convolution is normalised.
    """
    return StridedConvBackbone(in_shape, widths, batch_norm)


@HEADS.register
def conv_decoder(
    latent_dim: int,
    classes: int,
    out_shape: Shape,
    *,
    width: int = 128,
    kernel: Literal[3, 5] = 5,
    smooth: bool = True,
) -> Head:
    """A linear layer to 8 * width maps of an eighth of the size, doubled by three deconvolutions.

    The defaults are the CelebA decoder: widths 8-4-2-1 times `width`, then a deconvolution 5x5/1 to
    pixels. smooth = False leaves that one out, so that the third doubling gives the pixels; with
    kernel = 3 that is the MNIST decoder 1024x4x4-512-256-1. Raises UsageError for images below
    16x16.
    """
    return ConvDecoder(latent_dim, out_shape, width, kernel, smooth)


class ConvBackbone(Backbone):
    """See `conv`."""

    def __init__(self, in_shape: Shape, width: int) -> None:
        super().__init__()
        channels, height, breadth = in_shape
        _check("conv", in_shape, width)
        layers: list[nn.Module] = []
        for stage in range(STAGES):
            out = width * 2**stage
            layers += [nn.Conv2d(channels, out, 4, 2, padding=1), nn.BatchNorm2d(out), nn.ReLU()]
            channels = out
        self.layers = nn.Sequential(*layers)
        self.out_features = channels * (height // SMALLEST) * (breadth // SMALLEST)

    def forward(self, images: Tensor) -> Tensor:
        out: Tensor = self.layers(images)
        return out.flatten(1)


class StridedConvBackbone(Backbone):
    """See `strided_conv`."""

    def __init__(self, in_shape: Shape, widths: list[int], batch_norm: bool) -> None:
        super().__init__()
        self.layers, self.out_features = strided_layers(in_shape, widths, batch_norm)

    def forward(self, images: Tensor) -> Tensor:
        out: Tensor = self.layers(images)
        return out


def strided_layers(
    in_shape: Shape, widths: list[int], batch_norm: bool
) -> tuple[nn.Sequential, int]:
    """The layers of `strided_conv`, and how many features come out."""
    require_positive("strided_conv", layers=len(widths), widths=min(widths, default=1))
    # Strides instead of pooling: every layer is smooth but for its ReLU.
    channels, height, breadth = in_shape
    layers: list[nn.Module] = []
    for number, width in enumerate(widths):
        stride = 2 if number else 1
        layers.append(nn.Conv2d(channels, width, 3, stride=stride, padding=1))
        layers += [nn.BatchNorm2d(width)] if batch_norm else []
        layers.append(nn.ReLU())
        # With a padding of 1 a stride of 2 halves the size, rounded up.
        channels, height, breadth = width, -(-height // stride), -(-breadth // stride)
    return nn.Sequential(*layers, nn.Flatten()), channels * height * breadth


class ConvDecoder(Head):
    """See `conv_decoder`."""

    kind = "pixels"

    def __init__(
        self, latent_dim: int, out_shape: Shape, width: int, kernel: int, smooth: bool
    ) -> None:
        super().__init__()
        _check("conv_decoder", out_shape, width)
        if kernel not in (3, 5):
            raise UsageError(f"conv_decoder: kernel must be 3 or 5, not {kernel}")
        # Halving rounds up, so that each doubling can give exactly the next size: 4-7-14-28,
        # 8-16-32-64.
        sizes = [(-(-out_shape[1] // 2**k), -(-out_shape[2] // 2**k)) for k in (3, 2, 1, 0)]
        widths = [8 * width, 4 * width, 2 * width, width if smooth else out_shape[0]]
        self.grid = (widths[0], *sizes[0])
        self.to_grid = nn.Linear(latent_dim, math.prod(self.grid))
        layers: list[nn.Module] = []
        for k in range(3):
            # What a doubling lacks, where halving had rounded up.
            extra = (sizes[k + 1][0] - 2 * sizes[k][0] + 1, sizes[k + 1][1] - 2 * sizes[k][1] + 1)
            layers.append(
                nn.ConvTranspose2d(
                    widths[k], widths[k + 1], kernel, 2, kernel // 2, output_padding=extra
                )
            )
            # The last layer gives pixels, which may be anything before the sigmoid.
            if k < 2 or smooth:
                layers += [nn.BatchNorm2d(widths[k + 1]), nn.ReLU()]
        if smooth:
            layers.append(nn.ConvTranspose2d(width, out_shape[0], kernel, 1, kernel // 2))
        self.layers = nn.Sequential(*layers)

    def forward(self, z: Tensor) -> Tensor:
        # To maps of an eighth of the size, from which each layer doubles.
        out: Tensor = self.layers(self.to_grid(z).view(-1, *self.grid))
        return out


def _check(owner: str, shape: Shape, width: int) -> None:
    require_positive(owner, width=width)
    if min(shape[1:]) < SMALLEST:
        raise UsageError(
            f"{owner}: images of {shape[1]}x{shape[2]} are smaller than {SMALLEST}x{SMALLEST}; "
            f"use mlp and mlp_decoder for them"
        )
