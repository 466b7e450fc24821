"""Front-ends: spectra of a waveform, by the names of frontends.py."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from auscult.errors import AuscultError
from auscult.features.frontends import FRONTENDS, LOG_MELS, FrontEnd
from auscult.features.logmel import LogMel
from auscult.features.plain import log_mel as plain_log_mel
from auscult.settings.section import near

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["FRONTENDS", "LOG_MELS", "FrontEnd", "exact_spectrogram", "frames", "frontend", "spectrogram"]


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


def spectrogram(wave: Tensor, name: str, sample_rate: int | None = None, valid: Tensor | None = None) -> Tensor:
    """Spectrogram of clips by the front-end of this name.

    Args:
        wave: [..., samples] float32 or float64, usually in [-1, 1].
        sample_rate: of `wave` in Hz, when it is not the front-end's own (16 kHz).
        valid: int64 [...], samples of each clip before the zeros that fill it up, whose first `frames(valid)` frames are then
            those of the clip without them; None = all are whole.

    Returns:
        [..., mels, frames], in dB but for `kaldi`, on the device and in the precision of `wave`.

    Raises:
        AuscultError: unknown front-end, or a clip too short for it.

    >>> import torch
    >>> spectrogram(torch.zeros(2, 16_000), "stgram").shape
    torch.Size([2, 128, 32])
    """
    return frontend(name).spectrogram(wave, sample_rate, valid)


def exact_spectrogram(wave: np.ndarray, name: str, sample_rate: int) -> np.ndarray:
    """Spectrogram in float64 of float32 [n, samples], rounded to float32 [n, mels, frames]: for detectors.

    Beside a pure tone lies nothing but the rounding of float32, tens of dB below the sound, and a network may make a
    difference in score of it. A spectrum in float64 is the same wherever it is computed: in this program and in an exported
    file. From the float32 spectra that networks are trained on it differs by that rounding. With NumPy: a bundle that has no
    network is scored before torch would be imported.

    >>> exact_spectrogram(np.zeros((2, 16_000), np.float32), "stgram", 16_000).shape
    (2, 128, 32)
    """
    found = frontend(name)
    if isinstance(found, LogMel):
        return plain_log_mel(wave, found, sample_rate)
    import torch

    clips = torch.from_numpy(wave).double().split(1)  # the spectra of more clips would not fit the processor's cache
    whole: np.ndarray = torch.cat([found.spectrogram(one, sample_rate).float() for one in clips]).numpy()
    return whole
