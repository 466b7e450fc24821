"""OpenL3 (Cramer et al., ICASSP 2019): a convolutional network over one second of a mel spectrogram, taught by videos.

No Transformer: it has no layer to choose, and no place for LoRA or adapters. Sources: the authors' code (github.com/marl/openl3)
and its port to torch (github.com/torchopenl3/torchopenl3, commit 3cf5485106ea, Apache-2.0), whose files are loaded.
"""

from __future__ import annotations

import itertools
import warnings
from pathlib import Path
from typing import Any, NoReturn

import torch
from torch import Tensor, nn
from torch.nn import functional
from torchaudio.functional import melscale_fbanks

from auscult.encoders.base import Encoder, EncoderKind, Place, Role, sized
from auscult.encoders.hub import check_layer
from auscult.encoders.weights import load_strict, read_state
from auscult.errors import AuscultError
from auscult.features.constants import constant
from auscult.settings.sections import EncoderSettings

RATE, N_FFT, HOP = 48_000, 2048, 242
FRAMES = 199  # of a window of one second
EDGE = (N_FFT - RATE % HOP) // 2  # zeros before and behind a window
STEPS = {1: 24, 4: 8}  # rows -> frames, in eighths, of a token
SPLIT = 32  # windows that go through the network at once: each of its first maps takes 13 MB a window with 256 bands

PUBLISHED: dict[str, int | float] = {
    "width": 512,  # of the last convolution
    "bands": 128,  # or 256: two releases, which differ in their weights and in no shape
    "rows": 1,  # of a window: 1 (the authors' embedding of 512), or 4, in 3 steps (that of 6,144)
    "hop": 100,  # ms from one window to the next
}


