"""Fit a detector to recordings of normal sound: cut them, train a method on the windows, and take a threshold from left-out
scores. bundle.py says what comes of it.
"""

from __future__ import annotations

import platform
import re
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from tqdm import tqdm

from auscult.data.audio import Channel
from auscult.detector.folder import (
    BACKENDS,
    FORMAT,
    Bundle,
    embed,
    file_names,
    load,
    metric_of,
    sha256_of,
    write_manifest,
)
from auscult.detector.model import load_network
from auscult.detector.recordings import Found, choose_rate, choose_seconds, look_below, odd_levels, quiet
from auscult.detector.thresholds import choose, left_out_scores, notes_on, require_different
from auscult.detector.windows import Windows, check_count, cut_windows
from auscult.errors import AuscultError, listed
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
        backend: one of `BACKENDS`; "" = the method's own score where it has one, otherwise the nearest neighbours, cosine
            distance for embeddings that were learnt and Euclidean distance for `spectral_knn`, whose dimensions are z-scored.
        k: neighbours.
        rate: of false alarms per window, in (0, 1).
        seconds, sample_rate: of a window, Hz; 0 = see `windows.choose_seconds` and `windows.choose_rate`.
        channel: the one that is listened to, or "mean".
        one_mode: sub-folders are days or the like, and no modes of operation.
        seed: of everything random in training.
        long_on_cpu: train what takes a CPU days.
    """

    method: str = "spectral_knn"
    values: Mapping[str, Any] = field(default_factory=dict)
    backend: str = ""
    k: int = 1
    rate: float = 0.1
    seconds: float = 0.0
    sample_rate: int = 0
    channel: Channel = 0
    one_mode: bool = False
    seed: int = 0
    long_on_cpu: bool = False


def fit(folder: Path, out: Path, settings: FitSettings | None = None, force: bool = False) -> Bundle:
    """Fit a detector to the recordings of normal sound below `folder` and write it into the folder `out`.

    Interrupted, the same call continues the training: its states are beside `out` (`.<name>.resume`) until the bundle is there.

    Recordings of any length, rate and format are cut into windows that do not overlap; what is left at an end is not used.
    Files of one folder are one unit (a mode of operation, a class for methods that tell classes apart).

    Args:
        force: take the place of a bundle that is there.

    Raises:
        AuscultError: `out` exists; recordings missing, unreadable, silent, too short, too few or all alike; a method that
            cannot be trained on them.
    """
    asked = settings or FitSettings()
    _check_out(out, force)
    method_settings = _check(asked)
    found, other_files = look_below(folder, asked.channel)
    left_out = odd_levels(found)
    sample_rate, low = choose_rate(_without(found, left_out), asked.sample_rate, folder)
    left_out |= low
    seconds, short, note = choose_seconds(_without(found, left_out), asked.seconds, folder)
    left_out |= short
    samples = int(seconds * sample_rate + 1e-6)
    used = _without(found, left_out)
    with atomic_folder(out) as part:
        work = part / "work"
        work.mkdir()
        windows = cut_windows(used, work / "windows.s16", sample_rate, samples, asked.channel)
        windows.left_out = {**left_out, **windows.left_out}
        windows.notes += [note] if note else []
        if asked.one_mode:
            windows.table["unit"] = "00"
        check_count(len(windows.table), samples / sample_rate, folder)
        _check_modes(windows.table, folder)
        sums = {name: sha256_of(each.path) for name, each in found.items()}
        states = out.with_name(f".{out.name}.resume")
        # The audio itself: what `train_arm` knows of it is how many windows there are, and of what length.
        heard = states / run_key("", sums, sample_rate, samples, asked.channel)
        trained, backend = _train(windows, work, part / "model", heard, method_settings, asked, sample_rate)
        vectors, own = _embed_all(trained, windows.audio)
        if backend == "native":
            normal = own
        else:
            places = windows.table[["group", "start"]].to_numpy()
            normal = left_out_scores(vectors, places[:, 0], places[:, 1], samples, asked.k, metric_of(backend))
            np.save(part / "reference.npy", vectors)
        require_different(normal, str(folder), distances=backend != "native")
        rule = choose(normal, asked.rate)
        normal = np.sort(normal)
        np.save(part / "normal.npy", normal)
        windows.notes += notes_on(rule, windows.table["group"].nunique(), len(normal))
        training = _training(windows, used, sums, samples / sample_rate, other_files)
        windows.audio = np.empty((0, samples), np.int16)  # unmapped: its file goes
        shutil.rmtree(work)
        facts = {
            "format": FORMAT, "name": re.sub(r"[^\w.-]+", "-", out.resolve().name)[:100], "method": asked.method,
            "backend": backend, "k": asked.k, "sample_rate": sample_rate, "window": samples, "hop": max(1, samples // 2),
            "channel": asked.channel, "seed": asked.seed, "threshold": asdict(rule), "made_with": _versions(),
            "signal": windows.signal.model_dump(), "training": training,
            "files": {name: sha256_of(part / name) for name in file_names(backend)},
        }  # fmt: skip
        write_manifest(part / "bundle.yaml", facts)
    shutil.rmtree(states, ignore_errors=True)
    return load(out)


def _without(found: Mapping[str, Found], left_out: Mapping[str, str]) -> dict[str, Found]:
    return {name: each for name, each in found.items() if name not in left_out}


def _check_out(out: Path, force: bool) -> None:
    if not out.name or out.name == "..":
        raise AuscultError("a bundle is a folder with a name", str(out), "say -o pump.bundle")
    if not out.exists():
        return
    if not (out / "bundle.yaml").is_file():
        if out.is_dir() and not any(out.iterdir()):
            return
        raise AuscultError("this exists and is no bundle", str(out), "choose another name")
    if not force:
        raise AuscultError("there is a bundle already", str(out), "choose another name, or replace it with --force")


def _check(asked: FitSettings) -> MethodSettings:
    """The method's settings; everything asked for is checked before the work."""
    if asked.method not in METHODS:
        what = f"there is no method `{asked.method}`{near(asked.method, METHODS)}"
        raise AuscultError(what, fix=f"use: {', '.join(METHODS)}")
    settings = validated(
        load_method(asked.method).settings, {**asked.values, "method": asked.method}, asked.method
    )  # fmt: skip
    if settings.lowpass_hz:
        raise AuscultError("a bundle listens to all it is given", "lowpass_hz", "lower the rate with --sample-rate")
    choose(np.arange(1000.0), asked.rate)
    if asked.backend and asked.backend not in BACKENDS:
        raise AuscultError(f"unknown back-end `{asked.backend}`", fix=f"use: {', '.join(BACKENDS)}")
    if asked.k < 1:
        raise AuscultError(f"k is {asked.k}, and at least 1 neighbour is wanted", fix="leave out --k")
    return settings


