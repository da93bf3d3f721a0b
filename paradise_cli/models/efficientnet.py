"""EfficientNet-Lite0: Tan and Le 2019 without squeeze-and-excitation and swish; docs/photos.md.

The batch norms of the trained network are folded into the convolutions before them.
"""

from typing import NamedTuple

from torch import Tensor, nn
from torch.nn.functional import pad, relu6

FEATURES = 1280
CLASSES = 1000
_STEM = 32


class Stage(NamedTuple):
    """Blocks that are alike, but that the first alone has the stride and changes the width."""

    repeats: int
    kernel: int
    stride: int
    expansion: int
    width: int


STAGES = (
    Stage(1, 3, 1, 1, 16),
    Stage(2, 3, 2, 6, 24),
    Stage(2, 5, 2, 6, 40),
    Stage(3, 3, 2, 6, 80),
    Stage(3, 5, 1, 6, 112),
    Stage(4, 5, 2, 6, 192),
    Stage(1, 3, 1, 6, 320),
)


class EfficientNetLite0(nn.Module):
    """Images [B, 3, H, W] in [0, 1] to features [B, 1280], of which `classes` makes logits."""

    channels = 3
    out_features = FEATURES

    def __init__(self) -> None:
        super().__init__()
        self.stem = SameConvolution(3, _STEM, 3, 2)
        blocks = []
        width = _STEM
        for stage in STAGES:
            for number in range(stage.repeats):
                stride = 1 if number else stage.stride
                blocks.append(
                    InvertedResidual(width, stage.width, stage.kernel, stride, stage.expansion)
                )
                width = stage.width
        self.blocks = nn.Sequential(*blocks)
        self.head = SameConvolution(width, FEATURES, 1)
        self.classes = nn.Linear(FEATURES, CLASSES)

    def forward(self, images: Tensor) -> Tensor:
        # How its authors scaled pixels: exactly 127 is 0.
        x = relu6(self.stem((images * 255 - 127) / 128))
        return relu6(self.head(self.blocks(x))).mean((2, 3))


class InvertedResidual(nn.Module):
    """1x1 to more channels, one filter a channel, 1x1 to few; its input added where that fits."""

    def __init__(self, width: int, out: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        inner = width * expansion
        self.expand = SameConvolution(width, inner, 1) if expansion > 1 else None
        self.depthwise = SameConvolution(inner, inner, kernel, stride, groups=inner)
        self.project = SameConvolution(inner, out, 1)
        self.residual = stride == 1 and width == out

    def forward(self, x: Tensor) -> Tensor:
        inner = x if self.expand is None else relu6(self.expand(x))
        out: Tensor = self.project(relu6(self.depthwise(inner)))
        return x + out if self.residual else out


class SameConvolution(nn.Conv2d):
    """A convolution with bias that pads as TensorFlow's SAME: an odd pixel to the right and below.

    At stride 1 every side gets the same, at stride 2 an even image's left and upper side less.
    """

    def __init__(self, width: int, out: int, kernel: int, stride: int = 1, groups: int = 1) -> None:
        super().__init__(width, out, kernel, stride, groups=groups)

    def forward(self, x: Tensor) -> Tensor:
        kernel, stride = self.kernel_size[0], self.stride[0]
        # What the last position of the kernel lacks, for ceil(size / stride) positions.
        down, across = (max(kernel - (size % stride or stride), 0) for size in x.shape[2:])
        if down or across:
            x = pad(x, (across // 2, across - across // 2, down // 2, down - down // 2))
        return super().forward(x)
