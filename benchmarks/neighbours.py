"""Time and memory of the nearest-neighbour score at 60,000 training and 60,000 test clips of 128 numbers, and its growth.

    PYTHONPATH=src python benchmarks/neighbours.py

The one thing in the project that grows with the product of two counts: `auscult.scoring.knn.nearest` on one bank, as if
all clips were of one unit. All distances at once would be 13.4 GiB in float32 (`reference` of the memory); they are taken
in chunks, so that the memory on top of the embeddings stays the same from a quarter of the clips to all of them. Each
size runs in a process of its own. Rows go to metrics/benchmarks.csv.
"""

from __future__ import annotations

import argparse
import os
import time

import numpy as np

from auscult.scoring.banks import Metric
from auscult.scoring.knn import nearest
from measure import Row, exponent, in_child, peak_mib, row
from record import record

DIMS = 128


def score(clips: int, metric: Metric) -> tuple[float, float]:
    """Seconds, and MiB on top of what was there before."""
    rng = np.random.default_rng(0)
    bank, queries = (rng.standard_normal((clips, DIMS), dtype=np.float32) for _ in range(2))
    nearest(bank[:100], queries[:100], 1, metric)  # imports
    before, start = peak_mib(), time.perf_counter()
    found = nearest(bank, queries, 1, metric)
    seconds = time.perf_counter() - start
    assert found.shape == (clips,)
    assert np.isfinite(found).all()
    return seconds, peak_mib() - before


def measure(clips: int, metrics: list[Metric]) -> list[Row]:
    found = []
    for metric in metrics:
        sizes = [clips // 4, clips // 2, clips]
        costs = []
        for size in sizes:
            (seconds, memory), _ = in_child(score, size, metric)
            costs.append(seconds)
            variant = f"{metric}, {size} x {size} x {DIMS}"
            full = 4 * size**2 / 2**20
            found.append(row("kNN", variant, seconds, "s"))
            found.append(row("kNN", variant, memory, "MiB more", full, full / max(memory, 1)))
        found.append(row("kNN", f"{metric}, {sizes[0]} to {clips} clips", exponent(sizes, costs), "exponent of time"))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=int, default=60_000)
    parser.add_argument("--metrics", nargs="+", default=["euclidean", "cosine"])
    arguments = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", str(min(2, os.cpu_count() or 1)))
    record(measure(arguments.clips, arguments.metrics))


if __name__ == "__main__":
    main()
