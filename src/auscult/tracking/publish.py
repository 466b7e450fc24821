"""MLflow: one run per arm, written from committed metrics and cached outputs, so it is complete whatever came from the cache.

A run is found again by a key made of profile, arm, parameters and weights: publishing twice updates it. The runs of a study
are children of one run, which holds the study's tables and pictures. No other room imports mlflow.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import subprocess
import sys
import time
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from auscult.files import atomic_file, digest
from auscult.packages import command
from auscult.pipeline.graph import file_of
from auscult.results.arms import arm_files
from auscult.results.names import PROJECT_TITLE
from auscult.results.stale import stale_arms, stale_results
from auscult.settings.params import Arm
from auscult.settings.paths import project_root
from auscult.settings.project import Project
from auscult.settings.reading import Loader
from auscult.settings.section import flat
from auscult.tracking.store import (
    experiment_of,
    found_run,
    has_curves,
    log,
    run_with,
    store_uri,
    without_password,
)
from auscult.tracking.values import run_curves, run_metrics

PROJECT = "project"
"""Name of the group of runs that no study owns."""
ABOUT = (
    "One run per study, with its tables and pictures; below it one per arm. All rows of a study's tables, whoever owns them: "
    "tags.`auscult.rows` LIKE '%,STUDY,%' in the search field."
)
HEADLINE = "`auc/fan`, `pauc/mean` ...: percent, development set, per unit then averaged, by the arm's native score if it has one"
PATIENCE = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1", "MLFLOW_HTTP_REQUEST_TIMEOUT": "10"}
"""With a server: tries after the first, and seconds until it answers, unless the environment says otherwise."""
NOTE = 5000  # characters of a description: a tag holds no more


def publishing(study: str) -> str:
    """The command that writes the runs of the project, or of a study, once more."""
    if not study:
        return "dvc repro -s -f publish"
    return f"auscult run {study} --no-run && dvc repro -s -f {file_of(study)}:publish"


def publish(project: Project, receipt: Path, study: str = "") -> None:
    """Write the run of every arm of the project, or of a study, and last `receipt` (which keys were published).

    Without mlflow, or where the store does not answer, the receipt says so and a line on stderr what to do: what the other
    stages made does not depend on it.
    """
    again = publishing(study)
    shown = dict.fromkeys([*(arm.name for arm in project.params.own(study)), *project.params.rows(study)])
    if stale := [*stale_arms(project, shown), *stale_results(project, study)]:
        _not_published(receipt, " ".join(stale), f"then run: {again}")
        return
    try:
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        from mlflow.exceptions import MlflowException
        from mlflow.tracking import MlflowClient
        from requests import RequestException
        from sqlalchemy.exc import SQLAlchemyError
    except ImportError:
        _not_published(receipt, "mlflow is not installed", f"{command('experiments')} && {again}")
        return
    store, uri = project_root().resolve(), store_uri()
    address = without_password(uri)
    away = f"{address} does not take the runs"
    try:
        for name, value in PATIENCE.items():  # mlflow's own is minutes per request
            os.environ.setdefault(name, value)
        client = MlflowClient(uri)
        client.search_experiments(max_results=1)
    except (MlflowException, SQLAlchemyError, OSError) as error:
        _not_published(receipt, f"{away}: {_one_line(error)}", f"once it does, run: {again}")
        return
    try:
        keys = _publish_report(client, project, study, store)
    except (MlflowException, SQLAlchemyError, RequestException) as error:
        if getattr(error, "error_code", "") == "INVALID_PARAMETER_VALUE":
            raise  # what was sent is wrong, not the place
        _not_published(receipt, f"{away}: {_one_line(error)}", f"once it does, run: {again}")
        return
    _write(receipt, {"published": keys})
    print(f"{len(keys)} runs are up to date in {address}")
    if not uri.startswith("http"):
        print(f"look at them with: mlflow ui --backend-store-uri {uri} --host 127.0.0.1")


def _not_published(receipt: Path, why: str, then: str) -> None:
    _write(receipt, {"published": None, "reason": f"{why}; {then}"})
    print(f"nothing was published (results are in metrics/ all the same): {why}; {then}", file=sys.stderr)


def _one_line(error: Exception) -> str:
    return without_password(" ".join(str(error).split()))[:200]


def _publish_report(client: Any, project: Project, study: str, store: Path) -> list[str]:
    experiment = experiment_of(client, f"auscult/{project.profile.name}", store)
    client.set_experiment_tag(experiment, "mlflow.note.content", ABOUT)
    results = project.paths.results(study)
    summary = pd.read_csv(results / "summary.csv")
    parent, common = _publish_study(client, experiment, project, study), _common_tags(project)
    keys = []
    for arm in project.params.own(study):
        rows = summary[summary["arm"] == arm.name]
        keys.append(_publish_arm(client, experiment, project, arm, ArmResults(rows, parent, common)))
    return keys


@dataclass(frozen=True)
class ArmResults:
    """Rows of summary.csv of an arm, the run of its study, and tags that all arms share."""

    rows: pd.DataFrame
    parent: str
    tags: dict[str, str]


def _publish_study(client: Any, experiment: str, project: Project, study: str) -> str:
    """Write the run whose children are the runs of a study: its tables and pictures as last made. Returns the run's id."""
    profile, committed, cached = project.profile.name, project.paths.metrics(study), project.paths.results(study)
    key, name = f"{profile}/{study}/", study or PROJECT
    run = run_with(client, experiment, key)
    run_id: str = run.info.run_id
    title = project.params.studies[study].title if study else PROJECT_TITLE
    table = (committed / "table.md").read_text(encoding="utf-8")
    tags = {
        "mlflow.runName": f"{name}/{profile}",
        "mlflow.note.content": f"**{title}**\n\n{table}"[:NOTE],
        "auscult.kind": "study",
        "auscult.study": name,
        "auscult.profile": profile,
    }
    log(client, run_id, tags=tags)
    results = {file.name: file for folder in (committed, cached) for file in sorted(folder.glob("*.*"))}
    for file in results.values():
        client.log_artifact(run_id, str(file), "results")
    for file in sorted((cached / "plots").glob("*.png")):
        client.log_artifact(run_id, str(file), "plots")
    client.set_terminated(run_id, "FINISHED", end_time=run.info.start_time)  # a study takes what its arms take
    return run_id


