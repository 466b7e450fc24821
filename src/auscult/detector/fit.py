"""Fit a detector to recordings of normal sound: cut them, train a method on the windows, and take a threshold from left-out
scores. bundle.py says what comes of it.
"""

from __future__ import annotations

import platform
import re
import shutil
from collections.abc import Mapping
from dataclasses import asdict
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from tqdm import tqdm

from auscult.data.audio import Channel
from auscult.data.own.cutting import SHORTEST, Measured
from auscult.detector.folder import (
    BACKENDS,
    FORMAT,
    Bundle,
    embed,
    file_names,
    load,
    load_network,
    metric_of,
    sha256_of,
    write_manifest,
)
from auscult.detector.thresholds import choose
from auscult.detector.windows import check_count, cut_windows, measured_below, quiet
from auscult.errors import AuscultError
from auscult.evaluation.metrics import Floats
from auscult.files import atomic_folder
from auscult.methods import METHODS, load_method
from auscult.pipeline.inputs import training_code
from auscult.settings.profile import Profile
from auscult.settings.rules import MetricRules
from auscult.settings.schema import Data
from auscult.settings.section import near, validated
from auscult.settings.training import MethodSettings, Train
from auscult.training import modelfolder
from auscult.training.resume import run_key

LONGEST = 10.0
"""Seconds of a window, unless another length is asked for."""
RATE = 16000
"""Hz, unless the recordings have less or another rate is asked for."""


