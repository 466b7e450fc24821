"""What is wrong with a signal as it is listened to: after the choice of a channel, resampling and rounding, not of the file."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

LONGEST_HOLD = 0.1
"""Seconds without any change that no microphone leaves."""
MOST_CLIPPED = 0.001
"""Share of samples at full scale."""
QUIETEST = -80.0
"""dBFS, root of the mean square: fewer than 4 of 16 bits are used."""
_FULL_SCALE = 32767 / 32768


@dataclass(frozen=True)
class Fault:
    """`kind`: silent, constant, quiet, clipped or hold; `text` says it with its number."""

    kind: str
    text: str

    @property
    def degenerate(self) -> bool:
        """Whether there is nothing to judge at all."""
        return self.kind in ("silent", "constant")


class SignalCheck:
    """Adds up what `faults` needs while a signal comes block by block, float32 [n] in [-1, 1], at `rate` Hz.

    Attributes:
        samples: how many came.
        peak: highest absolute value.
        clipped: samples at full scale or beyond.
        longest_hold: samples of the longest stretch without any change.
        held: samples in stretches of `LONGEST_HOLD` or more.
    """

    def __init__(self, rate: int) -> None:
        self.rate = rate
        self.samples = self.clipped = self.held = self.longest_hold = 0
        self.peak = 0.0
        self._sum = self._square = 0.0
        self._low, self._high = math.inf, -math.inf
        self._last, self._hold = math.nan, 0

    def add(self, block: np.ndarray) -> None:
        """The next samples."""
        if not len(block):
            return
        low, high = float(block.min()), float(block.max())
        self._low, self._high = min(self._low, low), max(self._high, high)
        self.peak = max(self.peak, -low, high)
        self.clipped += int(np.count_nonzero(np.abs(block) >= _FULL_SCALE)) if max(-low, high) >= _FULL_SCALE else 0
        self.samples += len(block)
        exact = block.astype(np.float64)
        self._sum += float(exact.sum())
        self._square += float(exact @ exact)
        self._add_holds(block)

    def through(self, blocks: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        """`blocks` unchanged, each of them added."""
        for block in blocks:
            self.add(block)
            yield block

    @property
    def level(self) -> float:
        """Root of the mean square in dB of full scale, without the mean; -inf for silence."""
        if not self.samples:
            return -math.inf
        variance = self._square / self.samples - (self._sum / self.samples) ** 2
        return 10 * math.log10(variance) if variance > 1e-20 else -math.inf

    def faults(self) -> list[Fault]:
        """What is wrong so far, the worst first; [] = nothing."""
        if not self.samples or self.peak == 0:
            return [Fault("silent", "silent: nothing but zeros; is the microphone connected?")]
        if self._low == self._high:
            return [Fault("constant", f"constant: every sample is {self._low:.3g}; is the microphone connected?")]
        found = []
        shortest = round(LONGEST_HOLD * self.rate)
        held = self.held + (self._hold if self._hold >= shortest else 0)
        if held:
            text = f"{held / self.rate:.3g} s without any signal; the longest stretch has {self.longest_hold / self.rate:.3g} s"
            found.append(Fault("hold", text))
        if self.clipped > MOST_CLIPPED * self.samples:
            found.append(Fault("clipped", f"clipped: {100 * self.clipped / self.samples:.2g} % of it is at full scale"))
        if self.level < QUIETEST:
            found.append(Fault("quiet", f"very quiet: {self.level:.0f} dB of full scale"))
        return found

    def _add_holds(self, block: np.ndarray) -> None:
        """Count stretches of equal samples, also those that go on from the block before."""
        changes = np.flatnonzero(
            np.diff(block, prepend=np.float32(self._last)) != 0
        )  # the first sample differs from a NaN
        shortest = round(LONGEST_HOLD * self.rate)
        if not len(changes):
            self._hold += len(block)
            self.longest_hold = max(self.longest_hold, self._hold)
            return
        lengths = np.diff(changes, append=len(block))
        lengths[-1], ended = 0, int(self._hold + changes[0])
        last = len(block) - int(changes[-1])
        self.held += int(lengths[lengths >= shortest].sum()) + (ended if ended >= shortest else 0)
        self.longest_hold = max(self.longest_hold, ended, int(lengths.max()), last)
        self._last, self._hold = float(block[-1]), last


def signal_faults(signal: np.ndarray, rate: int) -> list[Fault]:
    """What is wrong with a signal float32 [n] at `rate` Hz as it is listened to; [] = nothing.

    >>> [fault.kind for fault in signal_faults(np.zeros(16000, np.float32), 16000)]
    ['silent']
    >>> signal_faults(np.sin(np.arange(16000, dtype=np.float32)) / 2, 16000)
    []
    """
    check = SignalCheck(rate)
    check.add(np.asarray(signal, np.float32))
    return check.faults()
