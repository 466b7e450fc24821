"""Log-mel spectrograms: one pure function, the same on CPU and GPU, in float32 or float64.

Published systems differ in FFT length, padding, mel scale and logarithm, and their scores depend on it; the variants by name
stand in auscult.features. No variant normalises its input or its output.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Literal

import numpy as np

from auscult.errors import AuscultError

if TYPE_CHECKING:  # a bundle that needs these settings alone does not wait for torch
    import torch
    from torch import Tensor


@dataclass(frozen=True)
class LogMel:
    """Settings of a log-mel spectrogram whose window is as long as its FFT and whose frames are centred.

    Args:
        name: for messages.
        n_fft: FFT and window length in samples.
        hop: samples between frames.
        mels: number of mel bands, spread over 0 Hz to half the sampling rate.
        sample_rate: in Hz.
        window: "hann" (periodic) or "hann_symmetric".
        pad_mode: what surrounds the clip so that frame 0 is centred on sample 0: "constant" (zeros) or "reflect".
        mel_scale: "slaney" or "htk".
        norm: "slaney" (triangles of equal area) or None (triangles of height one).
        log: what keeps silence finite: "max" gives 10 log10(max(P, epsilon)), "add" gives 10 log10(P + epsilon).
        epsilon: see `log`; a power.
    """

    name: str
    n_fft: int
    hop: int = 512
    mels: int = 128
    sample_rate: int = 16_000
    window: Literal["hann", "hann_symmetric"] = "hann"
    pad_mode: Literal["constant", "reflect"] = "constant"
    mel_scale: Literal["slaney", "htk"] = "slaney"
    norm: Literal["slaney"] | None = "slaney"
    log: Literal["max", "add"] = "max"
    epsilon: float = 1e-10

    @property
    def shortest(self) -> int:
        """Reflection mirrors half a window without repeating the edge, so it needs one sample more than that."""
        return self.n_fft // 2 + 1 if self.pad_mode == "reflect" else 1

    def frames(self, samples: int) -> int:
        """Frames of a clip of `samples` samples: one at every multiple of the hop.

        >>> LogMel("osscl", n_fft=2048).frames(160_000)
        313
        """
        return 1 + samples // self.hop

    def spectrogram(self, wave: Tensor, sample_rate: int | None = None, valid: Tensor | None = None) -> Tensor:
        """See `log_mel`."""
        return log_mel(wave, self, sample_rate, valid)


def log_mel(wave: Tensor, settings: LogMel, sample_rate: int | None = None, valid: Tensor | None = None) -> Tensor:
    """Log-mel spectrogram of clips.

    Args:
        wave: [..., samples] float32 or float64, usually in [-1, 1].
        settings: of the front-end.
        sample_rate: of `wave` in Hz, when it is not the front-end's own (16 kHz for every named one).
        valid: int64 [...], samples of each clip before the zeros that fill it up; None = all are whole. What surrounds a clip
            then surrounds its valid part: the first `frames(valid)` frames are those of that part alone, and what follows is
            the spectrum of silence. A part shorter than `shortest` has nothing to reflect, and zeros after it.

    Returns:
        [..., mels, frames] in dB, on the device and in the precision of `wave`.

    Raises:
        AuscultError: a clip too short for the front-end.
        TypeError: `wave` is neither float32 nor float64.

    Mixed precision is switched off inside: a filter bank applied in bfloat16 is wrong by tenths of a dB.

    >>> import torch
    >>> log_mel(torch.zeros(2, 16_000), LogMel("osscl", n_fft=2048)).shape
    torch.Size([2, 128, 32])
    """
    import torch

    if sample_rate is not None and sample_rate != settings.sample_rate:
        settings = replace(settings, sample_rate=sample_rate)
    if wave.dtype not in (torch.float32, torch.float64):
        raise TypeError(f"log_mel needs float32 or float64 samples, not {wave.dtype}")
    check_length(wave.shape[-1], settings)

    with torch.autocast(wave.device.type, enabled=False):
        window, bank = _constants(settings, wave.device, wave.dtype)
        clips = wave.reshape(-1, wave.shape[-1])  # [clips, samples]
        if valid is not None and settings.pad_mode == "reflect":  # with zeros around a clip those behind it are right
            clips = _mirrored(clips, valid.reshape(-1, 1), settings.n_fft // 2)
        spectrum = torch.stft(
            clips, settings.n_fft, settings.hop, window=window, pad_mode=settings.pad_mode, return_complex=True
        )  # [clips, bins, frames], complex
        spectrum = spectrum[..., : settings.frames(wave.shape[-1])]
        power = spectrum.real.square() + spectrum.imag.square()
        mel = bank @ power  # [clips, mels, frames]
        floored = mel.clamp(min=settings.epsilon) if settings.log == "max" else mel + settings.epsilon
        decibel = 10.0 * torch.log10(floored)
    return decibel.reshape(*wave.shape[:-1], *decibel.shape[1:])


def _mirrored(clips: Tensor, valid: Tensor, half: int) -> Tensor:
    """[n, samples] -> [n, samples + half]: the first `valid` [n, 1] samples, `half` more that mirror them, and zeros.

    >>> import torch
    >>> _mirrored(torch.tensor([[1.0, 2.0, 3.0, 0.0, 0.0, 0.0]]), torch.tensor([[3]]), 2)
    tensor([[1., 2., 3., 2., 1., 0., 0., 0.]])
    """
    import torch

    clips = torch.nn.functional.pad(clips, (0, half))
    at = torch.arange(clips.shape[1], device=clips.device)
    mirror = (at >= valid) & (at < valid + half) & (valid > half)
    return torch.where(mirror, clips.gather(1, (2 * (valid - 1) - at).clamp(0, clips.shape[1] - 1)), clips)


def check_length(samples: int, settings: LogMel) -> None:
    """Refuse clips that are too short for a front-end."""
    if samples < settings.shortest:
        raise AuscultError(
            f"a clip of {samples} samples is too short for front-end '{settings.name}', which needs {settings.shortest}",
            fix="leave out clips this short, or repeat them to the clip length of the profile",
        )


@lru_cache(maxsize=32)
def _constants(settings: LogMel, device: torch.device, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Window [n_fft] and filter bank [mels, bins], kept on the device for the next call."""
    import torch

    with torch.inference_mode(False):  # a tensor born in inference mode could never be used in training
        periodic = settings.window == "hann"
        window = torch.hann_window(settings.n_fft, periodic=periodic, dtype=torch.float64)
        bank = filter_bank(settings)
        return window.to(device, dtype), torch.from_numpy(bank).to(device, dtype)


