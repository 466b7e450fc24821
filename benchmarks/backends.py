"""Time of every back-end on embeddings of the size of a challenge year.

    OMP_NUM_THREADS=2 PYTHONPATH=src python benchmarks/backends.py

30,000 training and 18,000 test clips of 768 numbers, float32: six machine types of four units (or `--units`), a hundredth
of the training clips target. Those of a unit lie around 40 points, as operating conditions do. The knobs are those of
params.yaml; the fusion's time is that of its members' left-out scores, which come on top of the members. Each is timed
once: these are seconds of matrix products. Rows go to metrics/benchmarks.csv, the highest memory of the process to the
screen.
"""

from __future__ import annotations

import argparse
import resource
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import yaml

from auscult.scoring.sweep import left_out_scores
from auscult.scoring.table import scored
from auscult.settings.schema import BackendSweep
from auscult.settings.section import validated
from record import record

MACHINES, DIMS = 6, 768


def embeddings(clips: int, units: int, partition: str) -> tuple[np.ndarray, pd.DataFrame]:
    """Embeddings [clips, DIMS] and their table, in the order of units."""
    rng = np.random.default_rng(["train", "test"].index(partition))
    centres = np.random.default_rng(7).standard_normal((MACHINES * units, 40, DIMS)).astype(np.float32)
    unit = np.repeat(np.arange(MACHINES * units), -(-clips // (MACHINES * units)))[:clips]
    clouds = centres[unit, rng.integers(0, 40, clips)]
    meta = pd.DataFrame({"machine": [f"m{u // units}" for u in unit], "unit": [f"{u % units:02d}" for u in unit]})
    target = rng.random(clips) < 0.01
    meta["domain"] = np.where(target, "target", "source") if partition == "train" else "unknown"
    return clouds + 0.5 * rng.standard_normal((clips, DIMS), dtype=np.float32), meta


def rows(sweep: BackendSweep, clips: int, queries: int, units: int) -> Iterator[dict[str, object]]:
    train, train_meta = embeddings(clips, units, "train")
    test, test_meta = embeddings(queries, units, "test")
    wanted = [member for one in sweep.sweep.values() for member in getattr(one, "of", ())]
    for name, entry in sweep.sweep.items():
        if entry.kind in ("native", "fusion"):
            continue
        settings = entry.filled("unit", domains=True)
        start = time.perf_counter()
        scores = scored(settings, train, train_meta, test, test_meta)
        seconds = time.perf_counter() - start
        assert np.isfinite(scores).all()
        yield {"benchmark": "back-ends", "variant": f"{name}, {clips} + {queries} clips", "value": round(seconds, 2)}
        if name in wanted:
            start = time.perf_counter()
            left_out_scores(settings, train, train_meta, sweep.folds, sweep.seed)
            seconds = time.perf_counter() - start
            variant = f"left-out scores of {name}, {clips} clips"
            yield {"benchmark": "back-ends", "variant": variant, "value": round(seconds, 2)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=int, default=30_000)
    parser.add_argument("--queries", type=int, default=18_000)
    parser.add_argument("--units", type=int, default=4)
    parser.add_argument("--no-record", action="store_true", help="do not write metrics/benchmarks.csv")
    arguments = parser.parse_args()
    params = yaml.safe_load((Path(__file__).parents[1] / "params.yaml").read_text())
    sweep = validated(BackendSweep, params["backends"], "backends")
    found = []
    for row in rows(sweep, arguments.clips, arguments.queries, arguments.units):
        found.append({**row, "unit": "s", "reference": "", "ratio": ""})
        print(f"{row['value']:8.2f} s  {row['variant']}", flush=True)
    print(f"{sum(float(str(row['value'])) for row in found):8.2f} s  in all")
    print(f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:8.2f} GiB at most")
    if not arguments.no_record:
        record(found)


if __name__ == "__main__":
    main()
