"""Time of every log-mel front-end, per clip and over lengths of clips, and peak of memory of packing.

    PYTHONPATH=src python benchmarks/features.py

On one thread, clip by clip, as packing does it, on noise; beside it a batch of 16 at once, as training does where the
front-end is not packed. Rows go to metrics/benchmarks.csv.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import torch

from auscult.features import FRONTENDS, spectrogram
from measure import RATE, Row, in_child, packed_noise, row
from record import record

SECONDS, BATCH = 10.0, 16


def per_clip(frontend: str, batch: int, repeats: int) -> float:
    """Milliseconds, the median of `repeats` batches."""
    wave = 0.1 * torch.randn(batch, round(RATE * SECONDS), generator=torch.Generator().manual_seed(0))
    times = []
    for _ in range(repeats + 1):
        start = time.perf_counter()
        spectrogram(wave[0] if batch == 1 else wave, frontend, RATE)
        times.append(time.perf_counter() - start)
    return 1000 * sorted(times[1:])[repeats // 2] / batch


def measure(repeats: int, clips: int) -> list[Row]:
    found = []
    for frontend in FRONTENDS:
        for batch in (1, BATCH):
            each, _ = in_child(per_clip, frontend, batch, repeats * (BATCH if batch == 1 else 1))
            how = "clip by clip" if batch == 1 else f"batch of {batch}"
            found.append(row("features", f"{frontend}, {how}, threads 1", each, "ms per 10 s clip"))
    with tempfile.TemporaryDirectory() as folder:
        in_child(packed_noise, Path(folder), clips, SECONDS, [])  # writes the files
        for workers in (1, 2):
            _, peak = in_child(packed_noise, Path(folder), clips, SECONDS, ["osscl"], workers)
            found.append(row("features", f"decode, log-mel and write, {workers} worker(s)", peak, "MiB at most"))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--clips", type=int, default=64)
    arguments = parser.parse_args()
    record(measure(arguments.repeats, arguments.clips))


if __name__ == "__main__":
    main()
