"""How much normal sound is enough: for which rate of false alarms, and of how many days."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime, timedelta

import numpy as np
import pandas as pd

from auscult.detector.recordings import Found
from auscult.detector.thresholds import needed, quantile
from auscult.evaluation.metrics import Floats

RATE = 0.1
"""Of false alarms, where none is asked for."""
PARTS = 5
DIFFER = "recordings differ:"
"""How the note of `notes_on_check` begins."""
_STAMP = re.compile(
    r"(?<!\d)(20\d\d)[-_.]?(0[1-9]|1[0-2])[-_.]?(0[1-9]|[12]\d|3[01])"
    r"[T/_. -]{0,2}([01]\d|2[0-3])[-_.:hH]?([0-5]\d)(?:[-_.:m]?([0-5]\d))?(?!\d)"
)
_DAY = re.compile(r"(^|\D)20\d\d[-_.]?(0[1-9]|1[0-2])[-_.]?(0[1-9]|[12]\d|3[01])(\D|$)|day[ _-]?\d+", re.IGNORECASE)


def default_rate(effective: float, recordings: int) -> tuple[float, str]:
    """The rate where none is asked for: `RATE`, or the smallest that so few recordings support; and a note ("" = none).

    >>> default_rate(60.0, 60)
    (0.1, '')
    >>> default_rate(5.0, 5)[0] == 1 / 6
    True
    """
    if recordings < 2 or effective >= needed(RATE):
        return RATE, ""
    rate = 1 / (int(effective) + 1)
    return rate, (
        f"the rate of false alarms is {rate:.2g}, for {recordings} recordings support no smaller one: for {RATE:g}, "
        f"{needed(RATE)} are needed, for 0.05 {needed(0.05)}"
    )


def cross_fitted(normal: Floats, group: np.ndarray, rate: float) -> tuple[int, int]:
    """(windows above the threshold, of how many), where a fifth of the recordings is judged by a threshold from the others.

    A fifth is of recordings that follow each other by name, as names mostly tell the day: what changes with time shows.
    Windows are not counted where the others are too few for the rate.

    >>> cross_fitted(np.arange(100.0) % 10, np.arange(100), 0.2), cross_fitted(np.arange(100.0), np.arange(100), 0.2)
    ((10, 100), (20, 100))
    """
    _, number = np.unique(group, return_inverse=True)
    order = pd.unique(number)
    above = counted = 0
    for part in np.array_split(order, min(PARTS, len(order))):
        mine = np.isin(number, part)
        limit = quantile(normal[~mine], rate) if not mine.all() else np.inf
        if np.isfinite(limit):
            above += int((normal[mine] > limit).sum())
            counted += int(mine.sum())
    return above, counted


def notes_on_check(above: int, counted: int, rate: float) -> list[str]:
    """A note where recordings that follow each other differ by more than chance would have it."""
    if above < 1.5 * rate * counted or above - rate * counted < 3:
        return []
    return [
        f"{DIFFER} {above} of {counted} windows are above a threshold taken from recordings of other times, where "
        f"{rate * counted:.2g} are expected; false alarms will come more often than the rate says: add other days"
    ]


def notes_on_time(used: Mapping[str, Found], one_mode: bool) -> list[str]:
    """What recordings of few days cannot tell, as far as folders, names and times of change say when they were made."""
    notes = []
    folders = pd.Series([name.rpartition("/")[0] for name in used]).value_counts()
    if len(folders) > 1 and one_mode and (folders == 1).all():
        notes.append(
            f"each of {len(folders)} sub-folders holds one recording: how sound changes within a day is not known"
        )
    elif len(folders) > 1 and not one_mode and all(_DAY.search(name) for name in folders.index):
        notes.append(
            "sub-folders look like days and are taken for modes of operation: if they are none, use --one-mode"
        )
    span = _span(used)
    if len(used) > 1 and span is not None and span <= timedelta(hours=1):
        notes.append(
            f"all recordings were made within {max(1, round(span.total_seconds() / 60))} min: what other hours and days sound "
            "like is not known, and false alarms will come; add recordings of other days"
        )
    return notes


def _span(used: Mapping[str, Found]) -> timedelta | None:
    """From the first to the last recording, by names and by times of change, the longer of the two; None = not known."""
    spans = []
    named = [_stamp(name) for name in used]
    known = [time for time in named if time is not None]
    if len(known) == len(named):
        spans.append(max(known) - min(known))
    changed = [each.path.stat().st_mtime for each in used.values()]
    lengths = [each.seconds for each in used.values()]
    # Copied files have the time of copying: only what took as long as the sound itself was written as it was heard.
    if max(changed) - min(changed) >= 0.5 * (sum(lengths) - max(lengths)):
        spans.append(timedelta(seconds=max(changed) - min(changed)))
    return max(spans, default=None)


def _stamp(name: str) -> datetime | None:
    """
    >>> str(_stamp("pump/2026-05-01_12-30-05.wav")), str(_stamp("20260501T1230.wav")), _stamp("pump 12.wav")
    ('2026-05-01 12:30:05', '2026-05-01 12:30:00', None)
    """
    found = _STAMP.search(name)
    if found is None:
        return None
    year, month, day, hour, minute, second = (int(part or 0) for part in found.groups())
    try:
        return datetime(year, month, day, hour, minute, second)
    except ValueError:  # the 31st of June
        return None