def _identity(project: Project, arm: Arm, config: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """The key that a run is found by, and its params; `config`: of the first model."""
    params = flat({**config["settings"], "train": project.section("train").model_dump()})
    params |= {"profile": project.profile.name, "arm": arm.name, "score.k": project.section("score").k}
    if arm.condition is not None:
        params |= flat({"condition": arm.condition.model_dump()})
    models = [digest(project.paths.model(arm.weights, seed)) for seed in project.seeds]
    identity = json.dumps([project.profile.name, arm.name, params, *models], sort_keys=True, default=str)
    return f"{project.profile.name}/{arm.name}/{hashlib.sha256(identity.encode()).hexdigest()[:16]}", params


def run_of(client: Any, project: Project, arm: Arm) -> str | None:
    """Id of the run of an arm as it is set now; None where it was not published."""
    experiment = client.get_experiment_by_name(f"auscult/{project.profile.name}")
    config = project.paths.model(arm.weights, project.seeds[0]) / "config.yaml"
    if experiment is None or not config.is_file():
        return None
    key, _ = _identity(project, arm, yaml.load(config.read_bytes(), Loader))
    found = found_run(client, experiment.experiment_id, key)
    return str(found.info.run_id) if found else None


def _publish_arm(client: Any, experiment: str, project: Project, arm: Arm, results: ArmResults) -> str:
    from mlflow.entities import Metric

    models = {seed: project.paths.model(arm.weights, seed) for seed in project.seeds}
    first = models[project.seeds[0]]
    config = yaml.load((first / "config.yaml").read_bytes(), Loader)
    key, params = _identity(project, arm, config)
    run = run_with(client, experiment, key)
    run_id, start, known = run.info.run_id, run.info.start_time, run.data.metrics
    now = int(time.time() * 1000)
    cost = _cost(project, arm)
    final = run_metrics(results.rows) | {
        f"cost/{name}": value for name, value in cost.items() if isinstance(value, int | float)
    }
    # Only what changed, so that a second publish adds no second point to a curve.
    changed = [Metric(name, value, now, 0) for name, value in final.items() if known.get(name) != value]
    curves = []
    for seed, model in models.items():
        suffix = f".seed_{seed}" if len(models) > 1 else ""
        points = [Metric(name, value, start, step) for name, value, step in run_curves(model, suffix)]
        if not has_curves(client, run_id, points):
            curves += points
    # Not the arm, which is a tag: as an axis MLflow cuts its names short and puts those that then agree at one place.
    written = {} if run.data.params else {name: value for name, value in params.items() if name != "arm"}
    shown = [study for study in ("", *project.params.studies) if arm.name in project.params.rows(study)]
    rows_tag = f",{','.join(study or PROJECT for study in shown)},"
    apart = {
        "auscult.rows": rows_tag,
        "auscult.method": str(config["settings"]["method"]),
        "mlflow.parentRunId": results.parent,
    }
    tags = {name: value for name, value in (results.tags | _tags(project, key, cost, arm) | apart).items() if value}
    log(client, run_id, changed + curves, written, tags)
    client.log_text(run_id, results.rows.to_csv(index=False), "summary.csv")
    for file in (first / "config.yaml", first / "history.csv"):
        client.log_artifact(run_id, str(file), "model")
    client.set_terminated(run_id, "FINISHED", end_time=start + round(1000 * cost.get("train_seconds", 0)))
    return key


def _cost(project: Project, arm: Arm) -> dict[str, Any]:
    """Size of an arm's network, and what training (of the arm whose weights are used) and embedding have cost, first seed."""
    return arm_files(project, [arm.name])[arm.name].measured(project.seeds[0])


def _common_tags(project: Project) -> dict[str, str]:
    """Where the results of this profile come from."""
    clips = pd.read_parquet(project.paths.clips, columns=["clip_id"])["clip_id"]
    evaluate = project.section("evaluate")
    return {
        "mlflow.note.content": HEADLINE,
        "auscult.data": hashlib.sha256(clips.to_numpy().tobytes()).hexdigest()[:16],
        "auscult.bootstrap": f"{evaluate.replicates} replicates, seed {evaluate.seed}",
        "auscult.profile": project.profile.name,
        "dvc.experiment": os.environ.get("DVC_EXP_NAME", ""),
        "dvc.baseline": os.environ.get("DVC_EXP_BASELINE_REV", ""),
        "git.revision": _git("rev-parse", "HEAD"),
        "git.dirty": str(bool(_git("status", "--porcelain", "--untracked-files=no"))).lower(),
        "python": platform.python_version(),
        "torch": version("torch"),
        "pandas": pd.__version__,
    }


def _tags(project: Project, key: str, cost: dict[str, Any], arm: Arm) -> dict[str, str]:
    return {
        "auscult.key": key,
        "auscult.study": arm.study or PROJECT,
        "auscult.arm": arm.name,
        "auscult.kind": "arm",
        "mlflow.runName": f"{arm.name}/{project.profile.name}",
        "device": str(cost.get("device", "")),
    }


def _git(*command: str) -> str:
    try:
        return subprocess.run(["git", *command], capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""


def _write(receipt: Path, content: dict[str, Any]) -> None:
    with atomic_file(receipt) as part:
        part.write_text(json.dumps(content, indent=2) + "\n")
