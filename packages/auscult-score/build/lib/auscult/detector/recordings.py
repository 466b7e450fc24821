"""The recordings below a folder, for `auscult fit`: what each is, which are refused, and which are left out with the reason so
that no single one decides how long a window is, or its rate.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from auscult.data.audio import Channel, open_recording, printable
from auscult.data.own.facts import Facts, facts_of_table
from auscult.detector.places import require_folder
from auscult.detector.stream import below
from auscult.detector.words import with_reasons
from auscult.errors import AuscultError, listed

LONGEST = 10.0
"""Seconds of a window, unless another length is asked for."""
SHORTEST = 0.1
"""Seconds of a window; a front-end has a handful of frames there."""
RATE = 16000
"""Hz, unless most recordings have less or another rate is asked for."""
FEW = 5
"""One recording of so many may be left out because it is shorter, or of a lower rate, than the others."""
ODD_LEVEL = 40.0
"""dB from the median: another gain, or another thing altogether."""

_FAULTY = re.compile(
    r"(^|/)(anomal\w*|abnormal\w*|fault\w*)(/|$)|(^|/|_(train|test)_)(anomaly|abnormal)_", re.IGNORECASE
)


@dataclass(frozen=True)
class Found:
    """What a recording is: where, Hz, samples of each channel, highest sample and root mean square (without offset) of the
    channel that is listened to, and what its header got wrong."""

    path: Path
    rate: int
    frames: int
    peak: float
    rms: float
    notes: tuple[str, ...] = ()

    @property
    def seconds(self) -> float:
        return self.frames / self.rate


def look_below(folder: Path, channel: Channel, labels: Path | None = None) -> tuple[dict[str, Found], int]:
    """What each recording of normal sound below a folder is, by its name there; and how many files are no recordings.

    Args:
        labels: a table that says which are normal; None = all.

    Raises:
        AuscultError: no folder, no recordings, some that are named as anomalies, a table that does not fit; and as `look_at`.
    """
    files, others = files_below(folder, "recordings of normal sound")
    if labels is not None:
        known = labelled(files, folder, labels)
        files = {name: path for name, path in files.items() if known[name].label != "anomaly"}
        if not files:
            raise AuscultError("the table calls no recording normal", str(labels), "say `normal` in the column `label`")
        return look_at(files, channel, str(folder)), others
    refuse_faulty(files, str(folder))
    return look_at(files, channel, str(folder)), others


def refuse_faulty(files: Iterable[str], where: str) -> None:
    """
    Raises:
        AuscultError: some are named as anomalies.
    """
    faulty = [name for name in files if _FAULTY.search(name.rpartition("/")[0]) or _FAULTY.search(name)]
    if faulty:
        what = f"{len(faulty)} recording(s) are named as anomalies, and a detector is fitted to normal sound alone:"
        raise AuscultError(what + listed(faulty, 5), where, "give the folder of the normal ones, or rename them")


def files_below(folder: Path, what: str) -> tuple[dict[str, Path], int]:
    """Recordings below a folder by their names there, and how many files are none.

    Raises:
        AuscultError: no folder, or no recordings in it.
    """
    require_folder(folder, "recordings", f"give the folder that holds {what}")
    paths, others = below(folder)
    files = {printable(path.relative_to(folder).as_posix()): path for path in paths}
    if not files:
        raise AuscultError(
            "no recordings below this folder", str(folder), "put WAV, FLAC, OGG, MP3 or AIFF files there"
        )
    return files, others


def labelled(files: Mapping[str, Path], folder: Path, labels: Path) -> dict[str, Facts]:
    """What a table says of each recording of one machine (docs/your-own-machine.md).

    Raises:
        AuscultError: it does not fit the recordings, or is about several machines.
    """
    try:
        known = facts_of_table(labels, list(files))
    except AuscultError as error:
        raise AuscultError(
            error.what, error.where, f"mend the table; its file names are relative to {folder}"
        ) from None
    machines = sorted({facts.machine for facts in known.values()})
    if len(machines) > 1:
        what = f"the table is about {len(machines)} machines ({', '.join(machines[:5])}), and a detector is for one"
        raise AuscultError(what, str(labels), "make a folder and a table for each")
    return known


def look_at(files: Mapping[str, Path], channel: Channel, where: str) -> dict[str, Found]:
    """What each of `files` (by name) is.

    Raises:
        AuscultError: every one that cannot be read, or in which nothing is heard on `channel`.
    """
    found: dict[str, Found] = {}
    problems = []
    heard_elsewhere: set[int] = set()
    for name, path in tqdm(files.items(), desc="read", unit="recording", **quiet()):
        try:
            found[name], silent, others_heard = _look(path, channel)
        except AuscultError as problem:
            problems.append(f"{printable(path)}: {problem.what}")
            continue
        if silent:
            problems.append(f"{printable(path)}: {silent}")
            heard_elsewhere.update(others_heard)
    if problems:
        fix = "mend, convert or remove them"
        if heard_elsewhere:
            fix = f"choose a channel with sound: --channel {' or '.join(map(str, sorted(heard_elsewhere)))}"
        raise AuscultError(f"{len(problems)} recording(s) cannot be used:{listed(problems)}", where, fix)
    return found


def _look(path: Path, channel: Channel) -> tuple[Found, str, list[int]]:
    """A recording; why nothing is heard of it ("" = something is); and the channels on which something is."""
    with open_recording(path) as recording:
        recording.check_channel(channel)
        columns = recording.channels + 1  # the last one is the mean
        low, high = np.full(columns, np.inf), np.full(columns, -np.inf)
        total, square = np.zeros(columns), np.zeros(columns)
        for block in recording.blocks():
            if not np.isfinite(block).all():
                raise AuscultError("holds NaN or infinite samples", printable(path), "record it again")
            block = np.column_stack([block, block.mean(axis=1)]).astype(np.float64)
            low, high = np.minimum(low, block.min(axis=0)), np.maximum(high, block.max(axis=0))
            total, square = total + block.sum(axis=0), square + (block**2).sum(axis=0)
        frames, rate, notes = recording.seen, recording.rate, tuple(recording.notes)
        step = 2.0**-15 if recording.exact else 2.0**-23
    rms = np.sqrt(np.maximum(square / frames - (total / frames) ** 2, 0))
    heard = (high > low) & (rms >= step)
    chosen = -1 if channel == "mean" else channel
    peak = float(max(abs(low[chosen]), abs(high[chosen])))
    silent = ""
    if not heard[chosen]:
        where = "the mean of its channels" if channel == "mean" else f"channel {channel}"
        if peak == 0:
            silent = f"silent, nothing but zeros on {where}"
        elif high[chosen] == low[chosen]:
            silent = f"silent, nothing but the value {low[chosen]:.3g} on {where}"
        else:
            silent = f"silent, nothing but rounding on {where}"
    return Found(path, rate, frames, peak, float(rms[chosen]), notes), silent, np.flatnonzero(heard[:-1]).tolist()


def choose_rate(found: Mapping[str, Found], asked: int, folder: Path) -> tuple[int, dict[str, str]]:
    """Hz of the windows; and the recordings that do not have it, which are few and left out.

    Raises:
        AuscultError: many recordings have less than what was asked for.
    """
    rates = sorted(each.rate for each in found.values())
    rate = asked or min(RATE, rates[len(rates) // FEW])
    left_out = {name: f"recorded at {each.rate} Hz only" for name, each in found.items() if each.rate < rate}
    if FEW * len(left_out) > len(found):
        what = f"{len(left_out)} of {len(found)} recordings have {rates[0]} Hz only, so that their upper band would be empty"
        raise AuscultError(what, str(folder), f"use --sample-rate {rates[0]}, or leave them out")
    return rate, left_out


def choose_seconds(found: Mapping[str, Found], asked: float, folder: Path) -> tuple[float, dict[str, str], str]:
    """Seconds of a window; the recordings that are shorter and left out; and a note where a short one decided ("" = none).

    Without a wish, a window is as long as the shortest recording, `LONGEST` at most. What is shorter than most is not asked:
    recordings of less than half the usual length, or of less than nine tenths of it if there are few of them.

    Raises:
        AuscultError: most recordings are shorter than what was asked for, or a window is shorter than `SHORTEST`.
    """
    seconds = {name: each.seconds for name, each in found.items()}
    note = ""
    if asked:
        window = asked
        if window < SHORTEST:
            raise AuscultError(f"windows of {asked:g} s are too short", fix=f"use {SHORTEST:g} s or more")
    else:
        usual = min(LONGEST, float(np.median(list(seconds.values()))))
        limit = usual / 2
        shorter = [name for name, length in seconds.items() if length < 0.9 * usual]
        if FEW * len(shorter) <= len(seconds):
            limit = 0.9 * usual
        window = min(LONGEST, min(length for length in seconds.values() if length >= limit))
        if window < 0.9 * usual:
            note = f"windows are {window:.3g} s long, as the shortest recordings are; most have {usual:.3g} s or more (--seconds)"
    left_out = {name: f"{length:.3g} s long" for name, length in seconds.items() if length < window * (1 - 1e-4)}
    if 2 * len(left_out) > len(found):
        what = f"{len(left_out)} of {len(found)} recordings are shorter than a window of {window:g} s:"
        raise AuscultError(
            what + with_reasons(left_out, 5), str(folder), f"use fewer --seconds, such as {min(seconds.values()):.3g}"
        )
    if window < SHORTEST:
        what = f"recordings of {window:.3g} s are too short: {SHORTEST:g} s are needed"
        raise AuscultError(what, str(folder), "record for longer")
    return window, left_out, note


def odd_levels(found: Mapping[str, Found]) -> dict[str, str]:
    """Recordings so much louder or softer than the others that they would decide the gain of all."""
    level = {name: 20 * np.log10(each.rms) for name, each in found.items()}
    usual = np.median(list(level.values()))
    return {
        name: f"{abs(each - usual):.0f} dB {'louder' if each > usual else 'softer'} than most"
        for name, each in level.items()
        if abs(each - usual) > ODD_LEVEL
    }


def quiet() -> dict[str, Any]:
    """How often a progress bar speaks: seldom to a log."""
    return {"mininterval": 0.5 if sys.stderr.isatty() else 15.0}
