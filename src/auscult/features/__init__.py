"""Front-ends: spectra of a waveform, by name. A new one is a line here, and a file beside this one if it is no log-mel."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from auscult.errors import AuscultError
from auscult.features.kaldi import KaldiBank
from auscult.features.logmel import LogMel
from auscult.settings.section import near


class FrontEnd(Protocol):
    """What the rest of the project asks of a front-end."""

    @property
    def mels(self) -> int:
        """Bands."""

    def frames(self, samples: int) -> int:
        """Frames of a clip of `samples` samples."""

    def spectrogram(self, wave: Tensor, sample_rate: int | None = None) -> Tensor:
        """[..., samples] at `sample_rate` (None: the front-end's own) -> [..., mels, frames], in the precision of `wave`."""


_DOUBLE_EPSILON = 2.0**-52  # sys.float_info.epsilon, which the NumPy-based baselines add before the logarithm

LOG_MELS = {
    # OS-SCL, authors' code (the paper gives only the shape 128 x 313).
    "osscl": LogMel("osscl", 2048),
    # Noisy-ArcMix, authors' code: silence is -156.5 dB, not -100 dB.
    "noisyarcmix": LogMel("noisyarcmix", 2048, log="add", epsilon=_DOUBLE_EPSILON),
    # STgram-MFN and the AE / IDNN code of the same group.
    "stgram": LogMel("stgram", 1024, pad_mode="reflect", mel_scale="htk", norm=None),
    # DCASE 2020 baseline: its padding is librosa's default, which changed from reflect to zeros in librosa 0.10.
    "dcase_reflect": LogMel("dcase_reflect", 1024, pad_mode="reflect", log="add", epsilon=_DOUBLE_EPSILON),
    "dcase_constant": LogMel("dcase_constant", 1024, log="add", epsilon=_DOUBLE_EPSILON),
    # Sub-cluster AdaCos, authors' code: NumPy's Hann window, which is symmetric.
    "sc_adacos": LogMel("sc_adacos", 1024, window="hann_symmetric", pad_mode="reflect"),
}
FRONTENDS: dict[str, FrontEnd] = {
    **LOG_MELS,
    # That of BEATs, AST, EAT and ImageBind, for networks trained from scratch; in natural logarithms, not dB.
    "kaldi": KaldiBank(),
}


def frontend(name: str) -> FrontEnd:
    """The front-end of this name.

    Raises:
        AuscultError: there is none.
    """
    if name not in FRONTENDS:
        what = f"unknown front-end `{name}`{near(name, list(FRONTENDS))}"
        raise AuscultError(what, fix=f"use one of {', '.join(FRONTENDS)}")
    return FRONTENDS[name]


def frames(samples: int, name: str) -> int:
    """Frames of a clip of `samples` samples.

    >>> frames(160_000, "osscl"), frames(160_000, "kaldi")
    (313, 998)
    """
    return frontend(name).frames(samples)


def spectrogram(wave: Tensor, name: str, sample_rate: int | None = None) -> Tensor:
    """Spectrogram of clips by the front-end of this name.

    Args:
        wave: [..., samples] float32 or float64, usually in [-1, 1].
        sample_rate: of `wave` in Hz, when it is not the front-end's own (16 kHz).

    Returns:
        [..., mels, frames], in dB but for `kaldi`, on the device and in the precision of `wave`.

    Raises:
        AuscultError: unknown front-end, or a clip too short for it.

    >>> spectrogram(torch.zeros(2, 16_000), "stgram").shape
    torch.Size([2, 128, 32])
    """
    return frontend(name).spectrogram(wave, sample_rate)


def exact_spectrogram(wave: Tensor, name: str, sample_rate: int) -> Tensor:
    """`spectrogram` in float64 of float32 [n, samples], rounded to float32 [n, mels, frames]: for detectors.

    Beside a pure tone lies nothing but the rounding of float32, tens of dB below the sound, and a network may make a
    difference in score of it. A spectrum in float64 is the same wherever it is computed: in this program and in an exported
    file. From the float32 spectra that networks are trained on it differs by that rounding.

    One by one: the spectra of more clips would not fit the processor's cache.
    """
    return torch.cat([spectrogram(one.double(), name, sample_rate).float() for one in wave.split(1)])
