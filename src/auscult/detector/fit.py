"""Fit a detector to recordings of normal sound: cut them, train a method on the windows, and take a threshold from left-out
scores. bundle.py says what comes of it.
"""

from __future__ import annotations

import platform
import re
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from tqdm import tqdm

from auscult.data.pack import pack_windows
from auscult.detector.backend import knobs_of, notes_on_direction, notes_on_parts
from auscult.detector.enough import PARTS, cross_fitted, default_rate, notes_on_check, notes_on_time
from auscult.detector.folder import Bundle, load, sha256_of, z_scored
from auscult.detector.manifest import FORMAT, file_names, write_manifest
from auscult.detector.network import embed, load_network
from auscult.detector.normals import Normals, gather
from auscult.detector.picking import folds
from auscult.detector.places import require_new_bundle
from auscult.detector.recordings import quiet
from auscult.detector.references import References, stretches
from auscult.detector.settings import FitSettings, checked
from auscult.detector.thresholds import choose, notes_on, require_different, require_supported
from auscult.detector.verdict import alikeness, effective
from auscult.errors import AuscultError
from auscult.evaluation.metrics import Floats
from auscult.files import atomic_folder
from auscult.methods import load_method
from auscult.pipeline.inputs import training_code
from auscult.settings.training import MethodSettings, Train
from auscult.training import modelfolder
from auscult.training.resume import run_key


