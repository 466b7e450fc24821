"""TFgramNet (OS-SCL, Huang et al., ICASSP 2025, section II-D, Table I): a time-frequency image learnt from the waveform.

A deviation is built in as a switch: the second block has 64 channels in Table I, 128 in the authors' code, and only
the code's width gives the 1.38 M parameters the paper prints. Sizes in comments are for 10 s at 16 kHz.

Two things here serve speed alone. Signals are images of height one in channels-last order, for which convolution,
batch norm and pooling are two to ten times faster on CPUs than their one-dimensional forms. And ReLU follows the
pooling instead of preceding it: the maximum commutes with it, in value and gradient, and leaves far less to do.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from auscult.models.layers import BatchNorm, framed_product


class TFgram(nn.Module):
    """Strided convolution over the samples, then three blocks of two convolutions, each followed by max pooling.

    Args:
        frames: frames of the output image, those of the log-mel beside it. Unlike Tgram no weight depends on it.
        block2_channels: width of the second block: 128 (authors' code) or 64 (paper, Table I).
    """

    def __init__(self, frames: int, block2_channels: int) -> None:
        super().__init__()
        self.frames = frames
        self.conv0 = FlatConv(1, 64, 11, stride=5, padding=5)
        self.bn0 = BatchNorm(64)
        self.block1 = ConvBlock(64, 64)
        self.block2 = ConvBlock(64, block2_channels)
        self.block3 = ConvBlock(block2_channels, 128)
        for module in self.modules():
            if isinstance(module, nn.Conv1d):
                nn.init.xavier_uniform_(module.weight)

    def forward(self, wave: Tensor) -> Tensor:
        """[B, 1, samples] -> [B, 128, frames]."""
        if wave.device.type == "cuda":
            x = framed_product(wave.squeeze(1), self.conv0.weight.squeeze(1), stride=5, padding=5)  # [B, 32000, 64]
            x = x.unsqueeze(1).permute(0, 3, 1, 2)  # [B, 64, 1, 32000] in channels-last order
        else:
            x = self.conv0(wave.unsqueeze(2).clone(memory_format=torch.channels_last))  # [B, 64, 1, 32000]
        x = functional.relu_(self.bn0(x))
        x = functional.relu_(functional.max_pool2d(self.block1(x), (1, 4)))  # [B, 64, 1, 8000]
        x = functional.relu(adaptive_max_pool(self.block2(x), 2 * self.frames))  # [B, 128, 1, 626]
        x = functional.relu(adaptive_max_pool(self.block3(x), self.frames))  # [B, 128, 1, 313]
        return x.squeeze(2)


def adaptive_max_pool(x: Tensor, outputs: int) -> Tensor:
    """[B, channels, 1, L] -> [B, channels, 1, outputs], each the maximum of samples floor(i L / n) to ceil((i + 1) L / n)."""
    if not torch.compiler.is_exporting():
        return functional.adaptive_max_pool2d(x, (1, outputs))
    length = x.shape[3]  # ONNX has no such pooling: look the samples up, of shorter spans the last one again
    spans = [range(i * length // outputs, -(-(i + 1) * length // outputs)) for i in range(outputs)]
    longest = max(map(len, spans))
    rows = [span[min(step, len(span) - 1)] for span in spans for step in range(longest)]
    return x[..., torch.tensor(rows)].unflatten(3, (outputs, longest)).amax(4)


class ConvBlock(nn.Module):
    """Two convolutions of three taps, the second dilated by two, with batch norm; the last ReLU is left to the caller."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv1 = FlatConv(inputs, outputs, 3, padding=1)
        self.bn1 = BatchNorm(outputs)
        self.conv2 = FlatConv(outputs, outputs, 3, padding=2, dilation=2)
        self.bn2 = BatchNorm(outputs)

    def forward(self, x: Tensor) -> Tensor:
        """[B, inputs, 1, time] -> [B, outputs, 1, time]."""
        x = functional.relu_(self.bn1(self.conv1(x)))
        return self.bn2(self.conv2(x))


class FlatConv(nn.Conv1d):
    """A one-dimensional convolution without bias (weight [outputs, inputs, taps]) for images of height one."""

    def __init__(
        self, inputs: int, outputs: int, taps: int, stride: int = 1, padding: int = 0, dilation: int = 1
    ) -> None:
        super().__init__(inputs, outputs, taps, stride, padding, dilation, bias=False)
        self.geometry = ((1, stride), (0, padding), (1, dilation))

    def forward(self, x: Tensor) -> Tensor:
        """[B, inputs, 1, time] -> [B, outputs, 1, time / stride]."""
        return functional.conv2d(x, self.weight.unsqueeze(2), None, *self.geometry)
