"""Which method to fit: the light ones, each tried on recordings that it did not hear.

A fifth of the recordings is left out, every candidate learns the others and sets its threshold as `fit` does, and is shown what
was left out, that with made-up changes (madeup.py), and the known faults if there are any; five times. Every window is decoded
once, and every spectrum computed once for all candidates that hear it. What to take is picking.py's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pandas as pd

from auscult.detector import picking
from auscult.detector.known import fault_files, gather_faults
from auscult.detector.madeup import KINDS, made_up
from auscult.detector.normals import Normals, gather
from auscult.detector.settings import FitSettings, checked
from auscult.detector.thresholds import needed
from auscult.detector.trials import Audio, Trial, light, rate_of, try_all
from auscult.detector.windows import Windows
from auscult.errors import AuscultError
from auscult.evaluation.intervals import auc_limit

FOLDS = 5
CHANGED = 60
"""Windows that are changed, at most."""
MOST = 1000
"""Normal windows, at most: three hours of ten seconds. Of more, these are drawn evenly, so that it takes minutes."""


@dataclass
class Comparison:
    """All candidates on one folder.

    Attributes:
        normals: what they learnt; faults: what they were also shown (None = no fault is known).
        trials: the simplest first, the default at the head; failed: name of a candidate -> why it was left out.
        rate: of false alarms that was asked for.
        fold: int [n], of the normal windows; changed: int [m], which of them were changed.
    """

    normals: Normals
    faults: Windows | None
    trials: list[Trial]
    failed: dict[str, str]
    rate: float
    fold: np.ndarray
    changed: np.ndarray

    def by_folder(self, number: int) -> dict[str, float]:
        """Share of left-out windows of each sub-folder that are alarms by a candidate; {} where there are none."""
        folder = self.normals.windows.table["name"].str.rpartition("/")[0]
        shares = pd.Series(self.trials[number].normal > 0).groupby(folder.to_numpy()).mean()
        return {str(name): float(share) for name, share in shares.items()} if len(shares) > 1 else {}

    def verdict(self) -> Verdict:
        """What was measured, and what to take."""
        table, trials = self.normals.windows.table, self.trials
        owner = np.unique(table["group"].to_numpy(), return_inverse=True)[1]
        recordings = int(owner.max()) + 1
        alarms = np.array([trial.normal > 0 for trial in trials]) @ picking.means_of(owner).T
        before = np.array([trial.normal[self.changed] <= 0 for trial in trials])
        noticed = np.array([trial.changed > 0 for trial in trials])
        rows = []
        for trial, seen, normal in zip(trials, noticed, before, strict=True):
            share = float((trial.normal > 0).mean())
            low, high = picking.wilson(share, recordings)
            kinds = dict(zip(KINDS, picking.shares(seen, normal).tolist(), strict=True))
            rows.append(Row(trial.name, share, (low, high), low <= self.rate, kinds))
        usable = np.array([row.holds for row in rows])
        if self.faults is None:
            return Verdict(rows, picking.pick_by_changes(noticed, before, usable), None, recordings)
        names, faults = np.unique(self.faults.table["name"].to_numpy(str), return_inverse=True)
        fold = np.array([self.fold[owner == one][0] for one in range(recordings)])
        measured = np.array([
            picking.areas(trial.normal, trial.faults[:-1], self.fold, owner, faults) for trial in trials
        ])  # fmt: skip
        found = np.array([trial.found for trial in trials])  # [candidates, folds + 1, faults]
        for row, each, seen in zip(rows, measured, found[:, -1], strict=True):
            area = float(each.mean())
            row.area, row.found = area, dict(zip(names.tolist(), seen.tolist(), strict=True))
            low, high = (auc_limit(a, *each.shape[::-1]) for a in (area, 1 - area))
            row.area_limits = (low, 1 - high)
        worth = picking.nested(measured, usable, found[:, :-1], alarms, fold)
        return Verdict(rows, picking.pick_by_faults(measured, usable), worth, recordings)


@dataclass
class Row:
    """What was measured of a candidate, as shares from 0 to 1; `area` and `found` where faults are known.

    Attributes:
        alarms, alarm_limits: of left-out normal windows, how many are above the threshold; holds: whether that can be the rate.
        noticed: made-up change -> share of those windows that were normal without it.
        area, area_limits: how often a fault scores higher than left-out normal sound.
        found: fault -> whether a bundle that is fitted to all normal recordings would find it.
    """

    name: str
    alarms: float
    alarm_limits: tuple[float, float]
    holds: bool
    noticed: dict[str, float]
    area: float = float("nan")
    area_limits: tuple[float, float] = (float("nan"), float("nan"))
    found: dict[str, bool] = field(default_factory=dict)


@dataclass(frozen=True)
class Verdict:
    """Rows of `Comparison.trials`; which one to take; what the choice is worth on faults without a part in it; recordings."""

    rows: list[Row]
    take: int
    worth: picking.Nested | None
    recordings: int


def compare(
    folder: Path, work: Path, asked: FitSettings, others: Sequence[str] = (), faults: Path | None = None
) -> Comparison:
    """Try the light methods, and those named in `others`, on recordings of normal sound; nothing is kept but what `work` holds.

    Args:
        asked: of these, method, values and backend are each candidate's own; without a rate `RATE`, or what few windows support.

    Raises:
        AuscultError: as of `fit`; a single recording; too few for the rate; faults of which none can be used.
    """
    asked = replace(asked, backend="")
    candidates = [(trial, checked(replace(asked, method=trial.method, values=trial.values))) for trial in light(others)]
    where = fault_files(folder, faults, asked.labels) if faults is not None or asked.labels is not None else None
    normals = gather(folder, work / "normal.s16", asked)
    windows = normals.windows
    known = gather_faults(*where, normals, asked.channel, work / "faults.s16") if where else None
    _thin(windows)
    fold, rate = _folds(normals, asked)
    asked = replace(asked, rate=rate)
    rng = np.random.default_rng(asked.seed)
    changed = np.sort(rng.permutation(len(windows.table))[:CHANGED])
    made = made_up(np.asarray(windows.audio[changed]), normals.sample_rate, asked.seed)
    parts = [windows.audio, *made.values(), *([known.audio] if known is not None else [])]
    audio = Audio(np.concatenate(parts), normals, work)
    owners = known.table["name"].to_numpy(str) if known is not None else np.empty(0, str)
    recordings = [np.flatnonzero(owners == name) for name in np.unique(owners)]
    trials = try_all(candidates, audio, fold, changed, recordings, asked)
    failed = {trial.name: trial.failed for trial in trials if trial.failed}
    trials = [trial for trial in trials if not trial.failed]
    if not trials:
        raise AuscultError(f"no method can be fitted to this: {'; '.join(failed.values())}", str(folder))
    return Comparison(normals, known, trials, failed, rate, fold, changed)


def _thin(windows: Windows) -> None:
    count = len(windows.table)
    if count > MOST:
        rows = np.linspace(0, count - 1, MOST).round().astype(int)
        windows.audio, windows.table = windows.audio[rows], windows.table.iloc[rows].reset_index(drop=True)
        windows.notes.append(f"{MOST} of {count} windows are used, drawn evenly, so that it takes minutes")


def _folds(normals: Normals, asked: FitSettings) -> tuple[np.ndarray, float]:
    """Which part of the recordings each window is left out with, of days (`one_mode`) whole ones, if there are three; and the
    rate that is asked for, or that so few windows support."""
    table = normals.windows.table
    owner = table["group"].to_numpy()
    recordings = len(np.unique(owner))
    if recordings < 2:
        what = "all windows are of one recording, so that nothing can be left out that the method did not hear"
        raise AuscultError(what, str(normals.folder), "record the machine again, on another day")
    days = [name.rpartition("/")[0] for name in table["name"]]
    whole = asked.one_mode and len(set(days)) >= 3
    most = len(set(days)) if whole else recordings
    for count in sorted({min(most, FOLDS), min(most, 2 * FOLDS), most}):
        fold = picking.folds(owner, days if whole else table["unit"].tolist(), count, whole, asked.seed)
        fewest = len(fold) - int(np.bincount(fold).max())
        if needed(rate_of(asked)) <= fewest:
            return fold, rate_of(asked)
    if asked.rate is None:
        return fold, 1 / (fewest + 1)
    what = f"{len(fold)} windows, a part of them left out, are too few for a rate of {asked.rate:g}"
    fix = f"record more normal sound, or compare at a higher rate (--rate {1.05 / (fewest + 1):.2g} or more)"
    raise AuscultError(what, str(normals.folder), fix)
