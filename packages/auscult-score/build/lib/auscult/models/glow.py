"""Glow, a normalising flow with exact likelihood (Kingma & Dhariwal, NeurIPS 2018), for windows of a spectrogram.

A level is one squeeze (space into channels) and some steps; a step is activation normalisation, an invertible 1x1
convolution and a coupling. After every level but the last, half of the channels leave as latent variables. It is the
half that the last coupling has just changed, conditioned on the half that stays, so that coupling is the conditional
prior for which the published code has a layer of its own. The prior of all latent variables is a standard normal.

The coupling's scale is exp(tanh(.)), within [1/e, e], where Glow has a sigmoid: both directions are then bounded.
"""

from __future__ import annotations

import math
from typing import Literal, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from auscult.errors import AuscultError

Coupling = Literal["affine", "additive"]


class Glow(nn.Module):
    """Flow from a window [mels, frames] to as many standard normal variables.

    Args:
        mels, frames: size of a window; both divisible by squeeze ** levels.
        levels: number of squeezes.
        steps: steps of flow in each level.
        hidden: channels inside the couplings.
        squeeze: side of the squares that become channels.
        coupling: "affine" scales and shifts, "additive" shifts only.

    Attributes:
        shapes: (channels, mels', frames') of the latent variables of every level.

    Raises:
        AuscultError: a window that the squeezes do not divide.
    """

    def __init__(
        self,
        mels: int,
        frames: int,
        levels: int,
        steps: int,
        hidden: int,
        squeeze: int,
        coupling: Coupling,
    ) -> None:
        super().__init__()
        if mels < 1 or frames < 1 or mels % squeeze**levels or frames % squeeze**levels:
            fix = f"both must be positive multiples of {squeeze**levels}: fewer `levels` or another `squeeze`"
            raise AuscultError(f"{levels} squeezes by {squeeze} do not divide a window of {mels} x {frames}", fix=fix)
        self.squeeze, self.dimensions = squeeze, mels * frames
        self.levels, self.shapes = nn.ModuleList(), []
        channels = 1
        for level in range(1, levels + 1):
            channels *= squeeze**2
            self.levels.append(nn.ModuleList(Step(channels, hidden, coupling) for _ in range(steps)))
            channels = channels // 2 if level < levels else channels
            self.shapes.append((channels, mels // squeeze**level, frames // squeeze**level))

    def steps(self, level: int) -> list[Step]:
        return [cast(Step, step) for step in cast(nn.ModuleList, self.levels[level])]

    def forward(self, window: Tensor, initialise: bool = False) -> tuple[list[Tensor], Tensor]:
        """Latent variables of every level [B, channels, mels', frames'] and log |det dz/dx| [B] of windows [B, mels, frames].

        With `initialise` every activation normalisation is first set to give these windows zero mean and unit variance.
        """
        x, latent = window.unsqueeze(1), []
        log_det = window.new_zeros(window.shape[0])  # not len, which an export makes a constant of
        for number in range(len(self.levels)):
            x = functional.pixel_unshuffle(x, self.squeeze)
            for step in self.steps(number):
                if initialise:
                    step.initialise(x)
                x, change = step(x)
                log_det = log_det + change
            if number + 1 < len(self.levels):
                x, out = x.chunk(2, 1)
                latent.append(out)
        return [*latent, x], log_det

    def inverse(self, latent: list[Tensor]) -> Tensor:
        """The windows [B, mels, frames] of latent variables."""
        x = latent[-1]
        for number in reversed(range(len(self.levels))):
            if number + 1 < len(self.levels):
                x = torch.cat([x, latent[number]], 1)
            for step in reversed(self.steps(number)):
                x = step.inverse(x)
            x = functional.pixel_shuffle(x, self.squeeze)
        return x.squeeze(1)

    def nll(self, latent: list[Tensor], log_det: Tensor) -> Tensor:
        """Negative log-likelihood [B] in nats per dimension, from what `forward` returns."""
        square = sum((z.square().flatten(1).sum(1) for z in latent), torch.zeros_like(log_det))
        return (0.5 * square - log_det) / self.dimensions + 0.5 * math.log(2 * math.pi)


class Step(nn.Module):
    """Activation normalisation, invertible 1x1 convolution W = P L (U + diag s), coupling."""

    permutation: Tensor
    sign: Tensor

    def __init__(self, channels: int, hidden: int, coupling: Coupling) -> None:
        super().__init__()
        rotation = torch.linalg.qr(torch.randn(channels, channels))[0]
        permutation, lower, upper = torch.linalg.lu(rotation)
        self.shift, self.log_scale = nn.Parameter(torch.zeros(channels)), nn.Parameter(torch.zeros(channels))
        self.lower, self.upper = nn.Parameter(lower.tril(-1)), nn.Parameter(upper.triu(1))
        self.log_s = nn.Parameter(upper.diagonal().abs().log())
        self.register_buffer("permutation", permutation)
        self.register_buffer("sign", upper.diagonal().sign())
        first = nn.Conv2d(channels // 2, hidden, 3, padding=1)
        middle = nn.Conv2d(hidden, hidden, 1)
        last = nn.Conv2d(hidden, channels // 2 * (2 if coupling == "affine" else 1), 3, padding=1)
        for convolution in (first, middle):
            nn.init.normal_(convolution.weight, std=0.05)  # as Glow's code
        nn.init.zeros_(last.weight)  # every coupling starts as the identity
        for bias in (first.bias, middle.bias, last.bias):
            if bias is not None:
                nn.init.zeros_(bias)
        self.net = nn.Sequential(first, nn.ReLU(inplace=True), middle, nn.ReLU(inplace=True), last)

    def initialise(self, x: Tensor) -> None:
        """Set shift and scale so that `x` [B, channels, h, w] has zero mean and unit variance in every channel."""
        with torch.no_grad():
            mean = x.mean((0, 2, 3))
            # silence has no variance; its scale stays finite
            spread = (x - mean[:, None, None]).square().mean((0, 2, 3)).sqrt().clamp(min=1e-3)
            self.shift.copy_(-mean)
            self.log_scale.copy_(-spread.log())

    def rotation(self) -> Tensor:
        """W [channels, channels]; log |det W| is the sum of log s."""
        lower = self.lower.tril(-1) + torch.eye(len(self.lower), dtype=self.lower.dtype, device=self.lower.device)
        return self.permutation @ lower @ (self.upper.triu(1) + torch.diag(self.sign * self.log_s.exp()))

    def couple(self, kept: Tensor) -> tuple[Tensor | None, Tensor]:
        """log scale (None if additive) and shift of the other half, each [B, channels / 2, h, w]."""
        out = self.net(kept).to(kept.dtype)  # mixed precision stays inside the net: the likelihood is float32
        if out.shape[1] == kept.shape[1]:
            return None, out
        log_scale, shift = out.chunk(2, 1)
        return log_scale.tanh(), shift

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """[B, channels, h, w] -> the same shape, and log |det| [B]."""
        with torch.autocast(x.device.type, enabled=False):
            # W ((x + shift) * exp(log_scale)) as one convolution
            weight = self.rotation() * self.log_scale.exp()
            x = functional.conv2d(x, weight[:, :, None, None], weight @ self.shift)
        kept, changed = x.chunk(2, 1)
        log_scale, shift = self.couple(kept)
        log_det = (self.log_scale.sum() + self.log_s.sum()) * (x.shape[2] * x.shape[3])
        if log_scale is None:
            return torch.cat([kept, changed + shift], 1), log_det.expand(len(x))
        return torch.cat([kept, changed * log_scale.exp() + shift], 1), log_det + log_scale.flatten(1).sum(1)

    def inverse(self, y: Tensor) -> Tensor:
        """What `forward` has mapped to `y`."""
        kept, changed = y.chunk(2, 1)
        log_scale, shift = self.couple(kept)
        changed = changed - shift if log_scale is None else (changed - shift) * (-log_scale).exp()
        weight = torch.linalg.inv(self.rotation().double()).to(y.dtype)
        x = functional.conv2d(torch.cat([kept, changed], 1), weight[:, :, None, None])
        return x * (-self.log_scale).exp()[:, None, None] - self.shift[:, None, None]
