"""One recording, of any length, read block by block: what it is, and its clips as 16-bit WAV at its own rate."""

from __future__ import annotations

import wave
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from auscult.data.audio import Recording, RecordingError, open_recording

SHORTEST = 0.1
"""Seconds; a front-end has a handful of frames there."""


@dataclass(frozen=True)
class Measured:
    """What a recording is: `frames` samples of each channel, a 63-bit hash of the file's bytes, its highest sample, and what
    is worth saying about its header."""

    sample_rate: int
    channels: int
    frames: int
    content: int
    peak: float
    notes: tuple[str, ...] = ()


def measure(path: Path) -> Measured:
    """Decode a recording once, block by block. Only that tells how long an MP3 is, and that no sample is a NaN.

    Raises:
        RecordingError: empty, unreadable, cut short, not finite, or shorter than `SHORTEST`; the message says which.
    """
    with open_recording(path) as recording:
        peak = recording.peak()
        rate, frames = recording.rate, recording.seen
        if frames < SHORTEST * rate:
            what = f"{1000 * frames / rate:.0f} ms long, shorter than {1000 * SHORTEST:.0f} ms"
            raise RecordingError(what, path, "leave it out")
        return Measured(rate, recording.channels, frames, recording.content(), peak, tuple(recording.notes))


def pieces(frames: int, clip: int, hop: int, minimum: int) -> list[tuple[int, int]]:
    """(start, length) of each clip of a recording, all in frames.

    The last one is what is left over; below `minimum` it is dropped, unless it is the only one.

    >>> pieces(25, 10, 10, 5)
    [(0, 10), (10, 10), (20, 5)]
    >>> pieces(24, 10, 10, 5)
    [(0, 10), (10, 10)]
    """
    starts = range(0, max(frames - clip, 0) + hop, hop)  # the first clip that reaches the end is the last
    found = [(start, min(clip, frames - start)) for start in starts]
    return [piece for piece in found if piece[1] >= minimum] or found[:1]


def cut(
    path: Path,
    found: list[tuple[int, int]],
    gain: float,
    name: Callable[[int], Path],
    done: Callable[[], object],
) -> None:
    """Write the clips `found` (by `pieces`) of a recording; one clip is in memory at a time.

    16-bit samples are copied bit by bit, all others, times `gain`, rounded to 16 bits, and cut off at full scale.

    Args:
        gain: 1, or what fits the machine's recordings to the 16-bit grid.
        name: path of the clip that starts at a frame. It must not exist.
        done: called after each clip.

    Raises:
        RecordingError: the recording is shorter than it was, or cannot be decoded any more.
    """
    with open_recording(path) as recording:
        for (start, _), audio in zip(found, _windows(recording, found, gain), strict=True):
            with open(name(start), "xb") as out, wave.open(out, "wb") as target:
                target.setparams((recording.channels, 2, recording.rate, len(audio), "NONE", ""))
                target.writeframes(audio.astype("<i2").tobytes())
            done()


def _windows(recording: Recording, found: list[tuple[int, int]], gain: float) -> Iterator[np.ndarray]:
    """int16 [length, channels] of each piece, read in one pass: seeking in an MP3 is slow, and not exact."""
    exact = recording.exact and gain == 1
    held, at = np.empty((0, recording.channels), np.int16), 0  # what is in memory, and the frame where it begins
    for start, length in found:
        held, at = held[start - at :], start
        wanted = length - len(held)
        new = recording.read(wanted, "int16" if exact else "float64")
        if len(new) < wanted:
            raise RecordingError("cut short since it was looked at", recording.path, "copy it again")
        if not exact:
            new = np.clip(np.round(new * (32768.0 * gain)), -32768, 32767).astype(np.int16)
        held = np.concatenate([held, new])
        yield held
