"""Time of an epoch on the CPU, end to end and by phase, of arms as params.yaml has them.

    PYTHONPATH=src python benchmarks/epoch.py

Noise of 10 s as WAV files is packed once (decode and log-mel; its own row), then `auscult.training.loop.fit` trains on it: the
first epoch warms up, the median of the others is shown, per clip. The phases are those of one more training, wrapped around
the calls that every training makes: `gather` (waveforms out of the packed file), `log-mel` (gathered, or computed where the
front-end is not packed), forward pass and loss, backward, the optimiser, the moving average, validation; `rest` is what the loop
itself takes. Each arm runs in a process of its own, whose peak of memory is shown, too. Rows go to metrics/benchmarks.csv.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from pathlib import Path

import numpy as np

from auscult.data.store import ClipStore
from auscult.settings.params import arm_settings, load_params
from auscult.settings.training import MethodSettings
from measure import Marks, Phases, Row, in_child, packed_noise, profile, row, task, train
from record import record

ROOT = Path(__file__).parents[1]
SECONDS = 10.0


def settings_of(arm: str, epochs: int, batch: int) -> MethodSettings:
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

        def at_end() -> None:
            first.append({name: float(value[0]) for name, value in phases.totals.items()})

        seconds, _ = train(settings, store, marks=Marks(at_end))
    found = {name: float(value[0]) - first[0].get(name, 0.0) for name, value in phases.totals.items()}
    return found | {"rest": sum(seconds) - sum(found.values())}, sum(seconds)


def measure(arms: list[str], clips: int, epochs: int, batch: int, threads: int) -> list[Row]:
    found: list[Row] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        frontends = sorted({str(settings_of(arm, 1, batch).model_dump()["frontend"]) for arm in arms})
        start = time.perf_counter()
        _, peak = in_child(packed_noise, folder, clips, SECONDS, frontends, threads)
        spent = time.perf_counter() - start
        note = f"{', '.join(frontends)}; with writing and reading of WAV files"
        found.append(row("epoch", f"pack once: {note}", 1000 * spent / clips, "ms per 10 s clip"))
        found.append(row("epoch", f"pack once: {note}", peak, "MiB at most"))
        for arm in arms:
            settings = settings_of(arm, epochs + 1, batch)
            seconds, peak = in_child(whole, folder / "packed", settings, threads=threads)
            variant = f"{arm}, batch {settings.batch_size}, threads {threads}"
            each = 1000 * float(np.median(seconds)) / clips
            found.append(row("epoch", variant, each, "ms per 10 s clip and epoch"))
            found.append(row("epoch", variant, peak, "MiB at most"))
            (phases, total), _ = in_child(parts, folder / "packed", settings, threads=threads)
            for phase, spent in phases.items():
                share = row("epoch", f"{variant}: {phase}", 1000 * spent / clips / epochs, "ms per 10 s clip and epoch")
                found.append(share | {"reference": float(f"{1000 * total / clips / epochs:.4g}"),
                                      "ratio": round(spent / total, 4)})  # fmt: skip
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--arms", nargs="+", default=["logmel_os_scl", "tfst_os_scl", "ae"])
    parser.add_argument("--clips", type=int, default=32)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--batch", type=int, default=16, help="of whole clips")
    parser.add_argument("--threads", type=int, default=min(2, os.cpu_count() or 1))
    arguments = parser.parse_args()
    record(measure(arguments.arms, arguments.clips, arguments.epochs, arguments.batch, arguments.threads))


if __name__ == "__main__":
    main()
