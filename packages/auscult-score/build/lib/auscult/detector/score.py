"""What a bundle says of a recording: the score of every window, and a verdict that holds.

A recording is anomalous if more of its windows are than normal sound of that length would have (verdict.py). A window above the
threshold is anomalous unless its level alone explains that: where it is louder or softer than anything trained on and would be
normal at the nearest level that was, nobody can tell a machine from a microphone that was moved. Windows with digital silence are
not judged at all.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from auscult.data.audio import Recording, printable
from auscult.detector.arrays import Sound, opened
from auscult.detector.signal import clipped, constant_stretch, levels
from auscult.detector.stream import cut, rounded
from auscult.detector.verdict import anomalous
from auscult.errors import AuscultError
from auscult.evaluation.metrics import Floats

if TYPE_CHECKING:
    from auscult.detector.exported import Exported
    from auscult.detector.folder import Bundle as Folder

    Bundle = Folder | Exported

LEVEL_STEP = 0.5
"""dB outside the levels of training from which on a level may explain a score."""
NOTABLE = 3.0
"""dB outside the levels of training from which on a recording is said to be, whatever its score."""
CLIPPED = 1e-3
"""Share of samples at full scale."""


Source = Path | str | Sound


class UnusableError(AuscultError):
    """A recording that can be read, and in which nothing is heard that could be judged."""


def verdict_without_score(error: Exception) -> str:
    """Of a recording that was not scored because of this."""
    return "unusable" if isinstance(error, UnusableError) else "unreadable"


@dataclass
class FileScore:
    """What a bundle says of a recording: its most anomalous window.

    Attributes:
        file: path, as given.
        seconds: length of the recording.
        score: of the most anomalous window.
        p_value: of that window.
        anomalous: whether the verdict is `ANOMALOUS`.
        start, end: of that window, seconds.
        windows: how many there are; `above`: how many are anomalous.
        warning: what is wrong with the recording ("" = nothing known).
        verdict: `ANOMALOUS` if more windows are than in normal recordings (verdict.py); `check recording` if not, but some are
            above the threshold by their level alone or hold digital silence; else `normal`.
        expected: windows that would be above the threshold if all is normal; `higher`: those that are above every normal
            window of the bundle.
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
    verdict: str = "normal"
    expected: float = 0.0
    higher: int = 0


@dataclass(frozen=True)
class Windows:
    """What is known of the windows of a recording, each [n].

    Attributes:
        start: seconds.
        score: NaN where a window is not judged.
        above: whether it is anomalous.
        by_level: whether it is above the threshold, and normal at the nearest level of training.
        outside: dB above (or, negative, below) the levels of training; 0 within.
        silence: seconds of one value, where that is too long.
        faint: whether nothing but rounding is left.
        clipped: share of samples at full scale.
    """

    start: Floats
    score: Floats
    above: np.ndarray
    by_level: np.ndarray
    outside: Floats
    silence: Floats
    faint: np.ndarray
    clipped: Floats


def score_file(bundle: Bundle, path: Source, progress: Callable[[float], object] = lambda seconds: None) -> FileScore:
    """Score a recording.

    Args:
        progress: told of each stretch of sound that is done, in seconds.

    Raises:
        RecordingError: it cannot be read as a whole.
        UnusableError: nothing in it can be judged.
        AuscultError: see `cut`.
    """
    return score_and_curve(bundle, path, progress)[0]


def curve(bundle: Bundle, path: Source) -> tuple[Floats, Floats]:
    """(start seconds [n], scores [n]) of a recording's windows in order of time; NaN where one is not judged."""
    windows = score_and_curve(bundle, path)[1]
    return windows.start, windows.score


