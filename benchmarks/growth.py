"""How time and memory grow with the number of clips and with their length.

PYTHONPATH=src python benchmarks/growth.py --help
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

from auscult.data.pack import pack
from auscult.data.store import ClipStore
from auscult.evaluation.evaluate import evaluate
from auscult.methods import load_method
from auscult.scoring.table import knobs, scored
from auscult.settings.rules import MetricRules
from auscult.settings.schema import Data, Score
from auscult.training.embed import embed
from auscult.training.modelfolder import Trained
from common import (
    Row,
    both_clocks,
    command,
    exponent,
    in_child,
    packed_noise,
    parser_of,
    peak_mib,
    profile,
    quiet,
    record,
    row,
    task,
    train,
    training_clips,
    write_noise,
)

SHORT, DIMS = 0.5, 64
Step = Callable[[Path, int, float], float]
"""Of a folder, a count of clips and their length in seconds; does the work and returns the seconds of it alone."""


def nothing(folder: Path, clips: int, length: float) -> float:
    return 0.0


def manifest(folder: Path, clips: int, length: float) -> float:
    return both_clocks(lambda: training_clips(folder / "raw", length))[0]


def packing(folder: Path, clips: int, length: float) -> float:
    rows, data = training_clips(folder / "raw", length), Data(profile="bench", workers=1)
    with quiet():
        work = partial(pack, rows, folder / "raw", folder / "again", profile(length), data, ["dcase_constant"])
        return both_clocks(work)[0]


def autoencoder(folder: Path, clips: int, length: float) -> float:
    settings = load_method("ae").settings.model_validate({"method": "ae", "epochs": 2, "valid_fraction": 0.0})
    return train(settings, ClipStore(folder / "packed"))[0][0]


def embedding(folder: Path, clips: int, length: float) -> float:
    settings = load_method("ae").settings.model_validate({"method": "ae", "epochs": 2, "valid_fraction": 0.0})
    store = ClipStore(folder / "packed")
    method, name, rows, _, classes, shape = task(store, settings)
    network = method.build(settings, shape).eval()
    store.index = store.index.loc[rows]
    trained = Trained(method, settings, {name: network}, {name: classes}, {name: shape}, {})
    with quiet():
        embed(trained, store, 64)
        return both_clocks(lambda: embed(trained, store, 64))[0]


def clouds(clips: int, seed: int) -> tuple[np.ndarray, pd.DataFrame]:
    rng = np.random.default_rng(seed)
    number = np.arange(clips) % 4
    meta = pd.DataFrame({"machine": [f"m{n // 2}" for n in number], "unit": [f"{n % 2:02d}" for n in number]})
    return rng.standard_normal((clips, DIMS), dtype=np.float32), meta.assign(domain="source")


def backend(name: str) -> Step:
    def work(folder: Path, clips: int, length: float) -> float:
        few, (bank, meta), (queries, of) = clouds(64, 0), clouds(clips, 0), clouds(clips, 1)
        settings = knobs(name, Score(), domains=False)
        scored(settings, *few, *few)
        return both_clocks(lambda: scored(settings, bank, meta, queries, of))[0]

    work.__name__ = name
    return work


def evaluation(folder: Path, clips: int, length: float) -> float:
    _, meta = clouds(clips, 0)
    rng = np.random.default_rng(0)
    anomaly = rng.integers(0, 2, clips)
    scores = meta.assign(clip_id=np.arange(clips), set="dev", backend="native", score=rng.normal(size=clips) + anomaly)
    labels = pd.DataFrame({"clip_id": np.arange(clips), "anomaly": anomaly, "domain": "source"})
    return both_clocks(lambda: evaluate(scores, labels, MetricRules(scheme="dcase2020"), replicates=200))[0]


def tfst(folder: Path, clips: int, length: float) -> float:
    values = {"method": "os_scl", "epochs": 2, "batch_size": 8, "valid_fraction": 0.0, "selection": "last"}
    return train(load_method("os_scl").settings.model_validate(values), ClipStore(folder / "packed"))[0][0]


BY_CLIPS: dict[str, Step] = {
    "manifest": manifest, "decode, log-mel and write": packing, "epoch of ae": autoencoder, "embedding by ae": embedding,
    "knn_cosine": backend("knn_cosine"), "ldn": backend("ldn"), "mahalanobis": backend("mahalanobis"),
    "evaluation": evaluation,
}  # fmt: skip
BY_LENGTH: dict[str, Step] = {"decode, log-mel and write": packing, "epoch of tfst_os_scl": tfst}


def prepare(folder: Path, clips: int, length: float, frontend: str) -> None:
    write_noise(folder / "raw", clips, length)
    packed_noise(folder, clips, length, [frontend])


def step_of(work: Step, folder: Path, clips: int, length: float) -> tuple[float, float]:
    """Seconds, and MiB at most."""
    return work(folder, clips, length), peak_mib()


def measure(axis: str, steps: dict[str, Step], sizes: list[tuple[int, float]], frontend: str) -> list[Row]:
    found: list[Row] = []
    costs: dict[str, list[tuple[float, float]]] = {name: [] for name in steps}
    (_, base), _ = in_child(step_of, nothing, Path(), 0, 0.0)
    for clips, length in sizes:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            in_child(prepare, folder, clips, length, frontend)
            for step, work in steps.items():
                (seconds, peak), _ = in_child(step_of, work, folder, clips, length)
                costs[step].append((seconds, max(peak - base, 0.0)))
                size = f"{clips} clips of {length:g} s"
                found.append(row(f"growth with {axis}", f"{step}, {size}", seconds, "s"))
                found.append(row(f"growth with {axis}", f"{step}, {size}", costs[step][-1][1], "MiB more"))
    scale = [float(clips if axis == "clips" else length) for clips, length in sizes]
    for step, pairs in costs.items():
        for number, what in enumerate(("time", "memory")):
            power = exponent(scale, [pair[number] for pair in pairs])
            found.append(row(f"growth with {axis}", step, power, f"exponent of {what}"))
    return found


def growth() -> None:
    """How time and memory grow with the number of clips and with their length: fitted exponents, 1 = linear.

        PYTHONPATH=src python benchmarks/growth.py

    Clips of 0.5 s, four units of two machine types, at 1,000, 4,000 and 16,000 clips: manifest, packing with log-mel, an
    epoch of the autoencoder, its embedding, the back-ends kNN, density-normalised kNN and Mahalanobis on embeddings of 64
    numbers, evaluation with 200 bootstrap replicates. Then 8 clips of 1 to 8 s: decode with log-mel, and an epoch of OS-SCL
    on TFSTgram. Every size of every step is a process of its own on one thread; memory is its peak less that of a process
    that only imports. The exponent p of c * size ** p is fitted on logarithms; below 1 there is a fixed part. `knn` in one
    bank is the one that may be 2: `neighbours`. Rows go to metrics/benchmarks.csv, the sizes themselves too.
    """
    parser = parser_of(growth, clips=[1000, 4000, 16000], lengths=[1.0, 2.0, 4.0, 8.0], clips_of_lengths=8)
    arguments = parser.parse_args()
    found = measure("clips", BY_CLIPS, [(count, SHORT) for count in arguments.clips], "dcase_constant")
    lengths = [(arguments.clips_of_lengths, length) for length in arguments.lengths]
    record(found + measure("length", BY_LENGTH, lengths, "osscl"))


if __name__ == "__main__":
    command({"growth": growth})
