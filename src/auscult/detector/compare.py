"""Which method to fit: the light ones, each tried on recordings that it did not hear.

A fifth of the recordings is left out, every candidate learns the others and sets its threshold as `fit` does, and is shown what
was left out, that with made-up changes (madeup.py), and the known faults if there are any; five times. Every window is decoded
once, and every spectrum computed once for all candidates that hear it. What to take is picking.py's.
"""

from __future__ import annotations

import contextlib
import io
import shutil
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from tqdm import tqdm

from auscult.data.pack import pack_windows
from auscult.data.parallel import in_threads
from auscult.detector import picking
from auscult.detector.enough import RATE
from auscult.detector.fit import FitSettings, checked, left_out, refitted, train
from auscult.detector.folder import embed, metric_of
from auscult.detector.known import fault_files, gather_faults
from auscult.detector.madeup import KINDS, made_up
from auscult.detector.normals import Normals, gather
from auscult.detector.recordings import quiet
from auscult.detector.thresholds import needed, quantile, require_different
from auscult.detector.verdict import Known, alikeness, anomalous, effective
from auscult.detector.windows import Windows
from auscult.errors import AuscultError
from auscult.evaluation.intervals import auc_limit
from auscult.evaluation.metrics import Floats
from auscult.features import exact_spectrogram
from auscult.methods import METHODS, load_method
from auscult.methods.about import declared
from auscult.scoring.knn import nearest
from auscult.settings.training import MethodSettings
from auscult.training import modelfolder

FOLDS = 5
CHANGED = 60
"""Windows that are changed, at most."""
MOST = 1000
"""Normal windows, at most: three hours of ten seconds. Of more, these are drawn evenly, so that it takes minutes."""


@dataclass
class Trial:
    """A candidate and what it did. Scores are minus the threshold of the model that gave them: above 0 is an alarm.

    Attributes:
        method, values, backend: as `FitSettings` has them.
        normal: float64 [n], each normal window by the model that did not hear its recording.
        changed: float64 [kinds, m], made-up changes by the same.
        faults: float64 [folds + 1, f], windows of faults by every model; the last one heard all normal recordings, as `fit`'s.
        found: bool [folds + 1, recordings], which faults `score` would call anomalous.
        failed: why it cannot be trained ("" = it can).
        seconds: of training once; hour: seconds to score an hour.
    """

    method: str
    values: Mapping[str, Any]
    backend: str = ""
    normal: Floats = field(default_factory=lambda: np.empty(0))
    changed: Floats = field(default_factory=lambda: np.empty((0, 0)))
    faults: Floats = field(default_factory=lambda: np.empty((0, 0)))
    found: np.ndarray = field(default_factory=lambda: np.empty((0, 0), bool))
    failed: str = ""
    seconds: float = 0.0
    hour: float = 0.0

    @property
    def name(self) -> str:
        """The method, and what is set of it.

        >>> Trial("spectral_knn", {"pooling": ["max"]}).name
        'spectral_knn pooling=[max]'
        """
        return " ".join([self.method, *(f"{key}={written(value)}" for key, value in self.values.items())])


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
        share = np.array([float((trial.normal > 0).mean()) for trial in trials])
        limits = [picking.wilson(each, recordings) for each in share]
        usable = np.array([low <= self.rate for low, _ in limits])
        before = np.array([trial.normal[self.changed] <= 0 for trial in trials])
        noticed = np.array([trial.changed > 0 for trial in trials])
        rows = [
            Row(trial.name, each, limit, bool(holds), dict(zip(KINDS, picking.shares(*seen).tolist(), strict=True)))
            for trial, each, limit, holds, seen in zip(
                trials, share, limits, usable, zip(noticed, before, strict=True), strict=True
            )
        ]
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
    candidates = [(trial, checked(replace(asked, method=trial.method, values=trial.values))) for trial in light(others)]
    where = fault_files(folder, faults, asked.labels) if faults is not None or asked.labels is not None else None
    normals = gather(
        folder, work / "normal.s16", asked.seconds, asked.sample_rate, asked.channel, asked.one_mode, asked.labels
    )
    windows = normals.windows
    known = gather_faults(*where, normals, asked.channel, work / "faults.s16") if where else None
    _thin(windows)
    fold, rate = _folds(normals, asked)
    asked = replace(asked, rate=rate)
    rng = np.random.default_rng(asked.seed)
    changed = np.sort(rng.permutation(len(windows.table))[:CHANGED])
    made = made_up(np.asarray(windows.audio[changed]), normals.sample_rate, asked.seed)
    parts = [windows.audio, *made.values(), *([known.audio] if known is not None else [])]
    heard = _Heard(np.concatenate(parts), normals.sample_rate, work)
    owners = known.table["name"].to_numpy(str) if known is not None else np.empty(0, str)
    recordings = [np.flatnonzero(owners == name) for name in np.unique(owners)]
    trials = _try_all(candidates, heard, normals, fold, changed, recordings, asked)
    failed = {trial.name: trial.failed for trial in trials if trial.failed}
    trials = [trial for trial in trials if not trial.failed]
    if not trials:
        raise AuscultError(f"no method can be fitted to this: {'; '.join(failed.values())}", str(folder))
    return Comparison(normals, known, trials, failed, rate, fold, changed)


