"""The whole pipeline through the real `dvc` commands, on a tiny synthetic profile."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from support import pipeline
from support.pipeline import commit, make, run

ARMS = ("logmel_os_scl", "tfst_os_scl")
TRAINED = {f"train-os_scl@{arm}-2024" for arm in ARMS}
OS_SCL = TRAINED | {f"embed@{arm}-2024" for arm in ARMS} | {f"score@{arm}" for arm in ARMS}
EVERY = {f"embed@{arm}" for arm in pipeline.ARMS} | {
    "train-spectral_knn@spectral_knn", "train-ae@ae", "train-stgram_mfn@stgram_mfn",
    *(f"train-os_scl@{arm}" for arm in ARMS),
}  # fmt: skip


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = make(tmp_path_factory.mktemp("pipeline") / "project")
    run(folder, "dvc", "repro", "-P")
    commit(folder, "results")
    return folder


def runs(folder: Path, kind: str = "arm") -> list[object]:
    from mlflow.tracking import MlflowClient

    client = MlflowClient(f"sqlite:///{folder / 'mlflow.db'}")
    experiments = [e.experiment_id for e in client.search_experiments()]
    return list(client.search_runs(experiments, f"tags.`auscult.kind` = '{kind}'"))


def stages_run(output: str) -> set[str]:
    return set(re.findall(r"Running stage '([^']+)'", output))


def test_every_result_is_there(project: Path) -> None:
    metrics = project / "metrics" / "tiny"
    summary = pd.read_csv(metrics / "summary.csv")
    assert list(summary.columns) == [
        "arm", "backend", "convention", "set", "machine", "metric", "value", "ci_low", "ci_high", "seeds", "std",
    ]  # fmt: skip
    assert set(summary["arm"]) == {"spectral_knn", "ae", "stgram_mfn", "logmel_os_scl", "tfst_os_scl"}
    assert set(summary["convention"]) == {"pooled", "per_unit"}
    assert {"auc", "pauc", "mauc"} <= set(summary["metric"])
    assert summary["value"].between(0, 100).all()
    for name in ("table2.csv", "table2.md", "table2.tex", "table4.csv", "table4.md", "table4.tex", "plots/roc.png"):
        assert (metrics / name).stat().st_size > 0, name
    assert json.loads((metrics / "ae.json").read_text())


def test_a_second_repro_runs_nothing(project: Path) -> None:
    again = run(project, "dvc", "repro", "-P")
    assert stages_run(again.stdout) == set()
    assert run(project, "git", "status", "--porcelain").stdout == ""


def test_a_study_has_results_of_its_own(project: Path) -> None:
    metrics = project / "studies" / "noise" / "metrics" / "tiny"
    summary = pd.read_csv(metrics / "summary.csv")
    assert set(summary["arm"]) == {"logmel_8", "logmel_noise", "logmel_os_scl"}
    own, root = (pd.read_csv(folder / "summary.csv") for folder in (metrics, project / "metrics" / "tiny"))
    keys = ["backend", "convention", "set", "machine", "metric"]
    shared = [table[table["arm"] == "logmel_os_scl"].set_index(keys)["value"] for table in (own, root)]
    pd.testing.assert_series_equal(shared[0], shared[1])  # the same scores, whichever table shows them
    scores = {a: pd.read_parquet(project / f"data/tiny/scores/{a}.parquet") for a in ("logmel_noise", "logmel_os_scl")}
    assert not np.allclose(scores["logmel_noise"]["score"], scores["logmel_os_scl"]["score"])
    assert not (project / "models/tiny/logmel_noise/2024").exists(), "a test condition trains nothing"
    for name in ("noise.csv", "noise.md", "differences.csv", "plots/sweep.png"):
        assert (metrics / name).stat().st_size > 0, name
    assert list((project / "studies/noise/confusion/tiny").glob("*.png"))


def test_a_changed_parameter_touches_what_depends_on_it(project: Path) -> None:
    def stale(old: str, new: str) -> set[str]:
        params = project / "params.yaml"
        text = params.read_text()
        assert old in text
        params.write_text(text.replace(old, new, 1))
        try:
            status = json.loads(run(project, "dvc", "status", "--json").stdout)
            return {
                name
                for name in status
                if not name.startswith(("studies", "submissions", "backends", "checkpoints", "reports"))
            }
        finally:
            params.write_text(text)

    assert stale("reduction: 64", "reduction: 32") == TRAINED
    assert stale("  k: 1", "  k: 2") == {
        f"score@{a}" for a in pd.read_csv(project / "metrics/tiny/summary.csv")["arm"].unique()
    }
    assert stale("replicates: 50", "replicates: 60") == {"tables"}
    assert stale("workers: 0", "workers: 1") == set()


def test_mlflow_has_one_run_per_arm(project: Path) -> None:
    found = runs(project)
    names = sorted(run.info.run_name for run in found)  # type: ignore[attr-defined]
    own = ["logmel_8", "logmel_noise"]  # the study's
    arms = ["ae", "logmel_os_scl", "spectral_knn", "stgram_mfn", "tfst_os_scl", *own]
    assert names == sorted(f"{arm}/tiny" for arm in arms)
    parents = {run.info.run_id: run for run in runs(project, "study")}  # type: ignore[attr-defined]
    assert {run.info.run_name for run in parents.values()} == {"project/tiny", "noise/tiny"}  # type: ignore[attr-defined]
    for one in found:
        tags = one.data.tags  # type: ignore[attr-defined]
        study = "noise" if tags["auscult.arm"] in own else "project"
        assert tags["auscult.study"] == study
        assert parents[tags["mlflow.parentRunId"]].data.tags["auscult.study"] == study  # type: ignore[attr-defined]
        shared = tags["auscult.arm"] == "logmel_os_scl"  # a row of both
        assert ",noise," in tags["auscult.rows"] if study == "noise" or shared else ",project," in tags["auscult.rows"]
    for one in found:
        data = one.data  # type: ignore[attr-defined]
        assert {"auc/fan", "auc/valve", "auc/mean", "cost/train_seconds", "cost/peak_memory_mib"} <= set(data.metrics)
        assert data.params["profile"] == "tiny"
        assert re.fullmatch(r"[0-9a-f]{40}", data.tags["git.revision"])
        assert data.tags["auscult.data"]
    summary = pd.read_csv(project / "metrics" / "tiny" / "summary.csv").set_index(
        ["arm", "backend", "convention", "set", "machine", "metric"]
    )["value"]
    ae = next(run for run in found if run.data.tags["auscult.arm"] == "ae")  # type: ignore[attr-defined]
    assert ae.data.metrics["auc/fan"] == pytest.approx(summary["ae", "native", "per_unit", "dev", "fan", "auc"])  # type: ignore[attr-defined]


def test_publishing_twice_updates(project: Path) -> None:
    from mlflow.tracking import MlflowClient

    before = {run.info.run_id for run in runs(project)}  # type: ignore[attr-defined]
    run(project, "dvc", "repro", "-s", "-f", "publish")
    after = runs(project)
    assert {run.info.run_id for run in after} == before  # type: ignore[attr-defined]
    client = MlflowClient(f"sqlite:///{project / 'mlflow.db'}")
    arm = next(run for run in after if run.data.tags["auscult.arm"] == "logmel_os_scl")  # type: ignore[attr-defined]
    assert len(runs(project, "study")) == 2
    saved = client.get_experiment(arm.info.experiment_id).tags  # type: ignore[attr-defined]
    assert {"mlflow.sharedViewState.project-compare", "mlflow.sharedViewState.noise-compare"} <= set(saved)
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
    values = sorted(r.data.params["fph.reduction"] for r in after if r.data.tags["auscult.arm"] == "logmel_os_scl")  # type: ignore[attr-defined]
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
        failed = run(project, "dvc", "repro", "train-os_scl@logmel_os_scl-2024", check=False)
    finally:
        params.write_text(text)
    assert failed.returncode != 0
    assert "did you mean" in failed.stderr
    assert "fph.reducton" in failed.stderr


def test_a_second_seed_trains_the_second_seed_alone(project: Path) -> None:
    """Every table then has a standard deviation; going back runs no training."""
    output = run(project, "dvc", "exp", "run", "-S", "train.seeds=[2024,2025]").stdout
    trained = {name for name in stages_run(output) if name.startswith(("train", "embed"))}
    assert trained == {f"{stage}-2025" for stage in EVERY}
    summary = pd.read_csv(project / "metrics" / "tiny" / "summary.csv")
    assert (summary["seeds"] == 2).all()
    assert summary.loc[summary["arm"] == "logmel_os_scl", "std"].gt(0).any()
    run(project, "git", "checkout", "-q", "--", ".")
    run(project, "dvc", "checkout")
    assert {name for name in stages_run(run(project, "dvc", "repro").stdout) if name.startswith("train")} == set()
    run(project, "git", "checkout", "-q", "--", ".")


def test_result_files_of_the_challenge(project: Path) -> None:
    run(project, "dvc", "exp", "run", "-S", "submission.set=dev", "submissions/dvc.yaml")
    folder = project / "submissions" / "tiny" / "ae"
    clips = pd.read_parquet(project / "data/tiny/manifest/clips.parquet")
    names = {Path(path).name for path in clips.query("partition == 'test' and machine == 'fan'")["path"]}
    files = sorted(folder.glob("anomaly_score_fan_*.csv"))
    assert files
    rows = pd.concat([pd.read_csv(file, header=None, names=["name", "score"]) for file in files])
    assert set(rows["name"]) == names
    scores = pd.read_parquet(project / "data/tiny/scores/ae.parquet").query("backend == 'native' and machine == 'fan'")
    assert sorted(rows["score"]) == pytest.approx(sorted(scores["score"]))
    run(project, "git", "checkout", "-q", "--", ".")
