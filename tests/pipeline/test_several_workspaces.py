"""Two workspaces with one DVC remote each train an arm, a third makes the tables without training (docs/several-gpus-and-machines.md)."""

from __future__ import annotations

import re
from pathlib import Path

import pandas as pd
import pytest

from support import pipeline
from support.pipeline import commit, make, run

ARMS = ("spectral_knn", "ae")


def stages_run(output: str) -> set[str]:
    return set(re.findall(r"Running stage '([^']+)'", output))


def clone(origin: Path, folder: Path) -> Path:
    run(origin.parent, "git", "clone", "-q", str(origin), str(folder))
    return folder


@pytest.fixture(scope="module")
def origin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project of two arms without any result, whose remote is a folder."""
    folder = tmp_path_factory.mktemp("shared")
    tiny = {**pipeline.TINY, "overrides": {"ae": {"epochs": 1}}}
    project = make(folder / "origin", profile=tiny, evaluate=20, arms=ARMS, study=None)
    run(project, "dvc", "remote", "add", "-d", "shared", str(folder / "remote"))
    commit(project, "remote")
    return project


def test_each_trains_some_arms_and_a_third_none(origin: Path, tmp_path: Path) -> None:
    one, two, three = (clone(origin, tmp_path / name) for name in ("one", "two", "three"))

    first = stages_run(run(one, "dvc", "repro", "score@spectral_knn").stdout)
    assert first == {"download", "manifest", "features", "train-spectral_knn@spectral_knn-2024",
                     "embed@spectral_knn-2024", "score@spectral_knn"}  # fmt: skip
    run(one, "dvc", "push", "--run-cache")

    second = stages_run(run(two, "dvc", "repro", "--pull", "score@ae").stdout)
    assert second == {"train-ae@ae-2024", "embed@ae-2024", "score@ae"}, "the data come from the other workspace"
    run(two, "dvc", "push", "--run-cache")

    third = run(three, "dvc", "repro", "--pull", "tables")
    assert stages_run(third.stdout) == {"tables"}, third.stdout
    summary = pd.read_csv(three / "metrics" / "tiny" / "summary.csv")
    assert set(summary["arm"]) == set(ARMS)
    assert summary["value"].notna().any()
    for arm, place in (("spectral_knn", one), ("ae", two)):
        weights = f"models/tiny/{arm}/2024/weights.safetensors"
        assert (three / weights).read_bytes() == (place / weights).read_bytes(), arm
