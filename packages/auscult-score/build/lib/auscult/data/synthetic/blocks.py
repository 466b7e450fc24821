"""The signal blocks that all machine types are built from.

All work on [clips, samples] or [clips, bins] arrays, row by row independent: element-wise operations, sums along a row and
one FFT per row only. No matrix product, whose rounding would depend on how many clips are in the batch.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy.fft import irfft, next_fast_len, rfft

from auscult.data.synthetic.streams import FloatArray

ComplexArray = NDArray[np.complex128]

TABLE_SIZE = 8192  # points per turn: linear interpolation error below -55 dB for the highest order in use (200)


@dataclass(frozen=True)
class Grid:
    """Time and frequency axes of a clip.

    A quarter of a second is made in front of the clip and thrown away: filtering is circular (one FFT over the whole run),
    and what wraps around the end falls into that part.
    """

    samples: int
    sample_rate: int

    @property
    def warm_up(self) -> int:
        return self.sample_rate // 4

    @cached_property
    def length(self) -> int:
        """Samples made: the clip, the warm-up, and what makes the FFT fast."""
        return int(next_fast_len(self.samples + self.warm_up, real=True))

    @cached_property
    def time(self) -> FloatArray:
        """Seconds, [length], 0 at the first sample of the clip proper."""
        return (np.arange(self.length) - self.warm_up) / self.sample_rate

    @cached_property
    def frequency(self) -> FloatArray:
        """Hz of the FFT bins, [length // 2 + 1]; bin 0 is given the value of half a bin, so that logarithms are finite."""
        hz: FloatArray = np.arange(self.length // 2 + 1, dtype=np.float64) * (self.sample_rate / self.length)
        hz[0] = hz[1] / 2
        return hz

    @cached_property
    def octaves(self) -> FloatArray:
        """log2(frequency / 1 kHz), [bins]."""
        return np.log2(self.frequency / 1000.0)

    def keep(self, signal: FloatArray) -> FloatArray:
        """The clip proper, [clips, samples], out of a run of `length`."""
        return signal[:, self.warm_up : self.warm_up + self.samples]

    def to_spectrum(self, signal: FloatArray) -> ComplexArray:
        return np.asarray(np.stack([rfft(row) for row in signal]))

    def to_signal(self, spectrum: ComplexArray) -> FloatArray:
        return np.asarray(np.stack([irfft(row, n=self.length) for row in spectrum]))


@lru_cache(maxsize=8)
def grid_of(samples: int, sample_rate: int) -> Grid:
    """The grid of clips of this length: kept, since its axes serve every block."""
    return Grid(samples, sample_rate)


def decibel(level: FloatArray | float) -> FloatArray:
    """Amplitude factor of a level in dB."""
    return np.exp(np.asarray(level) * (np.log(10.0) / 20.0))


def turns(speed: FloatArray, sample_rate: int) -> FloatArray:
    """Angle in turns, [clips, samples], of a shaft at `speed` turns per second (same shape)."""
    return np.cumsum(speed, axis=1) / sample_rate


def waveform_of_turn(levels: FloatArray, phases: FloatArray) -> FloatArray:
    """One turn of a shaft as a table, [clips, TABLE_SIZE]: sum over orders k = 1.. of level[k-1] cos(2 pi (k x + phase)).

    Args:
        levels: amplitude of each shaft order, [clips, orders]; phases: in turns, same shape.
    """
    clips, orders = levels.shape
    spectrum = np.zeros((clips, TABLE_SIZE // 2 + 1), dtype=np.complex128)
    spectrum[:, 1 : orders + 1] = levels * np.exp(2j * np.pi * phases) * (TABLE_SIZE / 2)
    return np.asarray(np.stack([irfft(row, n=TABLE_SIZE) for row in spectrum]))


def play(table: FloatArray, angle: FloatArray) -> FloatArray:
    """Read `table` [clips, TABLE_SIZE] at `angle` (turns, [clips, samples]) with linear interpolation."""
    position = (angle - np.floor(angle)) * TABLE_SIZE
    low = position.astype(np.intp)
    fraction = position - low
    low &= TABLE_SIZE - 1  # a fraction of a turn that rounds to 1.0 is 0
    high = (low + 1) & (TABLE_SIZE - 1)
    below = np.take_along_axis(table, low, axis=1)
    return below + fraction * (np.take_along_axis(table, high, axis=1) - below)


def strikes(angle: FloatArray) -> FloatArray:
    """A unit impulse wherever `angle` (turns, [clips, samples], rising) passes a whole number; else 0."""
    whole = np.floor(angle)
    out = np.zeros_like(angle)
    np.subtract(whole[:, 1:], whole[:, :-1], out=out[:, 1:])
    return out


def impulses(seconds: FloatArray, levels: FloatArray, grid: Grid) -> FloatArray:
    """Impulses of height `levels` at the times `seconds` (both [clips, events]); times outside the run are dropped."""
    out = np.zeros((seconds.shape[0], grid.length))
    place = np.rint(seconds * grid.sample_rate).astype(np.int64) + grid.warm_up
    inside = (place >= 0) & (place < grid.length)
    rows = np.broadcast_to(np.arange(seconds.shape[0])[:, None], place.shape)
    np.add.at(out, (rows[inside], place[inside]), np.broadcast_to(levels, place.shape)[inside])
    return out


def resonator(frequency: FloatArray, centre: FloatArray, quality: FloatArray) -> ComplexArray:
    """Band-pass of one vibration mode, peak 1, causal: 1 / (1 + j Q (f/fc - fc/f)), [clips, bins].

    Args:
        centre: Hz, [clips, 1]; quality: the mode's Q, [clips, 1].
    """
    ratio = frequency / centre
    detuning = quality * (ratio - 1.0 / ratio)
    power = 1.0 / (1.0 + detuning * detuning)
    out = np.empty(power.shape, dtype=np.complex128)
    out.real = power
    np.multiply(power, -detuning, out=out.imag)
    return out


def hump(
    octaves: FloatArray, centre_hz: FloatArray, width_octaves: FloatArray | float, level_db: FloatArray
) -> FloatArray:
    """A broad band of noise in dB: `level_db` at `centre_hz`, falling as a Gaussian over log frequency, [clips, bins]."""
    distance = (octaves - np.log2(centre_hz / 1000.0)) / width_octaves
    return level_db * np.exp(-0.5 * distance * distance)


def wobble(time: FloatArray, draws: FloatArray, depth: float) -> FloatArray:
    """Slow wander around 0 of standard deviation `depth`, [clips, samples]: two sines at 0.2-1.2 Hz.

    Args:
        draws: standardised uniform numbers, [clips, 4].
    """
    unit = draws / (2.0 * np.sqrt(3.0)) + 0.5
    coarse = np.linspace(
        time[0], time[-1], 2 + int(50 * (time[-1] - time[0]))
    )  # 50 points a second are plenty for 1.2 Hz
    first = np.sin(2 * np.pi * ((0.2 + 0.4 * unit[:, 0:1]) * coarse + unit[:, 1:2]))
    second = np.sin(2 * np.pi * ((0.6 + 0.6 * unit[:, 2:3]) * coarse + unit[:, 3:4]))
    return np.stack([np.interp(time, coarse, row) for row in depth * (first + second)])
