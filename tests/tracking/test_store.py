"""A small project published for real: names that MLflow refuses, a server that is away, a folder that was copied."""

from __future__ import annotations

import json
import pwd
import shutil
import time
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml

from auscult.results.stale import results_settings, write_record
from auscult.settings.project import Project
from auscult.tracking.publish import publish
from support.projects import make_project

pytest.importorskip("mlflow")
MACHINES = ("pump (north)", "pump+motor", "pump's", "fan")


def fill(folder: Path) -> None:
    """Two arms as the stages before `publish` leave them."""
    make_project(folder, params_overrides={"arms": ["ae", "spectral_knn"], "train": {"seeds": [1]}})
    paths = Project.open(folder).paths
    rows = []
    for arm in ("ae", "spectral_knn"):
        head = (arm, "native", "per_unit", "dev")
        rows += [(*head, machine, "auc", 70.0 + place) for place, machine in enumerate((*MACHINES, "mean"))]
        model = paths.model(arm, 1)
        model.mkdir(parents=True)
        (model / "config.yaml").write_text(yaml.safe_dump({"settings": {"method": arm}, "code": "c0de"}))
        lines = [f"{machine},{epoch},{1 / epoch}" for machine in MACHINES for epoch in (1, 2)]
        (model / "history.csv").write_text("\n".join(["scope,epoch,train_loss", *lines]))
        cost, size = paths.cost("train", arm, 1), paths.embeddings(arm, 1) / "network.json"
        for path, content in ((cost, {"train_seconds": 3.0, "device": "a desk"}), (size, {"parameters": 5})):
            path.parent.mkdir(parents=True)
            path.write_text(json.dumps(content))
    summary = pd.DataFrame(rows, columns=["arm", "backend", "convention", "set", "machine", "metric", "value"])
    for place in (paths.metrics(), paths.results(), paths.clips.parent):
        place.mkdir(parents=True)
    summary.to_csv(paths.results() / "summary.csv", index=False)
    made = Project.open(folder)
    settings = results_settings(made.profile, made.section("evaluate"), made.params.rows(), made.params.tables())
    write_record(paths.results(), settings, [], digests=True)
    (paths.metrics() / "table.md").write_text("# The table")
    pd.DataFrame({"clip_id": [1, 2]}).to_parquet(paths.clips)


def run(folder: Path, patch: pytest.MonkeyPatch) -> dict[str, Any]:
    """`publish` in a folder; its receipt."""
    patch.chdir(folder)
    publish(Project.open(), Path("receipt.json"))
    receipt: dict[str, Any] = json.loads(Path("receipt.json").read_text())
    return receipt


def experiments(folder: Path) -> dict[str, Any]:
    from mlflow.tracking import MlflowClient

    return {one.name: one for one in MlflowClient(f"sqlite:///{folder / 'mlflow.db'}").search_experiments()}


def runs(folder: Path, name: str = "auscult/tiny") -> dict[str, Any]:
    from mlflow.tracking import MlflowClient

    found = MlflowClient(f"sqlite:///{folder / 'mlflow.db'}").search_runs([experiments(folder)[name].experiment_id])
    return {run.data.tags["mlflow.runName"]: run for run in found}


@pytest.fixture(scope="module")
def published(module_path: Path) -> Path:
    """By a user id that has no name, and without a home, as in a container."""

    def nobody(_: int) -> None:
        raise KeyError("uid not found")

    folder = module_path / "project"
    fill(folder)
    with pytest.MonkeyPatch.context() as patch:
        for name in ("HOME", "USER", "LOGNAME", "LNAME", "USERNAME", "MLFLOW_TRACKING_URI", "DVC_ROOT"):
            patch.delenv(name, raising=False)
        patch.setattr(pwd, "getpwuid", nobody)
        assert len(run(folder, patch)["published"]) == 2
    return folder


@pytest.fixture(autouse=True)
def own_store(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MLFLOW_TRACKING_URI", "DVC_ROOT"):
        monkeypatch.delenv(name, raising=False)


def test_names_that_mlflow_refuses_are_encoded(published: Path) -> None:
    found = runs(published)
    assert set(found) == {"project/tiny", "ae/tiny", "spectral_knn/tiny"}
    metrics = found["ae/tiny"].data.metrics
    assert (metrics["cost/train_seconds"], metrics["cost/parameters"]) == (3.0, 5)
    names = ("pump _28_north_29_", "pump_2b_motor", "pump_27_s", "fan", "mean")
    assert {name: metrics[f"auc/{name}"] for name in names} == dict(
        zip(names, [70.0, 71.0, 72.0, 73.0, 74.0], strict=True)
    )
    assert {name for name in metrics if name.startswith("curve/")} == {
        f"curve/train_loss.{name}" for name in ("pump.north", "pump_2b_motor", "pump_27_s", "fan")
    }
    assert found["project/tiny"].data.tags["mlflow.note.content"].endswith("# The table")
    files = {path.name for path in (published / "mlartifacts").rglob("*") if path.is_file()}
    assert {"summary.csv", "table.md", "config.yaml", "history.csv"} <= files


@pytest.mark.parametrize(
    "uri", ["http://me:secret@127.0.0.1:9", "sqlite:////proc/none/mlflow.db", "no-such-scheme://x"]
)
def test_a_store_that_is_away_takes_seconds_and_one_message(
    uri: str, published: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    start = time.monotonic()
    receipt = run(published, monkeypatch)
    assert time.monotonic() - start < 60  # minutes with MLflow's own patience
    assert receipt["published"] is None
    said = [line for line in capfd.readouterr().err.splitlines() if "nothing was published" in line]
    assert len(said) == 1
    assert "secret" not in said[0]
    for words in (uri.replace("me:secret@", ""), "results are in metrics/", "dvc repro -s -f publish"):
        assert words in said[0]


def test_a_copied_project_writes_nothing_where_it_was_before(
    published: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def tree() -> dict[Path, int]:
        return {path: path.stat().st_mtime_ns for path in published.rglob("*")}

    copy = tmp_path / "copy of it"
    shutil.copytree(published, copy)
    before = tree()
    assert len(run(copy, monkeypatch)["published"]) == 2
    assert tree() == before
    assert "moved or copied" in capsys.readouterr().err
    old = f"auscult/tiny, files in {(published / 'mlartifacts' / 'auscult/tiny')}"
    found = experiments(copy)
    assert {"auscult/tiny", old} <= set(found)
    assert found["auscult/tiny"].artifact_location == (copy / "mlartifacts" / "auscult/tiny").as_uri()
    assert set(runs(copy)) == set(runs(copy, old)) == {"project/tiny", "ae/tiny", "spectral_knn/tiny"}
    assert run(copy, monkeypatch)["published"]
    assert "moved or copied" not in capsys.readouterr().err, "once"


def test_where_another_machine_trained_there_are_no_costs(published: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{published / 'mlflow.db'}")
    shutil.rmtree(published / ".cache" / "costs")
    assert run(published, monkeypatch)["published"]


def test_a_fault_of_ours_is_no_absent_store(published: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from mlflow.exceptions import MlflowException

    from auscult.tracking import publish as module

    monkeypatch.setattr(module, "run_metrics", lambda rows: {"auc/<bad>": 1.0})
    with pytest.raises(MlflowException, match="<bad>"):
        run(published, monkeypatch)
