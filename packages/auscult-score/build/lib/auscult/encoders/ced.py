"""CED (Dinkel et al., ICASSP 2024): a Transformer over 16 x 16 patches of 64 log-mel bands, distilled from ensembles.

Sources: the authors' code (github.com/RicherMans/CED, models/audiotransformer.py) and that of their models on the Hugging
Face hub (mispeech/ced-*; github.com/jimbozhang/hf_transformers_custom_model_ced).
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from auscult.encoders.base import Encoder, EncoderKind
from auscult.encoders.vit import BASE, VitEncoder, floored, load_renamed, over_windows, read_weights
from auscult.features.logmel import LogMel, log_mel
from auscult.models.vit import initialise
from auscult.settings.sections import EncoderSettings

MELS, PATCH = 64, 16
FRONT_END = LogMel("ced", 512, hop=160, mels=MELS, pad_mode="reflect", mel_scale="htk", norm=None)

PUBLISHED = {**BASE, "frames": 1012}  # longest window (10.1 s), that of pre-training
NAMES = {
    "init_bn.1.": "init_bn.",
    "patch_embed.proj.": "patches.",
    "blocks.": "transformer.blocks.",
    "norm.": "transformer.norm.",
}
DROPPED = ("front_end.", "outputlayer.")
"""The front-end's constants, the classifier."""


class Ced(VitEncoder):
    """CED-base by default. Tokens: four frequency patches for each 160 ms; no class token (the authors average).

    Clips longer than `frames` are encoded in windows of that length, the last filled with zeros behind the batch norm, and
    their tokens joined. The authors' code drops the last window where it is whole, and mixes up the clips of a batch; that is
    not followed.
    """

    min_samples = (PATCH - 1) * 160
    rows = MELS // PATCH
    patch = (PATCH, PATCH)  # bands, frames
    published = PUBLISHED

    def __init__(self, settings: EncoderSettings) -> None:
        super().__init__(settings)
        self.init_bn = nn.BatchNorm1d(MELS, momentum=0.01)
        self.patches = nn.Conv2d(1, self.width, self.patch, self.patch)
        self.time_pos_embed = nn.Parameter(torch.empty(1, self.width, 1, self.sizes["frames"] // self.patch[1]))
        self.freq_pos_embed = nn.Parameter(torch.empty(1, self.width, self.rows, 1))
        initialise(self)

    def front_end(self, wave: Tensor) -> Tensor:
        """[B, samples] -> [B, frames, 64] in dB, at most 120 dB below the clip's maximum.

        Not normalised: a trained batch norm over the bands, part of `tokens`, does that. Masks of zeros are thus 0 dB, as in
        the authors' training.
        """
        return floored(log_mel(wave, FRONT_END).transpose(1, 2), 120.0)

    def tokens(self, x: Tensor, layer: int = 0) -> Tensor:
        """See `Encoder.tokens`. While the batch norm's own weights are frozen, so are its statistics."""
        x = self.normed(x, layer)
        size = self.sizes["frames"]
        if x.shape[1] > size:
            x = functional.pad(x, (0, 0, 0, -x.shape[1] % size))
        return over_windows(x, size, size, lambda window: self.encode(window, layer))

    def normed(self, x: Tensor, layer: int) -> Tensor:
        """[B, frames, 64] behind the batch norm, for tokens after `layer`."""
        self.check_layer(layer)
        self.init_bn.train(self.training and self.init_bn.weight.requires_grad)
        y: Tensor = self.init_bn(x.transpose(1, 2)).transpose(1, 2)
        return y

    def encode(self, x: Tensor, layer: int) -> Tensor:
        """What `normed` gave, one window of it -> its tokens."""
        x = self.patches(x.transpose(1, 2).unsqueeze(1))  # [B, D, rows, T]
        x = x + self.time_pos_embed[..., : x.shape[3]] + self.freq_pos_embed
        # The authors' order is frequency-major; the layers do not see the order, only the positions added above.
        y: Tensor = self.transformer(x.permute(0, 3, 2, 1).flatten(1, 2), layer)
        return y


def load(encoder: Encoder, path: Path) -> None:
    """Weights from the authors' .pt file, or from the hub's model.safetensors.

    Raises:
        AuscultError: see `read_weights` and `load_renamed`.
    """
    state = read_weights(path)
    if isinstance(state.get("model"), dict):
        state = state["model"]
    state = {key.removeprefix("encoder."): value for key, value in state.items()}
    state = {key: value for key, value in state.items() if not key.startswith(DROPPED)}
    load_renamed(encoder, state, path, NAMES)


ENCODERS = {"ced": EncoderKind(Ced, load)}
