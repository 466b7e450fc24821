"""All benchmarks with one command: metrics/benchmarks.csv and a picture of it beside it.

    PYTHONPATH=src python benchmarks/run.py [--authors ../OS-SCL] [--asdkit ../dcase-asd-toolkit]

Some ten minutes on two cores that do nothing else; `--only NAME` (again for more) runs a part, `--quick` tiny sizes, which show
that everything runs and measure nothing. Every benchmark is a script of this folder in a process of its own, whose
peak of memory is a row, too. What one side is compared with is measured beside it, in turns; columns `reference` and `ratio`.
The comparisons with other people's code need a checkout of it and are left out without. A script that fails does not stop
the others; the exit status tells.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
THREADS = min(2, os.cpu_count() or 1)


@dataclass(frozen=True)
class Benchmark:
    """A script and its options.

    Attributes:
        measures: in words.
        full, quick: options of a measurement, and of a trial.
        needs: name of the option that gives the checkout of another's code, "" for none.
        always: part of a run without `--only`.
    """

    measures: str
    full: str = ""
    quick: str = ""
    needs: str = ""
    always: bool = True


BENCHMARKS = {
    "epoch": Benchmark("an epoch end to end and by phase", "", "--arms ae --clips 8 --epochs 1"),
    "methods": Benchmark(
        "training, embedding and memory of every method", "", "--tiny --methods spectral_knn ae frozen"
    ),
    "data": Benchmark("decoding, packing, gathering, beside the usual way", "--clips 128 --repeats 5",
                      "--clips 64 --repeats 1"),
    "features": Benchmark("every log-mel front-end", "", "--repeats 1 --clips 4"),
    "synthetic": Benchmark("generation of synthetic machines", "--clips 16", "--clips 1"),
    "backends": Benchmark("every back-end at the size of a challenge", "",
                          "--clips 1200 --queries 240 --units 2"),
    "neighbours": Benchmark("kNN at 60,000 x 60,000, in bounded memory", "", "--clips 800"),
    "tables": Benchmark("tables from cached embeddings", "", "--arms 2 --clips 600"),
    "growth": Benchmark("growth with clips and with length", "",
                        "--clips 40 160 --lengths 0.5 1 --clips-of-lengths 4"),
    "paper_scale": Benchmark("TFSTgram OS-SCL, extrapolated to paper scale", "--clips 64 --epochs 1 --device cpu",
                             "--clips 8 --epochs 1 --batch 4 --seconds 1 --device cpu"),
    "loading_vs_asdkit": Benchmark("loading and collating, beside ASDKit's", f"--threads {THREADS}",
                                   "--clips 64 --turns 1", needs="asdkit"),
    "epoch_vs_authors": Benchmark("an epoch from WAV files, beside the authors' code", "",
                                  "--clips 41 --batch 16 --turns 1 --threads 1 --model logmel_os_scl", needs="authors"),
    "train_step": Benchmark("a training step, beside the authors' code", "--pairs 3 --warm-up 1",
                            "--batch 2 --pairs 1 --warm-up 1 --threads 1", needs="authors", always=False),
    "report": Benchmark("the report of a large run", "", "--arms 2 --clips 600", always=False),
    "memory": Benchmark("memory of the papers' fine-tunings, counted (a table on the screen)", always=False),
}  # fmt: skip


def run(name: str, options: list[str], table: Path, log: Path | None) -> tuple[int, float, float]:
    """Exit status, seconds and peak of memory (MiB) of a script."""
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join([str(HERE.parent / "src"), os.environ.get("PYTHONPATH", "")]),
        "BENCHMARKS_TABLE": str(table), "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", str(THREADS)),
    }  # fmt: skip
    start = time.perf_counter()
    actions = [(os.POSIX_SPAWN_OPEN, 2, str(log), os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)] if log else []
    command = [sys.executable, str(HERE / f"{name}.py"), *options]
    pid = os.posix_spawn(sys.executable, command, environment, file_actions=actions)
    try:
        _, status, usage = os.wait4(pid, 0)
    except KeyboardInterrupt:
        os.waitpid(pid, 0)
        raise
    return os.waitstatus_to_exitcode(status), time.perf_counter() - start, usage.ru_maxrss / 1024


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", action="append", choices=BENCHMARKS, metavar="NAME", help=", ".join(BENCHMARKS))
    parser.add_argument(
        "--quick", action="store_true", help="tiny sizes: a trial, not a measurement; give --csv with it"
    )
    parser.add_argument("--authors", type=Path, help="checkout of the authors' code of OS-SCL")
    parser.add_argument("--asdkit", type=Path, help="checkout of ASDKit")
    parser.add_argument("--csv", type=Path, default=HERE.parent / "metrics" / "benchmarks.csv")
    arguments = parser.parse_args()
    if arguments.quick and arguments.csv == parser.get_default("csv"):
        parser.error("--quick measures nothing: name another table with --csv")
    names = arguments.only or [name for name, benchmark in BENCHMARKS.items() if benchmark.always]
    table, began = arguments.csv.resolve(), time.perf_counter()
    failed, rows = [], []
    with tempfile.TemporaryDirectory() as folder:
        for number, name in enumerate(names, 1):
            benchmark = BENCHMARKS[name]
            options = (benchmark.quick if arguments.quick else benchmark.full).split()
            print(f"[{number}/{len(names)}] {name}: {benchmark.measures}", flush=True)
            if benchmark.needs:
                checkout = getattr(arguments, benchmark.needs)
                if checkout is None:
                    print(f"    left out: it needs --{benchmark.needs} (see benchmarks/{name}.py)", flush=True)
                    continue
                options += [f"--{benchmark.needs}", str(checkout.resolve())]
            log = Path(folder) / name
            status, seconds, peak = run(name, options, table, log)
            if status:
                failed.append(name)
                print("    failed:\n" + log.read_text(errors="replace")[-3000:], flush=True)
            else:
                rows.append(memory_row(name, peak))
            print(f"    {seconds:.0f} s; {time.perf_counter() - began:.0f} s in all", flush=True)
    sys.path.insert(0, str(HERE.parent / "src"))
    from plot import plot
    from record import record

    if rows:
        record(rows, table)
    if table.exists():
        plot(table, table.with_suffix(".png"))
        print(f"written: {table}, {table.with_suffix('.png')}")
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


def memory_row(name: str, peak: float) -> dict[str, object]:
    return {"benchmark": "memory", "variant": f"benchmarks/{name}.py and its children", "value": round(peak),
            "unit": "MiB at most", "reference": "", "ratio": ""}  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
