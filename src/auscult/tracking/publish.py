"""MLflow: one run per arm, written from committed metrics and cached outputs, so it is complete whatever came from the cache.

A run is found again by a key made of profile, arm, parameters and weights: publishing twice updates it. The runs of a study
are children of one run, which holds the study's tables and pictures. The store is the checkout's own `mlflow.db`, also for
experiments that DVC runs in a temporary copy. Nothing else imports mlflow.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from auscult.files import atomic_file, digest
from auscult.settings.params import Arm
from auscult.settings.paths import project_root
from auscult.settings.project import Project
from auscult.settings.section import flat
from auscult.tracking.values import param_text, run_curves, run_metrics
from auscult.tracking.views import PROJECT, TAG, compare_link, overview, rows_of, view_link, views

SERVER = "http://127.0.0.1:5000/"  # of `mlflow ui`, which listens to this machine alone
HEADLINE = (
    "`auc/fan`, `pauc/mean` ...: percent, development set, per unit then averaged, by the arm's own score if it has one"
)
NOTE = 5000  # characters of a description: a tag holds no more


def publish(project: Project, receipt: Path, study: str = "") -> None:
    """Write the run of every arm of the project, or of a study, and last `receipt` (which keys were published).

    Without mlflow the receipt says so.
    """
    try:
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        from mlflow.tracking import MlflowClient
    except ImportError:
        _write(
            receipt,
            {"published": None, "reason": "mlflow is not installed; install it and run: dvc repro -s -f publish"},
        )
        print("mlflow is not installed: results are in metrics/, nothing was published")
        return
    store = project_root().resolve()
    client = MlflowClient(os.environ.get("MLFLOW_TRACKING_URI", f"sqlite:///{store / 'mlflow.db'}"))
    experiment = _experiment(client, f"auscult/{project.profile.name}", store)
    metrics = project.paths.metrics(study)
    summary = pd.read_csv(metrics / "summary.csv")
    arms = [arm for arm in project.params.arms.values() if arm.study == study]
    parent = _publish_study(client, experiment, project, study, metrics)
    keys = []
    for arm in arms:
        plots = sorted((metrics / "plots").glob(f"*_{arm.name}.png"))
        keys.append(_publish_arm(client, experiment, project, arm, summary[summary["arm"] == arm.name], plots, parent))
    _write(receipt, {"published": keys})
    print(f"{len(keys)} runs are up to date in {client.tracking_uri}")
    server = SERVER
    if client.tracking_uri.startswith("http"):
        server = f"{client.tracking_uri.rstrip('/')}/"
    else:
        print(f"look at them with: mlflow ui --backend-store-uri {client.tracking_uri} --host 127.0.0.1")
    for title, link in _publish_views(client, experiment, study).items():
        print(f"  {title}: {server}{link}")


def _publish_views(client: Any, experiment: str, study: str) -> dict[str, str]:
    """Save the views of a study; title -> link of its views, and of the comparison of its newest runs."""
    # The newest first, and of each arm the newest alone: the comparison page has room for so many.
    found = client.search_runs([experiment], rows_of(study), order_by=["attributes.start_time DESC"], max_results=1000)
    links = {}
    for key, (title, content) in views(study, [(run.data.params, run.data.metrics) for run in found]).items():
        client.set_experiment_tag(experiment, TAG + key, content)
        links[title] = view_link(experiment, key)
    tags = client.get_experiment(experiment).tags
    saved = {json.loads(tags[tag])["name"]: view_link(experiment, tag[len(TAG) :]) for tag in tags if _ours(tag, tags)}
    client.set_experiment_tag(experiment, "mlflow.note.content", overview(saved))
    newest = {run.data.tags["auscult.arm"]: run.info.run_id for run in reversed(found)}
    if not newest:  # rows are of other studies, which are not published yet
        return links
    return links | {f"{study or PROJECT}: all params side by side": compare_link(experiment, list(newest.values()))}


def _ours(tag: str, tags: Mapping[str, str]) -> bool:
    return tag.startswith(TAG) and '"createdAt": 0' in tags[tag]


def _experiment(client: Any, name: str, store: Path) -> str:
    found = client.get_experiment_by_name(name)
    if found:
        return str(found.experiment_id)
    kind = {"mlflow.experimentKind": "custom_model_development"}  # or the pages are those for language models
    # An explicit place: the default is relative to whatever folder the process happens to run in.
    return str(client.create_experiment(name, artifact_location=(store / "mlartifacts" / name).as_uri(), tags=kind))


def _publish_study(client: Any, experiment: str, project: Project, study: str, metrics: Path) -> str:
    """Write the run whose children are the runs of a study: its tables and pictures as last made. Returns the run's id."""
    profile = project.profile.name
    key, name = f"{profile}/{study}/", study or PROJECT
    run = _run(client, experiment, key)
    run_id: str = run.info.run_id
    title = project.params.studies[study].title if study else "The project's own arms"
    tables = [file.read_text(encoding="utf-8") for file in sorted(metrics.glob("*.md"))]
    tags = {
        "mlflow.runName": f"{name}/{profile}",
        "mlflow.note.content": "\n\n".join([f"**{title}**", *tables])[:NOTE],
        "auscult.kind": "study",
        "auscult.study": name,
        "auscult.profile": profile,
    }
    for tag, value in tags.items():
        client.set_tag(run_id, tag, value)
    for file in sorted(metrics.glob("*.*")):
        client.log_artifact(run_id, str(file), "results")
    for file in sorted((metrics / "plots").glob("*.png")):
        client.log_artifact(run_id, str(file), "plots")
    client.set_terminated(run_id, "FINISHED", end_time=run.info.start_time)  # a study takes what its arms take
    return run_id


