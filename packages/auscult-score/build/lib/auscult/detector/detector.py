"""`from auscult import Detector`: a bundle in Python, for files and for arrays.

```python
d = Detector.fit("normal/")            # or Detector.load("pump.bundle")
d.score("today.wav").verdict           # "normal", "ANOMALOUS" or "check recording"
```

`score` is that of the whole project: higher = more anomalous. Where scikit-learn has a convention, the method of that name
follows it, and there the sign is the other one: `score_samples` and `decision_function` are higher for *more normal* sound,
`predict` gives 1 for normal sound and -1 for all else.
"""

from __future__ import annotations

import json
import shutil
import weakref
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeGuard

import numpy as np
import soundfile

from auscult.detector.arrays import Sound
from auscult.detector.fit import fit, name_of
from auscult.detector.folder import Bundle, facts_with, load
from auscult.detector.manifest import file_names, write_manifest
from auscult.detector.places import require_new_bundle
from auscult.detector.score import FileScore, curve, score_file
from auscult.detector.settings import FitSettings
from auscult.detector.stream import recordings
from auscult.detector.thresholds import By, choose
from auscult.errors import AuscultError
from auscult.evaluation.metrics import Floats
from auscult.files import atomic_folder

Source = str | Path | np.ndarray
"""A recording: a file, or its samples, [samples] or [samples, channels], int16 or floating point in [-1, 1)."""


