"""Dasheng (Dinkel et al., Interspeech 2024): a masked autoencoder over 64 log-mel bands, taught by 272,000 hours of sound.

Front-end, batch norm and layers are those of CED, by the same authors; a token is all 64 bands of 40 ms. Sources: their code
(github.com/XiaoMi/dasheng) and that of their models on the Hugging Face hub (mispeech/dasheng-*;
github.com/jimbozhang/hf_transformers_custom_model_dasheng).
"""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional

from auscult.encoders.base import EncoderKind
from auscult.encoders.ced import MELS, Ced, load
from auscult.encoders.vit import BASE, over_windows

STEP = 4  # frames of a token
PUBLISHED = {**BASE, "frames": 1008}  # longest window (10.1 s), that of pre-training


class Dasheng(Ced):
    """Dasheng-base by default. Tokens: one for each 40 ms; no class token (the authors average).

    Longer clips are encoded in windows of `frames`; the last is filled with zeros behind the batch norm, whose tokens are left
    out again. A rest too short for a token is left out whole, where the authors' code adds the tokens of a window of zeros.
    """

    min_samples = (STEP - 1) * 160
    rows = 1
    patch = (MELS, STEP)
    published = PUBLISHED

    def tokens(self, x: Tensor, layer: int = 0) -> Tensor:
        """See `Encoder.tokens`."""
        size, steps = self.sizes["frames"] // STEP * STEP, x.shape[1] // STEP
        x = self.normed(x, layer)
        if steps * STEP > size:
            x = functional.pad(x, (0, 0, 0, -x.shape[1] % size))
        return over_windows(x, size, size, lambda window: self.encode(window, layer))[:, :steps]


ENCODERS = {"dasheng": EncoderKind(Dasheng, load)}
