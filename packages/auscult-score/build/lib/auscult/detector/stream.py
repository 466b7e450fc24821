"""A recording of any length, rate and number of channels as windows.

Read, resampled and cut block by block: memory does not grow with the length. Samples are rounded to 16 bits as everywhere in
this project, after the gain of the bundle.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np

from auscult.data.audio import NOT_READ, READ, Channel, Recording
from auscult.errors import AuscultError

Batches = Iterator[tuple[np.ndarray, np.ndarray]]


def rounded(recording: Recording, sample_rate: int, channel: Channel = 0, gain: float = 1.0) -> Iterator[np.ndarray]:
    """An open recording at `sample_rate` Hz, float32 [n] in [-1, 1) on the grid of 16 bits, piece by piece.

    Raises:
        RecordingError: see `Recording.at_rate`.
    """
    yield from to_16_bits(recording.at_rate(sample_rate, channel), gain)


def to_16_bits(blocks: Iterable[np.ndarray], gain: float) -> Iterator[np.ndarray]:
    """Blocks float32 [n] times `gain`, on the grid of 16 bits."""
    scale = np.float32(32768 * gain)
    for block in blocks:
        yield np.clip(np.round(block * scale), -32768, 32767) * np.float32(1 / 32768)


def cut(blocks: Iterable[np.ndarray], window: int, hop: int, batch: int = 64, where: str = "") -> Batches:
    """(first samples int64 [n], windows float32 [n, window]) of a sound that comes in `blocks`, at most `batch` at a time.

    A window starts every `hop` samples; one more ends where the sound ends, if none does. A sound that lacks a
    fiftieth of a window at most is one window, as long as it is.

    Raises:
        AuscultError: the sound is shorter than that.
    """
    held, at, following, total = np.empty(0, np.float32), 0, 0, 0  # `held` begins at sample `at`
    for block in blocks:
        held, total = np.concatenate([held, block]), total + len(block)
        while total - following >= window + (batch - 1) * hop:
            yield _windows(held, at, following, window, hop, batch)
            following += batch * hop
            # The last window of all may start anywhere after the one before it.
            drop = min(following - hop - at, len(held))
            held, at = held[drop:], at + drop
    if total < window:
        if not long_enough(total, window):
            what = f"{total / window:.3g} of a window: a recording as long as a window is wanted"
            raise AuscultError(what, where, "give a longer recording, or fit with shorter windows (--seconds)")
        yield np.zeros(1, np.int64), held[None]
        return
    count = max(0, (total - window - following) // hop + 1)
    if count:
        yield _windows(held, at, following, window, hop, count)
    last = following + (count - 1) * hop
    if last + window < total:
        yield _windows(held, at, total - window, window, hop, 1)


def long_enough(samples: int, window: int) -> bool:
    """Whether a sound of so many samples is judged as a window: it lacks a fiftieth at most.

    >>> long_enough(98, 100), long_enough(97, 100)
    (True, False)
    """
    return 50 * (window - samples) <= window


def whole(windows: np.ndarray, samples: int, any_length: bool) -> np.ndarray:
    """Windows float32 [n, at most `samples`], mirrored at their end unless they are heard as long as they are."""
    if windows.shape[1] < samples and not any_length:
        return np.pad(windows, ((0, 0), (0, samples - windows.shape[1])), mode="symmetric")
    return windows


def _windows(held: np.ndarray, at: int, first: int, window: int, hop: int, count: int) -> tuple[np.ndarray, np.ndarray]:
    views = np.lib.stride_tricks.sliding_window_view(held[first - at :], window)
    return first + hop * np.arange(count), views[::hop][:count].copy()


# ----------------------------------------------------------------------------------------------------------------- files
def recordings(paths: Sequence[Path | str]) -> list[Path]:
    """The files among `paths` as they are, and of each folder the recordings anywhere below it, sorted by name.

    Raises:
        AuscultError: a folder without recordings.
    """
    found: list[Path] = []
    for path in map(Path, paths):
        if not path.is_dir():
            found.append(path)
            continue
        inside, _ = below(path)
        if not inside:
            raise AuscultError("no recordings below this folder", str(path), "give files, or a folder that holds some")
        found += inside
    return found


def below(folder: Path) -> tuple[list[Path], int]:
    """Recordings (by their suffix) anywhere below a folder, sorted, and how many other files are there; hidden ones apart.

    Folders that cannot be looked into, and links that lead nowhere, are among them: who reads them says why it fails.
    """
    found: list[Path] = []
    others = 0
    for place, folders, files in os.walk(folder, onerror=lambda error: found.append(Path(error.filename))):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in files:
            if name.startswith("."):
                continue
            if os.path.splitext(name)[1].lower() in (*READ, *NOT_READ):
                found.append(Path(place, name))
            else:
                others += 1
    return sorted(found), others
