"""Stages run by the workers of a cluster, in clones of their own; the head makes the tables and trains nothing.

By real DVC, in a project whose stages have the names of ours and take no time.
"""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

pytest.importorskip("distributed", reason="Dask is not installed (pip install 'auscult[cluster]')")

from distributed import LocalCluster

from auscult.cluster import train
from auscult.cluster.train import train_arms
from auscult.errors import AuscultError
from support.pipeline import commit, run

STAGES = """
stages:
  features:
    cmd: date +%N > features
    deps: [source]
    outs: [features]
  train:
    matrix:
      arm: [one]
      seed: [2024]
    cmd: date +%N > ${item.arm}
    deps: [features]
    outs: ["${item.arm}"]
  tables:
    cmd: cat one > tables
    deps: [one]
    outs: [tables]
"""
FAILING = "stages: {train: {matrix: {arm: [bad]}, cmd: exit 3, deps: [../../source], outs: [bad]}}"


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("template")
    run(folder, "git", "init", "-q", "-b", "main")
    run(folder, "dvc", "init", "-q")
    (folder / "dvc.yaml").write_text(STAGES)
    (folder / "source").write_text("")
    (folder / "studies" / "bad").mkdir(parents=True)
    (folder / "studies" / "bad" / "dvc.yaml").write_text(FAILING)
    commit(folder, "start")
    return folder


@pytest.fixture
def project(template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project without a remote, in which the test runs."""
    folder = tmp_path / "head"
    shutil.copytree(template, folder)
    monkeypatch.chdir(folder)
    monkeypatch.setattr(train, "_LOOK", 0.05)
    return folder


def add_remote(project: Path, remote: Path) -> None:
    """As `dvc remote add -d shared`, which takes a second."""
    (project / ".dvc" / "config").write_text(
        f"[core]\n    remote = shared\n['remote \"shared\"']\n    url = {remote}\n"
    )


def test_what_is_missing_is_said(project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(AuscultError, match="there is no such study"):
        train_arms(["nothing"], "local:1")
    with pytest.raises(AuscultError, match="DVC's remote, and none is configured") as error:
        train_arms([], "local:1")
    assert "dvc remote add" in error.value.fix
    add_remote(project, tmp_path / "remote")
    with pytest.raises(AuscultError, match=r"not committed.*\n.*\.dvc/config"):
        train_arms([], "local:1")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(AuscultError, match="this is no project"):
        train_arms([], "local:1")


def test_a_worker_trains_and_the_head_makes_the_tables(project: Path, tmp_path: Path) -> None:
    add_remote(project, tmp_path / "remote")
    commit(project, "remote")
    said: list[str] = []
    with LocalCluster(n_workers=1, threads_per_worker=1, processes=False, dashboard_address=None) as cluster:
        assert not train_arms([], cluster.scheduler_address, "", str(tmp_path / "workspaces"), said.append)
    by_workers = [re.sub(r" in .*", "", line) for line in said if " by worker " in line]
    assert by_workers == ["features: run", "train@one-2024: run"]
    assert set(re.findall(r"Running stage '([^']+)'", "\n".join(said))) == {"tables"}
    made = (tmp_path / "workspaces" / "0" / "one").read_bytes()  # the time at which it ran
    assert (project / "one").read_bytes() == (project / "tables").read_bytes() == made


def test_a_stage_that_fails_and_one_that_is_taken_back(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (stage,) = train._trained_for("studies/bad/dvc.yaml")
    assert train._trained_for("dvc.yaml") == ["train@one-2024"], "not those of other files"
    plan = train.Plan(str(project), train._commit(), str(tmp_path / "w"), train.program())
    result = train.make_stage((plan, stage))
    assert "exited with 3" in str(result["problem"])
    other = train.make_stage((train.Plan(str(project), "0" * 40, str(tmp_path / "w"), train.program()), "features"))
    assert "cannot be cloned" in str(other)
    monkeypatch.setattr(train, "still_wanted", lambda: False)
    with pytest.raises(train._FailedError, match="taken back"):
        train._run(["sleep", "60"], tmp_path)


def test_a_head_that_would_train_stops(project: Path) -> None:
    """Where the remote of the workers is not that of the head."""
    with pytest.raises(AuscultError, match="train@one-2024 was trained by a worker and is not in the remote"):
        train._repro_without_training("dvc.yaml", lambda line: None)
    assert not (project / "tables").exists()
