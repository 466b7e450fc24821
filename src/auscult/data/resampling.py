"""Another sampling rate, in bounded memory and time for any two rates.

A windowed sinc, torchaudio's, applied in the Fourier domain: exactly for every rate up to `LARGEST_STEP` Hz, and above it within
4 ppm, less than the clock of any recorder is off. Clips of the pipeline with ordinary pairs of rates (44100, 48000,
22050, 25600 ... to 16000 Hz) go through torchaudio itself, as the baselines' do; its filter is a dense table that grows with the
product of both rates over their common divisor: 16 GB for 44099 Hz.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from fractions import Fraction

import numpy as np

LARGEST_STEP = 2**18
_ORDINARY = 1024
"""Both rates, divided by their common divisor, up to which torchaudio's table is small."""
_STRETCH = 2**17  # samples resampled at once, about
_HEARD = 1.75
"""Times half the lower rate; beyond it the sinc's response is below a step of float32."""
_FINE = 4
"""Taps of the sinc for each old sample, by which its response is known that far."""
SINC_WIDTH, SINC_ROLLOFF = 256, 0.998
"""Zero crossings of the sinc and roll-off: an edge far steeper than by torchaudio's defaults. Those let the uppermost mel bands
sag, so that a recording at another rate than the normal ones would stand out by its resampling alone."""
CLIP_WIDTH, CLIP_ROLLOFF = 6, 0.99
"""Of clips in the pipeline, whose recordings all have one rate: torchaudio's defaults, as the baselines have them."""
Resampler = Callable[[np.ndarray], np.ndarray]


def ratio(rate: int, wanted: int) -> Fraction:
    """New samples per old sample: exact for rates up to `LARGEST_STEP`, within 4 ppm for any other.

    >>> ratio(48000, 16000), ratio(44099, 16000)
    (Fraction(1, 3), Fraction(16000, 44099))
    >>> 0 < abs(ratio(3_999_971, 16000) / Fraction(16000, 3_999_971) - 1) < 4e-6
    True
    """
    exact = Fraction(wanted, rate)
    if exact <= 1:
        return exact.limit_denominator(LARGEST_STEP)
    return 1 / (1 / exact).limit_denominator(LARGEST_STEP)


def resample_clip(audio: np.ndarray, rate: int, wanted: int) -> np.ndarray:
    """A clip float32 [n] at `rate` Hz, as a whole, at `wanted` Hz."""
    if rate == wanted:
        return audio
    if not _is_ordinary(rate, wanted):
        found = ratio(rate, wanted)
        return np.concatenate(list(_by_blocks([audio], found, _by_fourier(found, CLIP_WIDTH, CLIP_ROLLOFF))))
    import torch
    from torchaudio.functional import resample

    wave = torch.from_numpy(np.ascontiguousarray(audio))
    return resample(wave, rate, wanted, CLIP_WIDTH, CLIP_ROLLOFF).numpy()


def resampled(blocks: Iterable[np.ndarray], rate: int, wanted: int) -> Iterator[np.ndarray]:
    """`blocks` float32 [n] of a sound at `rate` Hz as blocks of the same sound at `wanted` Hz.

    Each block is resampled with its surroundings, so that there are no seams: together they are what the filter makes of the
    whole, to float32 rounding (1e-6 of full scale).
    """
    if rate == wanted:
        yield from blocks
        return
    found = ratio(rate, wanted)
    yield from _by_blocks(blocks, found, _by_fourier(found, SINC_WIDTH, SINC_ROLLOFF))


def _is_ordinary(rate: int, wanted: int) -> bool:
    exact = Fraction(wanted, rate)
    return max(exact.numerator, exact.denominator) <= _ORDINARY


