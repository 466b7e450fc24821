"""A recording of any length, rate and number of channels as windows, and what a bundle says of it.

Read, resampled (resampling.py) and cut block by block: memory does not grow with the length. Samples are rounded to 16 bit as
everywhere in this project.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from auscult.data.audio import NOT_READ, READ, Channel, open_recording
from auscult.data.resampling import resampled
from auscult.errors import AuscultError
from auscult.evaluation.metrics import Floats

if TYPE_CHECKING:
    from auscult.detector.bundle import Bundle

Batches = Iterator[tuple[np.ndarray, np.ndarray]]


@dataclass
class FileScore:
    """What a bundle says of a recording: its most anomalous window.

    Attributes:
        file: path, as given.
        seconds: length of the recording.
        score: of the most anomalous window.
        p_value: of that window.
        anomalous: whether any window scores above the threshold.
        start, end: of that window, seconds.
        windows: how many there are; `above`: how many score above the threshold.
        warning: why the score may mean nothing ("" = no reason known).
    """

    file: str
    seconds: float
    score: float
    p_value: float
    anomalous: bool
    start: float
    end: float
    windows: int = 1
    above: int = 0
    warning: str = ""


# ------------------------------------------------------------------------------------------------------------ recordings
class Recording:
    """One recording, read once; `seconds`, `peak`, `rate` and `notes` are known when all windows are.

    Raises (while it is read):
        AuscultError: not there, not readable as sound, cut short, without the channel, or with samples that are no numbers.
    """

    def __init__(self, path: Path, sample_rate: int, channel: Channel = 0) -> None:
        self.path, self.sample_rate, self.channel = path, sample_rate, channel
        self.rate = 0
        self.frames = 0
        self.peak = 0.0
        self.notes: list[str] = []

    @property
    def seconds(self) -> float:
        return self.frames / self.rate if self.rate else 0.0

    def blocks(self) -> Iterator[np.ndarray]:
        """The sound at `sample_rate`, float32 [n] on the 16-bit grid, piece by piece."""
        with open_recording(self.path) as recording:
            self.rate, self.notes = recording.rate, recording.notes
            mono = self._counted(recording.mono(self.channel))
            for block in resampled(mono, self.rate, self.sample_rate):
                yield np.clip(np.round(block * np.float32(32768)), -32768, 32767) * np.float32(1 / 32768)

    def windows(self, window: int, hop: int, batch: int = 64) -> Batches:
        """(start seconds float64 [n], windows float32 [n, window]) of the whole recording, at most `batch` at a time."""
        for starts, parts in cut(self.blocks(), window, hop, batch, str(self.path)):
            yield starts / self.sample_rate, parts

    def _counted(self, blocks: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        for block in blocks:
            self.frames += len(block)
            self.peak = max(self.peak, float(np.abs(block).max()))
            yield block


def cut(blocks: Iterable[np.ndarray], window: int, hop: int, batch: int = 64, where: str = "") -> Batches:
    """(first samples int64 [n], windows float32 [n, window]) of a sound that comes in `blocks`, at most `batch` at a time.

    A window starts every `hop` samples; one more ends where the sound ends, if none does. A sound that lacks a
    fiftieth of a window at most is mirrored at its end to fill one.

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
        if 50 * (window - total) > window:
            what = f"{total / window:.3g} of a window: a recording as long as a window is wanted"
            raise AuscultError(what, where, "give a longer recording, or fit with shorter windows (--seconds)")
        # Mirrored, for a repetition would begin with a click.
        yield np.zeros(1, np.int64), np.pad(held, (0, window - total), mode="symmetric")[None]
        return
    count = max(0, (total - window - following) // hop + 1)
    if count:
        yield _windows(held, at, following, window, hop, count)
    last = following + (count - 1) * hop
    if last + window < total:
        yield _windows(held, at, total - window, window, hop, 1)


def _windows(held: np.ndarray, at: int, first: int, window: int, hop: int, count: int) -> tuple[np.ndarray, np.ndarray]:
    views = np.lib.stride_tricks.sliding_window_view(held[first - at :], window)
    return first + hop * np.arange(count), views[::hop][:count].copy()


def windows(
    path: Path, sample_rate: int, window: int, hop: int, batch: int = 64, channel: Channel = 0
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """(start seconds float64 [n], windows float32 [n, window] in [-1, 1)) of a recording; constant memory for any length.

    Args:
        sample_rate: of the windows, Hz.
        window, hop: samples at that rate.
        batch: windows at a time, at most.
        channel: the one that is listened to (0 = the first), or their "mean".

    Raises:
        AuscultError: see `Recording` and `cut`.
    """
    return Recording(path, sample_rate, channel).windows(window, hop, batch)


# ---------------------------------------------------------------------------------------------------------------- scores
def score_file(bundle: Bundle, path: Path, progress: Callable[[float], object] = lambda seconds: None) -> FileScore:
    """Score a recording.

    Args:
        progress: told of each stretch of sound that is done, in seconds.

    Raises:
        AuscultError: see `Recording` and `cut`.
    """
    return score_and_curve(bundle, path, progress)[0]


def curve(bundle: Bundle, path: Path) -> tuple[Floats, Floats]:
    """(start seconds [n], scores [n]) of a recording's windows in order of time."""
    return score_and_curve(bundle, path)[1:]


def score_and_curve(
    bundle: Bundle, path: Path, progress: Callable[[float], object] = lambda seconds: None
) -> tuple[FileScore, Floats, Floats]:
    """The score of a recording, and `curve` of it, from one reading."""
    recording = Recording(path, bundle.sample_rate, bundle.channel)
    starts, scores = [], []
    for first, parts in recording.windows(bundle.window, bundle.hop, batch=16):
        starts.append(first)
        scores.append(bundle.scores(parts))
        progress(len(first) * bundle.hop / bundle.sample_rate)
    start, score = np.concatenate(starts), np.concatenate(scores)
    top = int(np.argmax(score))
    above = int(np.sum(score > bundle.threshold))
    found = FileScore(
        str(path), recording.seconds, float(score[top]), float(bundle.p_values(score[top : top + 1])[0]), above > 0,
        float(start[top]), min(float(start[top]) + bundle.window / bundle.sample_rate, recording.seconds),
        len(score), above, _warning(bundle, recording),
    )  # fmt: skip
    return found, start, score


def _warning(bundle: Bundle, recording: Recording) -> str:
    if recording.peak == 0:
        return "silent: nothing but zeros; is the microphone connected?"
    if recording.rate < bundle.sample_rate:
        return f"recorded at {recording.rate} Hz, so that the upper band of the {bundle.sample_rate} Hz heard is empty"
    if recording.seconds * bundle.sample_rate < bundle.window - 1:
        return f"shorter than a window of {bundle.window / bundle.sample_rate:g} s: mirrored at its end to fill one"
    return "; ".join(recording.notes)


# ----------------------------------------------------------------------------------------------------------------- files
def recordings(paths: Sequence[Path]) -> list[Path]:
    """The files among `paths` as they are, and of each folder the recordings anywhere below it, sorted by name.

    Raises:
        AuscultError: a folder without recordings, or a path that is not there.
    """
    found: list[Path] = []
    for path in paths:
        if not path.is_dir():
            found.append(path)
            continue
        inside = below(path)
        if not inside:
            raise AuscultError("no recordings below this folder", str(path), "give files, or a folder that holds some")
        found += inside
    return found


def below(folder: Path) -> list[Path]:
    """Recordings (by their suffix) anywhere below a folder, hidden ones left alone, sorted."""
    return [
        path
        for path in sorted(folder.rglob("*"))
        if path.suffix.lower() in (*READ, *NOT_READ)
        and path.is_file()
        and not any(part.startswith(".") for part in path.relative_to(folder).parts)
    ]
