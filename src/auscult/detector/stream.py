"""A recording of any length, rate and number of channels as windows, and what a bundle says of it.

Read, resampled (resampling.py) and cut block by block: memory does not grow with the length. Samples are rounded to 16 bit as
everywhere in this project.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import soundfile

from auscult.data.resampling import resampled
from auscult.errors import AuscultError
from auscult.evaluation.metrics import Floats

if TYPE_CHECKING:
    from auscult.detector.bundle import Bundle

Channel = Literal["mean"] | int
Batches = Iterator[tuple[np.ndarray, np.ndarray]]
_BLOCK = 2**16  # frames read at once


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
    """One recording, read once; `seconds`, `peak` and `rate` are known when all windows are.

    Raises (while it is read):
        AuscultError: not there, not readable as sound, cut short, without the channel, or with samples that are no numbers.
    """

    def __init__(self, path: Path, sample_rate: int, channel: Channel = 0) -> None:
        self.path, self.sample_rate, self.channel = path, sample_rate, channel
        self.rate = 0
        self.frames = 0
        self.peak = 0.0

    @property
    def seconds(self) -> float:
        return self.frames / self.rate if self.rate else 0.0

    def blocks(self) -> Iterator[np.ndarray]:
        """The sound at `sample_rate`, float32 [n] on the 16-bit grid, piece by piece."""
        source = self._read()
        first = next(source, np.empty(0, np.float32))  # now the rate is known

        def all_blocks() -> Iterator[np.ndarray]:
            yield first
            yield from source

        for block in resampled(all_blocks(), self.rate, self.sample_rate, str(self.path)):
            yield np.clip(np.round(block * np.float32(32768)), -32768, 32767) * np.float32(1 / 32768)

    def windows(self, window: int, hop: int, batch: int = 64) -> Batches:
        """(start seconds float64 [n], windows float32 [n, window]) of the whole recording, at most `batch` at a time."""
        for starts, parts in cut(self.blocks(), window, hop, batch, str(self.path)):
            yield starts / self.sample_rate, parts

    def _read(self) -> Iterator[np.ndarray]:
        where = str(self.path)
        if not self.path.is_file():
            raise AuscultError("there is no such file", where, "check the name")
        _check_size(self.path)
        try:
            with soundfile.SoundFile(where) as file:
                self.rate = file.samplerate
                if self.channel != "mean" and self.channel >= file.channels:
                    what = f"{file.channels} channel(s), and channel {self.channel} (from 0) is listened to"
                    raise AuscultError(what, where, "record that channel, too, or fit on another one")
                while len(block := file.read(_BLOCK, dtype="float32", always_2d=True)):
                    mono = (
                        block.mean(axis=1) if self.channel == "mean" else np.ascontiguousarray(block[:, self.channel])
                    )
                    if not np.isfinite(mono).all():
                        raise AuscultError("the recording holds samples that are no numbers", where, "record it again")
                    self.frames += len(mono)
                    self.peak = max(self.peak, float(np.abs(mono).max()))
                    yield mono
                if self.frames < file.frames and file.format != "MP3":  # an MP3's header may only estimate
                    raise AuscultError(f"cut short: {self.frames} of {file.frames} samples", where, "copy it again")
        except soundfile.SoundFileError as error:
            reason = str(getattr(error, "error_string", error)).strip().rstrip(".")
            fix = "give a WAV, FLAC, OGG, MP3 or AIFF recording"
            raise AuscultError(f"not a readable recording ({reason})", where, fix) from None
        if not self.frames:
            raise AuscultError("a recording without samples", where, "record it again")


def _check_size(path: Path) -> None:
    """libsndfile quietly shortens a WAV or AIFF that ends before the size in its header."""
    with open(path, "rb") as stream:
        head, size = stream.read(8), stream.seek(0, 2)
    if not size:
        raise AuscultError("an empty file", str(path), "copy or record it again")
    promised = int.from_bytes(head[4:], "big" if head[:4] == b"FORM" else "little") + 8
    if head[:4] in (b"RIFF", b"FORM") and size < promised < 0xFFFFFFFF:
        raise AuscultError(f"cut short: {size} of {promised} bytes", str(path), "copy it again")


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
    return ""


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
    from auscult.data.own.source import NOT_READ, READ

    return [
        path
        for path in sorted(folder.rglob("*"))
        if path.suffix.lower() in (*READ, *NOT_READ)
        and path.is_file()
        and not any(part.startswith(".") for part in path.relative_to(folder).parts)
    ]
