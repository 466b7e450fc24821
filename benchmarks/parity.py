"""Do the switches that make training fast change its results? The same arm, trained plainly and fast, over several seeds.

    PYTHONPATH=src python benchmarks/parity.py --arms logmel_os_scl --seeds 2024 2025 2026

Run from the project's root after `dvc repro features` (or `dvc repro`). Each arm is trained once per seed and path, embedded
and scored as the pipeline does it, in a temporary folder; nothing of the pipeline is touched. "plain" has every switch off;
"fast" is `FAST`. They agree if the means differ by less than the seeds of one path do. Both paths start from the same
weights and see the same batches, so the paired differences are of rounding alone.

Rows go to metrics/parity.csv, one per arm, path and seed; `--table` prints what docs/performance.md shows.
"""

from __future__ import annotations

import argparse
import os
import platform
import subprocess
import sys
import tempfile
from pathlib import Path

import pandas as pd
import torch

from auscult.evaluation.evaluate import evaluate
from auscult.files import atomic_file
from auscult.scoring.table import score_table
from auscult.settings.project import Project
from auscult.settings.training import Train
from auscult.training.arm import train_arm
from auscult.training.embed import embed_arm

PLAIN = {"precision": "float32", "prefetch": 0, "compile": "none", "matmul": "highest"}
FAST = {"precision": "bfloat16", "prefetch": 2, "matmul": "high"}
PATHS = {"plain": PLAIN, "fast": PLAIN | FAST}
METRICS = ("auc", "pauc")
TABLE = Path("metrics/parity.csv")


def run(project: Project, arm: str, seed: int, path: str, folder: Path) -> dict[str, float | str | int]:
    """Train, embed and score; the arm's averages over machine types (percent, per unit) on the development set."""
    given: Train = project.section("train")
    train = Train(**(given.model_dump() | PATHS[path] | {"seeds": (seed,)}))
    paths = project.paths
    model, embeddings, label = folder / "model", folder / "embeddings", project.profile.class_label
    train_arm(project.arm(arm), label, train, seed, paths.features("train"), model, folder / "resume", "code")
    features = {part: paths.features(part) for part in ("train", "test")}
    batch = project.section("embed").batch_size
    embed_arm(model, features, embeddings, batch, train)
    scores = score_table(embeddings, project.section("score"), project.profile.rules.domains).assign(arm=arm, seed=seed)
    summary = evaluate(scores, pd.read_parquet(paths.labels), project.profile.rules, replicates=0)
    mine = summary[
        (summary["convention"] == "per_unit") & (summary["set"] == "dev") & (summary["machine"] == "mean")
        & (summary["backend"] == "native")
    ].set_index("metric")["value"]  # fmt: skip
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else platform.processor() or platform.machine()
    return {"profile": project.profile.name, "arm": arm, "path": path, "seed": seed, "device": device,
            "torch": torch.__version__} | {name: round(float(mine[name]), 2) for name in METRICS}  # fmt: skip


def table(rows: pd.DataFrame) -> str:
    """Markdown: per arm and metric the mean and standard deviation over seeds of each path, and of the paired difference."""
    lines = [
        "| profile | arm | metric | seeds | plain | fast | fast - plain, same seed |",
        "|---|---|---|---:|---:|---:|---:|",
    ]
    for (profile, arm), of in rows.groupby(["profile", "arm"], sort=False):
        for metric in METRICS:
            wide = of.pivot(index="seed", columns="path", values=metric).dropna()
            cells = [f"{wide[path].mean():.1f} ± {wide[path].std():.1f}" for path in PATHS]
            change = wide["fast"] - wide["plain"]
            cells.append(f"{change.mean():+.1f} ± {change.std():.1f}")
            lines.append(f"| {profile} | `{arm}` | {metric} | {len(wide)} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--arms", nargs="+", default=["logmel_os_scl"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[2024, 2025, 2026])
    parser.add_argument("--csv", type=Path, default=TABLE)
    parser.add_argument("--table", action="store_true", help="print the table of what is in the CSV, and train nothing")
    parser.add_argument("--one", nargs=3, metavar=("ARM", "SEED", "PATH"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        arm, seed, path = arguments.one
        with tempfile.TemporaryDirectory() as folder:
            row = run(Project.open(), arm, int(seed), path, Path(folder))
        pd.DataFrame([row]).to_csv(sys.stdout, index=False)
        return
    rows = pd.read_csv(arguments.csv) if arguments.csv.is_file() else pd.DataFrame()
    if not arguments.table:
        for arm in arguments.arms:
            for seed in arguments.seeds:
                for path in PATHS:  # a process each: global settings of torch (matmul precision) stay apart
                    rows = _added(rows, _child(arm, seed, path))
                    with atomic_file(arguments.csv) as part:  # after each: an interrupted run keeps what it has
                        rows.to_csv(part, index=False)
    print(table(rows))


def _child(arm: str, seed: int, path: str) -> pd.DataFrame:
    from io import StringIO

    command = [sys.executable, __file__, "--one", arm, str(seed), path]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, env=dict(os.environ))
    return pd.read_csv(StringIO(done.stdout))


def _added(rows: pd.DataFrame, new: pd.DataFrame) -> pd.DataFrame:
    """`rows` with `new` in the place of older ones of the same name."""
    keys = ["profile", "arm", "path", "seed", "device"]
    return pd.concat([rows, new], ignore_index=True).drop_duplicates(keys, keep="last", ignore_index=True)


if __name__ == "__main__":
    main()
