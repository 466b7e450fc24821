"""The audio branch of ImageBind (Girdhar et al., CVPR 2023): a Transformer over overlapping patches of two seconds.

Source: the authors' code (github.com/facebookresearch/ImageBind, imagebind/data.py and imagebind/models/). Weights are
licensed CC BY-NC-SA 4.0: not for commercial use.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from auscult.encoders.base import Encoder, EncoderKind
from auscult.encoders.vit import VitEncoder, load_renamed, over_windows, read_weights
from auscult.features.kaldi import KaldiBank, kaldi_fbank
from auscult.models.vit import initialise
from auscult.settings.sections import EncoderSettings

WINDOW = 32_000  # samples: 2 s
FRAMES, BINS = 204, 128
FRONT_END = KaldiBank(BINS, "hanning")
PATCH, STRIDE = 16, 10
ROWS, STEPS = (BINS - PATCH) // STRIDE + 1, (FRAMES - PATCH) // STRIDE + 1
MEAN, DEVIATION = -4.268, 9.138

AUDIO = ("modality_preprocessors.audio.", "modality_trunks.audio.", "modality_heads.audio.0.")
"""Parts of the checkpoint that are used. Not used: the five other modalities, and the projection into the common space."""
NAMES = {
    "modality_preprocessors.audio.cls_token": "first",
    "modality_preprocessors.audio.rgbt_stem.proj.": "patches.",
    "modality_preprocessors.audio.rgbt_stem.norm_layer.": "stem_norm.",
    "modality_preprocessors.audio.pos_embedding_helper.pos_embed": "positions",
    "modality_trunks.audio.blocks.": "transformer.blocks.",
    "modality_heads.audio.0.": "transformer.norm.",
}


class ImageBind(VitEncoder):
    """Tokens: that of the class, then twelve overlapping frequency patches for each 100 ms.

    A clip is as many windows of two seconds as cover it, the first at its beginning and the last at its end, evenly
    spaced (so the authors place their three; here there are enough to leave nothing out, side by side where the clip's
    length allows). Each window is encoded alone; tokens are joined, class tokens averaged. Output is normed by the layer norm
    that the authors count to the head.
    """

    min_samples = 400
    class_token = True
    rows = ROWS
    bias_kv = True

    def __init__(self, settings: EncoderSettings) -> None:
        super().__init__(settings)
        self.patches = nn.Conv2d(1, self.width, PATCH, STRIDE, bias=False)
        self.stem_norm = nn.LayerNorm(self.width)
        self.first = nn.Parameter(torch.empty(1, 1, self.width))
        self.positions = nn.Parameter(torch.empty(1, 1 + ROWS * STEPS, self.width))
        initialise(self)

    def front_end(self, wave: Tensor) -> Tensor:
        """[B, samples] -> [B, windows * 204, 128]; the last frames of a window, 6 for a whole one, are zeros, then normalised.

        The authors subtract each window's mean first; the filter bank does that to every frame anyway.
        """
        batch, samples = wave.shape
        count = max(1, -(-samples // WINDOW))
        starts = torch.tensor(
            [(samples - WINDOW) * i // (count - 1) if i else 0 for i in range(count)], device=wave.device
        )
        windows = wave[:, starts[:, None] + torch.arange(min(WINDOW, samples), device=wave.device)].flatten(0, 1)
        x = kaldi_fbank(windows, FRONT_END)
        x = functional.pad(x, (0, 0, 0, FRAMES - x.shape[1]))
        return ((x - MEAN) / DEVIATION).reshape(batch, count * FRAMES, BINS)

    def tokens(self, x: Tensor, layer: int = 0) -> Tensor:
        """See `Encoder.tokens`."""
        self.check_layer(layer)
        return over_windows(x, FRAMES, FRAMES, lambda window: self._encode(window, layer), class_token=True)

    def _encode(self, x: Tensor, layer: int) -> Tensor:
        x = self.patches(x.transpose(1, 2).unsqueeze(1))  # [B, D, rows, steps]
        positions = self.positions[:, 1:].unflatten(1, (ROWS, STEPS)).transpose(1, 2).flatten(1, 2)  # to time-major
        x = self.stem_norm(x.permute(0, 3, 2, 1).flatten(1, 2)) + positions
        first = (self.first + self.positions[:, :1]).expand(len(x), -1, -1)
        y: Tensor = self.transformer(torch.cat([first.to(x.dtype), x], dim=1), layer)
        return y


def load(encoder: Encoder, path: Path) -> None:
    """Weights from the authors' imagebind_huge.pth, or from a file of its audio parts under their names.

    Raises:
        AuscultError: see `read_weights` and `load_renamed`.
    """
    state = {key: value for key, value in read_weights(path).items() if key.startswith(AUDIO)}
    load_renamed(encoder, state, path, NAMES)


ENCODERS = {"imagebind": EncoderKind(ImageBind, load)}
