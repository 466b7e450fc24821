"""Time and memory of making every table again from cached embeddings and scores, without training.

    PYTHONPATH=src python benchmarks/tables.py

A made-up project (benchmarks/report.py makes it): 5 arms, 6,000 test clips of six machine types, three back-ends. Timed are the
stages as DVC runs them, each a process of its own with its imports: `score` of one arm, `tables` of all. Rows go to
metrics/benchmarks.csv.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path

from measure import Row, row
from record import record
from report import make_project

ROOT = Path(__file__).parents[1]


def stage(root: Path, name: str, *arguments: str) -> tuple[float, float, float]:
    """Seconds by the clock and of the processor, and MiB at most, of a stage run in `root`."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    start = time.perf_counter()
    command = [sys.executable, str(ROOT / "stages" / f"{name}.py"), *arguments]
    # posix_spawn has no working directory; a shell has
    pid = os.posix_spawn("/bin/sh", ["sh", "-c", 'cd "$0" && exec "$@"', str(root), *command], environment)
    _, status, usage = os.wait4(pid, 0)
    if status:
        raise RuntimeError(f"the stage {name} failed")
    return time.perf_counter() - start, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024


def measure(arms: int, clips: int) -> list[Row]:
    found = []
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "project"
        make_project(root, arms, clips)
        for name, arguments, what in (
            ("score", ("arm_00",), f"score one arm, {clips} clips"),
            ("tables", (), f"tables and plots of {arms} arms, {clips} clips"),
        ):
            wall, processor, peak = stage(root, name, *arguments)
            found.append(row("tables from cache", what, wall, "s"))
            found.append(row("tables from cache", what, processor, "s, processor time"))
            found.append(row("tables from cache", what, peak, "MiB at most"))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--arms", type=int, default=5)
    parser.add_argument("--clips", type=int, default=6000)
    arguments = parser.parse_args()
    record(measure(arguments.arms, arguments.clips))


if __name__ == "__main__":
    main()
