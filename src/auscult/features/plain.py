"""The log-mel spectrogram in NumPy and float64: what detectors hear. logmel.py is the same in torch, for training and for GPUs;
tests/features hold the two together.
"""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache

import numpy as np

from auscult.features.logmel import LogMel, check_length, filter_bank


def log_mel(wave: np.ndarray, settings: LogMel, sample_rate: int | None = None) -> np.ndarray:
    """Log-mel spectrogram of clips, computed in float64.

    Args:
        wave: float32 [n, samples].
        sample_rate: of `wave` in Hz, when it is not the front-end's own.

    Returns:
        float32 [n, mels, frames] in dB.

    Raises:
        AuscultError: clips too short for the front-end.

    >>> log_mel(np.zeros((2, 16_000), np.float32), LogMel("osscl", n_fft=2048)).shape
    (2, 128, 32)
    """
    if sample_rate is not None and sample_rate != settings.sample_rate:
        settings = replace(settings, sample_rate=sample_rate)
    check_length(wave.shape[-1], settings)
    taper, bank = _constants(settings)
    out = np.empty((len(wave), settings.mels, settings.frames(wave.shape[1])), np.float32)
    half = settings.n_fft // 2
    for clip, mel in zip(wave, out, strict=True):  # one by one: the spectra of more would not fit the processor's cache
        padded = np.pad(clip.astype(np.float64), half, settings.pad_mode)
        frames = np.lib.stride_tricks.sliding_window_view(padded, settings.n_fft)[:: settings.hop]
        spectrum = np.fft.rfft(frames * taper)  # [frames, bins]
        power = bank @ (np.square(spectrum.real) + np.square(spectrum.imag)).T
        if settings.log == "max":
            np.maximum(power, settings.epsilon, out=power)
        else:
            power += settings.epsilon
        mel[:] = 10.0 * np.log10(power)
    return out


@lru_cache(maxsize=8)
def _constants(settings: LogMel) -> tuple[np.ndarray, np.ndarray]:
    """Window [n_fft] and filter bank [mels, bins]."""
    whole = settings.n_fft + (settings.window == "hann")  # a periodic window lacks the last value of the symmetric one
    return np.hanning(whole)[: settings.n_fft], filter_bank(settings)
