"""Network of Wilkinghoff's DCASE 2023 system (ICASSP 2024, code ssl4asd): one branch hears the spectrum of a whole clip, the
other its spectrogram, and each gives 128 numbers.

Layers and sizes as in the authors' code, which is Keras: "same" padding, batch norms with its constants, no biases but those of
the norms. Sizes in comments are for 18 s: 288,000 samples.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from auscult.models.adacos_resnet import Norm, kernels, same

FFT, HOP = 1024, 512
SPECTRUM = ((256, 64), (64, 32), (16, 4))
"""Kernels and strides along frequency."""
STAGES = (16, 32, 64, 128)
POOL = 18
"""Frames under the last pooling: all that are left of 18 s."""
CHANNELS = 128
WIDTH = 128


class TwoViewNet(nn.Module):
    """Args:
    samples: of a clip; a network serves one length.
    """

    def __init__(self, samples: int) -> None:
        super().__init__()
        bins, layers, inputs = samples // 2, [], 1
        for kernel, stride in SPECTRUM:
            layers.append(_SpectrumLayer(inputs, kernel, stride))
            bins, inputs = -(-bins // stride), CHANNELS  # 2250, 71, 18
        self.spectrum = nn.Sequential(*layers)
        dense = [_Dense(CHANNELS * bins), *(_Dense(WIDTH) for _ in range(3))]
        self.spectrum_embed = nn.Sequential(*dense, nn.Linear(WIDTH, WIDTH, bias=False))

        frames, frequencies = (samples - FFT) // HOP + 1, FFT // 2 + 1  # 561, 513
        self.normalise = nn.BatchNorm1d(frequencies, eps=1e-3, momentum=0.01)
        self.stem = nn.Conv2d(1, STAGES[0], 7, stride=2, bias=False)
        self.stem_norm = Norm(STAGES[0])
        frames, frequencies = ((-(-size // 2) - 3) // 2 + 1 for size in (frames, frequencies))  # 140, 128
        blocks: list[nn.Module] = []
        inputs = STAGES[0]
        for width in STAGES:
            blocks += [_Residual(inputs, width, len(blocks)), _Residual(width, width, len(blocks) + 1)]
            if width != inputs:
                frames, frequencies = -(-frames // 2), -(-frequencies // 2)  # 70 x 64, 35 x 32, 18 x 16
            inputs = width
        self.blocks = nn.Sequential(*blocks)
        flat = STAGES[-1] * -(-frames // POOL) * frequencies
        self.flat_norm = nn.BatchNorm1d(flat, eps=1e-3, momentum=0.01)
        self.embed = nn.Linear(flat, WIDTH, bias=False)
        for layer in kernels(self):
            nn.init.xavier_uniform_(layer.weight)

    def penalty(self) -> Tensor:
        """Sum of squares of all kernels but those of the gates."""
        gates = {id(layer) for gate in self.modules() if isinstance(gate, Gate) for layer in gate.children()}
        return torch.stack([layer.weight.square().sum() for layer in kernels(self) if id(layer) not in gates]).sum()

    def of_spectrum(self, spectrum: Tensor) -> Tensor:
        """Magnitudes [B, bins] of a whole clip -> [B, 128]."""
        x: Tensor = self.spectrum(spectrum[:, None, None])  # [B, 128, 1, 18]
        return self.spectrum_embed(x.flatten(1))

    def of_spectrogram(self, spectrogram: Tensor) -> Tensor:
        """Magnitudes [B, frequencies, frames] -> [B, 128]."""
        x = spectrogram - spectrogram.mean(2, keepdim=True)
        x = self.normalise(x).mT[:, None]  # [B, 1, 561, 513]
        x = functional.relu(self.stem_norm(self.stem(same(x, 7, 2))))
        x = self.blocks(functional.max_pool2d(x, 3, 2))  # [B, 128, 18, 16]
        x = functional.max_pool2d(same(x, (POOL, 1), (POOL, 1), -math.inf), (POOL, 1))
        return self.embed(self.flat_norm(x.flatten(1)))


def whole_spectrum(wave: Tensor) -> Tensor:
    """Magnitudes [B, samples // 2] of the discrete Fourier transform of [B, samples], up to below half the rate."""
    return torch.fft.rfft(wave).abs()[:, : wave.shape[1] // 2]


def magnitudes(wave: Tensor) -> Tensor:
    """Magnitudes [B, 513, frames] of frames of 1024 samples that lie in [B, samples] whole, periodic Hann window."""
    window = torch.hann_window(FFT, dtype=wave.dtype, device=wave.device)
    return torch.stft(wave, FFT, HOP, window=window, center=False, return_complex=True).abs()


class _SpectrumLayer(nn.Module):
    """Convolution along frequency, ReLU, gate; images are one row high."""

    def __init__(self, inputs: int, kernel: int, stride: int) -> None:
        super().__init__()
        self.kernel, self.stride = (1, kernel), (1, stride)
        self.conv = nn.Conv2d(inputs, CHANNELS, self.kernel, self.stride, bias=False)
        self.gate = Gate(CHANNELS)

    def forward(self, x: Tensor) -> Tensor:
        return self.gate(functional.relu(self.conv(same(x, self.kernel, self.stride))))


class _Dense(nn.Sequential):
    def __init__(self, inputs: int) -> None:
        super().__init__(
            nn.Linear(inputs, WIDTH, bias=False), nn.BatchNorm1d(WIDTH, eps=1e-3, momentum=0.01), nn.ReLU()
        )


class Gate(nn.Module):
    """Squeeze and excitation (Hu et al., CVPR 2018), ratio 16: each channel times a number between 0 and 1."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.squeeze = nn.Linear(channels, max(channels // 16, 1), bias=False)
        self.excite = nn.Linear(max(channels // 16, 1), channels, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, h, w] -> the same shape."""
        gate = self.excite(functional.relu(self.squeeze(x.mean((2, 3))))).sigmoid()
        return x * gate[:, :, None, None]


class _Residual(nn.Module):
    """Batch norm, ReLU, 3x3 convolution, batch norm, ReLU, 3x3 convolution, gate; a new width halves the image.

    As the code has it, the first one (`number` 0) has no norm in front, and the inner norm of the second stands behind the ReLU.
    """

    def __init__(self, inputs: int, outputs: int, number: int) -> None:
        super().__init__()
        self.norm_last, self.stride = number == 1, 1 if inputs == outputs else 2
        self.norm = Norm(inputs) if number else nn.Identity()
        self.conv0 = nn.Conv2d(inputs, outputs, 3, self.stride, bias=False)
        self.inner = Norm(outputs)
        self.conv1 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.gate = Gate(outputs)
        self.shortcut = nn.Conv2d(inputs, outputs, 1, bias=False) if self.stride > 1 else None

    def forward(self, x: Tensor) -> Tensor:
        """[B, inputs, h, w] -> [B, outputs, ceil(h / stride), ceil(w / stride)]."""
        x = self.norm(x)
        y = self.conv0(same(functional.relu(x), 3, self.stride))
        y = self.inner(functional.relu(y)) if self.norm_last else functional.relu(self.inner(y))
        y = self.gate(self.conv1(y))
        if self.shortcut is not None:
            x = self.shortcut(functional.max_pool2d(same(x, 2, 2, -math.inf), 2))
        return x + y
