"""A folder of normal sound as windows of one length and rate, with what was left out of it and why."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from auscult.detector.folder import sha256_of
from auscult.detector.recordings import (
    Found,
    choose_rate,
    choose_seconds,
    files_below,
    labelled,
    look_below,
    odd_levels,
)
from auscult.detector.settings import FitSettings
from auscult.detector.windows import Windows, check_count, cut_windows
from auscult.errors import AuscultError, listed


@dataclass
class Normals:
    """The recordings of normal sound that a detector is fitted to.

    Attributes:
        folder: where they lie.
        windows: cut from what is used of them.
        used: the recordings that are, by name; sums: SHA-256 of every recording found.
        sample_rate: Hz; samples: of a window.
        other_files: files there that are no recordings.
    """

    folder: Path
    windows: Windows
    used: Mapping[str, Found]
    sums: Mapping[str, str]
    sample_rate: int
    samples: int
    other_files: int

    def facts(self) -> dict[str, Any]:
        """What bundle.yaml says of them under `training`."""
        windows = self.windows
        names = windows.table["name"].unique().tolist()
        return {
            "windows": len(windows.table),
            "recordings": len(names),
            "seconds": round(sum(self.used[name].seconds for name in names), 3),
            "window_seconds": self.samples / self.sample_rate,
            "units": {str(name): int(count) for name, count in windows.table.groupby("unit").size().items()},
            "left_out": windows.left_out,
            "same_sound": windows.same_sound,
            "overlapping": windows.overlapping,
            "notes": windows.notes,
            "other_files": self.other_files,
            "sha256": dict(self.sums),
        }


def gather(folder: Path, file: Path, asked: FitSettings) -> Normals:
    """Look through the recordings below `folder` and cut what can be used of them into windows, which lie in `file`.

    Raises:
        AuscultError: recordings missing, unreadable, silent, too short or too few; a mode of one recording.
    """
    found, other_files = look_below(folder, asked.channel, asked.labels)
    left_out = odd_levels(found)
    sample_rate, low = choose_rate(_without(found, left_out), asked.sample_rate, folder)
    left_out |= low
    seconds, short, note = choose_seconds(_without(found, left_out), asked.seconds, folder)
    left_out |= short
    samples = int(seconds * sample_rate + 1e-6)
    used = _without(found, left_out)
    windows = cut_windows(used, file, sample_rate, samples, asked.channel)
    windows.left_out = {**left_out, **windows.left_out}
    windows.notes += [note] if note else []
    if asked.labels is not None:
        known = labelled(files_below(folder, "")[0], folder, asked.labels)
        windows.table["unit"] = [known[name].unit for name in windows.table["name"]]
    if asked.one_mode:
        windows.table["unit"] = "00"
    check_count(len(windows.table), samples / sample_rate, folder)
    _check_modes(windows.table, folder)
    sums = {name: sha256_of(each.path) for name, each in found.items()}
    return Normals(folder, windows, used, sums, sample_rate, samples, other_files)


def _without(found: Mapping[str, Found], left_out: Mapping[str, str]) -> dict[str, Found]:
    return {name: each for name, each in found.items() if name not in left_out}


def _check_modes(table: pd.DataFrame, folder: Path) -> None:
    """Refuse modes of one recording: left out, nothing of the mode is left to compare with; kept, the threshold is too low."""
    recordings = table.groupby("unit")["group"].nunique()
    alone = recordings.index[recordings == 1].tolist()
    if len(recordings) == 1 or not alone:
        return
    what = f"{len(alone)} of {len(recordings)} sub-folders hold one recording each, and a mode of operation needs two or more:"
    fix = "record these modes again; or, if sub-folders are days or the like and not modes, use --one-mode"
    raise AuscultError(what + listed(alone, 5), str(folder), fix)
