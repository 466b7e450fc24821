"""MLflow: one run per arm, written from committed metrics and cached outputs, so it is complete whatever came from the cache.

A run is found again by a key made of profile, arm, parameters and weights: publishing twice updates it. The store is the
checkout's own `mlflow.db`, also for experiments that DVC runs in a temporary copy. Nothing else imports mlflow.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import subprocess
import time
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from auscult.config import flat
from auscult.files import atomic_file, digest
from auscult.params import Arm
from auscult.paths import project_root
from auscult.project import Project

HEADLINE = {"set": "dev", "convention": "per_unit"}  # under the short names `auc/fan`; the long names say all


def publish(project: Project, receipt: Path, study: str = "") -> None:
    """Write the run of every arm of the project, or of a study, and last `receipt` (which keys were published).

    Without mlflow the receipt says so.
    """
    try:
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        from mlflow.tracking import MlflowClient
    except ImportError:
        _write(
            receipt, {"published": None, "reason": "mlflow is not installed; install it and run: dvc repro -f publish"}
        )
        print("mlflow is not installed: results are in metrics/, nothing was published")
        return
    store = project_root().resolve()
    client = MlflowClient(os.environ.get("MLFLOW_TRACKING_URI", f"sqlite:///{store / 'mlflow.db'}"))
    experiment = _experiment(client, f"auscult/{project.profile.name}", store)
    metrics = project.paths.metrics(study)
    summary = pd.read_csv(metrics / "summary.csv")
    arms = [arm for arm in project.params.arms.values() if arm.study == study]
    names = [arm.name for arm in arms]
    keys = []
    for arm in arms:
        plots = [
            file
            for file in sorted((metrics / "plots").glob("*.png"))
            if file.stem.endswith(arm.name) or not any(file.stem.endswith(other) for other in names)
        ]
        keys.append(_publish_arm(client, experiment, project, arm, summary[summary["arm"] == arm.name], plots))
    _write(receipt, {"published": keys})
    print(f"{len(keys)} runs are up to date in {client.tracking_uri}\nlook at them with: mlflow ui")


def _experiment(client: Any, name: str, store: Path) -> str:
    found = client.get_experiment_by_name(name)
    if found:
        return str(found.experiment_id)
    # An explicit place: the default is relative to whatever folder the process happens to run in.
    return str(client.create_experiment(name, artifact_location=(store / "mlartifacts" / name).as_uri()))


def _publish_arm(
    client: Any, experiment: str, project: Project, arm: Arm, rows: pd.DataFrame, plots: list[Path]
) -> str:
    from mlflow.entities import Metric

    models = {seed: project.paths.model(arm.weights, seed) for seed in project.seeds}
    first = models[project.seeds[0]]
    config = yaml.safe_load((first / "config.yaml").read_text())
    params = flat({**config["settings"], "train": project.section("train").model_dump()})
    params |= {"profile": project.profile.name, "arm": arm.name, "score.k": project.section("score").k}
    if arm.condition is not None:
        params |= flat({"condition": arm.condition.model_dump()})
    identity = json.dumps(
        [project.profile.name, arm.name, params, *(digest(model) for model in models.values())],
        sort_keys=True, default=str,
    )  # fmt: skip
    key = f"{project.profile.name}/{arm.name}/{hashlib.sha256(identity.encode()).hexdigest()[:16]}"

    run = _run(client, experiment, key, arm.name)
    run_id, start, known = run.info.run_id, run.info.start_time, run.data.metrics
    now = int(time.time() * 1000)
    cost = _cost(project, arm)
    final = _metrics(rows) | {f"cost/{name}": value for name, value in cost.items() if isinstance(value, int | float)}
    # Only what changed, so that a second publish adds no second point to a curve.
    changed = [Metric(name, value, now, 0) for name, value in final.items() if known.get(name) != value]
    curves = []
    for seed, model in models.items():
        suffix = f".seed_{seed}" if len(models) > 1 else ""
        if not _has_curves(client, run_id, model, suffix):
            curves += list(_curves(model, start, Metric, suffix))
    written = {} if run.data.params else params
    _log(client, run_id, changed + curves, written)
    for name, value in _tags(project, key, cost, arm.study).items():
        client.set_tag(run_id, name, value)
    for file in (first / "config.yaml", first / "history.csv"):
        client.log_artifact(run_id, str(file), "model")
    for file in plots:
        client.log_artifact(run_id, str(file), "plots")
    client.set_terminated(run_id, "FINISHED", end_time=start + round(1000 * cost.get("train_seconds", 0)))
    return key


def _cost(project: Project, arm: Arm) -> dict[str, Any]:
    """Cost of training (of the arm whose weights are used) and of embedding, with the first seed."""
    seed = project.seeds[0]
    cost: dict[str, Any] = {}
    for path in (project.paths.train_cost(arm.weights, seed), project.paths.embed_cost(arm.name, seed)):
        cost |= json.loads(path.read_text())
    return cost


def _run(client: Any, experiment: str, key: str, arm: str) -> Any:
    found = client.search_runs([experiment], f"tags.`auscult.key` = '{key}'", max_results=1)
    if found:
        return found[0]
    return client.create_run(experiment, tags={"auscult.key": key, "mlflow.runName": arm})


def _metrics(rows: pd.DataFrame) -> dict[str, float]:
    """`dev.native.per_unit.auc/fan` for every defined number; `auc/fan` for the arm's first back-end under `HEADLINE`."""
    rows = rows[rows["value"].notna()]
    out = {
        f"{r['set']}.{r['backend']}.{r['convention']}.{r['metric']}/{r['machine']}": r["value"] for r in _records(rows)
    }
    short = rows[(rows["set"] == HEADLINE["set"]) & (rows["convention"] == HEADLINE["convention"])]
    if len(short):
        short = short[short["backend"] == short["backend"].iloc[0]]
    return out | {f"{r['metric']}/{r['machine']}": r["value"] for r in _records(short)}