def filter_bank(settings: LogMel) -> np.ndarray:
    """Triangles [mels, bins] over the FFT lines, float64; librosa and torchaudio round theirs to float32."""
    nyquist = settings.sample_rate / 2
    lines = np.linspace(0, nyquist, settings.n_fft // 2 + 1)
    if settings.mel_scale == "htk":
        top = 2595 * np.log10(1 + nyquist / 700)
        edges = 700 * (10 ** (np.linspace(0, top, settings.mels + 2) / 2595) - 1)  # in Hz
    else:
        # Slaney's Auditory Toolbox: 66.7 Hz per mel up to 1 kHz (15 mel), then 27 mels for each factor of 6.4.
        knee, ratio = 15.0, np.log(6.4) / 27
        top = knee + np.log(nyquist / 1000) / ratio if nyquist > 1000 else nyquist * 3 / 200
        mels = np.linspace(0, top, settings.mels + 2)
        edges = np.where(mels < knee, mels * 200 / 3, 1000 * np.exp((mels - knee) * ratio))
    widths = np.diff(edges)[:, None]  # [mels + 1, 1]
    rising = (lines - edges[:-2, None]) / widths[:-1]
    falling = (edges[2:, None] - lines) / widths[1:]
    bank = np.clip(np.minimum(rising, falling), 0, None)
    return bank * (2 / (edges[2:] - edges[:-2]))[:, None] if settings.norm == "slaney" else bank
