"""MobileNetV2 (Sandler et al., CVPR 2018) as an encoder: 1280 numbers from an image of any size.

The layout is the usual one (Keras, torchvision). As in torchvision, strided convolutions are padded by one pixel on
every side, where Keras pads an even side at its end only, which shifts the image by one pixel; batch norms have
PyTorch's epsilon and momentum; weights start as in Keras (Glorot uniform). Sizes in comments are for width 0.5 and a
window of 128 mels x 64 frames.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

# Inverted residual blocks: (expansion, channels at width 1, repeats, stride of the first repeat); table 2 of the paper.
PLAN = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)
FEATURES = 1280


class MobileNetV2(nn.Module):
    """Embeds images of three channels.

    Args:
        width: factor on the channels of every layer but the last, which keeps its 1280 below width 1.
    """

    def __init__(self, width: float) -> None:
        super().__init__()
        channels = scaled(32, width)
        self.features = scaled(FEATURES, max(1.0, width))
        self.stem = ConvUnit(3, channels, kernel=3, stride=2)
        blocks: list[nn.Module] = []
        for expansion, full, repeats, first_stride in PLAN:
            for repeat in range(repeats):
                outputs = scaled(full, width)
                blocks.append(InvertedResidual(channels, outputs, expansion, first_stride if repeat == 0 else 1))
                channels = outputs
        self.blocks = nn.Sequential(*blocks)
        self.head = ConvUnit(channels, self.features)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.xavier_uniform_(module.weight)

    def forward(self, image: Tensor) -> Tensor:
        """[B, 3, mels, frames] -> mean over the remaining pixels [B, 1280]."""
        x = self.stem(image)  # [B, 16, 64, 32]
        x = self.blocks(x)  # [B, 160, 4, 2]
        x = self.head(x)  # [B, 1280, 4, 2]
        return x.mean((2, 3))


class InvertedResidual(nn.Module):
    """1x1 expand, 3x3 depthwise, 1x1 project; the input is added when the shape stays the same."""

    def __init__(self, inputs: int, outputs: int, expansion: int, stride: int) -> None:
        super().__init__()
        inner = inputs * expansion
        self.expand = ConvUnit(inputs, inner) if expansion > 1 else None
        self.dw = ConvUnit(inner, inner, kernel=3, stride=stride, groups=inner)
        self.project = ConvUnit(inner, outputs, linear=True)
        self.skip = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        """[B, inputs, h, w] -> [B, outputs, h / stride, w / stride], rounded up."""
        y = x if self.expand is None else self.expand(x)
        y = self.project(self.dw(y))
        return x + y if self.skip else y


class ConvUnit(nn.Module):
    """Convolution without bias, batch norm and, unless `linear`, min(max(0, x), 6)."""

    def __init__(
        self, inputs: int, outputs: int, kernel: int = 1, stride: int = 1, groups: int = 1, linear: bool = False
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False)
        self.bn = nn.BatchNorm2d(outputs)
        self.linear = linear

    def forward(self, x: Tensor) -> Tensor:
        """[B, inputs, h, w] -> [B, outputs, h', w']."""
        x = self.bn(self.conv(x))
        return x if self.linear else functional.relu6(x, inplace=True)


def scaled(channels: int, width: float) -> int:
    """`channels` times `width`, rounded to a multiple of eight, but down by no more than a tenth."""
    rounded = max(8, int(channels * width + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * channels * width else rounded
