"""Training: an epoch by phase (`epoch`), and every method (`methods`).

PYTHONPATH=src python benchmarks/training.py epoch --help
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from auscult.data.store import ClipStore
from auscult.methods import METHODS, load_method
from auscult.settings.params import arm_settings, load_params
from auscult.settings.training import MethodSettings
from auscult.training.embed import embed
from auscult.training.modelfolder import Trained
from common import (
    CLASSES,
    ROOT,
    SECONDS,
    THREADS,
    TINY_ENCODER,
    Marks,
    Phases,
    Row,
    command,
    in_child,
    packed_noise,
    parser_of,
    profile,
    quiet,
    record,
    row,
    task,
    train,
)


# --------------------------------------------------------------------------------------------------------------- epoch
def epoch_settings_of(arm: str, epochs: int, batch: int) -> MethodSettings:
    """As in params.yaml, but for the length of the training and the size of batches of whole clips."""
    settings = arm_settings(load_params(ROOT), profile(SECONDS), arm)
    short = {"epochs": epochs} | ({"batch_size": batch} if settings.batch_size < 512 else {})
    return settings.model_copy(update=short)


def whole(folder: Path, settings: MethodSettings) -> list[float]:
    return train(settings, ClipStore(folder))[0]


def parts(folder: Path, settings: MethodSettings) -> tuple[dict[str, float], float]:
    """Seconds of each phase, and of all, from the end of the first epoch on."""
    store = ClipStore(folder)
    method, *_, shape = task(store, settings)
    with Phases(type(method.build(settings, shape))) as phases:
        first: list[dict[str, float]] = []
        seconds, _ = train(settings, store, marks=Marks(lambda: first.append(dict(phases.totals))))
    found = {name: value - first[0].get(name, 0.0) for name, value in phases.totals.items()}
    return found | {"rest": sum(seconds) - sum(found.values())}, sum(seconds)


def epoch_measure(arms: list[str], clips: int, epochs: int, batch: int, threads: int) -> list[Row]:
    found: list[Row] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        frontends = sorted({str(epoch_settings_of(arm, 1, batch).model_dump()["frontend"]) for arm in arms})
        start = time.perf_counter()
        _, peak = in_child(packed_noise, folder, clips, SECONDS, frontends, threads)
        spent = time.perf_counter() - start
        note = f"{', '.join(frontends)}; with writing and reading of WAV files"
        found.append(row("epoch", f"pack once: {note}", 1000 * spent / clips, "ms per 10 s clip"))
        found.append(row("epoch", f"pack once: {note}", peak, "MiB at most"))
        for arm in arms:
            settings = epoch_settings_of(arm, epochs + 1, batch)
            seconds, peak = in_child(whole, folder / "packed", settings, threads=threads)
            variant = f"{arm}, batch {settings.batch_size}, threads {threads}"
            each = 1000 * float(np.median(seconds)) / clips
            found.append(row("epoch", variant, each, "ms per 10 s clip and epoch"))
            found.append(row("epoch", variant, peak, "MiB at most"))
            (phases, total), _ = in_child(parts, folder / "packed", settings, threads=threads)
            for phase, spent in phases.items():
                part, all_parts = (1000 * one / clips / epochs for one in (spent, total))
                what = f"{variant}: {phase}"
                found.append(row("epoch", what, part, "ms per 10 s clip and epoch", all_parts, spent / total))
    return found


def epoch() -> None:
    """Time of an epoch on the CPU, end to end and by phase, of arms as params.yaml has them.

        PYTHONPATH=src python benchmarks/training.py epoch

    Noise of 10 s as WAV files is packed once (decode and log-mel; its own row), then `auscult.training.loop.fit` trains on
    it. The first epoch warms up, the median of the others is shown, per clip. The phases are those of one more training,
    wrapped around the calls that every training makes: `gather` (waveforms out of the packed file), `log-mel` (gathered, or
    computed where the front-end is not packed), forward pass and loss, backward, the optimiser, the moving average,
    validation; `rest` is what the loop itself takes. Each arm runs in a process of its own, whose peak of memory is shown,
    too. `--batch` is of whole clips. Rows go to metrics/benchmarks.csv.
    """
    arms = ["logmel_os_scl", "tfst_os_scl", "ae"]
    parser = parser_of(epoch, arms=arms, clips=32, epochs=3, batch=16, threads=THREADS)
    arguments = parser.parse_args()
    record(epoch_measure(arguments.arms, arguments.clips, arguments.epochs, arguments.batch, arguments.threads))


# ------------------------------------------------------------------------------------------------------------- methods
MOST, FEW = 16, 4
SLOW = {"glow_aff"}
"""Seconds per clip, so that `FEW` of them say enough; as with an encoder."""
OTHERWISE: dict[str, dict[str, Any]] = {"sc_adacos": {"sub_clusters": (1, 2, 3, 4, 5, 6, 7)}}
"""Seven networks of the published size, whose mixtures take fewer clips."""


def methods_settings_of(name: str, epochs: int, tiny: bool) -> MethodSettings:
    """The method's defaults for a short training of few clips; `tiny` encoders for a trial of the script."""
    method = load_method(name)
    fields, default = method.settings.model_fields, method.settings(method=name)
    values: dict[str, Any] = {"method": name, **OTHERWISE.get(name, {})}
    encoder = "encoder" in fields
    if encoder:
        values["encoder"] = TINY_ENCODER if tiny else {"checkpoint": ""}
    if default.trained:
        values |= {"epochs": epochs, "train_steps": 0, "warmup_steps": 0, "valid_fraction": 0.0, "selection": "last"}
        if not method.window(default, 1000):
            values["batch_size"] = min(default.batch_size, 2 if encoder else 8)
    return method.settings.model_validate(values)