def wanted(asked: FitSettings) -> float:
    """The rate of false alarms."""
    return RATE if asked.rate is None else asked.rate


def light(others: Sequence[str] = ()) -> list[Trial]:
    """The candidates: what each method's file declares under `compare`, and `others` as they are by default."""
    found = [Trial(method, values) for method in METHODS for values in declared(method).get("compare", [])]
    return [*found, *(Trial(method, {}) for method in others if not any(t.name == method for t in found))]


def written(value: Any) -> str:
    """A value as `--set` reads it.

    >>> written(["mean", "max"]), written(0.5)
    ('[mean,max]', '0.5')
    """
    return f"[{','.join(map(written, value))}]" if isinstance(value, (list, tuple)) else str(value)


# ----------------------------------------------------------------------------------------------------------------- trying
class _Heard:
    """Windows int16 [n, samples], and their spectra, each computed at the first wish."""

    def __init__(self, audio: np.ndarray, sample_rate: int, folder: Path) -> None:
        self.audio, self.sample_rate, self.folder = audio, sample_rate, folder
        self._spectra: dict[str, np.ndarray] = {}

    def spectra(self, frontend: str) -> np.ndarray:
        """float32 [n, mels, frames], on the disk."""
        if frontend not in self._spectra:
            threads = torch.get_num_threads()
            torch.set_num_threads(1)  # window by window in threads of ours
            try:
                first = self._one(frontend, 0)
                shape = (len(self.audio), *first.shape)
                file = self.folder / f"{frontend}.npy"
                out = np.lib.format.open_memmap(file, "w+", np.float32, shape)

                def work(row: int) -> None:
                    out[row] = self._one(frontend, row)

                bar = tqdm(total=len(out), desc=f"hear ({frontend})", unit="window", **quiet())
                with bar:
                    in_threads(work, range(len(out)), 0, bar)
            finally:
                torch.set_num_threads(threads)
            self._spectra[frontend] = out
        return self._spectra[frontend]

    def _one(self, frontend: str, row: int) -> np.ndarray:
        wave = torch.from_numpy(self.wave(slice(row, row + 1)))
        found: np.ndarray = exact_spectrogram(wave, frontend, self.sample_rate)[0].numpy()
        return found

    def wave(self, rows: slice | np.ndarray) -> np.ndarray:
        return self.audio[rows].astype(np.float32) * np.float32(1 / 32768)

    def pack(self, rows: np.ndarray, units: list[str], folder: Path, frontends: set[str]) -> None:
        """Pack some of them as `fit` does, to train on."""
        pack_windows(self.audio[rows], units, folder, self.sample_rate, [])
        for frontend in frontends:
            (folder / frontend).mkdir()
            np.save(folder / frontend / "machine.npy", self.spectra(frontend)[rows])

    def embed(self, trained: modelfolder.Trained, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        frontend = trained.method.mel(trained.settings)
        parts = [
            embed(trained, self.wave(part), self.spectra(frontend)[part] if frontend else None)
            for part in np.split(rows, range(64, len(rows), 64))
        ]
        vectors, own = (np.concatenate(each) for each in zip(*parts, strict=True))
        return vectors, own


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
        if needed(wanted(asked)) <= fewest:
            return fold, wanted(asked)
    if asked.rate is None:
        return fold, 1 / (fewest + 1)
    what = f"{len(fold)} windows, a part of them left out, are too few for a rate of {asked.rate:g}"
    fix = f"record more normal sound, or compare at a higher rate (--rate {1.05 / (fewest + 1):.2g} or more)"
    raise AuscultError(what, str(normals.folder), fix)


def _try_all(
    candidates: Sequence[tuple[Trial, MethodSettings]],
    heard: _Heard,
    normals: Normals,
    fold: np.ndarray,
    changed: np.ndarray,
    recordings: Sequence[np.ndarray],
    asked: FitSettings,
) -> list[Trial]:
    """Every candidate on all parts.

    Args:
        recordings: places of each fault's windows among those of all.
    """
    units, n, m = normals.windows.table["unit"].to_numpy(str), len(fold), len(changed)
    fronts = {load_method(settings.method).mel(settings) for _, settings in candidates} - {""}
    for frontend in sorted(fronts):
        heard.spectra(frontend)
    made = n + np.arange(len(KINDS) * m).reshape(len(KINDS), m)
    faults = np.arange(n + made.size, len(heard.audio))
    parts = int(fold.max()) + 1
    for trial, _ in candidates:
        trial.normal, trial.changed = np.full(n, np.nan), np.full(made.shape, np.nan)
        trial.faults, trial.found = (
            np.full((parts + 1, len(faults)), np.nan),
            np.zeros((parts + 1, len(recordings)), bool),
        )
    packed = heard.folder / "packed"
    rounds = [*range(parts), *([parts] if len(faults) else [])]  # the last one leaves nothing out
    with tqdm(total=len(rounds) * len(candidates), desc="compare", unit="fit", file=sys.stderr, **quiet()) as bar:
        for part in rounds:
            rows = np.flatnonzero(fold != part)
            heard.pack(rows, units[rows].tolist(), packed, fronts)
            for trial, settings in candidates:
                if not trial.failed:
                    try:
                        with contextlib.redirect_stderr(io.StringIO()):  # what each training says, dozens of times
                            learnt = _Learnt(trial, settings, heard, normals, rows, packed, asked)
                            out = np.flatnonzero(fold == part)
                            trial.normal[out] = learnt.score(out)
                            mine = np.isin(changed, out)
                            trial.changed[:, mine] = learnt.score(made[:, mine].ravel()).reshape(len(KINDS), -1)
                            trial.faults[part] = learnt.score(faults)
                            trial.found[part] = [learnt.finds(trial.faults[part, mine]) for mine in recordings]
                    except AuscultError as error:
                        trial.failed = error.what
                bar.update()
            shutil.rmtree(packed)
    return [trial for trial, _ in candidates]


class _Learnt:
    """A candidate that has learnt the packed windows, which are `rows`."""

    def __init__(
        self,
        trial: Trial,
        settings: MethodSettings,
        heard: _Heard,
        normals: Normals,
        rows: np.ndarray,
        packed: Path,
        asked: FitSettings,
    ) -> None:
        started = time.monotonic()
        self.heard, self.k, table = heard, asked.k, normals.windows.table.iloc[rows]
        model, states = heard.folder / "model", heard.folder / "states"
        shutil.rmtree(states, ignore_errors=True)
        self.trained, self.backend = train(packed, model, states, settings, asked, "")
        shutil.rmtree(model)
        self.vectors, own = heard.embed(self.trained, rows)
        if self.backend == "native" and not settings.trained:
            units, frontend = table["unit"].to_numpy(str), self.trained.method.mel(settings)

            def fit_to(chosen: np.ndarray) -> Callable[[np.ndarray], Floats]:
                place = heard.folder / "part"
                shutil.rmtree(place, ignore_errors=True)
                heard.pack(rows[chosen], units[chosen].tolist(), place / "train", {frontend} - {""})
                again, _ = train(place / "train", place / "model", place / "states", settings, asked, "")
                return lambda out: heard.embed(again, rows[out])[1]

            normal = refitted(table["group"].to_numpy(), units, fit_to, asked.seed)
        else:
            normal = left_out(self.vectors, own, self.trained, self.backend, table, normals.samples, asked.k)
        require_different(normal, str(normals.folder), distances=self.backend != "native")
        rate = wanted(asked)
        self.threshold = quantile(normal, rate)
        self.normal = np.sort(normal) - self.threshold
        group = table["group"].to_numpy()
        alike = alikeness(normal, group)
        self.known = Known(rate, len(rows), effective(len(rows), len(np.unique(group)), alike), alike)
        trial.backend, trial.seconds = self.backend, time.monotonic() - started
        if not trial.hour:
            few = heard.wave(rows[:8])
            started = time.monotonic()
            self._of(*embed(self.trained, few))
            trial.hour = (time.monotonic() - started) / len(few) * 2 * 3600 * normals.sample_rate / normals.samples

    def score(self, rows: np.ndarray) -> Floats:
        """Scores minus threshold of any windows."""
        return self._of(*self.heard.embed(self.trained, rows)) if len(rows) else np.empty(0)

    def _of(self, embeddings: np.ndarray, own: np.ndarray) -> Floats:
        if self.backend == "native":
            return own - self.threshold
        return nearest(self.vectors, embeddings, self.k, metric_of(self.backend)) - self.threshold

    def finds(self, scores: Floats) -> bool:
        """Whether `score` would call a recording with these scores, minus the threshold, anomalous."""
        return anomalous(scores[scores > 0], len(scores), len(scores), self.normal, self.known)
