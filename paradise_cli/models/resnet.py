"""Pre-activation residual networks for CIFAR and ImageNet (He et al. 2016; method.md 4.1, 4.2)."""

import math
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import pad, relu

from paradise_cli.core.errors import UsageError
from paradise_cli.models.base import BACKBONES, Backbone, Shape

Entry = Literal["own", "shared", "none"]  # what the leading BN-ReLU of a block feeds

IMAGENET_BLOCKS = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3)}


@BACKBONES.register
def preact_resnet(in_shape: Shape, *, depth: int = 20) -> Backbone:
    """CIFAR network of depth 6n+2 (20, 32, 56, 110) with parameter-free shortcuts; 64 features."""
    n = blocks_per_stage("preact_resnet", depth, 2)
    blocks: list[nn.Module] = []
    channels = 16
    # Each halving of the size doubles the width, so that every stage costs the same.
    for width, stride in ((16, 1), (32, 2), (64, 2)):
        for i in range(n):
            first = i == 0
            # Without weights of its own: a 1x1 convolution would be another, larger network.
            shortcut = (
                PadShortcut(width - channels, stride)
                if first and width != channels
                else nn.Identity()
            )
            blocks.append(
                PreActBlock(
                    channels,
                    width,
                    stride if first else 1,
                    shortcut,
                    entry="shared" if first else "own",
                )
            )
            channels = width
    return ResidualTrunk(convolution(in_shape[0], 16, 3), blocks, channels)


@BACKBONES.register
def preact_resnet_imagenet(in_shape: Shape, *, depth: int = 34) -> Backbone:
    """ImageNet network of depth 18 or 34, 1x1 shortcuts where the width changes; 512 features."""
    if depth not in IMAGENET_BLOCKS:
        known = ", ".join(map(str, IMAGENET_BLOCKS))
        raise UsageError(f"preact_resnet_imagenet: depth {depth} is not one of {known}")
    blocks: list[nn.Module] = []
    channels = 64
    for stage, count in enumerate(IMAGENET_BLOCKS[depth]):
        width, stride = 64 * 2**stage, 1 if stage == 0 else 2
        for i in range(count):
            first = i == 0
            shortcut = (
                convolution(channels, width, 1, stride) if width != channels else nn.Identity()
            )
            # The stem has just normalised and rectified what the very first block receives.
            entry: Entry = "own" if not first else "none" if stage == 0 else "shared"
            blocks.append(
                PreActBlock(channels, width, stride if first else 1, shortcut, entry=entry)
            )
            channels = width
    stem = nn.Sequential(
        convolution(in_shape[0], 64, 7, 2),
        nn.BatchNorm2d(64),
        nn.ReLU(),
        nn.MaxPool2d(3, 2, padding=1),
    )
    return ResidualTrunk(stem, blocks, channels)


class PreActBlock(nn.Module):
    """[BN-ReLU-]conv3x3-BN-ReLU-[dropout-]conv3x3 plus a shortcut.

    `entry` says what the leading BN-ReLU feeds: the residual branch (`own`), the shortcut as well
    (`shared`), or that there is none.
    """

    def __init__(
        self,
        channels: int,
        width: int,
        stride: int,
        shortcut: nn.Module,
        *,
        entry: Entry,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.norm1 = None if entry == "none" else nn.BatchNorm2d(channels)
        self.conv1 = convolution(channels, width, 3, stride)
        self.norm2 = nn.BatchNorm2d(width)
        self.dropout = nn.Dropout(dropout) if dropout else nn.Identity()
        self.conv2 = convolution(width, width, 3)
        self.shortcut = shortcut
        self.shared = entry == "shared"

    def forward(self, x: Tensor) -> Tensor:
        entered = x if self.norm1 is None else relu(self.norm1(x))
        inner = self.dropout(relu(self.norm2(self.conv1(entered))))
        skipped: Tensor = self.shortcut(entered if self.shared else x)
        out: Tensor = self.conv2(inner) + skipped
        return out


class PadShortcut(nn.Module):
    """Type A: every stride-th pixel, with zero channels appended; no parameters."""

    def __init__(self, extra_channels: int, stride: int) -> None:
        super().__init__()
        self.extra_channels = extra_channels
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        return pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, 0, self.extra_channels))


class ResidualTrunk(Backbone):
    """Stem, blocks, BN-ReLU and global average pooling."""

    def __init__(self, stem: nn.Module, blocks: list[nn.Module], features: int) -> None:
        super().__init__()
        self.stem = stem
        self.blocks = nn.Sequential(*blocks)
        self.norm = nn.BatchNorm2d(features)
        self.out_features = features
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                # He's initialisation keeps the variance of gradients from layer to layer.
                fan_out = module.kernel_size[0] * module.kernel_size[1] * module.out_channels
                nn.init.normal_(module.weight, std=math.sqrt(2 / fan_out))

    def forward(self, images: Tensor) -> Tensor:
        x = relu(self.norm(self.blocks(self.stem(images))))
        # Averaging to single precision keeps autocast's rounding out of the features.
        return x.mean((2, 3), dtype=torch.promote_types(x.dtype, torch.float32))


def convolution(channels: int, width: int, size: int, stride: int = 1) -> nn.Conv2d:
    """Bias-free convolution that keeps the size at stride 1."""
    return nn.Conv2d(channels, width, size, stride, padding=size // 2, bias=False)


def blocks_per_stage(owner: str, depth: int, remainder: int) -> int:
    """n of depth = 6n + remainder, n >= 1; raises UsageError naming the nearest allowed depths."""
    n, rest = divmod(depth - remainder, 6)
    if rest == 0 and n >= 1:
        return n
    near = sorted({6 * max(m, 1) + remainder for m in (n, n + 1)})
    raise UsageError(
        f"{owner}: depth {depth} is not 6n+{remainder} with n >= 1; nearest:"
        f" {', '.join(map(str, near))}"
    )
