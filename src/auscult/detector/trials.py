"""The candidates of `auscult compare`, each fitted to a part of the windows and shown the others."""

from __future__ import annotations

import contextlib
import io
import shutil
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from auscult.data.pack import pack_windows
from auscult.data.parallel import in_threads
from auscult.detector.enough import RATE
from auscult.detector.fit import left_out, refitted, train
from auscult.detector.folder import metric_of
from auscult.detector.madeup import KINDS
from auscult.detector.network import embed
from auscult.detector.normals import Normals
from auscult.detector.recordings import quiet
from auscult.detector.settings import FitSettings
from auscult.detector.thresholds import quantile, require_different
from auscult.detector.verdict import Known, alikeness, anomalous, effective
from auscult.errors import AuscultError
from auscult.evaluation.metrics import Floats
from auscult.features import exact_spectrogram
from auscult.methods import METHODS, load_method
from auscult.methods.about import declared
from auscult.scoring.knn import nearest
from auscult.settings.training import MethodSettings
from auscult.training import modelfolder


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


def rate_of(asked: FitSettings) -> float:
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


class Audio:
    """Windows int16 [n, samples], the normal ones first, and their spectra, each computed when it is first needed."""

    def __init__(self, windows: np.ndarray, normals: Normals, folder: Path) -> None:
        self.windows, self.normals, self.folder = windows, normals, folder
        self._spectra: dict[str, np.ndarray] = {}

    def spectra(self, frontend: str) -> np.ndarray:
        """float32 [n, mels, frames], on the disk."""
        if frontend not in self._spectra:
            threads = torch.get_num_threads()
            torch.set_num_threads(1)  # window by window in threads of ours
            try:
                first = self._one(frontend, 0)
                shape = (len(self.windows), *first.shape)
                file = self.folder / f"{frontend}.npy"
                out = np.lib.format.open_memmap(file, "w+", np.float32, shape)

                def work(row: int) -> None:
                    out[row] = self._one(frontend, row)

                bar = tqdm(total=len(out), desc=f"spectra ({frontend})", unit="window", **quiet())
                with bar:
                    in_threads(work, range(len(out)), 0, bar)
            finally:
                torch.set_num_threads(threads)
            self._spectra[frontend] = out
        return self._spectra[frontend]

    def _one(self, frontend: str, row: int) -> np.ndarray:
        return exact_spectrogram(self.wave(slice(row, row + 1)), frontend, self.normals.sample_rate)[0]

    def wave(self, rows: slice | np.ndarray) -> np.ndarray:
        return self.windows[rows].astype(np.float32) * np.float32(1 / 32768)

    def pack(self, rows: np.ndarray, units: list[str], folder: Path, frontends: set[str]) -> None:
        """Pack some of them as `fit` does, to train on."""
        pack_windows(self.windows[rows], units, folder, self.normals.sample_rate, [])
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


