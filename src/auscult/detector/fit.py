"""Fit a detector to recordings of normal sound: cut them, train a method on the windows, and take a threshold from left-out
scores. bundle.py says what comes of it.
"""

from __future__ import annotations

import platform
import re
import shutil
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from tqdm import tqdm

from auscult.data.audio import Channel
from auscult.data.pack import pack_windows
from auscult.detector.enough import PARTS, cross_fitted, default_rate, notes_on_check, notes_on_time
from auscult.detector.folder import Bundle, embed, load, metric_of, sha256_of, z_scored
from auscult.detector.manifest import BACKENDS, FORMAT, file_names, write_manifest
from auscult.detector.model import load_network
from auscult.detector.normals import Normals, gather
from auscult.detector.picking import folds
from auscult.detector.places import require_new_bundle
from auscult.detector.recordings import quiet
from auscult.detector.references import stretches
from auscult.detector.thresholds import (
    check_rate,
    choose,
    left_out_scores,
    notes_on,
    require_different,
    require_supported,
)
from auscult.detector.verdict import alikeness, effective
from auscult.errors import AuscultError
from auscult.evaluation.metrics import Floats
from auscult.files import atomic_folder
from auscult.methods import METHODS, load_method
from auscult.pipeline.inputs import training_code
from auscult.settings.section import near, validated
from auscult.settings.training import MethodSettings, Train
from auscult.training import modelfolder
from auscult.training.resume import run_key


@dataclass(frozen=True)
class FitSettings:
    """How a detector is fitted.

    Attributes:
        method: a name in `METHODS`; `values`: of its settings, where they are not its defaults.
        backend: one of `BACKENDS`; "" = the method's own score where it has one, otherwise the nearest neighbours at the distance
            that its `Method` says, as in the pipeline's tables and pages.
        k: neighbours.
        rate: of false alarms per window, in (0, 1); None = 0.1, or the smallest that few recordings support.
        seconds, sample_rate: of a window, Hz; 0 = see `windows.choose_seconds` and `windows.choose_rate`.
        channel: the one that is listened to, or "mean".
        one_mode: sub-folders are days or the like, and no modes of operation.
        seed: of everything random in training.
        long_on_cpu: train what takes a CPU days.
        labels: a table that says which recordings are normal; None = all.
    """

    method: str = "spectral_knn"
    values: Mapping[str, Any] = field(default_factory=dict)
    backend: str = ""
    k: int = 1
    rate: float | None = None
    seconds: float = 0.0
    sample_rate: int = 0
    channel: Channel = 0
    one_mode: bool = False
    seed: int = 0
    long_on_cpu: bool = False
    labels: Path | None = None


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
        normals = gather(
            folder, work / "windows.s16", asked.seconds, asked.sample_rate, asked.channel, asked.one_mode, asked.labels
        )
        windows = normals.windows
        recordings = windows.table["group"].nunique()
        if asked.rate is not None:
            require_supported(asked.rate, len(windows.table), recordings)
        states = out.with_name(f".{out.name}.resume")
        # The audio itself: what `train_arm` knows of it is how many windows there are, and of what length.
        heard = states / run_key("", normals.sums, normals.sample_rate, normals.samples, asked.channel)
        fitted = learn(normals, method_settings, asked, part / "model", work, heard)
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
        windows.notes += notes_on_check(*checked_on, rate) + notes_on_time(normals.used, asked.one_mode)
        training = normals.facts() | {"above_by_others": list(checked_on)}
        windows.audio = np.empty((0, normals.samples), np.int16)  # unmapped: its file goes
        shutil.rmtree(work)
        facts = {
            "format": FORMAT, "name": name_of(out), "method": asked.method,
            "backend": fitted.backend, "k": asked.k, "sample_rate": normals.sample_rate, "window": normals.samples,
            "hop": max(1, normals.samples // 2), "channel": asked.channel, "seed": asked.seed, "threshold": asdict(rule),
            "made_with": _versions(), "signal": windows.signal.model_dump(), "training": training,
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
        backend: one of `BACKENDS`.
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

        def fit_to(rows: np.ndarray) -> Callable[[np.ndarray], Floats]:
            place = work / "part"
            shutil.rmtree(place, ignore_errors=True)
            pack_windows(windows.audio[rows], units[rows].tolist(), place / "train", normals.sample_rate, [])
            again, _ = train(place / "train", place / "model", place / "states", settings, asked, "")
            return lambda out: embed_all(again, windows.audio[out])[1]

        normal = refitted(windows.table["group"].to_numpy(), units, fit_to, asked.seed)
    else:
        normal = left_out(vectors, own, trained, backend, windows.table, normals.samples, asked.k)
    require_different(normal, str(normals.folder), distances=backend != "native")
    return Fitted(trained, backend, vectors, normal)


def refitted(
    group: np.ndarray, units: np.ndarray, fit_to: Callable[[np.ndarray], Callable[[np.ndarray], Floats]], seed: int
) -> Floats:
    """Own scores [windows] of a method that is fitted in seconds: each window's when a part of the recordings, its own among
    them, was left out.

    Args:
        group, units: of each window, see `windows.Windows`; of a single recording, windows are left out.
        fit_to: fits the method to windows, by their places, and gives what scores others, by theirs.

    Raises:
        AuscultError: it cannot be fitted to what is left.
    """
    owner = group if len(np.unique(group)) > 1 else np.arange(len(group))
    part = folds(owner, units.tolist(), min(PARTS, len(np.unique(owner))), False, seed)
    scores = np.empty(len(group))
    for number in range(int(part.max()) + 1):
        out = np.flatnonzero(part == number)
        scores[out] = fit_to(np.flatnonzero(part != number))(out)
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
    group, start = table["group"].to_numpy(), table["start"].to_numpy()
    scaled = len(vectors) if z_scored(trained) else 0
    return left_out_scores(vectors, group, start, samples, k, metric_of(backend), scaled)


def name_of(out: Path) -> str:
    """What a bundle in the folder `out` is called."""
    return re.sub(r"[^\w.-]+", "-", out.resolve().name)[:100]


def checked(asked: FitSettings) -> MethodSettings:
    """The method's settings; everything asked for is checked before the work.

    Raises:
        AuscultError: something asked for does not exist, or cannot be.
    """
    if asked.method not in METHODS:
        what = f"there is no method `{asked.method}`{near(asked.method, METHODS)}"
        raise AuscultError(what, fix=f"use: {', '.join(METHODS)}")
    settings = validated(
        load_method(asked.method).settings, {**asked.values, "method": asked.method}, asked.method
    )  # fmt: skip
    if settings.lowpass_hz:
        raise AuscultError("a bundle listens to all it is given", "lowpass_hz", "lower the rate with --sample-rate")
    if asked.rate is not None:
        check_rate(asked.rate)
    if asked.backend and asked.backend not in BACKENDS:
        raise AuscultError(f"unknown back-end `{asked.backend}`", fix=f"use: {', '.join(BACKENDS)}")
    if asked.k < 1:
        raise AuscultError(f"k is {asked.k}, and at least 1 neighbour is wanted", fix="leave out --k")
    return settings


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
