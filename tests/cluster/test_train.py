"""Stages run by the workers of a cluster, in clones of their own; the head makes the tables and trains nothing.

By real DVC, in a project whose stages have the names of ours and take no time.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
import yaml

pytest.importorskip("distributed", reason="Dask is not installed (pip install 'auscult[cluster]')")

from auscult.cluster import stage as work
from auscult.cluster import train
from auscult.cluster.connect import Tasks
from auscult.cluster.train import train_arms
from auscult.errors import AuscultError
from support.fleet import threads
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
    cmd: date +%N > ${item.arm} && install -D config models/tiny/${item.arm}/2024/config.yaml
    deps: [features]
    outs: ["${item.arm}", "models/tiny/${item.arm}/2024"]
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
    (folder / "params.yaml").write_text("data: {profile: tiny}")
    (folder / "config").write_text("skipped: {valve: too long for a CPU}")
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
    monkeypatch.setattr(work, "_LOOK", 0.05)
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
    with threads(1) as address:
        assert not train_arms([], address, "", str(tmp_path / "workspaces"), said.append)
    by_workers = [re.sub(r" in .*", "", line, flags=re.S) for line in said if " by worker " in line]
    assert by_workers == ["features: run", "train@one-2024: run"]
    assert said[2].endswith("\n    NOT TRAINED, network `valve`: too long for a CPU"), (
        "what is left out is not lost in silence"
    )
    assert set(re.findall(r"Running stage '([^']+)'", "\n".join(said))) == {"tables"}
    made = (tmp_path / "workspaces" / "0" / "one").read_bytes()  # the time at which it ran
    assert (project / "one").read_bytes() == (project / "tables").read_bytes() == made


def test_a_stage_that_fails_and_one_that_is_taken_back(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (stage,) = train._trained_for(["studies/bad/dvc.yaml"])
    plan = work.Plan(str(project), train._commit(), str(project), str(tmp_path / "w"), train.program())
    result = work.make_stage(work.Task(plan, stage, "", {}))
    assert "exited with 3" in str(result["problem"])
    (tmp_path / "w" / "0" / ".git" / "index.lock").touch()  # as of a worker that was killed
    other = work.make_stage(work.Task(replace(plan, commit="0" * 40), "features", "", {}))
    assert "cannot be cloned" in str(other)
    assert "index.lock" not in str(other)
    another = replace(plan, program={**train.program(), "torch": "9.9"})
    assert "wanted: 9.9" in str(work.make_stage(work.Task(another, "features", "", {}))["refused"])
    monkeypatch.setattr(work, "still_wanted", lambda: False)
    with pytest.raises(work.FailedError, match="taken back"):
        work._run(["sleep", "60"], tmp_path)


def test_stages_that_train_are_known_by_name() -> None:
    names = [
        "train@ae-2024",
        "studies/x/dvc.yaml:train_on_clusters@han-ced-1",
        "embed@2024",
        "train_x@a-1",
        "retrain@a-1",
    ]
    assert [work.arm_of(name) for name in names] == ["ae", "han-ced", "", "", ""]
    assert [bool(work.arm_of(name, "late")) for name in names[:2]] == [False, True]


def test_a_stage_of_which_workers_die_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As `Tasks` tells it, which a test of its own is about; what follows is tried all the same."""

    class Dying(Tasks):
        def results(self, tasks: Iterable[Any]) -> Iterator[Any]:
            for task in tasks:
                if task.stage == "train@a-1":
                    assert self._more(task) == []
                else:
                    facts = {"how": "run", "seconds": "1", "worker": "w", "left_out": ""}
                    yield {"stage": task.stage, "problem": "", **facts}

    monkeypatch.setattr(train, "Tasks", Dying)
    monkeypatch.chdir(tmp_path)
    said: list[str] = []
    plan = work.Plan("", "", "", "", {})
    stages = ["train@a-1", "train@b-1", "train_on_clusters@c-1"]
    assert train._made_by_workers(Mock(), plan, stages, said.append) == ["train@a-1"]
    assert said[1] == "train@a-1: FAILED: the process of every worker that ran it ended"
    assert [line.partition(":")[0] for line in said] == ["features", *stages]


def test_a_worker_without_the_checkpoint_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It would leave the arm out, and the head would take that for what it has trained."""
    listed = {
        "encoder": "beats",
        "title": "t",
        "source": "https://s",
        "licence": "l",
        "files": [{"name": "a.pt", "mib": 1}],
    }
    (tmp_path / "checkpoints.yaml").write_text(yaml.safe_dump({"checkpoints": {"tiny": listed}}))
    monkeypatch.delenv("AUSCULT_CHECKPOINTS", raising=False)
    plan = work.Plan("", "", str(tmp_path), "", {})
    work._require_checkpoint(work.Task(plan, "train@a-1", "tiny", {}), tmp_path)
    with pytest.raises(AuscultError, match="checkpoint `tiny` is not here as") as error:
        work._require_checkpoint(work.Task(plan, "train@a-1", "tiny", {"a.pt": "0" * 64}), tmp_path)
    assert error.value.where == str(tmp_path / "checkpoints" / "tiny")


def test_a_head_that_would_train_stops(project: Path) -> None:
    """Where the remote of the workers is not that of the head."""
    with pytest.raises(AuscultError, match="train@one-2024 was trained by a worker and is not in the remote"):
        train._repro_without_training("dvc.yaml", lambda line: None)
    assert not (project / "tables").exists()
