"""An archive scored by a Dask cluster on this machine: equal bytes whatever the number of workers, also if they are killed; time.

    PYTHONPATH=src python benchmarks/cluster.py fleet          # some minutes; run.py runs it with the others
    PYTHONPATH=src python benchmarks/cluster.py head           # what 100 million clips ask of the head and the scheduler

The clips are noise with a tone, the bundle is fitted to 20 others (`spectral_knn`). Every run must end in the same parts, byte
by byte, with a row per clip, and those of which workers are killed in the same rows, or the benchmark fails. On two cores with
other work four workers cannot be faster than two.
"""

from __future__ import annotations

import os
import random
import signal
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
import pandas as pd
import psutil
import soundfile

from auscult.cluster import fleet
from auscult.cluster.archive import Clip, find, in_parts
from auscult.cluster.connect import Tasks, connected
from auscult.cluster.fleet import Outcome, score_archive
from auscult.cluster.output import Known
from auscult.detector import bundle as bundles
from auscult.detector.score import score_file
from common import RATE, Row, command, parser_of, record, row


def write_clips(folder: Path, count: int, seconds: float, seed: int = 0) -> Path:
    """WAV files of noise with a tone, 500 a folder."""
    rng = np.random.default_rng(seed)
    tone = 0.1 * np.sin(0.2 * np.arange(round(RATE * seconds)))
    for number in range(count):
        path = folder / f"{number // 500:04d}" / f"{number:08d}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, 0.05 * rng.standard_normal(len(tone)) + tone, RATE)
    return folder


def parts_of(out: Path, clips: int) -> dict[str, bytes]:
    """The parts, which hold every clip once.

    Raises:
        ValueError: they do not.
    """
    keys = pd.read_parquet(out, columns=["key"])["key"]
    if len(keys) != clips or not keys.is_unique:
        raise ValueError(f"{len(keys)} rows, {keys.nunique()} of different clips, and {clips} are wanted")
    return {path.name: path.read_bytes() for path in out.glob("part-*.parquet")}


def rows_of(out: Path) -> pd.DataFrame:
    """In one order, whatever parts they lie in: one of which workers die four times is made in halves."""
    return pd.read_parquet(out).sort_values("key", ignore_index=True)


def worker_pids() -> list[int]:
    """Workers are forked from one child that has loaded what they need; where they cannot be, they are spawned."""
    found, here = [], psutil.Process()
    for child in here.children(recursive=True):
        try:
            line = " ".join(child.cmdline())
            if "spawn_main" in line or ("forkserver" in line and child.ppid() != here.pid):
                found.append(child.pid)
        except psutil.Error:
            continue
    return found


class Killer(threading.Thread):
    """Kills a worker `count` times, after random waits from the moment on at which the first part is done."""

    def __init__(self, count: int, seconds: float) -> None:
        super().__init__(daemon=True)
        self.count, self.seconds, self.killed = count, seconds, 0
        self.ended = threading.Event()
        self._rng = random.Random(0)

    def run(self) -> None:
        while self.killed < self.count and not self.ended.wait(self._rng.uniform(0, 2 * self.seconds)):
            if pids := worker_pids():
                os.kill(self._rng.choice(pids), signal.SIGKILL)
                self.killed += 1


def scored(
    bundle: Path, clips: Path, out: Path, workers: int, part: int, killer: Killer | None = None
) -> tuple[float, float]:
    """Seconds until the first part is there, and from then on to the end."""
    marks: list[float] = []

    def note(outcome: Outcome, threads: int) -> None:
        if outcome.scored and not marks:
            marks.append(time.perf_counter())
            if killer is not None:
                killer.start()

    start = time.perf_counter()
    score_archive(bundle, [str(clips)], f"local:{workers}", str(out), part, note)
    end = time.perf_counter()
    if killer is not None:
        killer.ended.set()
    return marks[0] - start, end - marks[0]