class OpenL3(Encoder):
    """Tokens: one for each window of a second, `hop` apart, the first centred on the clip's beginning (authors' default).

    With `rows: 4`, twelve for each window: four rows of bands in three steps. Nothing of clips at 16 kHz is above 8 kHz.
    """

    sample_rate = RATE
    min_samples = 1
    depth = 1

    def __init__(self, settings: EncoderSettings) -> None:
        super().__init__()
        size = {key: int(value) for key, value in sized(PUBLISHED, settings, "openl3").items()}
        self.width, self.bands, self.rows, self.hop = (
            size["width"],
            size["bands"],
            size["rows"],
            size["hop"] * RATE // 1000,
        )
        if self.width < 8 or self.width % 8 or self.bands not in (128, 256) or self.rows not in STEPS or self.hop < 1:
            what = f"width {self.width}, bands {self.bands}, rows {self.rows}, hop {size['hop']}"
            raise AuscultError(what, "encoder.size", "use a multiple of 8, 128 or 256, 1 or 4, and 1 ms or more")
        check_layer(settings.layer, self.depth)
        channels = [1, *(self.width // part for part in (8, 8, 4, 4, 2, 2, 1, 1))]
        self.norms = nn.ModuleList(nn.BatchNorm2d(c, eps=1e-3) for c in channels[:-1])
        self.convolutions = nn.ModuleList(nn.Conv2d(c, d, 3, padding=1) for c, d in itertools.pairwise(channels))

    def front_end(self, wave: Tensor) -> Tensor:
        """[B, samples] at 48 kHz -> [B, windows * 199, bands] in dB below the window's maximum, at least -80."""
        missing = max(RATE - RATE // 2 - wave.shape[1], 0)  # half a second of zeros stands before the clip
        more = wave.shape[1] + missing - RATE // 2
        wave = functional.pad(wave, (RATE // 2, missing + -more % self.hop))
        with torch.autocast(wave.device.type, enabled=False):
            window, bank = _constants(self.bands, wave.device, wave.dtype)
            parts = []
            for second in wave.unfold(1, RATE, self.hop).unbind(1):  # one window of every clip
                second = functional.pad(second, (EDGE, EDGE))
                spectrum = torch.stft(second, N_FFT, HOP, window=window, center=False, return_complex=True)
                power = spectrum.real.square() + spectrum.imag.square()
                decibels = 5 * torch.log10((power.transpose(1, 2) @ bank).clamp(min=1e-20))
                parts.append((decibels - decibels.amax(dim=(1, 2), keepdim=True)).clamp(min=-80.0))
            return torch.cat(parts, dim=1)

    def tokens(self, x: Tensor, layer: int = 0) -> Tensor:
        """See `Encoder.tokens`; 0 and 1 are the output."""
        check_layer(layer, self.depth)
        windows = x.reshape(-1, FRAMES, self.bands).transpose(1, 2).unsqueeze(1)
        y = torch.cat([self._encode(part) for part in windows.split(SPLIT)])  # [windows, D, rows, steps]
        return y.permute(0, 3, 2, 1).reshape(len(x), -1, self.width)

    def _encode(self, x: Tensor) -> Tensor:
        x = self.convolutions[0](self.norms[0](x))
        for i in range(1, 8):
            x = self.norms[i](x).relu()
            if i in (2, 4, 6):
                x = functional.max_pool2d(x, 2)
            x = self.convolutions[i](x)
        return functional.max_pool2d(x, (self.bands // 8 // self.rows, STEPS[self.rows]))

    def linear_maps(self, role: Role) -> NoReturn:
        """
        Raises:
            AuscultError: always; there are none.
        """
        fix = "leave it frozen, or train all of it (`lora.rank: 0`)"
        raise AuscultError("OpenL3 is a convolutional network: it has no linear maps", "encoder.name", fix)

    def blocks(self, place: Place) -> NoReturn:
        """
        Raises:
            AuscultError: always; there are none.
        """
        fix = "use no adapter (`group_adapter.position: none`)"
        raise AuscultError("OpenL3 is a convolutional network: it has no Transformer layers", "encoder.name", fix)


@constant
def _constants(mels: int, device: torch.device, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Window [n_fft] and filter bank [n_fft / 2 + 1, bands], kept on the device for the next call."""
    # A tensor born in inference mode could never be used in training; torchaudio warns of triangles too narrow for an FFT line,
    # which the authors' bank has too.
    with torch.inference_mode(False), warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        bank = melscale_fbanks(N_FFT // 2 + 1, 0.0, RATE / 2, mels, RATE, "slaney", "htk")
        return torch.hann_window(N_FFT, dtype=dtype).to(device), bank.to(device, dtype)


def load(encoder: OpenL3, path: Path) -> None:
    """Weights from a file of torchopenl3; the constants of its spectrogram say how many bands it is for, and are left out.

    Raises:
        AuscultError: see `read_state` and `load_strict`; or a file for another number of bands.
    """
    file = read_state(path)
    bands = len(file["speclayer.mel_basis"]) if torch.is_tensor(file.get("speclayer.mel_basis")) else 0
    if bands != encoder.bands:
        what = f"weights for {bands or 'an unknown number of'} mel bands, not for {encoder.bands}"
        fix = "use the other file of torchopenl3, mel128 or mel256, or mend `bands` in the `size` of its entry"
        raise AuscultError(what, str(path), fix)
    state: dict[str, Any] = {}
    names = {f"batch_normalization_{i + 1}.": f"norms.{i}." for i in range(8)}
    names |= {f"conv2d_{i + 1}.": f"convolutions.{i}." for i in range(7)} | {
        "audio_embedding_layer.": "convolutions.7."
    }
    for key, value in file.items():
        if not str(key).startswith("speclayer."):
            old = next((name for name in names if str(key).startswith(name)), "")
            state[names.get(old, "") + str(key).removeprefix(old)] = value
    load_strict(encoder, state, str(path))


def build(settings: EncoderSettings) -> OpenL3:
    """Random weights.

    Raises:
        AuscultError: sizes or a layer that it cannot have.
    """
    return OpenL3(settings)


ENCODERS = {"openl3": EncoderKind(build, load)}
