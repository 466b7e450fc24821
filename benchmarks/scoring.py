"""What comes after training: every back-end (`backends`), and nearest neighbours at a large size (`neighbours`).

PYTHONPATH=src python benchmarks/scoring.py backends --help
"""

from __future__ import annotations

import os
import time

import numpy as np
import pandas as pd
import yaml

from auscult.scoring import backends as kinds
from auscult.scoring.banks import BackendSettings, Metric
from auscult.scoring.knn import nearest
from auscult.scoring.sweep import left_out_scores, members
from auscult.scoring.table import scored
from auscult.settings.schema import BackendSweep
from auscult.settings.section import validated
from common import ROOT, THREADS, Row, command, exponent, in_child, parser_of, peak_mib, record, row

# ------------------------------------------------------------------------------------------------------------ backends
BACKENDS_MACHINES, BACKENDS_DIMS = 6, 768


def embeddings(clips: int, units: int, rows: int, partition: str) -> tuple[np.ndarray, pd.DataFrame]:
    """Embeddings [clips, rows * DIMS] and their table, in the order of units."""
    count, dims = BACKENDS_MACHINES * units, rows * BACKENDS_DIMS
    rng = np.random.default_rng(["train", "test"].index(partition))
    centres = np.random.default_rng(7).standard_normal((count, 40, dims), dtype=np.float32)
    unit = np.repeat(np.arange(count), -(-clips // count))[:clips]
    vectors = rng.standard_normal((clips, dims), dtype=np.float32)
    vectors *= 0.5
    for number in range(count):  # no second copy of the embeddings: it would hide what a back-end takes
        vectors[unit == number] += centres[number, rng.integers(0, 40, np.count_nonzero(unit == number))]
    meta = pd.DataFrame({"machine": [f"m{u // units}" for u in unit], "unit": [f"{u % units:02d}" for u in unit]})
    target = rng.random(clips) < 0.01
    meta["domain"] = np.where(target, "target", "source") if partition == "train" else "unknown"
    return vectors, meta


def backend_costs(settings: BackendSettings, sweep: BackendSweep, sizes: tuple[int, int, int, int]) -> list[float]:
    """Seconds of the processor, MiB on top of the embeddings, and seconds of the left-out scores."""
    clips, queries, units, rows = sizes
    train, test = embeddings(clips, units, rows, "train"), embeddings(queries, units, rows, "test")
    few = embeddings(20 * BACKENDS_MACHINES * units, units, rows, "train")
    scored(settings, *few, *few)  # imports
    del few
    before, start = peak_mib(), time.process_time()
    assert np.isfinite(scored(settings, *train, *test)).all()
    costs = [time.process_time() - start, peak_mib() - before]
    start = time.process_time()
    if sizes[3] == 1:
        left_out_scores(settings, *train, sweep.folds, sweep.seed)
    return [*costs, time.process_time() - start]


def backends() -> None:
    """Time and memory of every back-end on embeddings of the size of a challenge year.

        OMP_NUM_THREADS=1 PYTHONPATH=src python benchmarks/scoring.py backends
        OMP_NUM_THREADS=1 PYTHONPATH=src python benchmarks/scoring.py backends --rows 8 --only knn_cosine beam varmin

    30,000 training and 18,000 test clips of 768 numbers (or `--rows` times as many), float32: six machine types of four units,
    a hundredth of the training clips target. Those of a unit lie around 40 points, as operating conditions do. The knobs are
    those of params.yaml; the fusion's time is that of its members' left-out scores, which come on top of the members. Each is
    timed once, in a process of its own, in seconds of the processor; `reference`: the first. Memory is the peak on top of the
    embeddings. Rows go to metrics/benchmarks.csv.
    """
    parser = parser_of(backends, clips=30_000, queries=18_000, units=4, rows=1, no_record=False)
    parser.add_argument("--only", nargs="+", help="entries of the sweep")
    chosen = parser.parse_args()
    sweep = validated(BackendSweep, yaml.safe_load((ROOT / "params.yaml").read_text())["backends"], "backends")
    names = [
        name for name, entry in sweep.sweep.items() if entry.kind in kinds() and name in (chosen.only or sweep.sweep)
    ]
    wanted = {member for entry in sweep.sweep.values() for member in members(entry)}
    sizes, found, first = (chosen.clips, chosen.queries, chosen.units, chosen.rows), [], 0.0
    size = f"{chosen.clips} + {chosen.queries} clips" + (f" of {chosen.rows} rows" if chosen.rows > 1 else "")
    for name in names:
        settings = sweep.sweep[name].filled("unit", domains=True, rows=chosen.rows)
        (seconds, memory, left_out), _ = in_child(backend_costs, settings, sweep, sizes)
        first = first or seconds
        found.append(row("back-ends", f"{name}, {size}", seconds, "s", first, seconds / first))
        found.append(row("back-ends", f"{name}, {size}", memory, "MiB more"))
        if name in wanted and chosen.rows == 1:
            found.append(row("back-ends", f"left-out scores of {name}, {chosen.clips} clips", left_out, "s"))
    if not chosen.no_record:
        record(found)


# ---------------------------------------------------------------------------------------------------------- neighbours
NEIGHBOURS_DIMS = 128


def score(clips: int, metric: Metric) -> tuple[float, float]:
    """Seconds, and MiB on top of what was there before."""
    rng = np.random.default_rng(0)
    bank, queries = (rng.standard_normal((clips, NEIGHBOURS_DIMS), dtype=np.float32) for _ in range(2))
    nearest(bank[:100], queries[:100], 1, metric)  # imports
    before, start = peak_mib(), time.perf_counter()
    found = nearest(bank, queries, 1, metric)
    seconds = time.perf_counter() - start
    assert found.shape == (clips,)
    assert np.isfinite(found).all()
    return seconds, peak_mib() - before


def neighbours_measure(clips: int, metrics: list[Metric]) -> list[Row]:
    found = []
    for metric in metrics:
        sizes = [clips // 4, clips // 2, clips]
        costs = []
        for size in sizes:
            (seconds, memory), _ = in_child(score, size, metric)
            costs.append(seconds)
            variant = f"{metric}, {size} x {size} x {NEIGHBOURS_DIMS}"
            full = 4 * size**2 / 2**20
            found.append(row("kNN", variant, seconds, "s"))
            found.append(row("kNN", variant, memory, "MiB more", full, full / max(memory, 1)))
        found.append(row("kNN", f"{metric}, {sizes[0]} to {clips} clips", exponent(sizes, costs), "exponent of time"))
    return found


def neighbours() -> None:
    """Time and memory of the nearest-neighbour score at 60,000 training and 60,000 test clips of 128 numbers, and its growth.

        PYTHONPATH=src python benchmarks/scoring.py neighbours

    The one thing in the project that grows with the product of two counts: `auscult.scoring.knn.nearest` on one bank, as if
    all clips were of one unit. All distances at once would be 13.4 GiB in float32 (`reference` of the memory); they are taken
    in chunks, so that the memory on top of the embeddings stays the same from a quarter of the clips to all of them. Each
    size runs in a process of its own. Rows go to metrics/benchmarks.csv.
    """
    arguments = parser_of(neighbours, clips=60_000, metrics=["euclidean", "cosine"]).parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", str(THREADS))
    record(neighbours_measure(arguments.clips, arguments.metrics))


if __name__ == "__main__":
    command({"backends": backends, "neighbours": neighbours})