def run_fleet() -> None:
    parser = parser_of(__doc__, clips=2000, seconds=1.0, part=50, workers=[1, 2, 4], kills=10)
    options = parser.parse_args()
    rows: list[Row] = []
    clips, part = options.clips, options.part
    kind = f"{clips} clips of {options.seconds:g} s, parts of {part}"
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        bundle = bundles.fit(write_clips(root / "normal", 20, options.seconds, seed=1), root / "pump")
        archive = write_clips(root / "archive", clips, options.seconds)
        some = [clip.path for clip in find([str(archive)])][: max(10, clips // 10)]
        for path in some[:10]:
            score_file(bundle, path)
        start = time.perf_counter()
        for path in some:
            score_file(bundle, path)
        alone = 1000 * (time.perf_counter() - start) / len(some)
        expected: dict[str, bytes] | None = None
        for workers in options.workers:
            out = root / f"out{workers}"
            first, rest = scored(bundle.folder, archive, out, workers, part)
            made = parts_of(out, clips)
            if expected is not None and made != expected:
                raise ValueError(f"{workers} workers made other parts")
            expected = made
            each = 1000 * rest / (clips - part)
            variant = f"{workers} worker(s), {kind}"
            rows.append(row("cluster: score", variant, each, "ms per clip, wall time", alone, alone / each))
            rows.append(row("cluster: start to first part", variant, first, "s"))
        record(rows)
        if options.kills:
            workers, killed, run = max(2, min(options.workers)), 0, 0
            table = rows_of(root / f"out{options.workers[0]}")
            while killed < options.kills:  # a run may end before all are killed
                killer, out, run = Killer(options.kills - killed, 3.0), root / f"killed{run}", run + 1
                scored(bundle.folder, archive, out, workers, part, killer)
                parts_of(out, clips)
                if not rows_of(out).equals(table):
                    raise ValueError("other rows where workers were killed")
                killed += killer.killed
            unit = f"kills at random moments in {run} run(s), the same rows"
            record([row("cluster: workers killed", f"{workers} workers, {kind}", killed, unit)])


def nothing(task: list[Clip]) -> int:
    return len(task)


def run_head() -> None:
    """What 100 million clips ask of the head and the scheduler. `--known 0` and `--listed 0` leave a part out."""
    parser = parser_of(run_head, tasks=2000, many=100_000, part=fleet.PART, known=10_000_000, listed=2000)
    options = parser.parse_args()
    rows: list[Row] = []
    rng = np.random.default_rng(0)
    parts = list(in_parts((Clip(f"s3://fleet/2026/pump/{n:09d}.wav", 320044, f"{n:032x}") for n in range(10 * options.part)),
                          options.part, 2**62))  # fmt: skip
    if options.known:
        known = Known(np.sort(np.frombuffer(rng.bytes(16 * options.known), "S16")))
        start = time.perf_counter()
        for part in parts:
            assert not known.holds(part).any()
        took = 1e6 * (time.perf_counter() - start) / sum(map(len, parts))
        rows.append(row("cluster: head", f"looked up among {options.known} known clips", took, "us per clip"))
        rows.append(row("cluster: head", "memory of known clips", known.keys.nbytes / options.known, "bytes per clip"))
    if options.listed:
        with tempfile.TemporaryDirectory() as folder:
            write_clips(Path(folder), options.listed, 0.01)
            start = time.perf_counter()
            count = sum(1 for _ in find([folder]))
            took = 1e6 * (time.perf_counter() - start) / count
            rows.append(row("cluster: head", "listed in folders of 500", took, "us per clip"))
    with connected("local:2") as client:
        tasks = Tasks(client, nothing)
        assert sum(tasks.results(parts)) == sum(map(len, parts))
        for clips, count in ((options.part, options.tasks), (1, options.many)):
            start, used = time.perf_counter(), time.process_time()
            before = psutil.Process().memory_info().rss
            for _ in tasks.results(parts[number % len(parts)][:clips] for number in range(count)):
                pass
            took, used = time.perf_counter() - start, time.process_time() - used
            grown = psutil.Process().memory_info().rss - before
            variant = f"{count} tasks of {clips} clip(s) that do nothing, 2 workers, TLS"
            rows.append(row("cluster: overhead per task", variant, 1000 * took / count, "ms, wall time"))
            rows.append(
                row("cluster: overhead per task", variant, 1000 * used / count, "ms, processor time of the head")
            )
            rows.append(row("cluster: head", f"growth over {variant}", grown / 2**20, "MiB"))
    record(rows)


if __name__ == "__main__":
    command({"fleet": run_fleet, "head": run_head})