def _records(table: pd.DataFrame) -> list[dict[str, Any]]:
    records: list[dict[str, Any]] = table.to_dict("records")  # type: ignore[assignment]
    return records


def _history(model: Path) -> pd.DataFrame:
    return pd.read_csv(model / "history.csv")


def _curve_name(column: str, scope: str, suffix: str) -> str:
    """Brackets of a phase, "all (pretrain)", are not allowed in names."""
    scope = scope.replace(" (", ".").replace(")", "")
    return f"curve/{column}{suffix}" if scope == "all" else f"curve/{column}.{scope}{suffix}"


def _curves(model: Path, timestamp: int, metric: Any, suffix: str) -> list[Any]:
    out = []
    for row in _records(_history(model)):
        for column, value in row.items():
            if column not in ("scope", "epoch") and pd.notna(value):
                out.append(
                    metric(_curve_name(column, row["scope"], suffix), float(value), timestamp, int(row["epoch"]))
                )
    return out


def _has_curves(client: Any, run_id: str, model: Path, suffix: str) -> bool:
    history = _history(model)
    if history.empty:
        return True
    name = _curve_name("train_loss", str(history["scope"].iloc[-1]), suffix)
    return len(client.get_metric_history(run_id, name)) >= int(history["epoch"].max())


def _log(client: Any, run_id: str, metrics: list[Any], params: dict[str, Any]) -> None:
    from mlflow.entities import Param

    for start in range(0, len(metrics), 1000):  # the store takes a thousand at a time
        client.log_batch(run_id, metrics=metrics[start : start + 1000])
    entries = [Param(name, str(value)) for name, value in params.items()]
    for start in range(0, len(entries), 100):
        client.log_batch(run_id, params=entries[start : start + 100])


def _tags(project: Project, key: str, cost: dict[str, Any], study: str) -> dict[str, str]:
    import torch

    clips = pd.read_parquet(project.paths.clips, columns=["clip_id"])["clip_id"]
    evaluate = project.section("evaluate")
    return {
        "auscult.key": key,
        "auscult.headline": "auc/fan etc.: development set, per-unit convention, the arm's own score if it has one",
        "auscult.data": hashlib.sha256(clips.to_numpy().tobytes()).hexdigest()[:16],
        "auscult.bootstrap": f"{evaluate.replicates} replicates, seed {evaluate.seed}",
        "auscult.profile": project.profile.name,
        "auscult.study": study,
        "dvc.experiment": os.environ.get("DVC_EXP_NAME", ""),
        "dvc.baseline": os.environ.get("DVC_EXP_BASELINE_REV", ""),
        "git.revision": _git("rev-parse", "HEAD"),
        "git.dirty": str(bool(_git("status", "--porcelain", "--untracked-files=no"))).lower(),
        "device": str(cost["device"]),
        "versions": f"python {platform.python_version()}, torch {torch.__version__}, pandas {pd.__version__}",
    }


def _git(*command: str) -> str:
    try:
        return subprocess.run(["git", *command], capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""


def _write(receipt: Path, content: dict[str, Any]) -> None:
    with atomic_file(receipt) as part:
        part.write_text(json.dumps(content, indent=2) + "\n")
