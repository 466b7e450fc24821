"""TFgramNet (OS-SCL, Huang et al., ICASSP 2025, section II-D, Table I): a time-frequency image learnt from the waveform.

A deviation is built in as a switch: the second block has 64 channels in Table I, 128 in the authors' code, and only
the code's width gives the 1.38 M parameters the paper prints. Sizes in comments are for 10 s at 16 kHz.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional


class TFgram(nn.Module):
    """Strided convolution over the samples, then three blocks of two convolutions, each followed by max pooling.

    Args:
        frames: frames of the output image, those of the log-mel beside it. Unlike Tgram no weight depends on it.
        block2_channels: width of the second block: 128 (authors' code) or 64 (paper, Table I).
    """

    def __init__(self, frames: int = 313, block2_channels: int = 128) -> None:
        super().__init__()
        self.frames = frames
        self.conv0 = nn.Conv1d(1, 64, 11, stride=5, padding=5, bias=False)
        self.bn0 = nn.BatchNorm1d(64)
        self.block1 = ConvBlock(64, 64)
        self.block2 = ConvBlock(64, block2_channels)
        self.block3 = ConvBlock(block2_channels, 128)
        for module in self.modules():
            if isinstance(module, nn.Conv1d):
                nn.init.xavier_uniform_(module.weight)

    def forward(self, wave: Tensor) -> Tensor:
        """[B, 1, samples] -> [B, 128, frames]."""
        x = functional.relu_(self.bn0(self.conv0(wave)))  # [B, 64, 32000]
        x = functional.max_pool1d(self.block1(x), 4)  # [B, 64, 8000]
        x = functional.adaptive_max_pool1d(self.block2(x), 2 * self.frames)  # [B, 128, 626]
        return functional.adaptive_max_pool1d(self.block3(x), self.frames)  # [B, 128, 313]


class ConvBlock(nn.Module):
    """Two convolutions of three taps, the second dilated by two, each with batch norm and ReLU."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv1d(inputs, outputs, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm1d(outputs)
        self.conv2 = nn.Conv1d(outputs, outputs, 3, padding=2, dilation=2, bias=False)
        self.bn2 = nn.BatchNorm1d(outputs)

    def forward(self, x: Tensor) -> Tensor:
        """[B, inputs, time] -> [B, outputs, time]."""
        x = functional.relu_(self.bn1(self.conv1(x)))
        return functional.relu_(self.bn2(self.conv2(x)))