def score_and_curve(
    bundle: Bundle, path: Source, progress: Callable[[float], object] = lambda seconds: None
) -> tuple[FileScore, Windows]:
    """The score of a recording and all its windows, from one reading. Arguments and errors as of `score_file`."""
    parts = []
    with opened(path) as recording:
        sound = rounded(recording, bundle.sample_rate, bundle.channel, bundle.signal.gain)
        for first, windows in cut(sound, bundle.window, bundle.hop, 16, printable(str(path))):
            parts.append(judge(bundle, first / bundle.sample_rate, windows))
            progress(len(first) * bundle.hop / bundle.sample_rate)
        seconds = recording.seen / recording.rate
    found = Windows(**{
        field.name: np.concatenate([getattr(part, field.name) for part in parts]) for field in fields(Windows)
    })  # fmt: skip
    judged = np.isfinite(found.score)
    if not judged.any():
        reason = _silence(found) or "nothing but the rounding to 16 bits is heard"
        fix = "is the microphone connected, and is this the right channel? record it again"
        raise UnusableError(f"unusable: {reason} on channel {bundle.channel}", printable(str(path)), fix)
    counted = found.above if found.above.any() else judged
    top = int(np.argmax(np.where(counted, found.score, -np.inf)))
    above, count = found.score[found.above], int(judged.sum())
    apart = int(seconds * bundle.sample_rate / bundle.window * judged.mean() + 1e-6)
    verdict: str = "normal"
    if anomalous(above, count, min(max(1, apart), count), bundle.normal, bundle.known):
        verdict = "ANOMALOUS"
    elif found.by_level.any() or not judged.all():
        verdict = "check recording"
    start = float(found.start[top])
    warning = "; ".join(filter(None, (remark(bundle, found), _length(bundle, recording, seconds), *recording.notes)))
    file = FileScore(
        printable(str(path)), seconds, float(found.score[top]), float(bundle.p_values(found.score[top : top + 1])[0]),
        verdict == "ANOMALOUS", start, min(start + bundle.window / bundle.sample_rate, seconds),
        len(found.score), len(above), warning, verdict,
        count * bundle.rule.rate, int((above > bundle.normal[-1]).sum()),
    )  # fmt: skip
    return file, found


def judge(bundle: Bundle, start: Floats, windows: np.ndarray) -> Windows:
    """What is known of windows float32 [n, window] that begin at `start` [n] (seconds)."""
    signal = bundle.signal
    least = min(int(signal.silence * bundle.sample_rate) + 2, bundle.window)
    silence = constant_stretch(windows, least)
    level = levels(windows)
    faint, outside = signal.faint(level), signal.outside(level)
    usable = (silence == 0) & ~faint
    score = np.full(len(windows), np.nan)
    if usable.any():
        score[usable] = bundle.scores(windows[usable])
    if not np.isfinite(score[usable]).all():
        raise AuscultError("the bundle's score is no number", str(bundle.folder), "fit it again")
    above = score > bundle.threshold
    by_level = above & (np.abs(outside) > LEVEL_STEP)
    if by_level.any():
        brought_back = windows[by_level] * (10 ** (-outside[by_level, None] / 20)).astype(np.float32)
        by_level[by_level] = bundle.scores(brought_back) <= bundle.threshold
    return Windows(
        start, score, above & ~by_level, by_level, outside, silence / bundle.sample_rate, faint, clipped(windows)
    )  # fmt: skip


def remark(bundle: Bundle, found: Windows) -> str:
    """What is wrong with the sound of windows, in one line; "" = nothing known."""
    nothing = "nothing but the rounding to 16 bits is heard" if found.faint.all() else ""
    return "; ".join(filter(None, (_silence(found), nothing, _level(found), _clipped(bundle, found))))


def _silence(found: Windows) -> str:
    silent = found.silence > 0
    if not silent.any():
        return ""
    place = found.start[silent]
    where = "" if len(found.start) == 1 else f" in {silent.sum()} of {len(silent)} windows, from {place[0]:.1f} s on"
    return f"digital silence ({found.silence.max():.3g} s of one value){where}"


def _level(found: Windows) -> str:
    """Only what matters is said: windows decided by their level, or most of the recording well outside."""
    usable = np.isfinite(found.score)
    far = usable & (np.abs(found.outside) > NOTABLE)
    if not found.by_level.any() and 2 * far.sum() <= usable.sum():
        return ""
    named = found.by_level if found.by_level.any() else far
    worst = found.outside[named][np.argmax(np.abs(found.outside[named]))]
    where = "" if named.all() else f" in {named.sum()} of {len(named)} windows"
    remark = f"level {abs(worst):.2g} dB {'above' if worst > 0 else 'below'} any training recording{where}"
    if found.by_level.any():
        remark += ", which alone explains the score"
    return remark


def _clipped(bundle: Bundle, found: Windows) -> str:
    share = float(found.clipped.max())
    if share <= max(CLIPPED, 2 * bundle.signal.clipped):
        return ""
    return f"clipped: up to {share:.2%} of a window's samples are at full scale"


def _length(bundle: Bundle, recording: Recording, seconds: float) -> str:
    if recording.rate < bundle.sample_rate:
        return f"recorded at {recording.rate} Hz, so that the upper band of the {bundle.sample_rate} Hz heard is empty"
    if seconds * bundle.sample_rate < bundle.window - 1:
        return f"shorter than a window of {bundle.window / bundle.sample_rate:g} s"
    return ""
