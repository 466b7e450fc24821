"""A bundle on disk and in memory: the detector itself, and what is checked before it is used. bundle.py says what is in it."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from itertools import islice
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import torch
import yaml
from pydantic import Field

from auscult.data.audio import Channel, printable
from auscult.detector.model import check_model, load_network
from auscult.detector.places import require_bundle
from auscult.detector.reading import digest_of, plain_yaml, read_array, read_bytes
from auscult.detector.signal import SignalRange
from auscult.detector.stream import long_enough
from auscult.detector.thresholds import By, Threshold, choose, p_values
from auscult.detector.verdict import Known
from auscult.errors import AuscultError
from auscult.evaluation.metrics import Floats
from auscult.features import exact_spectrogram, frames
from auscult.files import atomic_file
from auscult.methods import METHODS
from auscult.methods.base import Batch, Shape
from auscult.settings.section import Section, validated
from auscult.training import modelfolder
from auscult.training.batches import Inputs

FORMAT = 1
MOST_SAMPLES = 2**22
"""Of a window: more of them would take more than a gigabyte to score. 262 s at 16 kHz."""
MOST_ENTRIES = 500_000
"""Values in bundle.yaml, which holds a digest for each recording."""
MOST_BYTES = {
    "bundle.yaml": 2**24, "model/config.yaml": 2**22, "model/history.csv": 2**24, "model/weights.safetensors": 2**29,
    "normal.npy": 2**26, "reference.npy": 2**28,
}  # fmt: skip
"""Size of each file. The published encoders have 370 MB of weights; a day in windows of a second has 265 MB of embeddings."""
BACKENDS = ("native", "knn_cosine", "knn_euclidean")
_MODEL = ("model/config.yaml", "model/history.csv", "model/weights.safetensors")
_LEFTOVER = re.compile(r"\.bundle\.yaml\.[0-9a-f]{8}\.part|\.bundle\.\d+\.part\.yaml")
"""Of a call that was killed while it set the threshold."""
_CHUNK = 8
"""Windows computed at once: the spectra of more would not fit the processor's cache."""

_Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]


class _Manifest(Section):
    """bundle.yaml without its last line."""

    format: int
    name: str
    method: str
    backend: Literal["native", "knn_cosine", "knn_euclidean"]
    k: int
    sample_rate: int
    window: int
    hop: int
    channel: Literal["mean"] | int
    seed: int
    signal: SignalRange = SignalRange()
    threshold: dict[str, Any]
    made_with: dict[str, str]
    training: dict[str, Any]
    files: dict[str, str]
    effective: Annotated[float, Field(ge=0, le=1e9, allow_inf_nan=False)] = 0.0
    """As many independent left-out scores tell as much as these; 0 = as many as there are recordings."""
    alike: Annotated[tuple[tuple[Annotated[int, Field(ge=2)], _Share, _Share], ...], Field(max_length=64)] = ()
    """See `verdict.alikeness`."""


@dataclass
class Bundle:
    """A detector, verified and ready.

    Attributes:
        folder, name: where it lies, and what it is called.
        method, backend, k: what scores: the method's own score (`native`), or the mean distance to the k nearest windows.
        sample_rate: of the windows, Hz; window, hop: samples; channel: the one it listens to, or "mean".
        threshold: score above which a window is anomalous; `rule` says how it was found.
        normal: float64 [n], ascending: left-out scores of the normal windows.
        reference: float32 [n, D], embeddings of the normal windows; [0, 0] with backend `native`.
        trained: the network (`trained.networks` has one).
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
    trained: modelfolder.Trained
    facts: dict[str, Any] = field(default_factory=dict)
    signal: SignalRange = field(default_factory=SignalRange)

    @property
    def threshold(self) -> float:
        return self.rule.value

    @property
    def known(self) -> Known:
        count = len(self.normal)
        recordings = self.facts.get("training", {}).get("recordings", count)
        independent = self.facts.get("effective") or (recordings if type(recordings) is int else count)
        alike = tuple((int(windows), low, high) for windows, low, high in self.facts.get("alike", ()))
        return Known(self.rule.rate, count, float(min(max(independent, 1), count)), alike)

    @property
    def digest(self) -> str:
        """SHA-256 of all that decides its scores: two bundles of one digest score alike, whatever their names and thresholds."""
        named = ("method", "backend", "k", "sample_rate", "window", "hop", "channel", "signal", "files")
        return hashlib.sha256(
            json.dumps({name: self.facts[name] for name in named}, sort_keys=True).encode()
        ).hexdigest()

    def embed(self, windows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Embeddings float32 [n, D] and own scores float64 [n] (NaN where the method has none) of windows [n, window]."""
        return embed(self.trained, windows)

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
        from auscult.scoring.knn import nearest

        return nearest(self.reference, embeddings, self.k, metric_of(self.backend)) if len(embeddings) else np.empty(0)

    def p_values(self, scores: np.ndarray) -> Floats:
        """Share of normal windows that score at least as high, (1 + #) / (n + 1), float64 [n]."""
        return p_values(self.normal, scores)


