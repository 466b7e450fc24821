"""ATST-Frame and ATST-Clip (Li, Shao and Li, TASLP 2024): Transformers over 40 ms of a 64-band log-mel spectrogram, self-taught.

`atst` is ATST-Frame: the comparisons in AnoPatch and in Han et al. cite the TASLP paper, name no variant, and print 85 M
parameters, which both have; ATST-Frame is the model that the paper adds to the older ATST-Clip, and the checkpoint that its
page offers. It has no class token. `atst_clip` is ATST-Clip, which has one.

Source: the authors' code (github.com/Audio-WestlakeU/audiossl, models/atst, methods/atst and methods/atstframe). Their
checkpoints are licensed CC BY 4.0.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torchaudio.functional import melscale_fbanks

from auscult.encoders.base import Encoder, EncoderKind
from auscult.encoders.vit import BASE, VitEncoder, floored, load_renamed, over_windows, read_weights
from auscult.errors import AuscultError
from auscult.features.constants import constant
from auscult.models.vit import initialise
from auscult.settings.sections import EncoderSettings

MELS, STEP = 64, 4  # a token is 64 bands x 4 frames
N_FFT, HOP = 1024, 160
LOWEST, HIGHEST = -79.6482, 50.6842  # dB that become -1 and 1

PUBLISHED = {**BASE, "frames": 1001, "positions": 250}  # frames: longest window, that of pre-training
PUBLISHED_CLIP = {**PUBLISHED, "frames": 601}
NAMES = {
    "patch_embed.patch_embed.": "patches.",
    "pos_embed": "positions",
    "cls_token": "first",
    "blocks.": "transformer.blocks.",
    "norm.": "transformer.norm.",
    "norm_frame.": "transformer.norm.",
}
PREFIXES = ("model.teacher.encoder.", "module.backbone.", "backbone.", "encoder.encoder.", "encoder.", "")
"""Where the encoder stands in a checkpoint, first match: Lightning's teacher, older files, fine-tuned ones, it alone."""


class Atst(VitEncoder):
    """ATST-base: one token for each 40 ms, behind the class token if it has one.

    Longer clips are encoded in windows of `frames`, and their tokens joined, class tokens averaged. The shorter rest at the end
    counts from one token on; with class token, only when longer than half a window (authors' code, both).
    """

    min_samples = N_FFT // 2 + 1  # for the reflected edge; 3 * 160 samples are enough for a token

    published = PUBLISHED
    bias = False

    def __init__(self, settings: EncoderSettings) -> None:
        super().__init__(settings)
        if self.sizes["frames"] // STEP > self.sizes["positions"]:
            what = f"{self.sizes['frames']} frames need {self.sizes['frames'] // STEP} positions"
            raise AuscultError(what, "encoder.size", "make `frames` smaller, or `positions` larger")
        self.patches = nn.Linear(MELS * STEP, self.width)
        self.positions = nn.Parameter(torch.empty(1, 1 + self.sizes["positions"], self.width))
        self.first = nn.Parameter(torch.empty(1, 1, self.width)) if self.class_token else None
        initialise(self)

    def front_end(self, wave: Tensor) -> Tensor:
        """[B, samples] -> [B, frames, 64]: dB from 60 to 7800 Hz, at most 80 dB below the clip's maximum, mostly in [-1, 1]."""
        window, bank = _constants(wave.device, wave.dtype)
        with torch.autocast(wave.device.type, enabled=False):
            spectrum = torch.stft(wave, N_FFT, HOP, window=window, pad_mode="reflect", return_complex=True)
            power = spectrum.real.square() + spectrum.imag.square()
            decibels = 10 * torch.log10((power.transpose(1, 2) @ bank).clamp(min=1e-10))
        return 2 * (floored(decibels, 80.0) - LOWEST) / (HIGHEST - LOWEST) - 1

    def tokens(self, x: Tensor, layer: int = 0) -> Tensor:
        """See `Encoder.tokens`."""
        self.check_layer(layer)
        size = self.sizes["frames"]
        least = size // 2 + 1 if self.class_token else STEP
        return over_windows(x, size, least, lambda window: self._encode(window, layer), self.class_token)

    def _encode(self, x: Tensor, layer: int) -> Tensor:
        steps = x.shape[1] // STEP
        x = x[:, : steps * STEP].unflatten(1, (steps, STEP)).transpose(2, 3).flatten(2)  # a band's frames side by side
        x = self.patches(x) + self.positions[:, 1 : steps + 1]
        if self.first is not None:
            first = (self.first + self.positions[:, :1]).expand(len(x), -1, -1)
            x = torch.cat([first.to(x.dtype), x], dim=1)
        y: Tensor = self.transformer(x, layer)
        return y


class AtstClip(Atst):
    """ATST-Clip, base: a class token first. Pre-trained on 6 s, and used in windows of 6 s by its authors."""

    class_token = True
    published = PUBLISHED_CLIP


@constant
def _constants(device: torch.device, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Window [n_fft] and filter bank [n_fft / 2 + 1, mels], kept on the device for the next call."""
    with torch.inference_mode(False):  # a tensor born in inference mode could never be used in training
        bank = melscale_fbanks(N_FFT // 2 + 1, 60.0, 7800.0, MELS, 16_000)
        return torch.hann_window(N_FFT, dtype=dtype).to(device), bank.to(device, dtype)


def load(encoder: Encoder, path: Path) -> None:
    """Weights of the teacher from the authors' .ckpt file, whose other settings may hold what only code can make.

    Raises:
        AuscultError: see `read_weights` and `load_renamed`; or the checkpoint of the other variant.
    """
    state: dict[str, Any] = read_weights(path, '; s = s.get("state_dict") or s["teacher"]')
    for part in ("state_dict", "teacher"):
        if isinstance(state.get(part), dict):
            state = state[part]
            break
    prefix = next((prefix for prefix in PREFIXES if f"{prefix}pos_embed" in state), "")
    state = {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}
    state.pop("mask_embed", None)  # stands for masked patches in pre-training
    if "pos_embed" in state and ("cls_token" in state) != encoder.class_token:
        variants = ("atst_clip", "atst") if encoder.class_token else ("atst", "atst_clip")
        what = f"a checkpoint of `{variants[1]}`, not of `{variants[0]}`"
        raise AuscultError(what, str(path), f"set encoder.name to {variants[1]}, or use another checkpoint")
    load_renamed(encoder, state, path, NAMES)


ENCODERS = {"atst": EncoderKind(Atst, load), "atst_clip": EncoderKind(AtstClip, load)}
