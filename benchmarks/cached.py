"""What is made of cached embeddings and scores: every table (`tables`), and the report of a large run (`report`).

PYTHONPATH=src python benchmarks/cached.py tables --help
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml

from auscult.evaluation.evaluate import evaluate
from auscult.results.cells import Evidence
from auscult.results.tables import write_tables
from auscult.settings.params import load_params, load_profile
from auscult.settings.paths import Paths
from auscult.settings.rules import MetricRules
from common import ROOT, Row, command, parser_of, record, row, spawned

MACHINES = ("fan", "pump", "slider", "valve", "ToyCar", "ToyConveyor")
UNITS, DIMS = ("00", "02", "04", "06"), 128
BACKENDS = ("native", "knn_cosine", "knn_euclidean")
SEED = 2024


def clips(count: int, first: int) -> pd.DataFrame:
    rng = np.random.default_rng(first)
    places = np.sort(rng.integers(0, len(MACHINES) * len(UNITS), count))
    frame = pd.DataFrame({"clip_id": np.arange(first, first + count), "set": "dev"})
    frame["machine"] = [MACHINES[place // len(UNITS)] for place in places]
    frame["unit"] = [UNITS[place % len(UNITS)] for place in places]
    return frame.assign(domain="unknown")


def make_project(root: Path, arms: int, count: int) -> None:
    """A project folder with everything that the page is made from, but audio."""
    names = [f"arm_{number:02d}" for number in range(arms)]
    tables = yaml.safe_load((ROOT / "params.yaml").read_text())["tables"]
    params: dict[str, Any] = {"data": {"profile": "large"}, "train": {"seeds": [SEED]}, "arms": names, "tables": tables}
    params |= {"score": {"backends": list(BACKENDS)}, **{name: {"method": "os_scl"} for name in names}}
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
        np.save(shared / f"{name}.npy", rng.standard_normal((len(rows), DIMS), dtype=np.float32))
    hard = rng.normal(size=count)
    for number, arm in enumerate(names):
        own = rng.normal(size=count) + hard + (2.5 - 2 * number / arms) * anomaly
        scores = pd.concat([test.assign(backend=b, score=own + 0.1 * rng.normal(size=count)) for b in BACKENDS])
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


def tables() -> None:
    """Time and memory of making every table again from cached embeddings and scores, without training.

        PYTHONPATH=src python benchmarks/cached.py tables

    A made-up project (that of `report`): 5 arms, 6,000 test clips of six machine types, three back-ends. Timed are the
    stages as DVC runs them, each a process of its own with its imports: `score` of one arm, `tables` of all. Rows go to
    metrics/benchmarks.csv.
    """
    arguments = parser_of(tables, arms=5, clips=6000).parse_args()
    arms, clips, found = arguments.arms, arguments.clips, list[Row]()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "project"
        make_project(root, arms, clips)
        for name, words, what in (
            ("score", ["arm_00"], f"score one arm, {clips} clips"),
            ("tables", [], f"tables and plots of {arms} arms, {clips} clips"),
        ):
            wall, processor, peak = spawned(root, str(ROOT / "stages" / f"{name}.py"), *words)
            found.append(row("tables from cache", what, wall, "s"))
            found.append(row("tables from cache", what, processor, "s, processor time"))
            found.append(row("tables from cache", what, peak, "MiB at most"))
    record(found)


def report() -> None:
    """Time, memory and size of the report of a large run: 60 arms, 18,000 test clips, three back-ends, made up here.

        OMP_NUM_THREADS=1 PYTHONPATH=src python benchmarks/cached.py report

    Six machine types of four units, 30,000 training clips, embeddings of 128 numbers; the numbers of the tables are those of one
    evaluation, shifted from arm to arm. There is no audio, so that the section of the worst clips only says so. The page is made
    by a process of its own: its seconds are of the processor and of the clock. Rows go to metrics/benchmarks.csv.
    """
    parser = parser_of(report, arms=60, clips=18_000, no_record=False)
    parser.add_argument("--keep", type=Path, help="leave project and page in this folder")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root = arguments.keep or Path(folder) / "project"
        make_project(root, arguments.arms, arguments.clips)
        wall, processor, peak = spawned(root, "-m", "auscult.cli", "report", "--out", "page")
        size = sum(path.stat().st_size for path in (root / "page").rglob("*") if path.is_file())
    variant = f"{arguments.arms} arms, {arguments.clips} clips"
    found = [
        row("report", variant, processor, "s"),
        row("report", variant, wall, "s wall"),
        row("report", variant, peak / 1024, "GiB"),
        row("report", variant, size / 1e6, "MB"),
    ]
    if not arguments.no_record:
        record(found)


if __name__ == "__main__":
    command({"tables": tables, "report": report})
