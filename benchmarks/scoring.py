"""What comes after training: back-ends (`backends`), kNN at a large size (`neighbours`), tables, the report, growth with size.

PYTHONPATH=src python benchmarks/scoring.py backends --help
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml

from auscult.data.manifest import build_manifest
from auscult.data.pack import pack
from auscult.data.store import ClipStore
from auscult.evaluation.evaluate import evaluate
from auscult.methods import load_method
from auscult.results.cells import Evidence
from auscult.results.tables import write_tables
from auscult.scoring import backends as kinds
from auscult.scoring.banks import BackendSettings, Metric
from auscult.scoring.knn import nearest
from auscult.scoring.sweep import left_out_scores, members
from auscult.scoring.table import knobs, scored
from auscult.settings.params import load_params, load_profile
from auscult.settings.paths import Paths
from auscult.settings.rules import MetricRules
from auscult.settings.schema import BackendSweep, Data, Score
from auscult.settings.section import validated
from auscult.training.embed import embed
from auscult.training.modelfolder import Trained
from common import (
    Row,
    command,
    exponent,
    in_child,
    packed_noise,
    peak_mib,
    profile,
    quiet,
    record,
    row,
    task,
    train,
    write_noise,
)

# ------------------------------------------------------------------------------------------------------------ backends
ROOT = Path(__file__).parents[1]
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
    parser = argparse.ArgumentParser(description=backends.__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for option, default in (("clips", 30_000), ("queries", 18_000), ("units", 4), ("rows", 1)):
        parser.add_argument(f"--{option}", type=int, default=default)
    parser.add_argument("--only", nargs="+", help="entries of the sweep")
    parser.add_argument("--no-record", action="store_true", help="do not write metrics/benchmarks.csv")
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
    parser = argparse.ArgumentParser(
        description=neighbours.__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--clips", type=int, default=60_000)
    parser.add_argument("--metrics", nargs="+", default=["euclidean", "cosine"])
    arguments = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", str(min(2, os.cpu_count() or 1)))
    record(neighbours_measure(arguments.clips, arguments.metrics))


# -------------------------------------------------------------------------------------------------------------- tables
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


def tables_measure(arms: int, clips: int) -> list[Row]:
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


def tables() -> None:
    """Time and memory of making every table again from cached embeddings and scores, without training.

        PYTHONPATH=src python benchmarks/scoring.py tables

    A made-up project (that of `report`): 5 arms, 6,000 test clips of six machine types, three back-ends. Timed are the
    stages as DVC runs them, each a process of its own with its imports: `score` of one arm, `tables` of all. Rows go to
    metrics/benchmarks.csv.
    """
    parser = argparse.ArgumentParser(description=tables.__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--arms", type=int, default=5)
    parser.add_argument("--clips", type=int, default=6000)
    arguments = parser.parse_args()
    record(tables_measure(arguments.arms, arguments.clips))


# -------------------------------------------------------------------------------------------------------------- report
REPORT_MACHINES, UNITS, REPORT_DIMS = (
    ("fan", "pump", "slider", "valve", "ToyCar", "ToyConveyor"),
    ("00", "02", "04", "06"),
    128,
)
REPORT_BACKENDS = ("native", "knn_cosine", "knn_euclidean")
SEED = 2024


def clips(count: int, first: int) -> pd.DataFrame:
    rng = np.random.default_rng(first)
    places = np.sort(rng.integers(0, len(REPORT_MACHINES) * len(UNITS), count))
    frame = pd.DataFrame({"clip_id": np.arange(first, first + count), "set": "dev"})
    frame["machine"] = [REPORT_MACHINES[place // len(UNITS)] for place in places]
    frame["unit"] = [UNITS[place % len(UNITS)] for place in places]
    return frame.assign(domain="unknown")


def make_project(root: Path, arms: int, count: int) -> None:
    """A project folder with everything that the page is made from, but audio."""
    names = [f"arm_{number:02d}" for number in range(arms)]
    tables = yaml.safe_load((ROOT / "params.yaml").read_text())["tables"]
    params: dict[str, Any] = {"data": {"profile": "large"}, "train": {"seeds": [SEED]}, "arms": names, "tables": tables}
    params |= {"score": {"backends": list(REPORT_BACKENDS)}, **{name: {"method": "os_scl"} for name in names}}
    profile = {
        "name": "large", "dataset": "large", "title": "A made-up large run", "licence": "MIT", "source": {}, "clip_seconds": 10.0,
        "grammar": "dcase2020", "sets": {"dev": "."}, "rules": {"scheme": "dcase2020"},
    }  # fmt: skip
    (root / "profiles").mkdir(parents=True)
    (root / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))
    (root / "profiles" / "large.yaml").write_text(yaml.safe_dump(profile))
    paths, rng = Paths("large", root), np.random.default_rng(0)
    train, test = clips(count * 5 // 3, 10_000_000), clips(count, 0)
    anomaly = rng.integers(0, 2, count)
    for folder in (paths.clips.parent, paths.scores("project/a").parent, paths.results()):
        folder.mkdir(parents=True)
    pd.concat([train, test]).assign(path="clip.wav").to_parquet(paths.clips)
    pd.DataFrame({"clip_id": test["clip_id"], "anomaly": anomaly, "domain": "unknown"}).to_parquet(paths.labels)
    shared = root / "shared"
    shared.mkdir()
    for name, rows in (("train", train), ("test", test)):
        np.save(shared / f"{name}.npy", rng.standard_normal((len(rows), REPORT_DIMS), dtype=np.float32))
    hard = rng.normal(size=count)
    for number, arm in enumerate(names):
        own = rng.normal(size=count) + hard + (2.5 - 2 * number / arms) * anomaly
        scores = pd.concat([test.assign(backend=b, score=own + 0.1 * rng.normal(size=count)) for b in REPORT_BACKENDS])
        scores.assign(seed=SEED).to_parquet(paths.scores(f"project/{arm}"))
        folder, model = paths.embeddings(arm, SEED), paths.model(arm, SEED)
        for place in (folder, model):
            place.mkdir(parents=True)
        for name, rows in (("train", train), ("test", test)):
            (folder / f"{name}.npy").symlink_to(shared.resolve() / f"{name}.npy")
            rows.assign(native=rng.normal(size=len(rows)) ** 2).to_parquet(folder / f"{name}.parquet")
        epochs = np.arange(1, 101)
        loss = np.exp(-epochs / 20) + 0.02 * rng.random(100)
        pd.DataFrame(
            {"scope": "all", "epoch": epochs, "lr": 1e-3, "train_loss": loss, "valid_loss": loss + 0.1}
        ).to_csv(model / "history.csv", index=False)
        (model / "config.yaml").write_text("skipped: {}\ncode: none\n")
        (folder / "network.json").write_text(
            json.dumps({"parameters": 1e5 * (1 + number), "macs_per_clip": 1e7 * (1 + number)})
        )
        took, speed = paths.cost("train", arm, SEED), paths.cost("embed", arm, SEED)
        took.parent.mkdir(parents=True)
        took.write_text(json.dumps({"train_seconds": 50.0 + number, "device": "none"}))
        speed.write_text(json.dumps({"clips_per_second": 900 - number}))
        if number == 0:
            labels = pd.read_parquet(paths.labels)
            one = evaluate(scores.assign(arm=arm), labels, MetricRules(scheme="dcase2020"), replicates=20)
    shifted = [
        one.assign(arm=arm, **{c: one[c] - n / arms for c in ("value", "ci_low", "ci_high")})
        for n, arm in enumerate(names)
    ]
    write_tables(
        pd.concat(shifted), load_params(root).tables(), paths.results(), ("large", "large"), Evidence(arms=names)
    )
    assert load_profile("large", root / "profiles").name == "large"


def report() -> None:
    """Time, memory and size of the report of a large run: 60 arms, 18,000 test clips, three back-ends, made up here.

        OMP_NUM_THREADS=1 PYTHONPATH=src python benchmarks/scoring.py report

    Six machine types of four units, 30,000 training clips, embeddings of 128 numbers; the numbers of the tables are those of one
    evaluation, shifted from arm to arm. There is no audio, so that the section of the worst clips only says so. The page is made
    by a process of its own: its seconds are of the processor and of the clock. Rows go to metrics/benchmarks.csv.
    """
    parser = argparse.ArgumentParser(description=report.__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--arms", type=int, default=60)
    parser.add_argument("--clips", type=int, default=18_000)
    parser.add_argument("--keep", type=Path, help="leave project and page in this folder")
    parser.add_argument("--no-record", action="store_true", help="do not write metrics/benchmarks.csv")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root = arguments.keep or Path(folder) / "project"
        make_project(root, arguments.arms, arguments.clips)
        start, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
        environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
        subprocess.run(
            [sys.executable, "-m", "auscult.cli", "report", "--out", "page"], cwd=root, env=environment, check=True
        )
        wall, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
        size = sum(path.stat().st_size for path in (root / "page").rglob("*") if path.is_file())
    processor = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    variant = f"{arguments.arms} arms, {arguments.clips} clips"
    found: list[dict[str, object]] = []
    for what, value, unit in (
        ("seconds of the processor", round(processor, 1), "s"),
        ("seconds of the clock", round(wall, 1), "s wall"),
        ("peak memory", round(after.ru_maxrss / 2**20, 2), "GiB"),
        ("size of the folder", round(size / 1e6, 1), "MB"),
    ):
        print(f"{value:8} {unit:7} {what}", flush=True)
        found.append(
            {"benchmark": "report", "variant": variant, "value": value, "unit": unit, "reference": "", "ratio": ""}
        )
    if not arguments.no_record:
        record(found)


# -------------------------------------------------------------------------------------------------------------- growth
SHORT, GROWTH_DIMS = 0.5, 64
Step = Callable[[Path, int, float], float]
"""Of a folder, a count of clips and their length in seconds; does the work and returns the seconds of it alone."""


def seconds_of(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def nothing(folder: Path, clips: int, length: float) -> float:
    return 0.0


def manifest(folder: Path, clips: int, length: float) -> float:
    with quiet():
        return seconds_of(lambda: build_manifest(profile(length), folder / "raw", workers=1))


def packing(folder: Path, clips: int, length: float) -> float:
    with quiet():
        found, _ = build_manifest(profile(length), folder / "raw", workers=1)
        rows, data = found[found["partition"] == "train"], Data(profile="bench", workers=1)
        out = folder / "again"
        return seconds_of(lambda: pack(rows, folder / "raw", out, profile(length), data, ["dcase_constant"]))


def autoencoder(folder: Path, clips: int, length: float) -> float:
    settings = load_method("ae").settings.model_validate({"method": "ae", "epochs": 2, "valid_fraction": 0.0})
    return train(settings, ClipStore(folder / "packed"))[0][0]


def embedding(folder: Path, clips: int, length: float) -> float:
    settings = load_method("ae").settings.model_validate({"method": "ae", "epochs": 2, "valid_fraction": 0.0})
    store = ClipStore(folder / "packed")
    method, name, rows, _, classes, shape = task(store, settings)
    network = method.build(settings, shape).eval()
    store.index = store.index.loc[rows]
    trained = Trained(method, settings, {name: network}, {name: classes}, {name: shape}, {})
    with quiet():
        embed(trained, store, 64)
        return seconds_of(lambda: embed(trained, store, 64))


def clouds(clips: int, seed: int) -> tuple[np.ndarray, pd.DataFrame]:
    rng = np.random.default_rng(seed)
    number = np.arange(clips) % 4
    meta = pd.DataFrame({"machine": [f"m{n // 2}" for n in number], "unit": [f"{n % 2:02d}" for n in number]})
    return rng.standard_normal((clips, GROWTH_DIMS), dtype=np.float32), meta.assign(domain="source")


def backend(name: str) -> Step:
    def work(folder: Path, clips: int, length: float) -> float:
        few, (bank, meta), (queries, of) = clouds(64, 0), clouds(clips, 0), clouds(clips, 1)
        settings = knobs(name, Score(), domains=False)
        scored(settings, *few, *few)
        return seconds_of(lambda: scored(settings, bank, meta, queries, of))

    work.__name__ = name
    return work


def evaluation(folder: Path, clips: int, length: float) -> float:
    _, meta = clouds(clips, 0)
    rng = np.random.default_rng(0)
    anomaly = rng.integers(0, 2, clips)
    scores = meta.assign(clip_id=np.arange(clips), set="dev", backend="native", score=rng.normal(size=clips) + anomaly)
    labels = pd.DataFrame({"clip_id": np.arange(clips), "anomaly": anomaly, "domain": "source"})
    return seconds_of(lambda: evaluate(scores, labels, MetricRules(scheme="dcase2020"), replicates=200))


def tfst(folder: Path, clips: int, length: float) -> float:
    values = {"method": "os_scl", "epochs": 2, "batch_size": 8, "valid_fraction": 0.0, "selection": "last"}
    return train(load_method("os_scl").settings.model_validate(values), ClipStore(folder / "packed"))[0][0]


BY_CLIPS: dict[str, Step] = {
    "manifest": manifest, "decode, log-mel and write": packing, "epoch of ae": autoencoder, "embedding by ae": embedding,
    "knn_cosine": backend("knn_cosine"), "ldn": backend("ldn"), "mahalanobis": backend("mahalanobis"),
    "evaluation": evaluation,
}  # fmt: skip
BY_LENGTH: dict[str, Step] = {"decode, log-mel and write": packing, "epoch of tfst_os_scl": tfst}


def prepare(folder: Path, clips: int, length: float, frontend: str) -> None:
    write_noise(folder / "raw", clips, length)
    packed_noise(folder, clips, length, [frontend])


def step_of(work: Step, folder: Path, clips: int, length: float) -> tuple[float, float]:
    """Seconds, and MiB at most."""
    return work(folder, clips, length), peak_mib()


def growth_measure(axis: str, steps: dict[str, Step], sizes: list[tuple[int, float]], frontend: str) -> list[Row]:
    found: list[Row] = []
    costs: dict[str, list[tuple[float, float]]] = {name: [] for name in steps}
    (_, base), _ = in_child(step_of, nothing, Path(), 0, 0.0)
    for clips, length in sizes:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            in_child(prepare, folder, clips, length, frontend)
            for step, work in steps.items():
                (seconds, peak), _ = in_child(step_of, work, folder, clips, length)
                costs[step].append((seconds, max(peak - base, 0.0)))
                size = f"{clips} clips of {length:g} s"
                found.append(row(f"growth with {axis}", f"{step}, {size}", seconds, "s"))
                found.append(row(f"growth with {axis}", f"{step}, {size}", costs[step][-1][1], "MiB more"))
    scale = [float(clips if axis == "clips" else length) for clips, length in sizes]
    for step, pairs in costs.items():
        for number, what in enumerate(("time", "memory")):
            power = exponent(scale, [pair[number] for pair in pairs])
            found.append(row(f"growth with {axis}", step, power, f"exponent of {what}"))
    return found


def growth() -> None:
    """How time and memory grow with the number of clips and with their length: fitted exponents, 1 = linear.

        PYTHONPATH=src python benchmarks/scoring.py growth

    Clips of 0.5 s, four units of two machine types, at 1,000, 4,000 and 16,000 clips: manifest, packing with log-mel, an
    epoch of the autoencoder, its embedding, the back-ends kNN, density-normalised kNN and Mahalanobis on embeddings of 64
    numbers, evaluation with 200 bootstrap replicates. Then 8 clips of 1 to 8 s: decode with log-mel, and an epoch of OS-SCL
    on TFSTgram. Every size of every step is a process of its own on one thread; memory is its peak less that of a process
    that only imports. The exponent p of c * size ** p is fitted on logarithms; below 1 there is a fixed part. `knn` in one
    bank is the one that may be 2: `neighbours`. Rows go to metrics/benchmarks.csv, the sizes themselves too.
    """
    parser = argparse.ArgumentParser(description=growth.__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", nargs="+", type=int, default=[1000, 4000, 16000])
    parser.add_argument("--lengths", nargs="+", type=float, default=[1, 2, 4, 8])
    parser.add_argument("--clips-of-lengths", type=int, default=8)
    arguments = parser.parse_args()
    found = growth_measure("clips", BY_CLIPS, [(count, SHORT) for count in arguments.clips], "dcase_constant")
    lengths = [(arguments.clips_of_lengths, length) for length in arguments.lengths]
    record(found + growth_measure("length", BY_LENGTH, lengths, "osscl"))


if __name__ == "__main__":
    command({"backends": backends, "neighbours": neighbours, "tables": tables, "report": report, "growth": growth})
