"""EAT (Chen et al., IJCAI 2024): a Transformer over 16 x 16 patches of Kaldi's filter bank, taught by its own average.

Sources: the authors' code (github.com/cwx-worst-one/EAT, models/ and feature_extract/) and that of their models on the
Hugging Face hub (worstchan/EAT-*). Layers are post-norm: data2vec 2.0, from which EAT comes, has them so.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from auscult.encoders.base import EncoderKind
from auscult.encoders.vit import BASE, VitEncoder, load_renamed, read_weights
from auscult.errors import AuscultError
from auscult.features.kaldi import KaldiBank, kaldi_fbank
from auscult.models.vit import initialise
from auscult.settings.sections import EncoderSettings

PATCH = 16
FRONT_END = KaldiBank(window="hanning")
ROWS = FRONT_END.mels // PATCH
MEAN, DEVIATION = -4.268, 4.569  # of AudioSet, as the training code has them

PUBLISHED = {
    **BASE,
    "frames": 1024,  # clips are filled up to this length, that of pre-training
    "positions": 768,  # time steps of the position table: 2 minutes
}
NAMES = {
    "local_encoder.proj.": "patches.",
    "extra_tokens": "first",
    "fixed_positional_encoder.positions": "positions",
    "pre_norm.": "norm.",
    "context_encoder.norm.": "norm.",
    "blocks.": "transformer.blocks.",
}
DROPPED = ("_ema", "decoder.", "encoder_mask", "fc_norm.", "head.")
"""The average that taught, the decoder of pre-training, the classifier of fine-tuning."""


class Eat(VitEncoder):
    """EAT-base by default. Tokens: that of the class, then eight frequency patches for each 160 ms.

    Shorter clips are filled with zeros before normalisation up to `frames`, longer ones to a multiple of 16 frames, as
    the authors advise; none is cut.
    """

    min_samples = 400
    class_token = True
    rows = ROWS
    published = PUBLISHED
    norm_first = False

    def __init__(self, settings: EncoderSettings) -> None:
        super().__init__(settings)
        if self.width % 4:
            raise AuscultError(
                f"a width of {self.width} is no multiple of 4", "encoder.size", "the position table needs that"
            )
        self.patches = nn.Conv2d(1, self.width, PATCH, PATCH)
        self.first = nn.Parameter(torch.empty(1, 1, self.width))
        self.norm = nn.LayerNorm(self.width, eps=1e-6)
        self.positions: Tensor
        self.register_buffer("positions", sine_table(self.sizes["positions"], ROWS, self.width))
        initialise(self)

    def front_end(self, wave: Tensor) -> Tensor:
        """[B, samples] -> [B, frames, 128].

        The authors subtract the clip's mean first; the filter bank does that to every frame anyway.
        """
        x = kaldi_fbank(wave, FRONT_END)
        frames = max(self.sizes["frames"], x.shape[1])
        x = functional.pad(x, (0, 0, 0, frames + -frames % PATCH - x.shape[1]))
        return (x - MEAN) / (2 * DEVIATION)

    def tokens(self, x: Tensor, layer: int = 0) -> Tensor:
        """See `Encoder.tokens`.

        Raises:
            AuscultError: no such layer, or a clip longer than the position table.
        """
        self.check_layer(layer)
        x = self.patches(x.unsqueeze(1)).flatten(2).transpose(1, 2)  # time-major
        if x.shape[1] > self.positions.shape[1]:
            longest = self.positions.shape[1] // ROWS * PATCH
            what = f"a clip of more than {longest} frames (10 ms each) is longer than the position table"
            raise AuscultError(what, "profile.clip_seconds", "cut the clips")
        x = x + self.positions[:, : x.shape[1]]
        x = torch.cat([self.first.expand(len(x), -1, -1).to(x.dtype), x], dim=1)
        y: Tensor = self.transformer(self.norm(x), layer)
        return y


def sine_table(steps: int, rows: int, width: int) -> Tensor:
    """Fixed positions [1, steps * rows, width], time-major: a quarter of the width each for sine and cosine of the row, then
    of the time step; frequencies fall from 1 to nearly 1/10000 (MAE's two-dimensional table)."""
    rates = 10_000.0 ** -(torch.arange(width // 4, dtype=torch.float64) / (width / 4))
    angle = torch.arange(max(steps, rows), dtype=torch.float64)[:, None] * rates
    waves = torch.cat([angle.sin(), angle.cos()], dim=1).float()  # [positions, width / 2]
    row = waves[:rows].expand(steps, -1, -1)
    step = waves[:steps, None].expand(-1, rows, -1)
    return torch.cat([row, step], dim=2).reshape(1, steps * rows, width)


def load(encoder: Eat, path: Path) -> None:
    """Weights from the hub's model.safetensors (pre-trained or fine-tuned), or from the authors' fairseq file.

    The latter holds its settings too, and mostly cannot be read without running code: then the error says how to convert it.

    Raises:
        AuscultError: see `read_weights` and `load_renamed`.
    """
    state = read_weights(path, '["model"]')
    if isinstance(state.get("model"), dict):
        state = state["model"]
    state = {key.removeprefix("model.").removeprefix("modality_encoders.IMAGE."): value for key, value in state.items()}
    state = {key: value for key, value in state.items() if not key.startswith(DROPPED)}
    table = state.get("fixed_positional_encoder.positions")
    if torch.is_tensor(table) and table.dim() == 3 and table.shape[2] % 4 == 0:
        # Tables differ in length between the releases; all begin alike.
        full = sine_table(encoder.sizes["positions"], ROWS, table.shape[2])
        whole = torch.cat([table.float(), full[:, table.shape[1] :]], dim=1)[:, : full.shape[1]]
        state["fixed_positional_encoder.positions"] = whole
    load_renamed(encoder, state, path, NAMES)


ENCODERS = {"eat": EncoderKind(Eat, load)}
