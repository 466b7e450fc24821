"""All benchmarks with one command: metrics/benchmarks.csv and a picture of it beside it.

    PYTHONPATH=src python benchmarks/run.py [--authors ../OS-SCL] [--asdkit ../dcase-asd-toolkit]

Some ten minutes on two cores that do nothing else; `--only NAME` (again for more) runs a part, `--quick` tiny sizes, which show
that everything runs and measure nothing. Every benchmark is a command of a script of this folder, in a process of its own, whose
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

import matplotlib as mpl
import pandas as pd

mpl.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.axes import Axes

HERE = Path(__file__).resolve().parent
THREADS = min(2, os.cpu_count() or 1)


@dataclass(frozen=True)
class Benchmark:
    """A command of a script, and its options.

    Attributes:
        script: of this folder; the command is the benchmark's name.
        measures: in words.
        full, quick: options of a measurement, and of a trial.
        needs: name of the option that gives the checkout of another's code, "" for none.
        always: part of a run without `--only`.
    """

    script: str
    measures: str
    full: str = ""
    quick: str = ""
    needs: str = ""
    always: bool = True


BENCHMARKS = {
    "epoch": Benchmark("training", "an epoch end to end and by phase", "", "--arms ae --clips 8 --epochs 1"),
    "methods": Benchmark("training",
        "training, embedding and memory of every method", "", "--tiny --methods spectral_knn ae frozen"
    ),
    "data": Benchmark("data", "decoding, packing, gathering, beside the usual way", "--clips 128 --repeats 5",
                      "--clips 64 --repeats 1"),
    "features": Benchmark("data", "every log-mel front-end", "", "--repeats 1 --clips 4"),
    "synthetic": Benchmark("data", "generation of synthetic machines", "--clips 16", "--clips 1"),
    "backends": Benchmark("scoring", "every back-end at the size of a challenge", "",
                          "--clips 1200 --queries 240 --units 2"),
    "neighbours": Benchmark("scoring", "kNN at 60,000 x 60,000, in bounded memory", "", "--clips 800"),
    "tables": Benchmark("cached", "tables from cached embeddings", "", "--arms 2 --clips 600"),
    "growth": Benchmark("growth", "growth with clips and with length", "",
                        "--clips 24 48 --lengths 0.5 1 --clips-of-lengths 4"),
    "fleet": Benchmark("cluster", "an archive scored by 1, 2 and 4 workers, ten of them killed", "",
                       "--clips 12 --seconds 0.3 --part 4 --workers 1 --kills 0"),
    "head": Benchmark("cluster", "what the head and the scheduler of a cluster bear", "--many 10000",
                      "--tasks 20 --many 20 --part 50 --known 10000 --listed 20"),
    "paper_scale": Benchmark("paper_scale", "OS-SCL, AnoPatch and Han et al., extrapolated to paper scale: for a GPU", "",
                             "--tiny --device cpu --cases han", always=False),
    "strided": Benchmark("strided", "strided convolutions of one channel in two forms", "", "--batch 2 --seconds 0.5 --turns 1"),
    "loading_vs_asdkit": Benchmark("loading", "loading and collating, beside ASDKit's", f"--threads {THREADS}",
                                   "--clips 64 --turns 1", needs="asdkit"),
    "epoch_vs_authors": Benchmark("authors", "an epoch from WAV files, beside the authors' code", "",
                                  "--clips 41 --batch 16 --turns 1 --threads 1 --model logmel_os_scl", needs="authors"),
    "train_step": Benchmark("authors", "a training step, beside the authors' code", "--pairs 3 --warm-up 1",
                            "--batch 2 --pairs 1 --warm-up 1 --threads 1", needs="authors", always=False),
    "report": Benchmark("cached", "the report of a large run", "", "--arms 2 --clips 600", always=False),
    "memory": Benchmark("memory", "memory of the papers' fine-tunings, counted (a table on the screen)", always=False),
}  # fmt: skip


def run_one(name: str, options: list[str], table: Path, log: Path | None) -> tuple[int, float, float]:
    """Exit status, seconds and peak of memory (MiB) of a script."""
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join([str(HERE.parent / "src"), os.environ.get("PYTHONPATH", "")]),
        "BENCHMARKS_TABLE": str(table), "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", str(THREADS)),
    }  # fmt: skip
    start = time.perf_counter()
    actions = [(os.POSIX_SPAWN_OPEN, 2, str(log), os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)] if log else []
    command = [sys.executable, str(HERE / f"{BENCHMARKS[name].script}.py"), name, *options]
    pid = os.posix_spawn(sys.executable, command, environment, file_actions=actions)
    try:
        _, status, usage = os.wait4(pid, 0)
    except KeyboardInterrupt:
        os.waitpid(pid, 0)
        raise
    return os.waitstatus_to_exitcode(status), time.perf_counter() - start, usage.ru_maxrss / 1024


# ------------------------------------------------------------------------------------------------------------------ the picture
PHASES = ["gather", "log-mel", "forward", "backward", "update", "average", "validation", "rest"]
COLOURS = {phase: f"C{number}" for number, phase in enumerate(PHASES)}
COMPARED = ["epoch vs authors", "train_step", "loading", "gather", "pack"]


def short(text: str, most: int = 84) -> str:
    return text if len(text) <= most else text[: most - 1] + "\u2026"


def bars(axes: Axes, names: list[str], values: list[float], label: str, log: bool = False) -> None:
    """Horizontal bars with their numbers, the first on top."""
    if not values:
        axes.text(0.5, 0.5, "not measured", ha="center", transform=axes.transAxes)
        axes.set_axis_off()
        return
    axes.barh(range(len(values)), values, color="tab:blue", height=0.7)
    axes.set_yticks(range(len(values)), [short(name) for name in names], fontsize=7)
    axes.invert_yaxis()
    for at, value in enumerate(values):
        axes.annotate(f"{value:,.3g}" if value < 1000 else f"{value:,.0f}", (value, at), xytext=(3, 0),
                      textcoords="offset points", va="center", fontsize=7)  # fmt: skip
    if log:
        axes.set_xscale("log")
    axes.set_xlabel(label)
    low, high = axes.get_xlim()
    axes.set_xlim(min(values) / 2 if log else low, high * 3 if log else high * 1.15)
    axes.spines[["top", "right"]].set_visible(False)


def ratios(axes: Axes, table: pd.DataFrame) -> None:
    rows = table[table["benchmark"].isin(COMPARED) & (table["ratio"] > 0) & ~table["unit"].str.contains("processor")]
    rows = rows.sort_values("benchmark", key=lambda names: names.map(COMPARED.index), kind="stable")
    names = [f"{row.benchmark}: {row.variant}" for row in rows.itertuples()]
    bars(axes, names, list(rows["ratio"]), "times faster than the other side, measured in turns", log=True)
    if names:
        axes.axvline(1, color="0.4", lw=1)
    axes.set_title("Beside other code")


def phases(axes: Axes, table: pd.DataFrame) -> None:
    rows = table[table["benchmark"].eq("epoch") & table["variant"].str.contains(": ") & (table["ratio"] > 0)]
    rows = rows[rows["variant"].str.rsplit(": ", n=1).str[1].isin(PHASES)]
    arms = list(dict.fromkeys(rows["variant"].str.rsplit(": ", n=1).str[0]))
    for at, arm in enumerate(arms):
        left = 0.0
        for phase in PHASES:
            share = rows.loc[rows["variant"] == f"{arm}: {phase}", "ratio"]
            width = 100 * float(share.iloc[0]) if len(share) else 0.0
            axes.barh(at, width, left=left, color=COLOURS[phase], label=phase if at == 0 else None, height=0.6)
            if width > 7:
                axes.text(left + width / 2, at, f"{width:.0f}", ha="center", va="center", color="white", fontsize=8)
            left += width
    axes.set_yticks(range(len(arms)), [short(arm) for arm in arms], fontsize=7)
    axes.set_xlabel("share of an epoch (%)")
    axes.set_title("Phases of an epoch")
    if arms:
        handles = [plt.Rectangle((0, 0), 1, 1, color=COLOURS[phase]) for phase in PHASES]
        axes.legend(
            handles, PHASES, fontsize=7, ncols=4, loc="upper center", bbox_to_anchor=(0.5, -0.16), frameon=False
        )
    axes.spines[["top", "right"]].set_visible(False)


def methods(axes: Axes, table: pd.DataFrame) -> None:
    rows = table[table["benchmark"].eq("method: train")].sort_values("value")
    bars(axes, list(rows["variant"]), list(rows["value"]), "ms per 10 s clip and epoch", log=True)
    axes.set_title("Training, by method")


def growth(axes: Axes, table: pd.DataFrame, axis: str) -> None:
    rows = table[table["benchmark"].eq(f"growth with {axis}")]
    powers = rows[rows["unit"] == "exponent of time"].set_index("variant")["value"]
    timed = rows[rows["unit"] == "s"]
    pattern = r"^(.*), (\d+) clips of ([\d.]+) s$"
    parts = timed["variant"].str.extract(pattern)
    for name, power in powers.items():
        mine = parts[0] == name
        x = parts.loc[mine, 1 if axis == "clips" else 2].astype(float)
        curve = pd.Series(timed.loc[mine, "value"].to_numpy(), index=x.to_numpy()).sort_index()
        axes.loglog(curve.index, curve.to_numpy(), "o-", ms=4, label=f"{name} (exponent {power:.2f})")
    axes.set_xlabel("clips of 0.5 s" if axis == "clips" else "length of clips (s)")
    axes.set_ylabel("s")
    axes.set_title(f"Growth with {axis if axis == 'clips' else 'the length of clips'}")
    if len(powers):
        axes.legend(fontsize=7, ncols=2, loc="upper center", bbox_to_anchor=(0.5, -0.12), frameon=False)
    axes.spines[["top", "right"]].set_visible(False)


def memory(axes: Axes, table: pd.DataFrame) -> None:
    rows = table[table["unit"].eq("MiB at most") & ~table["benchmark"].eq("memory")].sort_values("value")
    bars(axes, [f"{row.benchmark.removesuffix(': memory')}: {row.variant}" for row in rows.itertuples()],
         list(rows["value"]), "peak of memory of the process (MiB)")  # fmt: skip
    axes.set_title("Memory")


def plot(table: Path, out: Path) -> None:
    """Draw the rows of `table` into `out`; panels without rows say so."""
    frame = pd.read_csv(table)
    frame["ratio"] = pd.to_numeric(frame["ratio"], errors="coerce")
    frame["value"] = pd.to_numeric(frame["value"], errors="coerce")
    with plt.rc_context({"font.size": 8, "axes.titlesize": 10}):
        figure, places = plt.subplots(3, 2, figsize=(17, 18), layout="constrained")
        ratios(places[0, 0], frame)
        phases(places[0, 1], frame)
        methods(places[1, 0], frame)
        memory(places[1, 1], frame)
        growth(places[2, 0], frame, "clips")
        growth(places[2, 1], frame, "length")
        known = frame[frame["machine"].notna()]
        if len(known):
            figure.suptitle(
                "; ".join(dict.fromkeys(known["machine"] + ", " + known["versions"])), fontsize=8, color="0.3"
            )
        figure.savefig(out, dpi=80)
        plt.close(figure)


# ------------------------------------------------------------------------------------------------------------------ one command
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
                    print(
                        f"    left out: it needs --{benchmark.needs} (see benchmarks/{benchmark.script}.py)", flush=True
                    )
                    continue
                options += [f"--{benchmark.needs}", str(checkout.resolve())]
            log = Path(folder) / name
            status, seconds, peak = run_one(name, options, table, log)
            if status:
                failed.append(name)
                print("    failed:\n" + log.read_text(errors="replace")[-3000:], flush=True)
            else:
                rows.append(memory_row(name, peak))
            print(f"    {seconds:.0f} s; {time.perf_counter() - began:.0f} s in all", flush=True)
    sys.path.insert(0, str(HERE.parent / "src"))
    from common import record

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
