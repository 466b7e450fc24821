"""A bundle on disk and in memory: the detector itself, and what is checked before it is used. bundle.py says what is in it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from auscult.data.audio import Channel
from auscult.detector.manifest import MOST_BYTES, Manifest, check_files, digest_of_scores, read_manifest, write_manifest
from auscult.detector.model import Model
from auscult.detector.reading import read_array
from auscult.detector.signal import SignalRange
from auscult.detector.stream import long_enough
from auscult.detector.thresholds import OF_RATE, By, Threshold, choose, notes_on, p_values
from auscult.detector.verdict import Known
from auscult.errors import AuscultError
from auscult.evaluation.metrics import Floats

if TYPE_CHECKING:
    from auscult.training.modelfolder import Trained


@dataclass
class Bundle:
    """A detector, verified and ready.

    Attributes:
        folder, name: where it lies, and what it is called.
        method, backend, k: what scores: the method's own score (`native`), or the mean distance to the k nearest windows.
        sample_rate: of the windows, Hz; window, hop: samples; channel: the one it listens to, or "mean".
        threshold: score above which a window is anomalous; `rule` says how it was found.
        normal: float64 [n], ascending: left-out scores of the normal windows.
        reference: float32 [n, D], embeddings of the normal windows and of false alarms taken in; [0, 0] with backend `native`.
        model: what computes embeddings and own scores.
        facts: the content of bundle.yaml.
        signal: gain, and what the training windows were like.
        known: what a verdict over many windows rests on.
    """

    folder: Path
    name: str
    method: str
    backend: str
    k: int
    sample_rate: int
    window: int
    hop: int
    channel: Channel
    rule: Threshold
    normal: np.ndarray
    reference: np.ndarray
    model: Model
    facts: dict[str, Any] = field(default_factory=dict)
    signal: SignalRange = field(default_factory=SignalRange)

    @property
    def threshold(self) -> float:
        return self.rule.value

    @property
    def trained(self) -> Trained:
        """The network (`trained.networks` has one)."""
        return self.model.trained

    @property
    def recordings(self) -> int:
        """How many the threshold comes from."""
        groups = {each["group"] for each in self.facts["references"] if not each["labelled"]}
        return len(groups) or int(self.facts["training"]["recordings"])

    @property
    def known(self) -> Known:
        count = len(self.normal)
        independent = float(min(max(self.facts["effective"] or self.recordings, 1), count))
        return Known(self.rule.rate, count, independent, tuple(self.facts["alike"]))

    @property
    def digest(self) -> str:
        """SHA-256 of all that decides its scores: two bundles of one digest score alike, whatever their names and thresholds."""
        return digest_of_scores(self.facts)

    def embed(self, windows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Embeddings float32 [n, D] and own scores float64 [n] (NaN where the method has none) of windows [n, window]."""
        return self.model.embed(windows)

    def scores(self, windows: np.ndarray) -> Floats:
        """Scores float64 [n], higher = more anomalous, of windows float32 [n, window] in [-1, 1); or a fiftieth shorter.

        Raises:
            AuscultError: windows of another length.
        """
        known = windows.ndim == 2 and windows.shape[1] <= self.window and long_enough(windows.shape[1], self.window)
        if not known:
            raise AuscultError(f"windows of shape {windows.shape}, and [n, {self.window}] is wanted", str(self.folder))
        return self.of_embeddings(*self.embed(windows))

    def of_embeddings(self, embeddings: np.ndarray, own: np.ndarray) -> Floats:
        """Scores float64 [n] from what `embed` gives."""
        if self.backend == "native":
            return own
        if not len(embeddings):
            return np.empty(0)
        if self.facts.get("knobs"):
            return self._fitted(embeddings)
        from auscult.scoring.knn import nearest

        return nearest(self.reference, embeddings, self.k, metric_of(self.backend))

    @cached_property
    def _fitted(self) -> Callable[[np.ndarray], Floats]:
        """A back-end other than those of `manifest.BACKENDS`."""
        from auscult.detector.backend import scorer

        return scorer(self.facts["knobs"], self.reference)

    def p_values(self, scores: np.ndarray) -> Floats:
        """Share of normal windows that score at least as high, (1 + #) / (n + 1), float64 [n]."""
        return p_values(self.normal, scores)