def _publish_arm(
    client: Any, experiment: str, project: Project, arm: Arm, rows: pd.DataFrame, plots: list[Path], parent: str
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

    run = _run(client, experiment, key)
    run_id, start, known = run.info.run_id, run.info.start_time, run.data.metrics
    now = int(time.time() * 1000)
    cost = _cost(project, arm)
    final = run_metrics(rows) | {
        f"cost/{name}": value for name, value in cost.items() if isinstance(value, int | float)
    }
    # Only what changed, so that a second publish adds no second point to a curve.
    changed = [Metric(name, value, now, 0) for name, value in final.items() if known.get(name) != value]
    curves = []
    for seed, model in models.items():
        suffix = f".seed_{seed}" if len(models) > 1 else ""
        points = [Metric(name, value, start, step) for name, value, step in run_curves(model, suffix)]
        if not _has_curves(client, run_id, points):
            curves += points
    # Not the arm, which is a tag: as an axis MLflow cuts its names short and puts those that then agree at one place.
    written = {} if run.data.params else {name: value for name, value in params.items() if name != "arm"}
    _log(client, run_id, changed + curves, written)
    shown = [study for study in ("", *project.params.studies) if arm.name in project.params.rows(study)]
    rows_tag = f",{','.join(study or PROJECT for study in shown)},"
    apart = {
        "auscult.rows": rows_tag,
        "auscult.method": str(config["settings"]["method"]),
        "mlflow.parentRunId": parent,
    }
    for name, value in (_tags(project, key, cost, arm) | apart).items():
        if value:
            client.set_tag(run_id, name, value)
    client.log_text(run_id, rows.to_csv(index=False), "summary.csv")
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


def _run(client: Any, experiment: str, key: str) -> Any:
    found = client.search_runs([experiment], f"tags.`auscult.key` = '{key}'", max_results=1)
    if found:
        return found[0]
    return client.create_run(experiment, tags={"auscult.key": key})


def _has_curves(client: Any, run_id: str, curves: list[Any]) -> bool:
    """Whether the last point that would be written is there."""
    return not curves or any(p.step == curves[-1].step for p in client.get_metric_history(run_id, curves[-1].key))


def _log(client: Any, run_id: str, metrics: list[Any], params: dict[str, Any]) -> None:
    from mlflow.entities import Param

    for start in range(0, len(metrics), 1000):  # the store takes a thousand at a time
        client.log_batch(run_id, metrics=metrics[start : start + 1000])
    entries = [Param(name, param_text(value)) for name, value in params.items()]
    for start in range(0, len(entries), 100):
        client.log_batch(run_id, params=entries[start : start + 100])


def _tags(project: Project, key: str, cost: dict[str, Any], arm: Arm) -> dict[str, str]:
    import torch

    clips = pd.read_parquet(project.paths.clips, columns=["clip_id"])["clip_id"]
    evaluate = project.section("evaluate")
    return {
        "auscult.key": key,
        "mlflow.note.content": HEADLINE,
        "auscult.data": hashlib.sha256(clips.to_numpy().tobytes()).hexdigest()[:16],
        "auscult.bootstrap": f"{evaluate.replicates} replicates, seed {evaluate.seed}",
        "auscult.profile": project.profile.name,
        "auscult.study": arm.study or PROJECT,
        "auscult.arm": arm.name,
        "auscult.kind": "arm",
        "mlflow.runName": f"{arm.name}/{project.profile.name}",
        "dvc.experiment": os.environ.get("DVC_EXP_NAME", ""),
        "dvc.baseline": os.environ.get("DVC_EXP_BASELINE_REV", ""),
        "git.revision": _git("rev-parse", "HEAD"),
        "git.dirty": str(bool(_git("status", "--porcelain", "--untracked-files=no"))).lower(),
        "device": str(cost["device"]),
        "python": platform.python_version(),
        "torch": str(torch.__version__),
        "pandas": pd.__version__,
    }


def _git(*command: str) -> str:
    try:
        return subprocess.run(["git", *command], capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""


def _write(receipt: Path, content: dict[str, Any]) -> None:
    with atomic_file(receipt) as part:
        part.write_text(json.dumps(content, indent=2) + "\n")
