"""A bundle on disk and in memory: the detector itself, and what is checked before it is used. bundle.py says what is in it."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import yaml
from safetensors import SafetensorError

from auscult.detector.stream import Channel
from auscult.detector.thresholds import By, Threshold, choose, p_values
from auscult.errors import AuscultError
from auscult.evaluation.metrics import Floats
from auscult.features.exact import exact_log_mel, make_exact
from auscult.files import atomic_file
from auscult.methods import METHODS
from auscult.methods.base import Batch, Shape
from auscult.settings.section import Section, validated
from auscult.training import modelfolder
from auscult.training.batches import Inputs

FORMAT = 1
BACKENDS = ("native", "knn_cosine", "knn_euclidean")
_MODEL = ("model/config.yaml", "model/history.csv", "model/weights.safetensors")
_CHUNK = 8
"""Windows computed at once: the spectra of more would not fit the processor's cache."""


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
    threshold: dict[str, Any]
    made_with: dict[str, str]
    training: dict[str, Any]
    files: dict[str, str]


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

    @property
    def threshold(self) -> float:
        return self.rule.value

    def embed(self, windows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Embeddings float32 [n, D] and own scores float64 [n] (NaN where the method has none) of windows [n, window]."""
        return embed(self.trained, windows)

    def scores(self, windows: np.ndarray) -> Floats:
        """Scores float64 [n], higher = more anomalous, of windows float32 [n, window] in [-1, 1).

        Raises:
            AuscultError: windows of another length.
        """
        if windows.ndim != 2 or windows.shape[1] != self.window:
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


def embed(trained: modelfolder.Trained, windows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Embeddings float32 [n, D] and own scores float64 [n] (NaN: the method has none) of windows float32 [n, samples].

    Nobody says in which mode of operation a window was recorded, so that every class is a candidate.
    """
    (network,) = trained.networks.values()
    (shape,) = trained.shapes.values()
    inputs = Inputs.of(trained.method, trained.settings)
    vectors, scores = [np.empty((0, 1), np.float32)], []
    with torch.inference_mode():
        for part in torch.from_numpy(np.ascontiguousarray(windows, np.float32)).split(_CHUNK):
            vector, own = network.embed(_batch(part, inputs, shape))
            vectors.append(vector.float().numpy())
            scores.append(own["native"].double().numpy() if "native" in own else np.full(len(part), np.nan))
    return np.concatenate(vectors[1:] or vectors), np.concatenate(scores) if scores else np.empty(0)


def _batch(windows: torch.Tensor, inputs: Inputs, shape: Shape) -> Batch:
    return inputs.batch(
        wave=lambda: windows,
        mel=lambda frontend: exact_log_mel(windows, frontend, shape.sample_rate),
        candidates=torch.ones(len(windows), shape.classes, dtype=torch.bool),
    )


def load(folder: Path) -> Bundle:
    """A bundle, after all its digests have been compared.

    Raises:
        AuscultError: no bundle, one of another format, or one that is not as it was written; a checkpoint it needs is missing.
    """
    manifest = _manifest(folder)
    _check_files(folder, manifest)
    where = str(folder)
    try:
        config = yaml.safe_load((folder / "model" / "config.yaml").read_text(encoding="utf-8"))
        if config["settings"]["method"] != manifest.method or list(config["networks"]) not in (["all"], ["machine"]):
            raise ValueError("model and bundle.yaml disagree")
        shape = next(iter(config["networks"].values()))["shape"]
        if (shape["samples"], shape["sample_rate"]) != (manifest.window, manifest.sample_rate):
            raise ValueError("the model hears another window than bundle.yaml says")
        trained = load_network(folder / "model")
        normal = _array(folder / "normal.npy", np.float64, 1)
        native = manifest.backend == "native"
        reference = np.empty((0, 0), np.float32) if native else _array(folder / "reference.npy", np.float32, 2)
        rule = Threshold(**manifest.threshold)
        if not re.fullmatch(r"[\w.-]{1,100}", manifest.name) or type(rule.value) is not float:
            raise ValueError("its name is no name, or its threshold no number")
        if not np.isfinite(float(rule.value)) or len(normal) < 2 or (not native and len(reference) != len(normal)):
            raise ValueError("the threshold or the normal scores are not usable")
    except (KeyError, TypeError, ValueError, AttributeError, RuntimeError, SafetensorError, yaml.YAMLError) as error:
        what = f"the bundle is whole, but its content makes no sense ({error})"
        raise AuscultError(what, where, "fit it again") from None
    return Bundle(
        folder, manifest.name, manifest.method, manifest.backend, manifest.k, manifest.sample_rate, manifest.window,
        manifest.hop, manifest.channel, rule, normal, reference, trained, manifest.model_dump(),
    )  # fmt: skip


def load_network(folder: Path) -> modelfolder.Trained:
    """A trained network as a bundle uses it: branches merged, spectra in float64."""
    trained = modelfolder.load(folder)
    encoder = getattr(trained.settings, "encoder", None)
    for network in trained.networks.values():
        network.merge()
        if encoder is not None:
            make_exact(network, encoder.name)
    return trained


def set_threshold(folder: Path, rate: float, by: By | None = None) -> Threshold:
    """Choose a bundle's threshold anew, from its left-out scores; bundle.yaml is replaced as a whole.

    Raises:
        AuscultError: see `load` and `thresholds.choose`.
    """
    manifest = _manifest(folder)
    _check_files(folder, manifest)
    found = choose(_array(folder / "normal.npy", np.float64, 1), rate, by)
    write_manifest(folder / "bundle.yaml", {**manifest.model_dump(), "threshold": asdict(found)})
    return found


def write_manifest(path: Path, facts: Mapping[str, Any]) -> None:
    text = yaml.safe_dump(dict(facts), sort_keys=False, allow_unicode=True)
    with atomic_file(path) as part:
        part.write_bytes(f"{text}sha256: {hashlib.sha256(text.encode()).hexdigest()}\n".encode())


def _manifest(folder: Path) -> _Manifest:
    path = folder / "bundle.yaml"
    if not path.is_file() or path.is_symlink():
        raise AuscultError("there is no bundle here", str(folder), "make one: auscult fit RECORDINGS -o BUNDLE")
    content = path.read_bytes()
    text, mark, digest = content.rpartition(b"sha256: ")
    try:
        facts = yaml.safe_load(text)
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError):
        facts = None
    if isinstance(facts, dict) and facts.get("format", FORMAT) != FORMAT:
        what = f"a bundle of format {facts['format']}, and this version of auscult reads format {FORMAT}"
        raise AuscultError(what, str(folder), "use the version of auscult that made it, or fit it again")
    if not mark or digest.strip() != hashlib.sha256(text).hexdigest().encode():
        fix = "fit it again or copy it again; a threshold is set by `auscult threshold`"
        raise AuscultError("bundle.yaml is not as it was written", str(folder), fix)
    manifest = validated(_Manifest, facts, str(path))
    sizes = (manifest.k, manifest.sample_rate, manifest.window, manifest.hop)
    if manifest.method not in METHODS or set(manifest.files) != set(file_names(manifest.backend)) or min(sizes) < 1:
        what = "bundle.yaml names a method, files or sizes that no bundle has"
        raise AuscultError(what, str(folder), "fit it again; do not use a bundle from a source you doubt")
    return manifest