def one(folder: Path, name: str, epochs: int, tiny: bool) -> tuple[float | None, float, bool]:
    """Milliseconds per clip of training (None: there is none) and of embedding; whether there is an encoder."""
    settings = methods_settings_of(name, epochs + 1, tiny)
    encoder = "encoder" in type(settings).model_fields
    store = ClipStore(folder)
    clips = FEW if encoder or name in SLOW else MOST
    store.index = store.index.iloc[:: max(1, len(store) // clips)].reset_index(drop=True)
    method, network_name, rows, _, classes, shape = task(store, settings)
    seconds, network = train(settings, store)
    trained = Trained(method, settings, {network_name: network}, {network_name: classes}, {network_name: shape}, {})
    times: list[float] = []
    while sum(times) < 1 and len(times) < 3:
        start = time.perf_counter()
        with quiet(), torch.no_grad():
            embed(trained, store, 64)
        times.append(time.perf_counter() - start)
    per_clip = 1000 / len(rows)
    return float(np.median(seconds)) * per_clip if seconds else None, min(times) * per_clip, encoder


def methods_measure(names: list[str], epochs: int, threads: int, tiny: bool) -> list[Row]:
    found = []
    with tempfile.TemporaryDirectory() as folder:
        settings = [load_method(name).settings(method=name) for name in names]
        frontends = sorted({load_method(s.method).mel(s) for s in settings} - {""})
        in_child(packed_noise, Path(folder), MOST, SECONDS, frontends, threads, CLASSES[:2])
        for name in names:
            (trained, embedded, encoder), peak = in_child(
                one, Path(folder) / "packed", name, epochs, tiny, threads=threads
            )
            variant = f"{name}{', random weights' if encoder else ''}, threads {threads}"
            if trained is not None:
                found.append(row("method: train", variant, trained, "ms per 10 s clip and epoch"))
            found.append(row("method: embed", variant, embedded, "ms per 10 s clip"))
            found.append(row("method: memory", variant, peak, "MiB at most"))
    return found


def methods() -> None:
    """Time per clip of training and of embedding, and peak of memory, of every registered method at its published size.

        PYTHONPATH=src python benchmarks/training.py methods

    Noise of 10 s of two units of a machine type, front-ends packed; settings are the methods' defaults, but for batches of 8
    clips (2 where an encoder of 90 M parameters is fine-tuned; windows as many as the method says), random weights in place
    of a checkpoint, and no clips held out. `train` is an epoch of `auscult.training.loop.fit`, all windows of a clip
    included, after one that warms up; of a method with several phases, the last. `embed` has its own score in it. Each method
    runs in a process of its own; its memory is that of both. Rows go to metrics/benchmarks.csv.
    """
    arguments = parser_of(methods, methods=list(METHODS), epochs=1, threads=THREADS, tiny=False).parse_args()
    if arguments.tiny:
        print("tiny encoders: these are no measurements", file=sys.stderr)
    record(methods_measure(arguments.methods, arguments.epochs, arguments.threads, arguments.tiny))


if __name__ == "__main__":
    command({"epoch": epoch, "methods": methods})
