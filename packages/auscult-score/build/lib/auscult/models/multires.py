"""Multi-branch CNN (Fujimura et al., ICASSP 2025, after Wilkinghoff, ICASSP 2024): one branch hears the spectrum of a whole clip,
others its spectrograms at several resolutions, and each gives `width` numbers. Layers and sizes as in the code of ASDKit.

No layer has a bias and no batch norm a scale or shift: with centres that never move a network could otherwise answer with a
constant. Sizes in comments are for 10 s at 16 kHz, width 128 and n_fft 1024.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from auscult.models.two_view import SPECTRUM, Gate

LOWEST, HIGHEST = 200, 8000
"""Hz, of the spectrograms."""
DEPTH = 5
"""Norms of the spectrum branch."""
SMALLEST = 11
"""Bins and frames that the stem and its pooling need."""


class MultiResNet(nn.Module):
    """[B, samples] -> one [B, width] per branch, that of the spectrum first.

    Args:
        samples: of a clip; a network serves one length. Clips of less than 70,016 samples (none of the challenge's) leave some
            kernel less than it needs, and zeros are put behind what it sees.
        ffts: n_fft of each spectrogram.
        width: of a branch; a multiple of 8.
        sample_rate: Hz.
    """

    def __init__(self, samples: int, ffts: Sequence[int], width: int, sample_rate: int) -> None:
        super().__init__()
        self.ffts, self.sample_rate, self.exact = tuple(ffts), sample_rate, False
        self.spectrum = SpectrumBranch(samples // 2 + 1, width)
        bins = [spectrogram(torch.zeros(1, samples), fft, sample_rate).shape[1] for fft in ffts]
        self.spectrograms = nn.ModuleList(SpectrogramBranch(size, width) for size in bins)

    def forward(self, wave: Tensor) -> list[Tensor]:
        wave = wave.double() if self.exact else wave.float()
        with torch.autocast(wave.device.type, enabled=False):
            spectrum = torch.fft.rfft(wave).abs().float()
            images = [spectrogram(wave, fft, self.sample_rate).float() for fft in self.ffts]
        parts = [self.spectrum(spectrum)]
        return parts + [branch(image) for branch, image in zip(self.spectrograms, images, strict=True)]


def spectrogram(wave: Tensor, fft: int, sample_rate: int) -> Tensor:
    """Magnitudes [B, bins, 1 + samples // (fft / 2)] of the bins from 200 to 8000 Hz, over the root of the window's energy.

    Periodic Hann window, frames centred, zeros around the clip, no logarithm.

    >>> spectrogram(torch.zeros(1, 160_000), 1024, 16_000).shape
    torch.Size([1, 500, 313])
    """
    window = torch.hann_window(fft, dtype=wave.dtype, device=wave.device)
    x = torch.stft(wave, fft, fft // 2, window=window, pad_mode="constant", return_complex=True).abs()
    first, last = -(-LOWEST * fft // sample_rate), min(HIGHEST * fft // sample_rate, fft // 2)
    return x[:, first : last + 1] / window.square().sum().sqrt()


class SpectrumBranch(nn.Module):
    """Three convolutions along frequency, each with ReLU and gate; then linear layers."""

    def __init__(self, bins: int, width: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        inputs = 1
        for kernel, stride in SPECTRUM:
            layers += [
                AtLeast(1, kernel),
                nn.Conv2d(inputs, width, (1, kernel), (1, stride), bias=False),
                nn.ReLU(),
                Gate(width),
            ]
            bins, inputs = after(max(bins, kernel), kernel, stride), width  # 1247, 37, 6
        self.layers = nn.Sequential(*layers)
        dense: list[nn.Module] = []
        inputs = width * bins
        for _ in range(DEPTH):
            dense += [nn.Linear(inputs, width, bias=False), nn.BatchNorm1d(width, affine=False), nn.ReLU()]
            inputs = width
        self.dense = nn.Sequential(*dense, nn.Linear(width, width, bias=False))

    def forward(self, spectrum: Tensor) -> Tensor:
        """[B, bins] -> [B, width]."""
        x: Tensor = self.layers(spectrum[:, None, None])
        return self.dense(x.flatten(1))


class SpectrogramBranch(nn.Module):
    """Stem, eight residual blocks, maximum over time, linear layer."""

    def __init__(self, bins: int, width: int) -> None:
        super().__init__()
        channels = width // 8
        self.normalise = nn.BatchNorm1d(bins, affine=False)
        self.stem = nn.Sequential(
            AtLeast(SMALLEST, SMALLEST),
            nn.Conv2d(1, channels, 7, 2, bias=False),  # 247 x 154
            nn.BatchNorm2d(channels, affine=False),
            nn.ReLU(),
            nn.MaxPool2d(3, 2),  # 123 x 76
        )
        bins = after(after(max(bins, SMALLEST), 7, 2), 3, 2)
        blocks: list[nn.Module] = []
        for outputs in (channels, width // 4, width // 2, width):
            blocks += [Residual(channels, outputs), Residual(outputs, outputs)]
            if outputs != channels:
                bins = after(bins + 2, 3, 2)  # 62, 31, 16
            channels = outputs
        self.blocks = nn.Sequential(*blocks)
        self.flat_norm = nn.BatchNorm1d(width * bins, affine=False)
        self.embed = nn.Linear(width * bins, width, bias=False)

    def forward(self, image: Tensor) -> Tensor:
        """[B, bins, frames] -> [B, width]."""
        x: Tensor = self.blocks(self.stem(self.normalise(image)[:, None]))  # [B, 128, 16, 10]
        return self.embed(self.flat_norm(x.amax(3).flatten(1)))


class Residual(nn.Module):
    """Batch norm, whose output also takes the shortcut; ReLU, 3x3, batch norm, ReLU, 3x3, gate. A new width halves the image."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        stride = 1 if inputs == outputs else 2
        self.norm = nn.BatchNorm2d(inputs, affine=False)
        halved = nn.Sequential(nn.MaxPool2d(3, 2, padding=1), nn.Conv2d(inputs, outputs, 1, bias=False))
        self.shortcut: nn.Module = halved if stride > 1 else nn.Identity()
        self.body = nn.Sequential(
            nn.ReLU(),
            nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False),
            nn.BatchNorm2d(outputs, affine=False),
            nn.ReLU(),
            nn.Conv2d(outputs, outputs, 3, padding=1, bias=False),
            Gate(outputs),
        )

    def forward(self, x: Tensor) -> Tensor:
        """[B, inputs, h, w] -> [B, outputs, ceil(h / stride), ceil(w / stride)]."""
        x = self.norm(x)
        y: Tensor = self.shortcut(x) + self.body(x)
        return y


class AtLeast(nn.Module):
    """Zeros below and behind an image that is smaller than this."""

    def __init__(self, height: int, width: int) -> None:
        super().__init__()
        self.height, self.width = height, width

    def forward(self, x: Tensor) -> Tensor:
        below, behind = max(self.height - x.shape[2], 0), max(self.width - x.shape[3], 0)
        return functional.pad(x, (0, behind, 0, below)) if below or behind else x


def after(size: int, kernel: int, stride: int) -> int:
    """Length of what a convolution or pooling without padding makes of `size`."""
    return (size - kernel) // stride + 1