def try_all(
    candidates: Sequence[tuple[Trial, MethodSettings]], audio: Audio, fold: np.ndarray, changed: np.ndarray,
    recordings: Sequence[np.ndarray], asked: FitSettings,
) -> list[Trial]:  # fmt: skip
    """Every candidate on all parts.

    Args:
        recordings: places of each fault's windows among those of all.
    """
    units, n, m = audio.normals.windows.table["unit"].to_numpy(str), len(fold), len(changed)
    fronts = {load_method(settings.method).mel(settings) for _, settings in candidates} - {""}
    for frontend in sorted(fronts):
        audio.spectra(frontend)
    made = n + np.arange(len(KINDS) * m).reshape(len(KINDS), m)
    faults = np.arange(n + made.size, len(audio.windows))
    parts = int(fold.max()) + 1
    for trial, _ in candidates:
        trial.normal, trial.changed = np.full(n, np.nan), np.full(made.shape, np.nan)
        trial.faults = np.full((parts + 1, len(faults)), np.nan)
        trial.found = np.zeros((parts + 1, len(recordings)), bool)
    packed = audio.folder / "packed"
    rounds = [*range(parts), *([parts] if len(faults) else [])]  # the last one leaves nothing out
    with tqdm(total=len(rounds) * len(candidates), desc="compare", unit="fit", file=sys.stderr, **quiet()) as bar:
        for part in rounds:
            rows = np.flatnonzero(fold != part)
            audio.pack(rows, units[rows].tolist(), packed, fronts)
            for trial, settings in candidates:
                if not trial.failed:
                    try:
                        with contextlib.redirect_stderr(io.StringIO()):  # what each training says, dozens of times
                            fitted = _Fitted(trial, settings, audio, rows, asked)
                            out = np.flatnonzero(fold == part)
                            trial.normal[out] = fitted.score(out)
                            mine = np.isin(changed, out)
                            trial.changed[:, mine] = fitted.score(made[:, mine].ravel()).reshape(len(KINDS), -1)
                            trial.faults[part] = fitted.score(faults)
                            trial.found[part] = [fitted.finds(trial.faults[part, mine]) for mine in recordings]
                    except AuscultError as error:
                        trial.failed = error.what
                bar.update()
            shutil.rmtree(packed)
    return [trial for trial, _ in candidates]


class _Fitted:
    """A candidate that was fitted to the packed windows, which are `rows`."""

    def __init__(
        self, trial: Trial, settings: MethodSettings, audio: Audio, rows: np.ndarray, asked: FitSettings
    ) -> None:
        started = time.monotonic()
        normals, packed = audio.normals, audio.folder / "packed"
        self.audio, self.k, table = audio, asked.k, normals.windows.table.iloc[rows]
        model, states = audio.folder / "model", audio.folder / "states"
        shutil.rmtree(states, ignore_errors=True)
        self.trained, self.backend = train(packed, model, states, settings, asked, "")
        shutil.rmtree(model)
        self.vectors, own = audio.embed(self.trained, rows)
        if self.backend == "native" and not settings.trained:
            units, frontends = table["unit"].to_numpy(str), {self.trained.method.mel(settings)} - {""}
            normal = refitted(
                table,
                lambda chosen, place: audio.pack(rows[chosen], units[chosen].tolist(), place, frontends),
                lambda again, chosen: audio.embed(again, rows[chosen])[1],
                audio.folder / "part", settings, asked,
            )  # fmt: skip
        else:
            normal = left_out(self.vectors, own, self.trained, self.backend, table, normals.samples, asked.k)
        require_different(normal, str(normals.folder), self.backend)
        rate = rate_of(asked)
        self.threshold = quantile(normal, rate)
        self.normal = np.sort(normal) - self.threshold
        group = table["group"].to_numpy()
        alike = alikeness(normal, group)
        self.known = Known(rate, len(rows), effective(len(rows), len(np.unique(group)), alike), alike)
        trial.backend, trial.seconds = self.backend, time.monotonic() - started
        if not trial.hour:
            few = audio.wave(rows[:8])
            started = time.monotonic()
            self._of(*embed(self.trained, few))
            trial.hour = (time.monotonic() - started) / len(few) * 2 * 3600 * normals.sample_rate / normals.samples

    def score(self, rows: np.ndarray) -> Floats:
        """Scores minus threshold of any windows."""
        return self._of(*self.audio.embed(self.trained, rows)) if len(rows) else np.empty(0)

    def _of(self, embeddings: np.ndarray, own: np.ndarray) -> Floats:
        if self.backend == "native":
            return own - self.threshold
        return nearest(self.vectors, embeddings, self.k, metric_of(self.backend)) - self.threshold

    def finds(self, scores: Floats) -> bool:
        """Whether `score` would call a recording with these scores, minus the threshold, anomalous."""
        return anomalous(scores[scores > 0], len(scores), len(scores), self.normal, self.known)
