"""Speed of the synthetic machines as a multiple of real time, per core: generation alone, and with writing WAV files.

    PYTHONPATH=src python benchmarks/synthetic.py

Per machine type 32 clips (`--clips`) of the profile's length, in one process on one thread; processor time, which a busy
machine does not distort, and wall time. Rows go to metrics/benchmarks.csv; `reference` is real time, one second of sound
per second.
"""

from __future__ import annotations

import argparse
import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import tempfile
import time
from pathlib import Path

from auscult.data.synthetic import SyntheticSource, generate_clips, write_tree
from auscult.settings.params import load_profile
from record import record


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=int, default=32)
    count = parser.parse_args().clips
    rows: list[dict[str, object]] = []
    for name in ("synthetic", "synthetic_full"):
        profile = load_profile(name, Path(__file__).parents[1] / "profiles")
        length = {"sample_rate": profile.sample_rate, "clip_seconds": profile.clip_seconds}
        source = SyntheticSource.model_validate({**length, **profile.source})
        wall, processor = time.perf_counter(), _processor_time()
        for machine, units in source.machines.items():
            generate_clips(source, machine, units.dev[0], "train", range(count))
        audio = count * len(source.machines) * profile.clip_seconds
        rows += _rows(f"{profile.clip_seconds:g} s clips", audio, wall, processor)

        few = source.model_copy(update={"train_clips": 6, "test_normal": 1, "test_anomaly": 1})
        units_in_all = sum(len(units.dev) + len(units.eval) for units in few.machines.values())
        with tempfile.TemporaryDirectory() as folder:
            wall, processor = time.perf_counter(), _processor_time()
            write_tree(few, Path(folder) / "tree", workers=1, progress=False)
        rows += _rows(
            f"{profile.clip_seconds:g} s clips, written as WAV",
            8 * units_in_all * profile.clip_seconds,
            wall,
            processor,
        )
    for row in rows:
        print(*row.values())
    record(rows)


def _processor_time() -> float:
    """Seconds of this process and of the workers it has waited for."""
    return sum(os.times()[:4])


def _rows(variant: str, audio: float, wall: float, processor: float) -> list[dict[str, object]]:
    spent = {"processor": _processor_time() - processor, "wall": time.perf_counter() - wall}
    return [
        {"benchmark": "synthetic", "variant": variant, "value": round(audio / seconds, 1),
         "unit": f"s of sound per s of {clock} time", "reference": 1, "ratio": round(audio / seconds, 1)}
        for clock, seconds in spent.items()
    ]  # fmt: skip


if __name__ == "__main__":
    main()
