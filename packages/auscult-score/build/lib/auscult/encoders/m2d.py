"""M2D, Masked Modeling Duo (Niizumi et al., TASLP 2024), and the audio part of M2D-CLAP: a ViT over 16 x 16 patches of 80 mels.

Source: the authors' runtime (github.com/nttcslab/m2d, examples/portable_m2d.py), run beside this. Code and weights are
licensed for evaluation that is not commercial.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torchaudio.functional import melscale_fbanks

from auscult.encoders.base import Encoder, EncoderKind
from auscult.encoders.vit import BASE, VitEncoder, load_renamed, over_windows, read_weights
from auscult.features.constants import constant
from auscult.models.vit import initialise
from auscult.settings.sections import EncoderSettings

MELS, PATCH = 80, 16
N_FFT, HOP = 400, 160
ROWS = MELS // PATCH
FLOOR = torch.finfo(torch.float32).eps  # added to the power, in float64 too
STATISTICS = (-7.1, 4.2)
"""Mean and deviation of log-mels where the file has none, as those of 2022."""

PUBLISHED = {**BASE, "frames": 608}  # longest window: 6 s; M2D-CLAP and fine-tuned models 1001
NAMES = {
    "pos_embed": "positions",
    "cls_token": "first",
    "patch_embed.proj.": "patches.",
    "blocks.": "transformer.blocks.",
    "norm.": "transformer.norm.",
}
PREFIXES = ("module.ar.runtime.backbone.", "backbone.", "")
"""Where the encoder stands in a file, first match: the authors' fine-tuning, their runtime and M2D-CLAP, it alone."""


class M2d(VitEncoder):
    """M2D by default. Tokens: that of the class, then five frequency patches for each 160 ms.

    A clip is filled with zeros behind the normalisation to whole patches; longer ones are encoded in windows of `frames`, their
    tokens joined, class tokens averaged (the authors leave the class token out). Their embedding of a clip is the mean over
    time of each row: `pooling: rows`.
    """

    min_samples = N_FFT // 2 + 1  # for the reflected edge
    class_token = True
    rows = ROWS
    published = PUBLISHED

    def __init__(self, settings: EncoderSettings) -> None:
        super().__init__(settings)
        self.patches = nn.Conv2d(1, self.width, PATCH, PATCH)
        self.first = nn.Parameter(torch.empty(1, 1, self.width))
        self.positions = nn.Parameter(torch.empty(1, 1 + ROWS * (self.sizes["frames"] // PATCH), self.width))
        self.norm_stats: Tensor
        self.register_buffer("norm_stats", torch.tensor(STATISTICS))
        initialise(self)

    def front_end(self, wave: Tensor) -> Tensor:
        """[B, samples] -> log-mel power (natural logarithm) [B, frames, 80], normalised."""
        with torch.autocast(wave.device.type, enabled=False):
            window, bank = _constants(wave.device, wave.dtype)
            spectrum = torch.stft(wave, N_FFT, HOP, window=window, pad_mode="reflect", return_complex=True)
            power = spectrum.real.square() + spectrum.imag.square()
            mel = torch.log(power.transpose(1, 2) @ bank + FLOOR)
            mean, deviation = self.norm_stats.to(wave.dtype)
            return (mel - mean) / deviation

    def tokens(self, x: Tensor, layer: int = 0) -> Tensor:
        """See `Encoder.tokens`."""
        self.check_layer(layer)
        size = self.sizes["frames"]
        x = functional.pad(x, (0, 0, 0, -(x.shape[1] % size) % PATCH))
        return over_windows(x, size, PATCH, lambda window: self._encode(window, layer), class_token=True)

    def _encode(self, x: Tensor, layer: int) -> Tensor:
        x = self.patches(x.transpose(1, 2).unsqueeze(1))  # [B, D, rows, steps]
        positions = self.positions[:, 1:].unflatten(1, (ROWS, -1))[:, :, : x.shape[3]]
        x = x.permute(0, 3, 2, 1) + positions.transpose(1, 2)
        x = x.flatten(1, 2)  # time-major; the authors' is frequency-major
        first = (self.first + self.positions[:, :1]).expand(len(x), -1, -1)
        y: Tensor = self.transformer(torch.cat([first.to(x.dtype), x], dim=1), layer)
        return y


@constant
def _constants(device: torch.device, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Window [n_fft] and filter bank [n_fft / 2 + 1, mels], kept on the device for the next call."""
    with torch.inference_mode(False):  # a tensor born in inference mode could never be used in training
        bank = melscale_fbanks(N_FFT // 2 + 1, 50.0, 8000.0, MELS, 16_000, "slaney", "slaney")
        return torch.hann_window(N_FFT, dtype=dtype).to(device), bank.to(device, dtype)


def load(encoder: Encoder, path: Path) -> None:
    """Weights from the authors' checkpoint-*.pth, encoder alone or with the decoder, text encoder and projections, left out.

    Raises:
        AuscultError: see `read_weights` and `load_renamed`.
    """
    state: dict[str, Any] = read_weights(path, '; s = s.get("model", s)')
    if isinstance(state.get("model"), dict):
        state = state["model"]
    prefix = next((prefix for prefix in PREFIXES if f"{prefix}pos_embed" in state), "")
    state = {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}
    kept = (*NAMES, "norm_stats")
    state = {key: value for key, value in state.items() if key.startswith(kept)}
    load_renamed(encoder, {"norm_stats": torch.tensor(STATISTICS), **state}, path, NAMES)


ENCODERS = {"m2d": EncoderKind(M2d, load)}