def fit(
    folder: Path | str,
    out: Path | str,
    settings: FitSettings | None = None,
    force: bool = False,
    listen: Callable[[Normals, Fitted], object] | None = None,
) -> Bundle:
    """Fit a detector to the recordings of normal sound below `folder` and write it into the folder `out`.

    Interrupted, the same call continues the training: its states are beside `out` (`.<name>.resume`) until the bundle is there.

    Recordings of any length, rate and format are cut into windows that do not overlap; what is left at an end is not used.
    Files of one folder are one unit (a mode of operation, a class for methods that tell classes apart).

    Args:
        force: take the place of a bundle that is there.
        listen: told of what a bundle does not keep, while it is there.

    Raises:
        AuscultError: `out` exists; recordings missing, unreadable, silent, too short, too few or all alike; a method that
            cannot be trained on them.
    """
    folder, out, asked = Path(folder), Path(out), settings or FitSettings()
    require_new_bundle(out, force)
    method_settings = checked(asked)
    with atomic_folder(out) as part:
        work = part / "work"
        work.mkdir()
        normals = gather(folder, work / "windows.s16", asked)
        windows = normals.windows
        recordings = windows.table["group"].nunique()
        if asked.rate is not None:
            require_supported(asked.rate, len(windows.table), recordings)
        states = out.with_name(f".{out.name}.resume")
        # The audio itself: what `train_arm` knows of it is how many windows there are, and of what length.
        resume = states / run_key("", normals.sums, normals.sample_rate, normals.samples, asked.channel)
        fitted = learn(normals, method_settings, asked, part / "model", work, resume)
        if listen is not None:
            listen(normals, fitted)
        if fitted.backend != "native":
            np.save(part / "reference.npy", fitted.vectors)
        group = windows.table["group"].to_numpy()
        alike = alikeness(fitted.normal, group)
        independent = effective(len(group), recordings, alike)
        rate, note = (asked.rate, "") if asked.rate is not None else default_rate(independent, recordings)
        rule = choose(fitted.normal, rate)
        np.save(part / "normal.npy", np.sort(fitted.normal))
        checked_on = cross_fitted(fitted.normal, group, rate)
        windows.notes += [note] if note else notes_on(rule, recordings, len(group))
        knobs = knobs_of(fitted.backend, asked.k, fitted.trained)
        windows.notes += notes_on_direction(knobs, fitted.vectors, fitted.trained)
        windows.notes += notes_on_parts(fitted.backend, fitted.normal, group)
        windows.notes += notes_on_check(*checked_on, rate) + notes_on_time(normals.used, asked.one_mode)
        training = normals.facts() | {"above_by_others": list(checked_on)}
        windows.audio = np.empty((0, normals.samples), np.int16)  # unmapped: its file goes
        shutil.rmtree(work)
        facts = {
            "format": FORMAT, "name": name_of(out), "method": asked.method,
            "backend": fitted.backend, "knobs": knobs, "k": asked.k,
            "sample_rate": normals.sample_rate, "window": normals.samples,
            "hop": max(1, normals.samples // 2), "channel": asked.channel, "seed": asked.seed, "threshold": asdict(rule),
            "made_with": _versions(), "signal": asdict(windows.signal), "training": training,
            "files": {name: sha256_of(part / name) for name in file_names(fitted.backend)},
            "effective": round(independent, 1), "alike": [list(each) for each in alike],
            "references": stretches(windows.table),
        }  # fmt: skip
        write_manifest(part / "bundle.yaml", facts)
    shutil.rmtree(states, ignore_errors=True)
    return load(out)


@dataclass(frozen=True)
class Fitted:
    """A method that was trained on windows of normal sound, and what it says of them.

    Attributes:
        trained: the network.
        backend: one of `backend.known`.
        vectors: float32 [windows, D], their embeddings.
        normal: float64 [windows], in the order of the windows: what each scores when its own recording is left out; with
            backend `native` the method's own score, of a method that is trained by gradient for windows that it has heard.
    """

    trained: modelfolder.Trained
    backend: str
    vectors: np.ndarray
    normal: np.ndarray


def learn(
    normals: Normals, settings: MethodSettings, asked: FitSettings, model: Path, work: Path, states: Path
) -> Fitted:
    """Train a method on windows of normal sound, and score these.

    Args:
        settings: of the method, as `checked` gives them.
        model: folder to write; work: for what is needed meanwhile; states: of an interrupted training.

    Raises:
        AuscultError: the method cannot be trained on them, or scores all of them alike.
    """
    windows, method = normals.windows, load_method(settings.method)
    frontend = method.mel(settings) if settings.trained else ""
    pack_windows(
        windows.audio, windows.table["unit"].tolist(), work / "train", normals.sample_rate, [frontend] if frontend else []
    )  # fmt: skip
    trained, backend = train(work / "train", model, states, settings, asked, training_code(settings))
    vectors, own = embed_all(trained, windows.audio)
    if backend == "native" and not settings.trained:
        units = windows.table["unit"].to_numpy(str)
        normal = refitted(
            windows.table,
            lambda rows, place: pack_windows(windows.audio[rows], units[rows].tolist(), place, normals.sample_rate, []),
            lambda again, rows: embed_all(again, windows.audio[rows])[1],
            work / "part", settings, asked,
        )  # fmt: skip
    else:
        normal = left_out(vectors, own, trained, backend, windows.table, normals.samples, asked.k)
    require_different(normal, str(normals.folder), backend)
    return Fitted(trained, backend, vectors, normal)


def refitted(
    table: pd.DataFrame,
    pack: Callable[[np.ndarray, Path], object],
    own_scores: Callable[[modelfolder.Trained, np.ndarray], Floats],
    work: Path,
    settings: MethodSettings,
    asked: FitSettings,
) -> Floats:
    """Own scores [windows] of a method that is fitted in seconds: each window's when a part of the recordings, its own among
    them, was left out. Of a single recording, windows are left out.

    Args:
        table: of the windows; pack: packs some of them, by their rows, into a folder; own_scores: of some by a network.

    Raises:
        AuscultError: it cannot be fitted to what is left.
    """
    group, units = table["group"].to_numpy(), table["unit"].tolist()
    owner = group if len(np.unique(group)) > 1 else np.arange(len(group))
    part = folds(owner, units, min(PARTS, len(np.unique(owner))), False, asked.seed)
    scores = np.empty(len(group))
    for number in range(int(part.max()) + 1):
        shutil.rmtree(work, ignore_errors=True)
        pack(np.flatnonzero(part != number), work / "train")
        again, _ = train(work / "train", work / "model", work / "states", settings, asked, "")
        out = np.flatnonzero(part == number)
        scores[out] = own_scores(again, out)
    return scores


def left_out(
    vectors: np.ndarray, own: np.ndarray, trained: modelfolder.Trained, backend: str, table: pd.DataFrame, samples: int,
    k: int,
) -> Floats:  # fmt: skip
    """`Fitted.normal` of windows, given what `embed` makes of them.

    Args:
        table: `group` and `start` of each window; samples: of a window; k: neighbours.
    """
    if backend == "native":
        return own
    scaled = len(vectors) if z_scored(trained) else 0
    return References(vectors, table, backend, k, samples, scaled, knobs_of(backend, k, trained)).left_out()


def name_of(out: Path) -> str:
    """What a bundle in the folder `out` is called."""
    return re.sub(r"[^\w.-]+", "-", out.resolve().name)[:100]


def train(
    packed: Path, model: Path, states: Path, settings: MethodSettings, asked: FitSettings, code: str
) -> tuple[modelfolder.Trained, str]:
    """Train the method on packed windows, and name the back-end. Arguments and errors as of `learn` and `train_arm`."""
    from auscult.training.arm import train_arm

    how = Train(seeds=(asked.seed,), threads=torch.get_num_threads(), long_on_cpu=asked.long_on_cpu)
    train_arm(settings, "unit", how, asked.seed, packed, model, states, code)
    trained = load_network(model)
    if trained.skipped:
        reason = next(iter(trained.skipped.values()))
        raise AuscultError(f"`{settings.method}` cannot be trained on this: {reason}", fix="choose another --method")
    (shape,) = trained.shapes.values()
    silence = np.zeros((1, shape.samples), np.float32)
    native = np.isfinite(embed(trained, silence)[1]).all()
    if asked.backend == "native" and not native:
        raise AuscultError(f"`{settings.method}` has no score of its own", fix="use knn_cosine or knn_euclidean")
    if asked.backend:
        return trained, asked.backend
    if native:
        return trained, "native"
    return trained, f"knn_{trained.method.distance}"


def embed_all(trained: modelfolder.Trained, audio: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    vectors, own = [], []
    with tqdm(total=len(audio), desc="score", unit="window", **quiet()) as bar:
        for start in range(0, len(audio), 64):
            part = embed(trained, audio[start : start + 64].astype(np.float32) * np.float32(1 / 32768))
            vectors.append(part[0])
            own.append(part[1])
            bar.update(len(part[0]))
    found = np.concatenate(vectors), np.concatenate(own)
    if not np.isfinite(found[0]).all():
        raise AuscultError("embeddings hold NaN or infinity", fix="train with a lower learning rate: --set lr=0.0001")
    return found


def _versions() -> dict[str, str]:
    names = ("auscult", "torch", "torchaudio", "numpy", "scikit-learn", "soundfile")
    found = {"python": platform.python_version()}
    for name in names:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "unknown"
    return found
