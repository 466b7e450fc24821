"""A folder of recordings through the real `dvc`, with the one command of the README and nothing edited."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from support.pipeline import make, run
from support.trees import noise, write

COMMAND = ("dvc", "exp", "run", "--temp", "-n", "mine", "-S", "data.profile=folder")


@pytest.fixture(scope="module")
def project(module_path: Path) -> Path:
    """The project with its own `folder` profile and the two arms that need no classes, none of its studies."""
    return make(module_path / "project", arms=("spectral_knn", "ae"), study=None)


def test_a_folder_of_recordings_with_one_command(project: Path, tmp_path: Path) -> None:
    """Stereo recordings of 2.3 s at 22 kHz in a folder with a blank in its name; anomalies are pitched higher."""
    mine, rng = tmp_path / "my pump", np.random.default_rng(3)
    for label, count, tone in (("normal", 6, 300.0), ("anomaly", 3, 1500.0)):
        for number in range(count):
            both = np.stack([noise(rng, 2.3, tone, 22050) for _ in range(2)], axis=1)
            write(mine / label / f"{label} {number}.flac", both, 22050)
    settings = (f"source.path='{mine}'", "clip_seconds=1", "overrides.ae.epochs=1")
    done = run(project, *COMMAND, *(word for one in settings for word in ("-S", f"profiles/folder.yaml:{one}")))
    assert (
        "9 recordings (0.3 min) -> 18 clips: 10 to train on, to test with 2 normal ones (of 1 recordings)"
        in done.stdout
    )
    assert run(project, "git", "status", "--porcelain").stdout == "", "the checkout is left alone"

    run(project, "dvc", "get", ".", "metrics/folder", "--rev", "mine", "-o", str(tmp_path / "results"))
    summary = pd.read_csv(tmp_path / "results" / "summary.csv")
    assert set(summary["arm"]) == {"spectral_knn", "ae"}
    assert set(summary["machine"]) == {"mean"}
    auc = summary.query(
        "arm == 'spectral_knn' and backend == 'knn_euclidean' and metric == 'auc' and machine == 'mean'"
    )
    assert auc["value"].tolist() == [100.0, 100.0], "two octaves are hard to miss"
    assert "`spectral_knn`" in (tmp_path / "results" / "table.md").read_text()

    for name in ("data/folder/scores/project/ae.parquet", "data/folder/manifest/clips.parquet"):
        run(project, "dvc", "get", ".", name, "--rev", "mine", "-o", str(tmp_path / Path(name).name))
    clips = pd.read_parquet(tmp_path / "clips.parquet").merge(pd.read_parquet(tmp_path / "ae.parquet"), on="clip_id")
    assert clips["path"].str.fullmatch(r"machine/00/(anomaly|test_normal)/\w+__0000[012]000\.wav").all()
    assert len(clips) == 3 * 8, "a score of each test clip from each back-end"
