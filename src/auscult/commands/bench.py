"""`auscult bench`."""

from __future__ import annotations

import json
import os
import platform
import sys
import tempfile
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from auscult.commands import Command, apart, print_table

if TYPE_CHECKING:
    import numpy as np

WARM_UP = 3


def bench(parser: ArgumentParser) -> Command:
    """how fast a bundle is on this machine

    Scores windows of noise as all commands do, with torch, or NumPy where the method trains no network, and with onnxruntime
    where it is installed and the method can be exported. Latency: one window alone, median and 95th percentile. Throughput:
    windows per second in batches. Real-time factor: latency by length of a window. Memory: the largest resident size of a
    process that does nothing else, the interpreter and its libraries included.

    Example: auscult bench pump.bundle --runs 20
    """
    parser.add_argument("bundle", metavar="BUNDLE", type=Path, help="folder made by `auscult fit`")
    parser.add_argument(
        "--runs", metavar="N", type=int, default=30, help="measured runs, after three others (default: 30)"
    )
    parser.add_argument(
        "--batch", metavar="N", type=int, default=16, help="windows at once for throughput (default: 16)"
    )
    parser.add_argument("--threads", metavar="N", type=int, default=1, help="for either engine (default: 1)")
    parser.add_argument(
        "--onnx", metavar="FILE", type=Path, help="made by `auscult export` (default: exported for this)"
    )
    parser.add_argument("--json", action="store_true", help="everything that is known, for programs")
    return _run


def _run(arguments: Namespace) -> int:
    from auscult.detector.folder import load
    from auscult.errors import AuscultError

    if min(arguments.runs, arguments.batch, arguments.threads) < 1:
        raise AuscultError("--runs, --batch and --threads must be 1 or more")
    bundle = load(arguments.bundle)
    seconds = bundle.window / bundle.sample_rate
    sizes = (bundle.window, arguments.runs, arguments.batch, arguments.threads)
    engines = {"numpy" if bundle.model.plain else "torch": apart(_bundle, arguments.bundle, *sizes)}
    without = ""
    with tempfile.TemporaryDirectory() as folder:
        try:
            path = arguments.onnx or apart(_export, arguments.bundle, Path(folder) / "model.onnx")
            engines["onnxruntime"] = apart(_onnx, path, *sizes)
        except AuscultError as error:
            without = error.what
    for each in engines.values():
        each["real_time_factor"] = each["median_ms"] / 1000 / seconds
    facts = {
        "bundle": bundle.name, "method": bundle.method, "sample_rate": bundle.sample_rate, "window": bundle.window,
        "window_seconds": seconds, "runs": arguments.runs, "batch": arguments.batch, "threads": arguments.threads,
        "machine": {"processor": _processor(), "cores": os.cpu_count(), "system": platform.platform()},
        "engines": engines, "without_onnxruntime": without,
    }  # fmt: skip
    if arguments.json:
        print(json.dumps(facts, indent=1))
        return 0
    print(f"{bundle.name} ({bundle.method}): windows of {seconds:g} s, {arguments.threads} thread(s), {_processor()}")
    heading = (
        "engine",
        "median ms",
        "p95 ms",
        "real-time factor",
        f"windows/s (batch {arguments.batch})",
        "memory MiB",
    )
    print_table([heading, *(_row(name, each) for name, each in engines.items())])
    if without:
        print(f"no onnxruntime: {without}")
    return 0


def _row(name: str, each: dict[str, Any]) -> tuple[str, ...]:
    return (
        name, f"{each['median_ms']:.2f}", f"{each['p95_ms']:.2f}", f"{each['real_time_factor']:.5f}",
        f"{each['windows_per_second']:.1f}", f"{each['peak_mib']:.0f}" if each["peak_mib"] else "unknown",
    )  # fmt: skip


def _bundle(folder: Path, window: int, runs: int, batch: int, threads: int) -> dict[str, float]:
    from auscult.detector.folder import load

    bundle = load(folder)
    if not bundle.model.plain:
        import torch

        torch.set_num_threads(threads)
    return _measure(bundle.scores, window, runs, batch)


def _export(folder: Path, path: Path) -> Path:
    from auscult.detector.folder import load
    from auscult.detector.onnx.export import export

    return export(load(folder), path).path


def _onnx(path: Path, window: int, runs: int, batch: int, threads: int) -> dict[str, float]:
    from auscult.detector.exported import session

    made = session(path, threads)
    return _measure(lambda waves: made.run(["score"], {"waveform": waves})[0], window, runs, batch)


def _measure(score: Callable[[np.ndarray], np.ndarray], window: int, runs: int, batch: int) -> dict[str, float]:
    import numpy as np

    noise = np.random.default_rng(0).standard_normal((batch, window)).astype(np.float32) * np.float32(0.05)
    alone = _times(lambda: score(noise[:1]), runs)
    together = _times(lambda: score(noise), max(1, runs // batch))
    return {
        "median_ms": 1000 * float(np.median(alone)),
        "p95_ms": 1000 * float(np.percentile(alone, 95)),
        "windows_per_second": batch / float(np.median(together)),
        "peak_mib": _peak_mib(),
    }


def _times(work: Callable[[], object], runs: int) -> list[float]:
    """Seconds of each of `runs` runs, after some that do not count."""
    found = []
    for number in range(WARM_UP + runs):
        started = time.perf_counter()
        work()
        if number >= WARM_UP:
            found.append(time.perf_counter() - started)
    return found


def _peak_mib() -> float:
    """Largest resident size of this process; 0 where the system does not tell.

    Linux counts the parent's pages for a child that is spawned, unless the status of the process itself is read.
    """
    status = Path("/proc/self/status")
    if status.is_file():
        for line in status.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024
    if sys.platform == "win32":
        return 0.0
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)


def _processor() -> str:
    facts = Path("/proc/cpuinfo")
    if facts.is_file():
        for line in facts.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