def _by_blocks(blocks: Iterable[np.ndarray], found: Fraction, resample: Resampler) -> Iterator[np.ndarray]:
    """`resample` applied to stretches of whole steps with their surroundings, of which its result then gives the middle."""
    step, out = found.denominator, found.numerator  # `step` samples become `out`
    around = math.ceil(_reach(found, SINC_WIDTH, SINC_ROLLOFF) / step) + 1  # steps of surroundings on either side
    stretch = max(4, min(_STRETCH // step, 8 * _STRETCH // out))
    left, held = 0, np.empty(0, np.float32)
    for block in blocks:
        held = np.concatenate([held, block])
        while len(held) >= (left + stretch + around) * step:
            part = resample(held[: (left + stretch + around) * step])
            yield part[left * out : (left + stretch) * out]
            keep = max(0, left + stretch - around)
            left, held = left + stretch - keep, held[keep * step :]
    if len(held) > left * step:
        yield resample(held)[left * out :]


def _reach(found: Fraction, width: int, rolloff: float) -> int:
    """Old samples on either side that take part in a new one."""
    return math.ceil(width / (min(1.0, found.numerator / found.denominator) * rolloff))


def _by_fourier(found: Fraction, width: int, rolloff: float) -> Resampler:
    """torchaudio's windowed sinc (`sinc_interp_hann`), applied to the spectrum, which is then that of the other rate.

    What such a sinc lets through beyond half the lower rate comes back mirrored, as torchaudio has it: of ordinary pairs, whose
    recordings were heard so when bundles were made. Of all others it is cut off.
    """
    step, out = found.denominator, found.numerator
    reach = _reach(found, width, rolloff)
    edge = min(1.0, found.numerator / found.denominator) * rolloff  # of the sinc, in half the old rate
    ordinary = max(step, out) <= _ORDINARY
    fine = _FINE if ordinary else 1
    times = edge * np.arange(-reach * fine, reach * fine + 1) / fine
    taps = edge / fine * np.sinc(times) * np.cos(np.clip(times / width, -1, 1) * (np.pi / 2)) ** 2
    responses: dict[int, np.ndarray] = {}  # of the sinc, by the length of the transform: the same for block after block

    def resample(audio: np.ndarray) -> np.ndarray:
        # With silence behind it, for a transform joins its ends.
        steps = -(-max(len(audio) + reach, 2 * reach + 1) // step)
        if ordinary:
            steps = _quick(steps)
        old, new = steps * step, steps * out
        if old not in responses:
            kernel = np.zeros(old * fine)
            kernel[: reach * fine + 1], kernel[len(kernel) - reach * fine :] = (
                taps[reach * fine :],
                taps[: reach * fine],
            )
            responses.clear()
            responses[old] = np.fft.rfft(kernel).real
        spectrum = np.fft.rfft(audio.astype(np.float64), old)
        if ordinary:
            spectrum = _mirrored(spectrum, responses[old], old, new)
        else:
            spectrum *= responses[old]
        sound: np.ndarray = np.fft.irfft(spectrum[: new // 2 + 1], new) * (new / old)
        return sound[: -(-len(audio) * out // step)].astype(np.float32)

    return resample


def _mirrored(spectrum: np.ndarray, response: np.ndarray, old: int, new: int) -> np.ndarray:
    """Of `old` samples, with the response of the sinc: the spectrum of `new` samples.

    Above half of the old rate a spectrum goes on as its mirror image; what is above half of the new one is folded back.
    """
    lines = np.arange(int(_HEARD * min(old, new) / 2) + 1)
    beyond = lines[lines > old // 2]
    heard = np.concatenate([spectrum[: min(len(lines), old // 2 + 1)], spectrum[old - beyond].conj()]) * response[lines]
    out = np.zeros(new // 2 + 1, complex)
    out[: len(heard)] = heard[: len(out)]
    folded = lines[lines > new // 2]
    out[new - folded] += heard[folded].conj()
    if len(folded) and new % 2 == 0:
        out[-1] += heard[new // 2].conj()  # its own mirror image
    return out


def _quick(length: int) -> int:
    """The smallest product of twos, threes and fives that is no less: such transforms are fast.

    >>> _quick(7), _quick(1025)
    (8, 1080)
    """
    best = 2 ** (length - 1).bit_length()
    odd = [3**i * 5**j for i in range(20) for j in range(14) if 3**i * 5**j <= best]
    return min(each << max(0, -(-length // each) - 1).bit_length() for each in odd)
