"""ECHO (Zhang, Liu and Li, 2025): as FISHER, with narrower bands that know which frequency they are of.

Bands of 32 lines (1.3 kHz), a patch a band and 16 frames wide. Added to every token: where its band lies between 0 Hz and half
the sampling rate. Source: the authors' code (github.com/yucongzh/ECHO, commit f55b5a3a0c52, MIT).
"""

from __future__ import annotations

import math
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from auscult.encoders.base import Encoder, EncoderKind
from auscult.encoders.fisher import WINDOW, BandedVit, log_magnitude
from auscult.encoders.vit import BASE, load_renamed, read_weights
from auscult.errors import AuscultError
from auscult.models.vit import initialise
from auscult.settings.sections import EncoderSettings

BAND, STEP = 32, 16  # lines and frames of a patch
LINES = WINDOW // 2 + 1
MEAN, DEVIATION = -5.874158, 5.223174

PUBLISHED = {**BASE, "width": 384, "heads": 6, "ffn": 1536, "frames": 2000}
NAMES = {
    "patch_embed.proj.": "patches.",
    "cls_token": "first",
    "pos_embed": "positions",
    "encoder.layers.": "transformer.blocks.",
    "norm.": "norm.",
}
PARTS = {".self_attn.": ".attn.", ".linear1.": ".mlp.fc1.", ".linear2.": ".mlp.fc2."}


class Echo(BandedVit):
    """ECHO-small by default. At 16 kHz seven bands, the last filled up below with zeros; a step is 160 ms.

    Of clips longer than `frames` the last window ends with the clip and repeats what the one before it has heard (authors' code).
    """

    min_samples = WINDOW
    rows = -(-LINES // BAND)
    published = PUBLISHED
    norm_first = False

    def __init__(self, settings: EncoderSettings) -> None:
        super().__init__(settings)
        if self.width % 2:
            raise AuscultError(
                f"a width of {self.width} is odd", "encoder.size", "the position tables need an even one"
            )
        self.patches = nn.Conv2d(1, self.width, (BAND, STEP), (BAND, STEP))
        self.first = nn.Parameter(torch.empty(1, 1, self.width))
        self.norm = nn.LayerNorm(self.width)
        self.positions: Tensor
        self.bands: Tensor
        self.register_buffer("positions", time_table(-(-self.sizes["frames"] // STEP), self.width))
        self.register_buffer("bands", band_table(self.rows, self.width), persistent=False)
        initialise(self)

    def front_end(self, wave: Tensor) -> Tensor:
        """[B, samples] -> [B, frames, 201], normalised."""
        return (log_magnitude(wave, 1e-9) - MEAN) / (2 * DEVIATION)

    def tokens(self, x: Tensor, layer: int = 0) -> Tensor:
        """See `Encoder.tokens`."""
        size = self.sizes["frames"]
        whole = x.shape[1] // size * size
        if 0 < whole < x.shape[1]:
            x = torch.cat([x[:, :whole], x[:, -size:]], dim=1)
        return super().tokens(x, layer)

    def encode(self, x: Tensor, layer: int) -> Tensor:
        """See `BandedVit.encode`; a step that the frames do not fill is filled with zeros."""
        x = functional.pad(x, (0, 0, 0, -x.shape[1] % STEP))
        whole = LINES // BAND * BAND
        below = x.new_zeros(*x.shape[:2], self.rows * BAND - LINES)
        x = torch.cat([x[..., :whole], below, x[..., whole:]], dim=2).unflatten(2, (self.rows, BAND))
        y = self.patches(x.permute(0, 2, 3, 1).flatten(0, 1).unsqueeze(1)).squeeze(2).transpose(1, 2)
        y = y + self.positions[:, : y.shape[1]].to(y.dtype)
        y = torch.cat([self.first.expand(len(y), -1, -1).to(y.dtype), y], dim=1)
        y = (y.unflatten(0, (-1, self.rows)) + self.bands[:, None].to(y.dtype)).flatten(0, 1)
        y = self.transformer(y, layer)
        return y if layer else self.norm(y)


def time_table(steps: int, width: int) -> Tensor:
    """Fixed positions [1, steps, width]: half of the width sines, half cosines, of frequencies from 1 to nearly 1/10000."""
    rates = 10_000.0 ** -(torch.arange(width // 2, dtype=torch.float64) / (width / 2))
    angle = torch.arange(steps, dtype=torch.float64)[:, None] * rates
    return torch.cat([angle.sin(), angle.cos()], dim=1).float()[None]


def band_table(bands: int, width: int) -> Tensor:
    """[bands, width]: sine and cosine in turn of 25 p 10000^(-2 k / width), p = centre of a band over half the sampling rate."""
    starts = [BAND * band for band in range(bands)]
    centres = torch.tensor([(start + min(start + BAND, LINES) - 1) / WINDOW for start in starts])
    rates = torch.exp(torch.arange(0, width, 2) * (-math.log(10_000.0) / width))
    angle = 25 * centres[:, None] * rates
    return torch.stack([angle.sin(), angle.cos()], dim=2).flatten(1)


def load(encoder: Encoder, path: Path) -> None:
    """Weights from the hub's model.safetensors, or from the authors' .pth file {"encoder": ...}.

    Raises:
        AuscultError: see `read_weights` and `load_renamed`.
    """
    state = read_weights(path, '["encoder"]')
    if isinstance(state.get("encoder"), dict):
        state = state["encoder"]
    for old, new in PARTS.items():
        state = {key.replace(old, new): value for key, value in state.items()}
    if torch.is_tensor(state.get("pos_embed")) and state["pos_embed"].dim() == 3:
        state["pos_embed"] = state["pos_embed"][:, 1:]  # that of the class token is not used
    load_renamed(encoder, state, path, NAMES)


ENCODERS = {"echo": EncoderKind(Echo, load)}
