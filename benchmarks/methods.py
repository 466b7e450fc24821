"""Time per clip of training and of embedding, and peak of memory, of every registered method at its published size.

    PYTHONPATH=src python benchmarks/methods.py

Noise of 10 s of two units of a machine type, front-ends packed; settings are the methods' defaults, but for batches of 8 clips (2
where an encoder of 90 M parameters is fine-tuned; windows as many as the method says), random weights in place of a
checkpoint, and no clips held out. `train` is an epoch of `auscult.training.loop.fit`, all windows of a clip included, after one
that warms up; of a method with several phases, the last. `embed` has its own score in it. Each method runs in a process of
its own; its memory is that of both. Rows go to metrics/benchmarks.csv.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from auscult.data.store import ClipStore
from auscult.methods import METHODS, load_method
from auscult.settings.training import MethodSettings
from auscult.training.embed import embed
from auscult.training.modelfolder import Trained
from measure import Row, in_child, packed_noise, quiet, row, task, train
from record import record

SECONDS, MOST, FEW = 10.0, 16, 4
SLOW = {"glow_aff"}
"""Seconds per clip, so that `FEW` of them say enough; as with an encoder."""
OTHERWISE: dict[str, dict[str, Any]] = {"sc_adacos": {"sub_clusters": (1, 2, 3, 4, 5, 6, 7)}}
"""Seven networks of the published size, whose mixtures take fewer clips."""
TINY_ENCODER: dict[str, Any] = {
    "name": "beats", "checkpoint": "",
    "size": {"layers": 2, "width": 32, "ffn": 64, "heads": 2, "embed": 16, "position_kernel": 16, "position_groups": 2},
}  # fmt: skip


def settings_of(name: str, epochs: int, tiny: bool) -> MethodSettings:
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
    settings = settings_of(name, epochs + 1, tiny)
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


def measure(names: list[str], epochs: int, threads: int, tiny: bool) -> list[Row]:
    found = []
    with tempfile.TemporaryDirectory() as folder:
        settings = [load_method(name).settings(method=name) for name in names]
        frontends = sorted({load_method(s.method).mel(s) for s in settings} - {""})
        in_child(packed_noise, Path(folder), MOST, SECONDS, frontends, threads, 1)
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=METHODS)
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--threads", type=int, default=min(2, os.cpu_count() or 1))
    parser.add_argument("--tiny", action="store_true", help="tiny encoders: a trial, not a measurement")
    arguments = parser.parse_args()
    if arguments.tiny:
        print("tiny encoders: these are no measurements", file=sys.stderr)
    record(measure(arguments.methods, arguments.epochs, arguments.threads, arguments.tiny))


if __name__ == "__main__":
    main()
