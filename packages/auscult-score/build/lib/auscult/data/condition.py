"""What is done to a clip's waveform before any front-end: noise added at a set level, a low-pass.

Both are meant for test clips: how much of a method's result is left in a louder hall, or with a cheaper microphone.

**The noise** is factory noise made by the generator of the synthetic machines (`synthetic/background.py`: coloured noise
that swells, a neighbour's hum, clangs). It takes no recording, so anybody makes the same noise, and it is stationary
enough for one level per clip; it is no hall in particular. On real clips the machine's sound already holds the noise of
its own hall: `snr_db` is the ratio of the *recording* to what is *added*, and the true ratio of machine to noise lies
below it.

**The low-pass** is a windowed sinc (Kaiser, by `scipy.signal.firwin`) at zero delay: nothing moves in time, the pass band
is left as it is, and what lies above is gone rather than weak, so that a cut-off means what it says. A biquad
(`torchaudio.functional.lowpass_biquad`) falls by 12 dB per octave and delays low frequencies. A brick wall in the FFT
of the whole clip would be as steep, but its ringing wraps around, and joins the end of a clip to its beginning.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from auscult.errors import AuscultError

NOISES = 64
TRANSITION = 0.05  # of the cut-off: full pass band at 0.975, full stop band at 1.025 times the cut-off
STOP_DB = 80.0  # rejection; the pass band's ripple is as small, 0.001 dB
LOWEST_HZ = 20.0


@dataclass(frozen=True)
class Condition:
    """Noise first, then the low-pass: a microphone of limited bandwidth in a louder hall.

    Attributes:
        snr_db: mean power of the clip over mean power of the noise added to it, dB; None = no noise.
        lowpass_hz: cut-off, where half the amplitude passes; 0 = no low-pass.
        seed: another seed makes other noises.

    Raises:
        AuscultError: a ratio that is not finite, a cut-off below 20 Hz.
    """

    snr_db: float | None = None
    lowpass_hz: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        if self.snr_db is not None and not math.isfinite(self.snr_db):
            raise AuscultError(
                f"a signal-to-noise ratio of {self.snr_db} dB", "snr_db", "a number, or none for no noise"
            )
        if self.lowpass_hz != 0 and not LOWEST_HZ <= self.lowpass_hz < math.inf:
            fix = f"{LOWEST_HZ:g} Hz or more, below half the sampling rate; 0 switches it off"
            raise AuscultError(f"a cut-off of {self.lowpass_hz:g} Hz", "lowpass_hz", fix)

    @property
    def changes(self) -> bool:
        """Whether anything is done at all."""
        return self.snr_db is not None or self.lowpass_hz != 0

    def check(self, sample_rate: int) -> None:
        """Refuse a cut-off that clips of `sample_rate` (Hz) cannot have.

        Raises:
            AuscultError: the cut-off is half the sampling rate or more.
        """
        if self.lowpass_hz >= sample_rate / 2:
            what = f"a cut-off of {self.lowpass_hz:g} Hz for sound sampled at {sample_rate} Hz"
            raise AuscultError(what, "lowpass_hz", f"choose it below {sample_rate / 2:g} Hz; 0 switches it off")

    def bank(self, samples: int, sample_rate: int, device: torch.device) -> Tensor | None:
        """The noises for clips of `samples` samples, [NOISES, 2 samples] on `device`; None when none are added."""
        if self.snr_db is None:
            return None
        return torch.from_numpy(noise_bank(samples, sample_rate, self.seed)).to(device)

    def apply(
        self, wave: Tensor, sample_rate: int, ids: Tensor, bank: Tensor | None, valid: Tensor | None = None
    ) -> Tensor:
        """The clips under this condition.

        What becomes of a clip depends on the clip, its id and the condition, not on the rest of the batch or its place in it.

        Args:
            wave: [B, samples] float32, on any device; left as it is.
            sample_rate: Hz.
            ids: int64 [B], the clips' ids (`clip_id` of the manifest), on the device of `wave`.
            bank: from `bank`, on the device of `wave`.
            valid: int64 [B], samples of each clip before the zeros that fill it up; None = all are whole.

        Returns:
            [B, samples] float32. It is not clipped to [-1, 1): front-ends take floats, and clipping would be a further
            change, which depends on the gain of the recording. Silence gets no noise and stays silence.
        """
        self.check(sample_rate)
        if self.snr_db is not None:
            if bank is None:
                raise ValueError("noise is to be added: pass the noises of Condition.bank")
            wave = add_noise(wave, ids, bank, self.snr_db, self.seed, valid)
        return lowpass(wave, sample_rate, self.lowpass_hz) if self.lowpass_hz else wave


def noise_bank(samples: int, sample_rate: int, seed: int = 0, count: int = NOISES) -> np.ndarray:
    """Factory noises twice as long as a clip, float32 [count, 2 samples], RMS 1: each clip takes a cut of one.

    Twice as long, so that a cut at any place needs no wrap, whose seam would be a click. The random streams are keyed
    apart from those of the synthetic clips: no synthetic clip holds one of these noises.
    """
    # Imported here: every training and every embedding has a condition, and hardly any has noise or a filter.
    from auscult.data.synthetic.background import factory
    from auscult.data.synthetic.blocks import Grid
    from auscult.data.synthetic.render import BACKGROUND_DB
    from auscult.data.synthetic.streams import key_of

    grid = Grid(2 * samples, sample_rate)
    bank = np.empty((count, 2 * samples), np.float32)
    for number in range(count):  # one at a time: a run of 20 s fills the processor's cache
        key = key_of("added noise", seed, number)
        bank[number] = factory(grid, [key], BACKGROUND_DB, np.zeros((1, 1)))[0]
    return bank


def add_noise(
    wave: Tensor, ids: Tensor, bank: Tensor, snr_db: float, seed: int = 0, valid: Tensor | None = None
) -> Tensor:
    """Add to each clip a cut of one noise of `bank` [noises, at least samples], `snr_db` below it in mean power.

    Noise and place of the cut follow from (clip id, seed). A clip's mean is over its `valid` samples, the noise's over the cut.
    """
    samples = wave.shape[-1]
    draw = mixed(ids, seed)
    cuts = bank.unfold(1, samples, 1)  # [noises, starts, samples], a view
    number, start = draw % len(bank), (draw // len(bank)) % cuts.shape[1]
    noise = cuts[number, start].to(wave.dtype)
    # Summed in float64: a sum's order depends on the size of the batch, and here that must not show in the float32 gain.
    power, own = (x.square().mean(1, keepdim=True, dtype=torch.float64) for x in (wave, noise))
    if valid is not None:
        power = power * samples / valid.clamp(min=1)[:, None]  # zeros add nothing to the sum
    gain = (power / own).sqrt() * 10 ** (-snr_db / 20)
    return wave + gain.to(wave.dtype) * noise


def lowpass(wave: Tensor, sample_rate: int, cutoff_hz: float) -> Tensor:
    """`wave` [B, samples] without what lies above `cutoff_hz`: -6 dB there, -80 dB from 1.025 times that, zero delay.

    Before and after a clip there is silence for the filter, so the first and last milliseconds (a few periods of the
    cut-off) come out a little softer.
    """
    samples = wave.shape[-1]
    response, length = _response(samples, sample_rate, cutoff_hz, wave.device)
    # In float64: an FFT library may take one clip another way than many, and rounded to float32 both ways are the same.
    spectrum = torch.fft.rfft(wave.double(), length)
    return torch.fft.irfft(spectrum * response, length)[:, :samples].to(wave.dtype)


@lru_cache(maxsize=8)
def _response(samples: int, sample_rate: int, cutoff_hz: float, device: torch.device) -> tuple[Tensor, int]:
    """The filter's real frequency response, float64 [length // 2 + 1], and the FFT length that keeps the clip's ends apart."""
    from scipy.fft import next_fast_len
    from scipy.signal import firwin, kaiserord

    taps, beta = kaiserord(STOP_DB, TRANSITION * cutoff_hz / (sample_rate / 2))
    half = int(taps) // 2
    kernel = firwin(2 * half + 1, cutoff_hz, window=("kaiser", beta), fs=sample_rate)
    length = int(next_fast_len(max(samples + half, 2 * half + 1), real=True))
    around = np.zeros(length)
    around[: half + 1], around[length - half :] = kernel[half:], kernel[:half]  # its middle at time 0: no delay
    with torch.inference_mode(False):  # a tensor born in inference mode could never be used in training
        return torch.from_numpy(np.fft.rfft(around).real).to(device), length


def mixed(ids: Tensor, seed: int) -> Tensor:
    """A well-mixed number in [0, 2^63) for each id, int64 (finaliser of SplitMix64: Steele et al., OOPSLA 2014)."""
    z = ids + _signed(0x9E3779B97F4A7C15 * (seed + 1))
    z = (z ^ _shifted(z, 30)) * _signed(0xBF58476D1CE4E5B9)
    z = (z ^ _shifted(z, 27)) * _signed(0x94D049BB133111EB)
    return _shifted(z ^ _shifted(z, 31), 1)


def _shifted(z: Tensor, bits: int) -> Tensor:
    """Shift right as if unsigned, which int64 is not."""
    return (z >> bits) & ((1 << (64 - bits)) - 1)


def _signed(value: int) -> int:
    """`value` mod 2^64 as the int64 of the same bits; int64 products wrap, as SplitMix64 wants them to."""
    value &= (1 << 64) - 1
    return value - (1 << 64) if value >> 63 else value
