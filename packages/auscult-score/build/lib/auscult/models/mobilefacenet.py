"""MobileFaceNet for spectrogram images: 128 numbers per clip from [channels, mels, frames].

Layout as in the released code of STgram-MFN (2023), Noisy-ArcMix and OS-SCL ("current"), and of STgram-MFN's first
release ("original"). Sizes in comments are for 128 mels x 313 frames (10 s) and the current plan.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from auscult.models.layers import BatchNorm, PReLU

# Inverted residual blocks: (expansion, channels, repeats, stride of the first repeat).
PLANS: dict[str, tuple[tuple[int, int, int, int], ...]] = {
    "current": ((2, 128, 2, 2), (4, 128, 2, 2), (4, 128, 2, 2)),
    "original": ((2, 64, 5, 2), (4, 128, 1, 2), (2, 128, 6, 1), (4, 128, 1, 2), (2, 128, 2, 1)),
}


class MobileFaceNet(nn.Module):
    """Embeds spectrogram images; the embedding is not normalised.

    Args:
        in_channels: image channels, such as 1 (log-mel) or 3 (log-mel, Tgram, TFgram).
        mels: image height.
        frames: image width; the global depthwise convolution has one weight per remaining pixel, so a network serves
            one clip length.
        embedding: size of the output.
        plan: key of `PLANS`.
        aux_classes: adds the classifier `aux_fc` which the authors' code evaluates and then ignores. Nothing here
            calls it; it exists to account for the printed parameter counts.
    """

    def __init__(
        self,
        in_channels: int,
        mels: int,
        frames: int,
        embedding: int,
        plan: str,
        aux_classes: int | None = None,
    ) -> None:
        super().__init__()
        self.stem = ConvUnit(in_channels, 64, kernel=3, stride=2)
        self.stem_dw = ConvUnit(64, 64, kernel=3, groups=64)
        channels, halvings, self.blocks = 64, 1, 0
        for expansion, width, repeats, first_stride in PLANS[plan]:
            halvings += first_stride == 2
            for repeat in range(repeats):
                stride = first_stride if repeat == 0 else 1
                self.add_module(f"block{self.blocks}", InvertedResidual(channels, width, expansion, stride))
                channels, self.blocks = width, self.blocks + 1
        self.head = ConvUnit(channels, 512)
        left = (_halved(mels, halvings), _halved(frames, halvings))
        self.gdconv = ConvUnit(512, 512, kernel=left, groups=512, pad=False, linear=True)
        self.embed = ConvUnit(512, embedding, linear=True)
        self.aux_fc = nn.Linear(embedding, aux_classes) if aux_classes is not None else None

    def forward(self, image: Tensor) -> Tensor:
        """[B, in_channels, mels, frames] -> [B, embedding]."""
        # Channels-last order is the fast one on CPUs and GPUs, and every layer keeps it. A clone, as only that
        # sets the strides of an image with a single channel, whose order is otherwise ambiguous.
        x = image.clone(memory_format=torch.channels_last)
        x = self.stem(x)  # [B, 64, 64, 157]
        x = self.stem_dw(x)  # [B, 64, 64, 157]
        for index in range(self.blocks):
            x = getattr(self, f"block{index}")(x)  # [B, 128, 32, 79], [B, 128, 16, 40], [B, 128, 8, 20], two each
        x = self.head(x)  # [B, 512, 8, 20]
        x = self.gdconv(x)  # [B, 512, 1, 1]
        return self.embed(x).flatten(1)  # [B, 128]


class InvertedResidual(nn.Module):
    """1x1 expand, 3x3 depthwise, 1x1 project; the input is added when the shape stays the same."""

    def __init__(self, inputs: int, outputs: int, expansion: int, stride: int) -> None:
        super().__init__()
        inner = inputs * expansion
        self.expand = ConvUnit(inputs, inner)
        self.dw = ConvUnit(inner, inner, kernel=3, stride=stride, groups=inner)
        self.project = ConvUnit(inner, outputs, linear=True)
        self.skip = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        """[B, inputs, h, w] -> [B, outputs, h / stride, w / stride]."""
        y = self.project(self.dw(self.expand(x)))
        return x + y if self.skip else y


class ConvUnit(nn.Module):
    """Convolution without bias, batch norm and, unless `linear`, PReLU with one slope per channel."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: int | tuple[int, int] = 1,
        stride: int = 1,
        groups: int = 1,
        pad: bool = True,
        linear: bool = False,
    ) -> None:
        super().__init__()
        padding = kernel // 2 if pad and isinstance(kernel, int) else 0
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, padding, groups=groups, bias=False)
        self.bn = BatchNorm(outputs)
        self.act = None if linear else PReLU(outputs)  # slopes start at 0.25
        height, width = self.conv.kernel_size
        nn.init.normal_(self.conv.weight, std=math.sqrt(2 / (height * width * outputs)))

    def forward(self, x: Tensor) -> Tensor:
        """[B, inputs, h, w] -> [B, outputs, h', w']."""
        x = self.bn(self.conv(x))
        return x if self.act is None else self.act(x)


def _halved(size: int, times: int) -> int:
    """Size after `times` convolutions of stride 2 (kernel 3, padding 1), each of which rounds up."""
    for _ in range(times):
        size = (size + 1) // 2
    return size
