"""Wide residual networks (Zagoruyko & Komodakis 2016; method.md 4.3)."""

from torch import nn

from paradise_cli.core.errors import UsageError
from paradise_cli.models.base import BACKBONES, Backbone, Shape, require_positive
from paradise_cli.models.resnet import (
    Entry,
    PreActBlock,
    ResidualTrunk,
    blocks_per_stage,
    convolution,
)


@BACKBONES.register
def wide_resnet(
    in_shape: Shape, *, depth: int = 28, width: int = 10, dropout: float = 0.0
) -> Backbone:
    """CIFAR network of depth 6n+4, `width` times as wide, with 1x1 shortcuts; 64 * width features.

    dropout is the probability of dropping a value between the two convolutions of a block.
    """
    n = blocks_per_stage("wide_resnet", depth, 4)
    require_positive("wide_resnet", width=width)
    if not 0 <= dropout < 1:
        raise UsageError(f"wide_resnet: dropout must be at least 0 and below 1, not {dropout}")
    blocks: list[nn.Module] = []
    channels = 16  # the stem is not widened
    for stage, stride in enumerate((1, 2, 2)):
        group = 16 * 2**stage * width
        for i in range(n):
            stride_here = stride if i == 0 else 1
            widens = group != channels
            # In a block that widens, the shortcut's convolution reads what BN-ReLU has made.
            shortcut = convolution(channels, group, 1, stride_here) if widens else nn.Identity()
            entry: Entry = "shared" if widens else "own"
            blocks.append(
                PreActBlock(channels, group, stride_here, shortcut, entry=entry, dropout=dropout)
            )
            channels = group
    return ResidualTrunk(convolution(in_shape[0], 16, 3), blocks, channels)
