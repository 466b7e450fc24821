"""The whole pipeline through the real `dvc` commands, on a tiny synthetic profile."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pandas as pd
import pytest

from support.pipeline import commit, make, run

OS_SCL = {f"{stage}@{arm}" for arm in ("logmel_os_scl", "tfst_os_scl") for stage in ("train-os-scl", "embed", "score")}


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = make(tmp_path_factory.mktemp("pipeline") / "project")
    run(folder, "dvc", "repro")
    commit(folder, "results")
    return folder


def runs(folder: Path) -> list[object]:
    from mlflow.tracking import MlflowClient

    client = MlflowClient(f"sqlite:///{folder / 'mlflow.db'}")
    return list(client.search_runs([e.experiment_id for e in client.search_experiments()]))


def stages_run(output: str) -> set[str]:
    return set(re.findall(r"Running stage '([^']+)'", output))


def test_every_result_is_there(project: Path) -> None:
    metrics = project / "metrics" / "tiny"
    summary = pd.read_csv(metrics / "summary.csv")
    assert list(summary.columns) == [
        "arm", "backend", "convention", "set", "machine", "metric", "value", "ci_low", "ci_high", "seeds",
    ]  # fmt: skip
    assert set(summary["arm"]) == {"spectral_knn", "ae", "stgram_mfn", "logmel_os_scl", "tfst_os_scl"}
    assert set(summary["convention"]) == {"pooled", "per_unit"}
    assert {"auc", "pauc", "mauc"} <= set(summary["metric"])
    assert summary["value"].between(0, 100).all()
    for name in ("table2.csv", "table2.md", "table2.tex", "table4.csv", "table4.md", "table4.tex", "plots/roc.png"):
        assert (metrics / name).stat().st_size > 0, name
    assert json.loads((metrics / "ae.json").read_text())


def test_a_second_repro_runs_nothing(project: Path) -> None:
    again = run(project, "dvc", "repro")
    assert stages_run(again.stdout) == set()
    assert run(project, "git", "status", "--porcelain").stdout == ""


def test_a_changed_parameter_touches_what_depends_on_it(project: Path) -> None:
    def stale(old: str, new: str) -> set[str]:
        params = project / "params.yaml"
        text = params.read_text()
        assert old in text
        params.write_text(text.replace(old, new, 1))
        try:
            return set(json.loads(run(project, "dvc", "status", "--json").stdout))
        finally:
            params.write_text(text)

    assert stale("reduction: 64", "reduction: 32") == {name for name in OS_SCL if name.startswith("train")}
    assert stale("  k: 1", "  k: 2") == {
        f"score@{a}" for a in pd.read_csv(project / "metrics/tiny/summary.csv")["arm"].unique()
    }
    assert stale("replicates: 50", "replicates: 60") == {"tables"}
    assert stale("workers: 0", "workers: 1") == set()


def test_mlflow_has_one_run_per_arm(project: Path) -> None:
    found = runs(project)
    names = sorted(run.info.run_name for run in found)  # type: ignore[attr-defined]
    assert names == ["ae", "logmel_os_scl", "spectral_knn", "stgram_mfn", "tfst_os_scl"]
    for one in found:
        data = one.data  # type: ignore[attr-defined]
        assert {"auc/fan", "auc/valve", "auc/mean", "cost/train_seconds", "cost/peak_memory_mib"} <= set(data.metrics)
        assert data.params["profile"] == "tiny"
        assert re.fullmatch(r"[0-9a-f]{40}", data.tags["git.revision"])
        assert data.tags["auscult.data"]
    summary = pd.read_csv(project / "metrics" / "tiny" / "summary.csv").set_index(
        ["arm", "backend", "convention", "set", "machine", "metric"]
    )["value"]
    ae = next(run for run in found if run.info.run_name == "ae")  # type: ignore[attr-defined]
    assert ae.data.metrics["auc/fan"] == pytest.approx(summary["ae", "native", "per_unit", "dev", "fan", "auc"])  # type: ignore[attr-defined]


def test_publishing_twice_updates(project: Path) -> None:
    from mlflow.tracking import MlflowClient

    before = {run.info.run_id for run in runs(project)}  # type: ignore[attr-defined]
    run(project, "dvc", "repro", "-s", "-f", "publish")
    after = runs(project)
    assert {run.info.run_id for run in after} == before  # type: ignore[attr-defined]
    client = MlflowClient(f"sqlite:///{project / 'mlflow.db'}")
    arm = next(run for run in after if run.info.run_name == "logmel_os_scl")  # type: ignore[attr-defined]
    curve = client.get_metric_history(arm.info.run_id, "curve/train_loss")  # type: ignore[attr-defined]
    assert [point.step for point in curve] == [1, 2]
    assert len(client.get_metric_history(arm.info.run_id, "auc/fan")) == 1  # type: ignore[attr-defined]


def test_queued_sweep_then_back(project: Path) -> None:
    """Two queued values of one parameter: only what depends on it runs, the workspace stays clean, MLflow sees both."""
    before = len(runs(project))
    run(project, "dvc", "exp", "run", "-S", "fph.reduction=16,32", "--queue")
    result = run(project, "dvc", "exp", "run", "--run-all")
    assert run(project, "git", "status", "--porcelain").stdout == "", result.stdout
    table = run(project, "dvc", "exp", "show", "--csv").stdout
    assert len(re.findall(r",Failed", table)) == 0
    after = runs(project)
    values = sorted(r.data.params["fph.reduction"] for r in after if r.info.run_name == "logmel_os_scl")  # type: ignore[attr-defined]
    assert values == ["16", "32", "64"]
    assert len(after) == before + 4  # two arms of OS-SCL, twice; the other arms' runs are the same ones

    name = next(line.split(",")[0] for line in run(project, "dvc", "exp", "list", "--name-only").stdout.splitlines())
    run(project, "dvc", "exp", "apply", name)
    assert stages_run(run(project, "dvc", "repro").stdout) <= {"publish"}
    run(project, "git", "checkout", "-q", "--", ".")
    back = run(project, "dvc", "repro")
    assert stages_run(back.stdout) <= {"tables", "publish"}, "going back trained again"
    assert run(project, "git", "status", "--porcelain").stdout == ""


def test_experiment_in_the_workspace_runs_only_its_own_stages(project: Path) -> None:
    output = run(project, "dvc", "exp", "run", "-S", "fph.reduction=8").stdout
    assert stages_run(output) == OS_SCL | {"tables", "publish"}
    run(project, "git", "checkout", "-q", "--", ".")
    run(project, "dvc", "checkout")


def test_a_misspelt_parameter_is_refused(project: Path) -> None:
    refused = run(project, "dvc", "exp", "run", "-S", "fph.reducton=8", check=False)
    assert refused.returncode != 0
    params = project / "params.yaml"
    text = params.read_text()
    params.write_text(text.replace("reduction: 64", "reducton: 64", 1))
    try:
        failed = run(project, "dvc", "repro", "train-os-scl@logmel_os_scl", check=False)
    finally:
        params.write_text(text)
    assert failed.returncode != 0
    assert "did you mean" in failed.stderr
    assert "fph.reducton" in failed.stderr
