"""CNN10 (PANNs: Kong et al., IEEE/ACM TASLP 2020, table I): ten layers of which eight are convolutions.

Without its head of 527 classes. Sizes in comments are for 64 mels and 1001 frames.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

CHANNELS = (64, 128, 256, 512)
POOL = 2


class Cnn10(nn.Module):
    """Log-mel spectrograms as images -> embeddings of 512 numbers, all >= 0.

    Args:
        mels: bands of the spectrogram, each normalised over batch and frames first.
        dropout: after each block and before the last layer.
    """

    def __init__(self, mels: int, dropout: float) -> None:
        super().__init__()
        self.dropout = dropout
        self.bn0 = nn.BatchNorm1d(mels)
        self.blocks = nn.ModuleList(
            ConvBlock(inputs, outputs) for inputs, outputs in zip((1, *CHANNELS[:-1]), CHANNELS, strict=True)
        )
        self.fc = nn.Linear(CHANNELS[-1], CHANNELS[-1])
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.xavier_uniform_(module.weight)
        nn.init.zeros_(self.fc.bias)

    def forward(self, mel: Tensor) -> Tensor:
        """[B, mels, frames] in dB -> [B, 512]."""
        x = self.bn0(mel).transpose(1, 2).unsqueeze(1)  # [B, 1, 1001, 64]
        for block in self.blocks:
            x = functional.dropout(block(x), self.dropout, self.training)  # [B, 512, 62, 4] after the last
        x = x.mean(3)  # [B, 512, 62]: over frequency
        x = x.amax(2) + x.mean(2)  # [B, 512]: over time
        x = functional.dropout(x, 0.5 if self.dropout else 0.0, self.training)
        return functional.relu(self.fc(x))


class ConvBlock(nn.Module):
    """Twice 3 x 3 convolution, batch norm, ReLU; then the mean of each 2 x 2 square (or of what is left of one)."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)

    def forward(self, x: Tensor) -> Tensor:
        """[B, inputs, frames, mels] -> [B, outputs, frames / 2, mels / 2]."""
        x = functional.relu(self.bn1(self.conv1(x)))
        x = functional.relu(self.bn2(self.conv2(x)))
        return functional.avg_pool2d(x, POOL)
