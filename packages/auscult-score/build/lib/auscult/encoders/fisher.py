"""FISHER (Jiang et al., IEEE TII 2026): a Transformer over one band of a spectrogram at a time, for signals of machines.

Each band of 100 lines (4 kHz) is encoded alone, a class token before its patches; a higher sampling rate means more bands.
Network and layers are those of EAT. Source: the authors' code (github.com/jianganbai/FISHER, commit 60dd0c8392b0, MIT).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from auscult.encoders.base import EncoderKind
from auscult.encoders.eat import sine_table
from auscult.encoders.vit import BASE, VitEncoder, load_renamed, over_windows, read_weights
from auscult.errors import AuscultError
from auscult.models.vit import initialise
from auscult.settings.sections import EncoderSettings

WINDOW, HOP = 400, 160  # samples: 25 ms and 10 ms at 16 kHz
PATCH, BAND = 16, 100  # frames and lines of a patch; lines of a band
COLUMNS = 50  # patches of a row in the grid that the authors' position table is made for
MEAN, DEVIATION = -3.017344307886898, 2.1531635155379805

PUBLISHED = {**BASE, "width": 384, "heads": 6, "ffn": 1536, "frames": 1024}
NAMES = {
    "modality_encoders.IMAGE.local_encoder.proj.": "patches.",
    "modality_encoders.IMAGE.extra_tokens": "first",
    "modality_encoders.IMAGE.fixed_positional_encoder.positions": "positions",
    "modality_encoders.IMAGE.context_encoder.norm.": "norm.",
    "blocks.": "transformer.blocks.",
}
TABLE = "modality_encoders.IMAGE.fixed_positional_encoder.positions"


def log_magnitude(wave: Tensor, floor: float) -> Tensor:
    """[B, samples] -> natural logarithm of |STFT| + `floor`, [B, frames, 201]; frames are not padded, each clip has mean 0."""
    with torch.autocast(wave.device.type, enabled=False):
        wave = wave - wave.mean(dim=1, keepdim=True)
        taper = torch.hann_window(WINDOW, dtype=wave.dtype, device=wave.device)
        spectrum = torch.stft(wave, WINDOW, HOP, window=taper, center=False, return_complex=True)
        return torch.log(spectrum.abs() + floor).transpose(1, 2)


class BandedVit(VitEncoder):
    """Encoders of one band at a time. Tokens are rows of bands: first the class tokens, then the bands' patches, step by step.

    `pooling: rows` with `rows.how: first` is thus the authors' embedding, class tokens side by side; with `mean`, the mean of
    each band. Longer clips are encoded in windows of `frames`, class tokens averaged.

    Attributes:
        least: frames from which on a shorter rest counts.
    """

    least = 1

    def tokens(self, x: Tensor, layer: int = 0) -> Tensor:
        """See `Encoder.tokens`."""
        self.check_layer(layer)
        y = over_windows(x, self.sizes["frames"], self.least, lambda part: self._beside(part, layer), class_token=True)
        return y.unflatten(2, (self.rows, self.width)).flatten(1, 2)

    def _beside(self, x: Tensor, layer: int) -> Tensor:
        """[B, frames, bins] -> [B, 1 + steps, rows * D], bands side by side."""
        return self.encode(x, layer).unflatten(0, (len(x), self.rows)).transpose(1, 2).flatten(2)

    def encode(self, x: Tensor, layer: int) -> Tensor:
        """[B, frames, bins] -> [B * rows, 1 + steps, D], the class token first."""
        raise NotImplementedError


class Fisher(BandedVit):
    """FISHER-small by default. At 16 kHz two bands, to 4 and to 8 kHz; steps are six patches for each 160 ms.

    The authors cut clips after 1024 frames (10.3 s); here they go on in windows of that length.
    """

    min_samples = WINDOW + (PATCH - 1) * HOP
    rows = (WINDOW // 2 + 1) // BAND
    least = PATCH
    published = PUBLISHED
    norm_first = False

    def __init__(self, settings: EncoderSettings) -> None:
        super().__init__(settings)
        if self.width % 4:
            what = f"a width of {self.width} is no multiple of 4"
            raise AuscultError(what, "encoder.size", "the position table needs that")
        self.patches = nn.Conv2d(1, self.width, PATCH, PATCH)
        self.first = nn.Parameter(torch.empty(1, 1, self.width))
        self.norm = nn.LayerNorm(self.width, eps=1e-6)
        count = self.sizes["frames"] // PATCH * (BAND // PATCH)
        # The first entries of a table for a wider grid, in the order of that grid, as the authors' code takes them.
        self.positions: Tensor
        self.register_buffer("positions", sine_table(-(-count // COLUMNS), COLUMNS, self.width)[:, :count].clone())
        initialise(self)

    def front_end(self, wave: Tensor) -> Tensor:
        """[B, samples] -> [B, frames, 201], normalised; the last line (8 kHz) is in no band."""
        return (log_magnitude(wave, 1e-10) - MEAN) / (2 * DEVIATION)

    def encode(self, x: Tensor, layer: int) -> Tensor:
        """See `BandedVit.encode`; frames that do not fill a patch are dropped."""
        bands = x[..., : self.rows * BAND].unflatten(2, (self.rows, BAND)).transpose(1, 2).flatten(0, 1)
        y = self.patches(bands.unsqueeze(1)).flatten(2).transpose(1, 2)  # time-major
        y = y + self.positions[:, : y.shape[1]].to(y.dtype)
        y = torch.cat([self.first.expand(len(y), -1, -1).to(y.dtype), y], dim=1)
        z: Tensor = self.transformer(self.norm(y), layer)
        return z


def load(encoder: Fisher, path: Path) -> None:
    """Weights from the hub's folder, or from the authors' .pt file {"cfg": ..., "model": ...}.

    Raises:
        AuscultError: see `read_weights` and `load_renamed`; nothing says how many heads there are, which no shape shows; or
            another architecture.
    """
    if path.is_dir() and not (path / "model.safetensors").is_file():
        path = path / "model.pt"
    state = read_weights(path, '["model"]')
    folder = path if path.is_dir() else path.parent
    config: Any = state.get("cfg")
    if isinstance(state.get("model"), dict):
        state = state["model"]
    if config is None and (folder / "config.json").is_file():
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    _check(config, encoder, path)
    prefix = next((key.removesuffix(TABLE) for key in state if key.endswith(TABLE)), "")
    state = {key.removeprefix(prefix): value for key, value in state.items()}
    if torch.is_tensor(state.get(TABLE)) and state[TABLE].dim() == 3:
        state[TABLE] = state[TABLE][:, : encoder.positions.shape[1]]
    load_renamed(encoder, state, path, NAMES)


def _check(config: Any, encoder: Fisher, path: Path) -> None:
    wanted = {"num_heads": encoder.sizes["heads"], "band_width": BAND, "layer_norm_first": False}
    found = {key: _told(config, key) for key in wanted}
    if found["num_heads"] is None:
        fix = "put the config.json of its page beside the weights, or use the authors' .pt file"
        raise AuscultError("nothing says how many heads this FISHER has (`num_heads`)", str(path), fix)
    wrong = [
        f"{key} is {found[key]}, should be {value}" for key, value in wanted.items() if found[key] not in (None, value)
    ]
    if wrong:
        fix = "give its sizes: `size` of its entry in checkpoints.yaml"
        raise AuscultError(f"another architecture: {', '.join(wrong)}", str(path), fix)


def _told(config: Any, key: str) -> Any:
    """Value of `key` in nested mappings, the outermost first; None where there is none.

    >>> _told({"model": {"image": {"num_heads": 1}, "num_heads": 6}}, "num_heads")
    6
    """
    level = [config]
    while level:
        level = [part for part in level if isinstance(part, Mapping)]
        values = [part[key] for part in level if isinstance(part.get(key), int)]
        if values:
            return values[0]
        level = [value for part in level for value in part.values()]
    return None


ENCODERS = {"fisher": EncoderKind(Fisher, load)}
