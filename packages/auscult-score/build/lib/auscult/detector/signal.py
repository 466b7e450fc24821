"""What a signal is like where it is heard: after the choice of a channel, resampling and rounding.

A bundle keeps what its training recordings were like. A recording of another level, with a stretch of one value alone (digital
silence, a stuck converter) or clipped is a fault of the recording, whatever a detector makes of it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from auscult.evaluation.metrics import Floats

SILENCE = 0.1
"""Seconds of one value that are digital silence, unless training recordings have such stretches, too (a noise gate)."""
QUIETEST = 20 * math.log10(16 / 32768)
"""dBFS; recordings below it are raised, for 16 bits would round off too much of them."""
FAINT = 20 * math.log10(2 / 32768)
"""dBFS; a window below it, and far below all of training, is rounding rather than sound."""
FAR = 20.0
"""dB."""
_BETWEEN = {
    "gain": (2.0**-40, 2.0**40), "lowest": (-400, 400), "highest": (-400, 400), "silence": (0, 1e9), "clipped": (0, 1),
}  # fmt: skip


@dataclass(frozen=True)
class SignalRange:
    """Of the training windows of a bundle.

    The defaults are of bundles that were written before this was kept: nothing is known.

    Raises:
        ValueError: a value outside its range.
    """

    __pydantic_config__: ClassVar = {"extra": "forbid"}  # where it is part of a model: as `Section`

    gain: float = 1.0
    """Of every sample, before it is rounded to 16 bits."""
    lowest: float = -400.0
    """Level of the quietest window: dBFS after the gain, without the offset."""
    highest: float = 400.0
    silence: float = 1e9
    """Seconds of one value; a longer stretch is a fault."""
    clipped: float = 1.0
    """Largest share of samples at full scale."""

    def __post_init__(self) -> None:
        for name, (low, high) in _BETWEEN.items():
            value = float(getattr(self, name))  # no NumPy number: it is written as YAML
            if not low <= value <= high:
                raise ValueError(f"{name} lies between {low:g} and {high:g}")
            object.__setattr__(self, name, value)

    def outside(self, level: Floats) -> Floats:
        """dB [n] by which levels [n] are above the highest (positive) or below the lowest (negative) of training; 0 within.

        >>> SignalRange(lowest=-30, highest=-20).outside(np.array([-36.0, -25.0, -19.0])).tolist()
        [-6.0, 0.0, 1.0]
        """
        return np.minimum(level - self.lowest, 0) + np.maximum(level - self.highest, 0)

    def faint(self, level: Floats) -> np.ndarray:
        """Whether so little is left that the level says `not connected` [n]."""
        return (level < FAINT) & (level < self.lowest - FAR)


def levels(windows: np.ndarray) -> Floats:
    """dBFS [n] of windows float32 [n, samples], without their offset; a sine of full scale has -3.

    >>> levels(np.array([[0.1, -0.1, 0.1, -0.1], [0.5, 0.5, 0.5, 0.5]], np.float32)).round(3).tolist()
    [-20.0, -400.0]
    """
    return 10 * np.log10(np.maximum(windows.var(axis=1, dtype=np.float64), 1e-40))


def constant_stretch(windows: np.ndarray, least: int) -> np.ndarray:
    """Samples [n] of the longest stretch of one value in windows [n, samples]; 0 where it is shorter than `least` > 1.

    >>> constant_stretch(np.array([[1, 2, 2, 2, 2, 2, 3, 1], [1, 2, 3, 4, 4, 3, 2, 1]]), 4).tolist()
    [5, 0]
    """
    longest = np.zeros(len(windows), np.int64)
    if windows.shape[1] < least:
        return longest
    # So long a stretch holds some equal samples of every `step`-th: few windows have to be gone through in full.
    step = max(1, least // 8)
    thinned = windows[:, ::step]
    equal = thinned[:, 1:] == thinned[:, :-1]
    wanted = least // step - 1
    runs = np.lib.stride_tricks.sliding_window_view(equal, wanted, axis=1)
    for row in np.flatnonzero(np.any(np.all(runs, axis=2), axis=1)):
        changes = np.flatnonzero(np.diff(windows[row]))
        stretch = int(np.diff(np.concatenate([[-1], changes, [windows.shape[1] - 1]])).max())
        longest[row] = stretch if stretch >= least else 0
    return longest


def clipped(windows: np.ndarray) -> Floats:
    """Share [n] of samples at full scale of 16 bits, of windows float32 [n, samples]."""
    share: Floats = (np.abs(windows) >= np.float32(32767 / 32768)).mean(axis=1)
    return share


def gain_for(peaks: Sequence[float], rms: Sequence[float]) -> float:
    """A power of two that brings recordings of these peaks and root mean squares into what 16 bits can hold; 1 if they are.

    Where one is needed, the highest peak comes between 1/8 and 1/4 of full scale: a fault may be louder than normal sound.

    >>> gain_for([0.9, 0.2], [0.1, 0.01]), gain_for([200.0], [20.0]), gain_for([2e-5], [4e-6])
    (1.0, 0.0009765625, 8192.0)
    """
    peak = max(peaks)
    fitting = 2.0 ** math.floor(math.log2(0.25 / peak))
    if peak > 1:
        return fitting
    if np.median(rms) < 10 ** (QUIETEST / 20):
        return max(1.0, fitting)
    return 1.0
