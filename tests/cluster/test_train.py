"""Arms trained by the workers of a cluster, in clones of their own; the head makes the tables and trains nothing."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pandas as pd
import pytest

pytest.importorskip("distributed", reason="Dask is not installed (pip install 'auscult[cluster]')")

from distributed import LocalCluster

from auscult.cluster.train import train_arms
from auscult.errors import AuscultError
from support import pipeline
from support.pipeline import commit, make, run

ARMS = ("spectral_knn", "ae")


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project of two arms, without a remote."""
    folder = tmp_path_factory.mktemp("cluster")
    tiny = {**pipeline.TINY, "overrides": {"ae": {"epochs": 1}}}
    return make(folder / "origin", profile=tiny, evaluate=20, arms=ARMS, study=None)


def test_what_is_missing_is_said(project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(AuscultError, match="this is no project"):
        train_arms([], "local:1")
    shutil.copytree(project, tmp_path / "p")
    monkeypatch.chdir(tmp_path / "p")
    with pytest.raises(AuscultError, match="there is no such study"):
        train_arms(["nothing"], "local:1")
    with pytest.raises(AuscultError, match="DVC's remote, and none is configured") as error:
        train_arms([], "local:1")
    assert "dvc remote add" in error.value.fix
    run(tmp_path / "p", "dvc", "remote", "add", "-d", "shared", str(tmp_path / "remote"))
    with pytest.raises(AuscultError, match=r"not committed.*\n.*\.dvc/config"):
        train_arms([], "local:1")


def test_workers_train_and_the_head_makes_the_tables(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(tmp_path, "git", "clone", "-q", str(project), "head")
    head = tmp_path / "head"
    run(head, "dvc", "remote", "add", "-d", "shared", str(tmp_path / "remote"))
    commit(head, "remote")
    monkeypatch.chdir(head)
    said: list[str] = []
    with LocalCluster(n_workers=2, threads_per_worker=1, processes=False, dashboard_address="127.0.0.1:0") as cluster:
        address = cluster.scheduler_address
        assert not train_arms([], address, str(head), str(tmp_path / "workspaces"), said.append)
    ran = [line for line in said if line.startswith("train@")]
    assert sorted(line.split(":")[0] for line in ran) == [f"train@{arm}-2024" for arm in sorted(ARMS)]
    assert all(": run in " in line for line in ran), ran
    here = set(re.findall(r"Running stage '([^']+)'", "\n".join(said)))
    assert "tables" in here
    assert not [stage for stage in here if stage.startswith(("train@", "features"))]
    summary = pd.read_csv(head / "metrics" / "tiny" / "summary.csv")
    assert set(summary["arm"]) == set(ARMS)
    made = {
        path.parent.parent.name: path
        for path in (tmp_path / "workspaces").glob("*/models/tiny/*/2024/weights.safetensors")
    }
    assert set(made) == set(ARMS)
    for arm, path in made.items():
        assert (head / "models" / "tiny" / arm / "2024" / "weights.safetensors").read_bytes() == path.read_bytes()
