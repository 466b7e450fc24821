"""Samples in memory as a recording: they go the way of a file, to the same scores, bit for bit."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import numpy as np

from auscult.data.audio import HIGHEST_RATE, LOWEST_RATE, Recording, open_recording
from auscult.errors import AuscultError


class Sound(Recording):
    """An array as an open recording, to be read once.

    Args:
        samples: [samples] or [samples, channels]; int16, or floating point in [-1, 1).
        rate: Hz.
        name: what messages call it.

    Raises:
        AuscultError: no such array, or no such rate.
    """

    def __init__(self, samples: Any, rate: int, name: str) -> None:
        array = np.asarray(samples)
        if array.dtype != np.int16 and array.dtype.kind != "f":
            raise AuscultError(f"samples of type {array.dtype}", name, "give int16, or floating point in [-1, 1)")
        if array.ndim not in (1, 2) or not array.size or (array.ndim == 2 and array.shape[1] > array.shape[0]):
            what = f"an array of shape {list(array.shape)} is no recording"
            raise AuscultError(what, name, "give [samples] or [samples, channels]")
        if not LOWEST_RATE <= rate <= HIGHEST_RATE or int(rate) != rate:
            what = f"a sample rate of {rate} Hz; {LOWEST_RATE} to {HIGHEST_RATE} are read"
            raise AuscultError(what, name, "say sample_rate=16000, or what it is")
        self.path, self.rate, self.samples = Path(name), int(rate), array.reshape(len(array), -1)
        self.frames, self.channels = self.samples.shape
        self.claimed, self.seen, self.notes = self.frames, 0, []
        self.exact, self.uncoded, self._estimated = array.dtype == np.int16, True, False

    def read(self, frames: int, dtype: Literal["float32", "float64", "int16"] = "float32") -> np.ndarray:
        block = self.samples[self.seen : self.seen + frames]
        self.seen += len(block)
        if self.exact and dtype != "int16":
            return block.astype(dtype) / np.dtype(dtype).type(32768)
        return block.astype(dtype)

    def __exit__(self, *of_an_error: object) -> None:
        """Nothing to close."""

    def __str__(self) -> str:
        return str(self.path)


def opened(source: Path | str | Sound) -> Recording:
    """A file, opened (see `open_recording`); an array is open."""
    return source if isinstance(source, Sound) else open_recording(Path(source))