def _check_modes(table: pd.DataFrame, folder: Path) -> None:
    """Refuse modes of one recording: left out, nothing of the mode is left to compare with; kept, the threshold is too low."""
    recordings = table.groupby("unit")["group"].nunique()
    alone = recordings.index[recordings == 1].tolist()
    if len(recordings) == 1 or not alone:
        return
    what = f"{len(alone)} of {len(recordings)} sub-folders hold one recording each, and a mode of operation needs two or more:"
    fix = "record these modes again; or, if sub-folders are days or the like and not modes, use --one-mode"
    raise AuscultError(what + listed(alone, 5), str(folder), fix)


def _train(
    windows: Windows,
    work: Path,
    model: Path,
    states: Path,
    settings: MethodSettings,
    asked: FitSettings,
    sample_rate: int,
) -> tuple[modelfolder.Trained, str]:
    """Train the method on the windows, and name the back-end."""
    from auscult.data.pack import pack_windows
    from auscult.training.arm import train_arm

    method = load_method(settings.method)
    frontend = method.mel(settings)
    pack_windows(
        windows.audio, windows.table["unit"].tolist(), work / "train", sample_rate,
        [frontend] if frontend and settings.trained else [],
    )  # fmt: skip
    train = Train(seeds=(asked.seed,), threads=torch.get_num_threads(), long_on_cpu=asked.long_on_cpu)
    train_arm(settings, "unit", train, asked.seed, work / "train", model, states, training_code(settings))
    trained = load_network(model)
    if trained.skipped:
        reason = next(iter(trained.skipped.values()))
        raise AuscultError(f"`{settings.method}` cannot be trained on this: {reason}", fix="choose another --method")
    silence = np.zeros((1, windows.audio.shape[1]), np.float32)
    native = np.isfinite(embed(trained, silence)[1]).all()
    if asked.backend == "native" and not native:
        raise AuscultError(f"`{settings.method}` has no score of its own", fix="use knn_cosine or knn_euclidean")
    if asked.backend:
        return trained, asked.backend
    if native:
        return trained, "native"
    return trained, f"knn_{method.distance}"


def _embed_all(trained: modelfolder.Trained, audio: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
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


def _training(
    windows: Windows, found: Mapping[str, Found], sums: Mapping[str, str], seconds: float, other_files: int
) -> dict[str, Any]:
    used = windows.table["name"].unique().tolist()
    return {
        "windows": len(windows.table),
        "recordings": len(used),
        "seconds": round(sum(found[name].seconds for name in used), 3),
        "window_seconds": seconds,
        "units": {str(name): int(count) for name, count in windows.table.groupby("unit").size().items()},
        "left_out": windows.left_out,
        "same_sound": windows.same_sound,
        "overlapping": windows.overlapping,
        "notes": windows.notes,
        "other_files": other_files,
        "sha256": dict(sums),
    }


def _versions() -> dict[str, str]:
    names = ("auscult", "torch", "torchaudio", "numpy", "scikit-learn", "soundfile")
    found = {"python": platform.python_version()}
    for name in names:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "unknown"
    return found
