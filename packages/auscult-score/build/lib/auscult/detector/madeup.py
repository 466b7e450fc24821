"""Made-up changes of a machine's own normal sound: what stands in where no fault is known.

Four kinds, as different as can be: three clicks, a steady tone, hiss in an octave, an octave that is lost. Each window gets one
at a level of its own, drawn evenly over 30 dB from hardly there to plain, and keeps its loudness, so that nobody notices a
change by that alone. They say to which kinds of change a method is deaf on this sound. They do not say what faults sound like.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from auscult.evaluation.metrics import Floats

Rng = np.random.Generator
_CLICKS, _CLICK, _DECAY = 3, 0.01, 0.002
"""In a window; seconds of one; seconds in which it falls to 1/e."""


def clicks(x: Floats, level: Floats, rate: int, rng: Rng) -> Floats:
    """Short bursts of noise: their level is that of their 10 ms."""
    length = min(max(2, round(_CLICK * rate)), x.shape[1])
    burst = rng.standard_normal((len(x), _CLICKS, length)) * np.exp(-np.arange(length) / (_DECAY * rate))
    burst /= np.sqrt((burst**2).mean(axis=2, keepdims=True))
    start = rng.integers(0, x.shape[1] - length + 1, (len(x), _CLICKS, 1))
    y = x.copy()
    np.add.at(y, (np.arange(len(x))[:, None, None], start + np.arange(length)), burst * _size(x, level)[..., None])
    return y


def tone(x: Floats, level: Floats, rate: int, rng: Rng) -> Floats:
    """A sine of one frequency."""
    frequency = _between(rate / 64, 0.45 * rate, len(x), rng)
    phase = rng.uniform(0, 2 * np.pi, (len(x), 1))
    return x + np.sqrt(2) * _size(x, level) * np.sin(2 * np.pi * frequency * np.arange(x.shape[1]) / rate + phase)


def hiss(x: Floats, level: Floats, rate: int, rng: Rng) -> Floats:
    """Noise in one octave."""
    noise = np.fft.irfft(np.fft.rfft(rng.standard_normal(x.shape)) * _octave(x, rate, rng), x.shape[1])
    return x + _size(x, level) * noise / np.maximum(noise.std(axis=1, keepdims=True), 1e-12)


def lost_band(x: Floats, level: Floats, rate: int, rng: Rng) -> Floats:
    """One octave softer by `level`."""
    return np.fft.irfft(np.fft.rfft(x) * np.where(_octave(x, rate, rng), 10 ** (-level / 20), 1), x.shape[1])


KINDS: dict[str, tuple[Callable[[Floats, Floats, int, Rng], Floats], float]] = {
    "clicks": (clicks, 0.0), "tone": (tone, -30.0), "hiss": (hiss, -30.0), "lost band": (lost_band, 0.0),
}  # fmt: skip
"""Kind -> how it is made, and its lowest level in dB (of what is added: against the window)."""
SPAN = 30.0
"""dB from the lowest level to the highest."""


def made_up(windows: np.ndarray, sample_rate: int, seed: int = 0) -> dict[str, np.ndarray]:
    """Each of the windows int16 [m, samples] changed in every way of `KINDS`, int16 [m, samples] by kind.

    >>> noise = (1000 * np.random.default_rng(0).standard_normal((4, 16000))).astype(np.int16)
    >>> changed = made_up(noise, 16000)
    >>> sorted(changed), [bool(abs(x.std() / noise.std() - 1) < 0.01) for x in changed.values()]
    (['clicks', 'hiss', 'lost band', 'tone'], [True, True, True, True])
    """
    x = windows.astype(np.float64)
    made = {}
    for number, (kind, (change, lowest)) in enumerate(KINDS.items()):
        rng = np.random.default_rng([seed, number])
        level = rng.permutation(lowest + SPAN * (np.arange(len(x)) + 0.5) / len(x))[:, None]
        y = change(x, level, sample_rate, rng)
        y *= x.std(axis=1, keepdims=True) / np.maximum(y.std(axis=1, keepdims=True), 1e-12)
        made[kind] = np.clip(np.round(y), -32768, 32767).astype(np.int16)
    return made


def _size(x: Floats, level: Floats) -> Floats:
    """Root mean square [m, 1] that is `level` dB above that of each window."""
    size: Floats = x.std(axis=1, keepdims=True) * 10 ** (level / 20)
    return size


def _between(low: float, high: float, count: int, rng: Rng) -> Floats:
    """Frequencies [count, 1], evenly over the octaves."""
    frequencies: Floats = np.exp(rng.uniform(np.log(low), np.log(high), (count, 1)))
    return frequencies


def _octave(x: Floats, rate: int, rng: Rng) -> np.ndarray:
    """Which bins of each window's spectrum lie in its octave, bool [m, bins]; octaves from 1/64 to 1/2 of the rate."""
    low = _between(rate / 64, rate / 4, len(x), rng)
    frequency = np.fft.rfftfreq(x.shape[1], 1 / rate)
    return (frequency >= low) & (frequency < 2 * low)