def fit(
    folder: Path,
    out: Path,
    *,
    method: str = "spectral_knn",
    seconds: float = 0.0,
    rate: float = 0.1,
    seed: int = 0,
    backend: str = "",
    k: int = 1,
    sample_rate: int = 0,
    channel: Channel = 0,
    settings: Mapping[str, Any] | None = None,
    force: bool = False,
    long_on_cpu: bool = False,
) -> Bundle:
    """Fit a detector to the recordings of normal sound below `folder` and write it into the folder `out`.

    Interrupted, the same call continues the training: its states are beside `out` (`.<name>.resume`) until the bundle is there.

    Recordings of any length, rate and format are cut into windows that do not overlap; what is left at an end is not used.
    Files of one folder are one unit (a mode of operation, a class for methods that tell classes apart).

    Args:
        method: a name in `METHODS`.
        seconds: of a window; 0 = as long as the shortest recording, `LONGEST` at most.
        rate: of false alarms per window, in (0, 1).
        seed: of everything random in training.
        backend: one of `BACKENDS`; "" = the method's own score where it has one, otherwise the nearest neighbours, cosine
            distance for embeddings that were learnt and Euclidean distance for `spectral_knn`, whose dimensions are z-scored.
        k: neighbours.
        sample_rate: Hz; 0 = `RATE`, or the lowest rate of the recordings if that is lower.
        channel: the one that is listened to, or "mean".
        settings: of the method, where they are not its defaults.
        force: take the place of a bundle that is there.
        long_on_cpu: train what takes a CPU days.

    Raises:
        AuscultError: `out` exists; recordings missing, unreadable, silent, too short or too few; a method that cannot be
            trained on them.
    """
    _check_out(out, force)
    chosen = _settings(method, settings or {})
    choose(np.arange(1000.0), rate)  # the rate itself, before the work
    if backend and backend not in BACKENDS:
        raise AuscultError(f"unknown back-end `{backend}`", fix=f"use: {', '.join(BACKENDS)}")
    if k < 1:
        raise AuscultError(f"k is {k}, and at least 1 neighbour is wanted", fix="leave out --k")
    measured, passed_over = measured_below(folder)
    lowest = min(each.sample_rate for each in measured.values())
    sample_rate = sample_rate or min(RATE, lowest)
    if lowest < sample_rate:
        what = f"some recordings have {lowest} Hz only, so that their upper band would be empty at {sample_rate} Hz"
        raise AuscultError(what, str(folder), f"use --sample-rate {lowest}, or leave them out")
    shortest = min(each.frames / each.sample_rate for each in measured.values())
    window = int((seconds or min(shortest, LONGEST)) * sample_rate + 1e-6)
    if window < SHORTEST * sample_rate:
        raise AuscultError(f"windows of {seconds:g} s are too short", fix=f"use {SHORTEST:g} s or more")
    if all(each.frames / each.sample_rate * sample_rate + 1 < window for each in measured.values()):
        raise AuscultError(f"no recording is as long as a window ({seconds:g} s)", str(folder), "use fewer --seconds")
    with atomic_folder(out) as part:
        work = part / "work"
        clips = cut_windows(measured, folder, work / "raw", sample_rate, window, channel)
        check_count(clips, window / sample_rate, folder)
        sums = {name: sha256_of(folder / name) for name in measured}
        states = out.with_name(f".{out.name}.resume")
        # The audio itself: what `train_arm` knows of it is how many windows there are, and of what length.
        heard = states / run_key("", sums, sample_rate, window, channel)
        trained, backend = _train(
            clips, work, part / "model", heard, chosen, sample_rate, window, seed, backend, long_on_cpu
        )
        audio = np.load(work / "train" / "audio" / "machine.npy", mmap_mode="r")
        vectors, own = _embed_all(trained, audio)
        del audio
        shutil.rmtree(work)
        if backend == "native":
            normal = own
        else:
            normal = left_out(vectors, clips["recording"].to_numpy(), clips["unit"].to_numpy(), k, backend)
            np.save(part / "reference.npy", vectors)
        normal = np.sort(normal)
        np.save(part / "normal.npy", normal)
        facts = {
            "format": FORMAT, "name": re.sub(r"[^\w.-]+", "-", out.resolve().name)[:100], "method": method, "backend": backend,
            "k": k, "sample_rate": sample_rate, "window": window, "hop": max(1, window // 2), "channel": channel,
            "seed": seed, "threshold": asdict(choose(normal, rate)), "made_with": _versions(),
            "training": _training(clips, measured, sums, window / sample_rate, passed_over),
            "files": {name: sha256_of(part / name) for name in file_names(backend)},
        }  # fmt: skip
        write_manifest(part / "bundle.yaml", facts)
    shutil.rmtree(states, ignore_errors=True)
    return load(out)


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


def _settings(method: str, values: Mapping[str, Any]) -> MethodSettings:
    if method not in METHODS:
        raise AuscultError(f"there is no method `{method}`{near(method, METHODS)}", fix=f"use: {', '.join(METHODS)}")
    settings = validated(load_method(method).settings, {**values, "method": method}, method)
    if settings.lowpass_hz:
        raise AuscultError("a bundle listens to all it is given", "lowpass_hz", "lower the rate with --sample-rate")
    return settings


def _train(
    clips: pd.DataFrame,
    work: Path,
    model: Path,
    states: Path,
    settings: MethodSettings,
    sample_rate: int,
    window: int,
    seed: int,
    backend: str,
    long_on_cpu: bool,
) -> tuple[modelfolder.Trained, str]:
    """Train the method on the cut windows, and name the back-end."""
    from auscult.data.pack import pack
    from auscult.training.arm import train_arm

    method = load_method(settings.method)
    profile = Profile(
        name="bundle", dataset="bundle", title="", licence="", source={}, grammar="recordings", sets={"dev": "."},
        sample_rate=sample_rate, clip_seconds=window / sample_rate, rules=MetricRules(),
    )  # fmt: skip
    frontend = method.mel(settings)
    pack(
        clips, work / "raw", work / "train", profile, Data(profile="bundle"),
        [frontend] if frontend and settings.trained else [],
    )  # fmt: skip
    shutil.rmtree(work / "raw")
    train = Train(seeds=(seed,), threads=torch.get_num_threads(), long_on_cpu=long_on_cpu)
    train_arm(settings, profile.class_label, train, seed, work / "train", model, states, training_code(settings))
    trained = load_network(model)
    if trained.skipped:
        reason = next(iter(trained.skipped.values()))
        raise AuscultError(f"`{settings.method}` cannot be trained on this: {reason}", fix="choose another --method")
    native = np.isfinite(embed(trained, np.zeros((1, window), np.float32))[1]).all()
    if backend == "native" and not native:
        raise AuscultError(f"`{settings.method}` has no score of its own", fix="use knn_cosine or knn_euclidean")
    own = "native" if native else f"knn_{method.distance}"
    return trained, backend or own


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


def left_out(vectors: np.ndarray, recording: np.ndarray, unit: np.ndarray, k: int, backend: str) -> Floats:
    """The score [n] of each normal window if its recording had not been there.

    A unit with one recording alone would then have no window left: there, only the window itself is left out.

    Args:
        vectors: embeddings float32 [n, D], n >= 2.
        recording, unit: of each window [n].
    """
    from sklearn.metrics import pairwise_distances

    alone = pd.Series(recording).groupby(unit).transform("nunique").to_numpy() == 1
    rows = np.arange(len(vectors))
    scores = np.empty(len(vectors))
    for start in range(0, len(vectors), 256):
        mine = rows[start : start + 256]
        distances = pairwise_distances(vectors[mine], vectors, metric=metric_of(backend)).astype(np.float64)
        same = np.where(alone[mine, None], mine[:, None] == rows, recording[mine, None] == recording)
        distances[same] = np.inf
        nearest = np.sort(np.partition(distances, min(k, len(vectors) - 1) - 1, axis=1)[:, :k], axis=1)
        there = np.isfinite(nearest)
        scores[mine] = np.where(there, nearest, 0).sum(axis=1) / there.sum(axis=1)
    return scores


def _training(
    clips: pd.DataFrame, measured: Mapping[str, Measured], sums: Mapping[str, str], seconds: float, passed_over: int
) -> dict[str, Any]:
    return {
        "windows": len(clips),
        "recordings": len(measured),
        "seconds": round(sum(each.frames / each.sample_rate for each in measured.values()), 3),
        "window_seconds": seconds,
        "units": {str(name): int(count) for name, count in clips.groupby("unit").size().items()},
        "other_files": passed_over,
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