def embed(
    trained: modelfolder.Trained, windows: np.ndarray, spectra: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Embeddings float32 [n, D] and own scores float64 [n] (NaN: the method has none) of windows float32 [n, samples].

    Nobody says in which mode of operation a window was recorded, so that every class is a candidate. Shorter windows are heard
    as long as they are where the method's `fill` is `none`. Otherwise they are mirrored at their end: a bundle is trained on
    whole windows alone, to which zeros or the click of a repetition would be as strange as a fault.

    Args:
        spectra: of whole windows, by the method's front-end, float32 [n, mels, frames], where they are known.
    """
    (network,) = trained.networks.values()
    (shape,) = trained.shapes.values()
    inputs = Inputs.of(trained.method, trained.settings)
    if windows.shape[1] < shape.samples and not _heard_alone(trained, windows.shape[1], shape):
        windows = np.pad(windows, ((0, 0), (0, shape.samples - windows.shape[1])), mode="symmetric")
    vectors, scores = [np.empty((0, 1), np.float32)], []
    with torch.inference_mode():
        for start in range(0, len(windows), _CHUNK):
            part = torch.from_numpy(np.ascontiguousarray(windows[start : start + _CHUNK], np.float32))
            known = None if spectra is None else torch.from_numpy(spectra[start : start + _CHUNK])
            vector, own = network.embed(_batch(part, inputs, shape, known))
            vectors.append(vector.float().numpy())
            scores.append(own["native"].double().numpy() if "native" in own else np.full(len(part), np.nan))
    return np.concatenate(vectors[1:] or vectors), np.concatenate(scores) if scores else np.empty(0)


def _heard_alone(trained: modelfolder.Trained, samples: int, shape: Shape) -> bool:
    """Whether a window of so many samples, fewer than the bundle's, is heard as long as it is."""
    settings, spectra = trained.settings, trained.method.mel(trained.settings)
    if settings.fill != "none" or not spectra:
        return bool(settings.fill == "none")
    return frames(samples, spectra) >= trained.method.window(settings, shape.frames)


def _batch(windows: torch.Tensor, inputs: Inputs, shape: Shape, spectra: torch.Tensor | None) -> Batch:
    return inputs.batch(
        wave=lambda: windows,
        mel=lambda name: exact_spectrogram(windows, name, shape.sample_rate) if spectra is None else spectra,
        candidates=torch.ones(len(windows), shape.classes, dtype=torch.bool),
    )


def load(folder: Path) -> Bundle:
    """A bundle, after all its digests have been compared, its sizes checked before anything is built, and one window tried.

    Raises:
        AuscultError: no bundle, one of another format, or one that is not as it was written; a checkpoint it needs is missing.
    """
    manifest = _manifest(folder)
    _check_files(folder, manifest)
    try:
        rule = _rule(manifest)
        normal = read_array(folder / "normal.npy", np.float64, 1, MOST_BYTES["normal.npy"])
        native = manifest.backend == "native"
        reference = np.empty((0, 0), np.float32)
        if not native:
            reference = read_array(folder / "reference.npy", np.float32, 2, MOST_BYTES["reference.npy"])
        if len(normal) < 2 or (not native and len(reference) != len(normal)):
            raise ValueError("the normal scores are not usable")
        check_model(folder / "model", manifest.method, manifest.window, manifest.sample_rate)
        made = Bundle(
            folder, manifest.name, manifest.method, manifest.backend, manifest.k, manifest.sample_rate, manifest.window,
            manifest.hop, manifest.channel, rule, normal, reference, load_network(folder / "model"), manifest.model_dump(),
            manifest.signal,
        )  # fmt: skip
        _try_window(made)
    except AuscultError:
        raise
    except Exception as error:  # of a file that anybody may have written: no kind of error can be left out
        what = f"the bundle is whole, but its content makes no sense ({type(error).__name__}: {str(error)[:300]})"
        raise AuscultError(what, str(folder), "fit it again") from None
    return made


def _rule(manifest: _Manifest) -> Threshold:
    rule = Threshold(**manifest.threshold)
    if type(rule.value) is not float or type(rule.rate) is not float or rule.by not in ("quantile", "gamma"):
        raise ValueError("its threshold is none")
    if not np.isfinite(rule.value) or not 0 < rule.rate < 1:
        raise ValueError("its threshold, or the rate of false alarms, is no such number")
    return rule


def _try_window(bundle: Bundle) -> None:
    """One window of noise has a finite score."""
    noise = np.random.default_rng(0).standard_normal((1, bundle.window)).astype(np.float32) * np.float32(0.1)
    embeddings, own = bundle.embed(noise)
    if bundle.backend != "native" and embeddings.shape[1] != bundle.reference.shape[1]:
        what = f"embeddings have {embeddings.shape[1]} dimensions, and those of the normal sound {bundle.reference.shape[1]}"
        raise ValueError(what)
    if not np.isfinite(embeddings).all() or not np.isfinite(bundle.of_embeddings(embeddings, own)).all():
        raise ValueError("a window of noise has no finite score")


def set_threshold(folder: Path, rate: float, by: By | None = None) -> Threshold:
    """Choose a bundle's threshold anew, from its left-out scores; bundle.yaml is replaced as a whole.

    Raises:
        AuscultError: see `load` and `thresholds.choose`.
    """
    made = load(folder)
    found = choose(made.normal, rate, by)
    write_manifest(folder / "bundle.yaml", {**made.facts, "threshold": asdict(found)})
    return found


def write_manifest(path: Path, facts: Mapping[str, Any]) -> None:
    text = yaml.safe_dump(_as_text(facts), sort_keys=False, allow_unicode=True)
    with atomic_file(path) as part:
        part.write_bytes(f"{text}sha256: {hashlib.sha256(text.encode()).hexdigest()}\n".encode())


def _as_text(value: Any) -> Any:
    """A file's name may be no text; then its bytes stand as `\\udcXX`."""
    if isinstance(value, str):
        return printable(value)
    if isinstance(value, Mapping):
        return {_as_text(key): _as_text(inside) for key, inside in value.items()}
    return value


def _manifest(folder: Path) -> _Manifest:
    path = folder / "bundle.yaml"
    require_bundle(folder)
    content = read_bytes(path, MOST_BYTES["bundle.yaml"])
    text, mark, digest = content.rpartition(b"sha256: ")
    whole = bool(mark) and digest.strip() == hashlib.sha256(text).hexdigest().encode()
    try:
        facts = plain_yaml(text, MOST_ENTRIES)
    except ValueError:
        facts = None
    if isinstance(facts, dict) and type(facts.get("format")) is int and facts["format"] != FORMAT:
        what = f"a bundle of format {str(facts['format'])[:20]}, and this version of auscult reads format {FORMAT}"
        raise AuscultError(what, str(folder), "use the version of auscult that made it, or fit it again")
    if not whole or not isinstance(facts, dict) or len(facts) > 100:
        fix = "fit it again or copy it again; a threshold is set by `auscult threshold`"
        raise AuscultError("bundle.yaml is not as it was written", str(folder), fix)
    manifest = validated(_Manifest, facts, str(path))
    if manifest.method not in METHODS or set(manifest.files) != set(file_names(manifest.backend)):
        what = "bundle.yaml names a method or files that no bundle has"
    elif not re.fullmatch(r"[\w.-]{1,100}", manifest.name):
        what = "the name in bundle.yaml is none"
    elif not (manifest.k > 0 < manifest.sample_rate < 10**8 and 0 < manifest.window <= MOST_SAMPLES):
        what = f"bundle.yaml names sizes that no bundle has: a window is {MOST_SAMPLES} samples long at most"
    elif manifest.hop != max(1, manifest.window // 2) or (manifest.channel != "mean" and manifest.channel < 0):
        what = "bundle.yaml names a hop or a channel that no bundle has"
    else:
        return manifest
    raise AuscultError(what, str(folder), "fit it again; do not use a bundle from a source you doubt")


def file_names(backend: str) -> tuple[str, ...]:
    """Every file of a bundle but bundle.yaml. Nothing else is opened, whatever a manifest says."""
    return (*_MODEL, "normal.npy") if backend == "native" else (*_MODEL, "normal.npy", "reference.npy")


def _check_files(folder: Path, manifest: _Manifest) -> None:
    wanted = {*manifest.files, "bundle.yaml"}
    problems = [f"{name} was added" for name in _names_in(folder) if name not in wanted]
    for name, digest in manifest.files.items():
        try:
            changed = digest_of(folder / name, MOST_BYTES[name]) != digest
        except (FileNotFoundError, NotADirectoryError):
            problems.append(f"{name} is missing")
        except (AuscultError, OSError) as error:
            problems.append(f"{name} was changed: {getattr(error, 'what', error)}")
        else:
            problems += [f"{name} was changed"] if changed else []
    if problems:
        what = f"the bundle is not as it was written: {'; '.join(problems[:5])}"
        raise AuscultError(what, str(folder), "copy it again from where it was made, or fit it again")


def _names_in(folder: Path) -> list[str]:
    """What lies in a bundle's two folders, sorted; more than a bundle can have is not listed to its end."""
    found = []
    for inside, prefix in ((folder, ""), (folder / "model", "model/")):
        if not inside.is_dir() or (prefix and inside.is_symlink()):
            found += [prefix.strip("/")] if os.path.lexists(inside) else []
            continue
        with os.scandir(inside) as entries:
            names = [entry.name for entry in islice(entries, 100)]
        found += [prefix + name for name in names if prefix or name != "model" if not _LEFTOVER.fullmatch(name)]
    return sorted(found)


def sha256_of(path: Path) -> str:
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def metric_of(backend: str) -> Literal["cosine", "euclidean"]:
    return "cosine" if backend == "knn_cosine" else "euclidean"