def file_names(backend: str) -> tuple[str, ...]:
    """Every file of a bundle but bundle.yaml. Nothing else is opened, whatever a manifest says."""
    return (*_MODEL, "normal.npy") if backend == "native" else (*_MODEL, "normal.npy", "reference.npy")


def _check_files(folder: Path, manifest: _Manifest) -> None:
    there = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if not _is_folder(path)}
    there = {name: path for name, path in there.items() if not re.fullmatch(r"\.bundle\.\d+\.part\.yaml", name)}
    problems = [f"{name} is missing" for name in manifest.files if name not in there]
    problems += [f"{name} was added" for name in sorted(there) if name not in {*manifest.files, "bundle.yaml"}]
    for name, digest in manifest.files.items():
        if name in there and (there[name].is_symlink() or sha256_of(there[name]) != digest):
            problems.append(f"{name} was changed")
    if problems:
        what = f"the bundle is not as it was written: {'; '.join(problems[:5])}"
        raise AuscultError(what, str(folder), "copy it again from where it was made, or fit it again")


def _is_folder(path: Path) -> bool:
    return path.is_dir() and not path.is_symlink()


def _array(path: Path, dtype: type[np.generic], dimensions: int) -> np.ndarray:
    array = np.load(path, allow_pickle=False)
    if array.dtype != dtype or array.ndim != dimensions or not np.isfinite(array).all():
        raise ValueError(f"{path.name} is no array of {dimensions} dimension(s) of finite {np.dtype(dtype).name}")
    return np.asarray(array)


def sha256_of(path: Path) -> str:
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def metric_of(backend: str) -> Literal["cosine", "euclidean"]:
    return "cosine" if backend == "knn_cosine" else "euclidean"