def load(folder: Path | str) -> Bundle:
    """A bundle, after all its digests have been compared, its sizes checked before anything is built, and one window tried.

    Raises:
        AuscultError: no bundle, one of another format, or one that is not as it was written; a checkpoint it needs is missing.
    """
    folder = Path(folder)
    manifest = read_manifest(folder)
    check_files(folder, manifest)
    try:
        normal = read_array(folder / "normal.npy", np.float64, 1, MOST_BYTES["normal.npy"])
        native = manifest.backend == "native"
        reference = np.empty((0, 0), np.float32)
        if not native:
            reference = read_array(folder / "reference.npy", np.float32, 2, MOST_BYTES["reference.npy"])
        _check_counts(manifest, len(reference), len(normal))
        model = Model(folder / "model", manifest.method, manifest.window, manifest.sample_rate)
        made = Bundle(
            folder, manifest.name, manifest.method, manifest.backend, manifest.k, manifest.sample_rate, manifest.window,
            manifest.hop, manifest.channel, manifest.rule, normal, reference, model, manifest.model_dump(), manifest.signal,
        )  # fmt: skip
        _try_window(made)
        if model.plain is not None and len(reference):
            model.plain = replace(model.plain, resting=reference[0])
    except AuscultError:
        raise
    except Exception as error:  # of a file that anybody may have written: no kind of error can be left out
        what = f"the bundle is whole, but its content makes no sense ({type(error).__name__}: {str(error)[:300]})"
        raise AuscultError(what, str(folder), "fit it again") from None
    return made


def _check_counts(manifest: Manifest, references: int, normal: int) -> None:
    held = [each.windows for each in manifest.references]
    labelled = sum(each.windows for each in manifest.references if each.labelled)
    if normal < 2 or (manifest.backend != "native" and references - labelled != normal):
        raise ValueError("the normal scores are not usable")
    if held and sum(held) != (references or normal):
        raise ValueError("its references are not of the recordings it names")


def _try_window(bundle: Bundle) -> None:
    """One window of noise has a finite score."""
    noise = np.random.default_rng(0).standard_normal((1, bundle.window)).astype(np.float32) * np.float32(0.1)
    embeddings, own = bundle.embed(noise)
    if bundle.backend != "native" and embeddings.shape[1] != bundle.reference.shape[1]:
        what = f"embeddings have {embeddings.shape[1]} dimensions, and those of the normal sound {bundle.reference.shape[1]}"
        raise ValueError(what)
    if not np.isfinite(embeddings).all() or not np.isfinite(bundle.of_embeddings(embeddings, own)).all():
        raise ValueError("a window of noise has no finite score")


def facts_with(bundle: Bundle, rule: Threshold) -> dict[str, Any]:
    """The content of bundle.yaml with another threshold, and with the notes that hold for it."""
    training = bundle.facts["training"]
    kept = [note for note in training["notes"] if not OF_RATE.match(note)]
    notes = [*kept, *notes_on(rule, bundle.recordings, len(bundle.normal))]
    return {**bundle.facts, "threshold": asdict(rule), "training": {**training, "notes": notes}}


def set_threshold(folder: Path | str, rate: float, by: By | None = None) -> Threshold:
    """Choose a bundle's threshold anew, from its left-out scores; bundle.yaml is replaced as a whole.

    Raises:
        AuscultError: see `load` and `thresholds.choose`.
    """
    made = load(folder)
    found = choose(made.normal, rate, by)
    write_manifest(made.folder / "bundle.yaml", facts_with(made, found))
    return found


def sha256_of(path: Path) -> str:
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def metric_of(backend: str) -> Literal["cosine", "euclidean"]:
    return "cosine" if backend == "knn_cosine" else "euclidean"


def z_scored(trained: Trained) -> bool:
    """Whether the method z-scores its embedding by the windows it is fitted to."""
    return any(getattr(network, "z_scored", False) for network in trained.networks.values())
