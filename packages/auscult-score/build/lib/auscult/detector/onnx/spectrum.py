"""The log-mel spectrogram in operations that every ONNX runtime has: two products of matrices for one Fourier transform.

A transform of N = N1 N2 samples is one of N1 samples for each of N2 offsets, and then one of N2 values for each line of the
first, with the turning factors between the two inside the second's matrices (Cooley, Tukey, "An algorithm for the machine
calculation of complex Fourier series", 1965; in matrix form Van Loan, "Computational Frameworks for the Fast Fourier
Transform", 1992, section 1.2). For 2048 samples that is a fifteenth of the arithmetic of one product with all cosines and sines,
and no runtime has to have a transform of its own.

All is in float64. Beside a pure tone lies nothing but the rounding of float32, tens of dB below the sound: there, two
transforms in float32 differ although both are right, and a network may make a difference in score of it.
"""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn import functional

from auscult.features.logmel import LogMel, filter_bank

COLUMNS = 32
"""N2, where it divides N."""


class ExportLogMel(nn.Module):
    """`auscult.features.logmel.log_mel` of a sound in float64: same settings, and a result in float32."""

    taper: Tensor
    first: Tensor
    second: Tensor
    bank: Tensor

    def __init__(self, settings: LogMel, sample_rate: int) -> None:
        super().__init__()
        self.settings = settings = replace(settings, sample_rate=sample_rate)
        size = settings.n_fft
        self.columns = columns = math.gcd(size, COLUMNS)
        self.rows = rows = size // columns
        self.lines = lines = rows // 2 + 1  # of the first transform: a real sound has the others mirrored
        line = torch.arange(lines)
        # Products modulo the length: the angle of a large one would lose digits.
        angle = -2 * math.pi * (line[:, None] * torch.arange(rows) % rows).double() / rows
        self.register_buffer("first", torch.stack([angle.cos(), angle.sin()], 1).flatten(0, 1))
        bins = line[:, None] + rows * torch.arange(columns)  # [lines, N2]: place in the spectrum of N
        angle = -2 * math.pi * (torch.arange(columns)[:, None] * bins[:, None, :] % size).double() / size
        cosine, sine = angle.cos(), angle.sin()  # [lines, N2, N2]
        second = torch.cat([torch.cat([cosine, sine], 2), torch.cat([-sine, cosine], 2)], 1)
        self.register_buffer("second", second)
        self.register_buffer("taper", torch.hann_window(size, periodic=settings.window == "hann", dtype=torch.float64))
        # Line k and N - k have the same power. The first and the middle row hold both of them: there, one is left out.
        upper, both = bins > size // 2, (bins % rows == 0) | (2 * (bins % rows) == rows)
        bank = torch.from_numpy(filter_bank(settings)).T[torch.where(upper, size - bins, bins)]
        self.register_buffer("bank", (bank * ~(upper & both).unsqueeze(2)).flatten(0, 1))

    def forward(self, wave: Tensor) -> Tensor:
        """float32 [n, samples] -> [n, mels, frames] in dB."""
        settings, half = self.settings, self.settings.n_fft // 2
        padded = functional.pad(wave.unsqueeze(1), (half, half), mode=settings.pad_mode).squeeze(1)
        tapered = framed(padded, settings.n_fft, settings.hop).double() * self.taper
        once = self.first @ tapered.reshape(-1, self.rows, self.columns)  # [n frames, 2 lines, N2]
        once = once.reshape(-1, self.lines, 2 * self.columns).transpose(0, 1)  # real parts, then imaginary ones
        twice = (once @ self.second).square()  # [lines, n frames, 2 N2]
        power = twice[..., : self.columns] + twice[..., self.columns :]
        # In float64, too, which leaves the whole spectrum out of what onnxruntime makes int8.
        mel = (power.transpose(0, 1).reshape(-1, self.lines * self.columns) @ self.bank).float()
        mel = mel.reshape(wave.shape[0], -1, settings.mels).transpose(1, 2)
        if settings.log == "max":
            return 10.0 * torch.log10(mel.clamp(min=settings.epsilon))
        # log(P + e) as log(P / e + 1) + log(e): onnxruntime takes an addition of 2e-16 for one of zero, and drops it.
        return 10.0 * torch.log10(mel / settings.epsilon + 1.0) + 10.0 * math.log10(settings.epsilon)


def framed(wave: Tensor, size: int, hop: int) -> Tensor:
    """`wave.unfold(1, size, hop)`: [n, samples] -> [n, frames, size]. Whole pieces of a hop are copied where `hop` divides
    `size`; `unfold` becomes a look-up of every sample, which takes longer than the transform."""
    if size % hop:
        return wave.unfold(1, size, hop)
    frames = (wave.shape[1] - size) // hop + 1
    steps = size // hop
    pieces = wave[:, : (frames + steps - 1) * hop].unflatten(1, (frames + steps - 1, hop))
    return torch.cat([pieces[:, step : step + frames] for step in range(steps)], 2)