class Detector:
    """A detector for one machine.

    Attributes:
        bundle: what it consists of, see `folder.Bundle`.
    """

    def __init__(self, bundle: Bundle) -> None:
        self.bundle = bundle

    @classmethod
    def fit(
        cls,
        normal: str | Path | Sequence[np.ndarray],
        out: str | Path | None = None,
        *,
        sample_rate: int = 0,
        force: bool = False,
        settings: FitSettings | None = None,
        **keywords: Any,
    ) -> Detector:
        """Fit to normal sound: `Detector.fit("normal/", method="ae", rate=0.05)`.

        Args:
            normal: folder of recordings, or arrays, each a recording.
            out: bundle to write; None = in a folder that vanishes with the detector (`save` keeps it).
            sample_rate: Hz, of the arrays; of a folder, whose recordings say theirs, that of the windows as in `FitSettings`.
            force: take the place of a bundle that is there.
            settings, keywords: fields of `FitSettings`; keywords change `settings`. `settings.sample_rate` is of the windows.

        Raises:
            AuscultError: see `fit.fit`; a keyword that is no field.
        """
        known = FitSettings.__dataclass_fields__
        if unknown := [name for name in keywords if name not in known]:
            raise AuscultError(f"`{unknown[0]}` is no setting", fix=f"use: {', '.join(known)}")
        asked = replace(settings or FitSettings(), **keywords)
        temporary = None
        if out is None:
            temporary = TemporaryDirectory(prefix="auscult-")
            out = Path(temporary.name) / "detector"
        if isinstance(normal, (str, Path)):
            made = fit(normal, out, replace(asked, sample_rate=sample_rate or asked.sample_rate), force)
        else:
            with TemporaryDirectory(prefix="auscult-") as folder:
                for number, each in enumerate(normal):
                    sound = Sound(each, sample_rate, f"array {number}")
                    kind = "PCM_16" if sound.exact else "FLOAT"
                    file = Path(folder) / f"array {number:06d}.wav"
                    soundfile.write(
                        file, sound.read(sound.frames, "int16" if sound.exact else "float32"), sound.rate, kind
                    )
                made = fit(folder, out, asked, force)
        detector = cls(made)
        if temporary is not None:
            weakref.finalize(detector, temporary.cleanup)
        return detector

    @classmethod
    def load(cls, folder: str | Path) -> Detector:
        """A bundle that is there; errors as of `folder.load`."""
        return cls(load(folder))

    def save(self, out: str | Path, force: bool = False) -> None:
        """Write it as a bundle, with the threshold that it has now.

        Args:
            force: take the place of a bundle that is there.

        Raises:
            AuscultError: something is there; the folder that it was loaded from was changed.
        """
        out, bundle = Path(out), self.bundle
        require_new_bundle(out, force)
        with atomic_folder(out) as part:
            (part / "model").mkdir()
            for name in file_names(bundle.backend):
                shutil.copyfile(bundle.folder / name, part / name)
            write_manifest(part / "bundle.yaml", {**facts_with(bundle, bundle.rule), "name": name_of(out)})
            load(part)

    # ----------------------------------------------------------------------------------------------------------- scores
    def score(self, recording: Source | Sequence[Source], sample_rate: int = 0) -> FileScore | list[FileScore]:
        """What it says of a recording; of a folder or a list of recordings, a list.

        Args:
            sample_rate: of arrays, Hz; 0 = the bundle's. Files say theirs.

        Raises:
            AuscultError: it cannot be read or judged; see `score.score_file`.
        """
        if _is_array(recording) or (isinstance(recording, (str, Path)) and not Path(recording).is_dir()):
            return score_file(self.bundle, self._source(recording, sample_rate, "array"))
        return self._all(recording, sample_rate)

    def curve(self, recording: Source, sample_rate: int = 0) -> tuple[Floats, Floats]:
        """(start in seconds [n], scores [n]) of the windows of a recording; NaN where one is not judged."""
        return curve(self.bundle, self._source(recording, sample_rate, "array"))

    def score_samples(self, recordings: Source | Sequence[Source], sample_rate: int = 0) -> Floats:
        """Minus the score of each recording, float64 [n]: higher = more normal, as in scikit-learn.

        Args:
            recordings: a list of files and arrays, a folder, or an array [n, samples] whose rows are recordings.
        """
        return -np.array([each.score for each in self._all(recordings, sample_rate)])

    def decision_function(self, recordings: Source | Sequence[Source], sample_rate: int = 0) -> Floats:
        """How far below the threshold the most anomalous window of each recording is, float64 [n]; negative = above it."""
        return self.threshold + self.score_samples(recordings, sample_rate)

    def predict(self, recordings: Source | Sequence[Source], sample_rate: int = 0) -> np.ndarray:
        """int64 [n]: 1 where the verdict is `normal`, else -1.

        A verdict knows more than the sign of `decision_function`: of the level, of silence, of how many windows there are.
        """
        normal = [each.verdict == "normal" for each in self._all(recordings, sample_rate)]
        return np.where(normal, 1, -1)

    def _all(self, some: Source | Sequence[Source], sample_rate: int) -> list[FileScore]:
        found: list[FileScore] = []
        for number, each in enumerate([some] if isinstance(some, (str, Path)) else some):
            if isinstance(each, (str, Path)):
                found += [score_file(self.bundle, path) for path in recordings([each])]
            else:
                found.append(score_file(self.bundle, self._source(each, sample_rate, f"array {number}")))
        return found

    def _source(self, recording: Source, sample_rate: int, name: str) -> Path | Sound:
        if isinstance(recording, (str, Path)):
            return Path(recording)
        if not _is_array(recording):
            raise AuscultError(f"{type(recording).__name__} is no recording", name, "give a path or an array")
        return Sound(recording, sample_rate or self.bundle.sample_rate, name)

    # -------------------------------------------------------------------------------------------------------- threshold
    @property
    def threshold(self) -> float:
        """Score above which a window is anomalous."""
        return self.bundle.threshold

    def set_threshold(self, rate: float, by: By | None = None) -> float:
        """Choose it anew, for a rate of false alarms per window: of this object. `save` writes it; the bundle on the disk that
        was loaded stays as it is (`auscult threshold` changes that)."""
        self.bundle = replace(self.bundle, rule=choose(self.bundle.normal, rate, by))
        return self.threshold

    def __repr__(self) -> str:
        made, seconds = self.bundle, self.bundle.window / self.bundle.sample_rate
        return (
            f"Detector({json.dumps(made.name)}: {made.method}, {len(made.normal)} normal windows of {seconds:g} s at "
            f"{made.sample_rate} Hz, threshold {made.threshold:.6g} at a rate of {made.rule.rate:g})"
        )


def _is_array(some: object) -> TypeGuard[np.ndarray]:
    return hasattr(some, "__array__")
