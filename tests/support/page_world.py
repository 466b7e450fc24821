"""A folder in which the commands of the pages find what the pages speak of: recordings, bundles, score files, a project."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pandas as pd

from auscult.detector import bundle
from auscult.results.stale import backends_settings, results_settings, write_record
from auscult.settings.project import Project
from support.projects import ROOT
from support.reported import Run, reported
from support.trees import noise, write

ARMS: tuple[Run, ...] = (
    ("spectral_knn", 0.5, ("knn_cosine", "knn_euclidean")),
    ("ae", 1.5, ("native", "knn_cosine", "knn_euclidean")),
    ("tfst_os_scl", 3.0, ("native", "knn_cosine", "knn_euclidean")),
)
NORMAL, FAULTY = 300.0, 2000.0  # Hz
SECONDS = 0.5
ENOUGH = 20  # recordings for the rate of 0.05 that the pages ask for


def make_world(folder: Path, packed: Path) -> Path:
    """Fill `folder`; the project's data set is the fixture `packed`. The bundles are one."""
    reported(folder, packed, ARMS)
    shutil.copytree(ROOT / "studies" / "fph_reduction", folder / "studies" / "fph_reduction")
    project = Project.open(folder)
    _sweep_of_a_study(project, "fph_reduction")
    _every_back_end(project)
    (folder / "checkpoints.yaml").symlink_to(ROOT / "checkpoints.yaml")
    _recordings(folder)
    for team, seed in (("team_a", 0), ("team_b", 1), ("teams/ours", 2), ("teams/theirs", 3)):
        _scores(folder / team, seed)
    bundle.fit(folder / "recordings" / "normal", folder / "pump.bundle")
    shutil.copytree(folder / "pump.bundle", folder / "valve.bundle")
    return folder


def _recordings(folder: Path) -> None:
    rng = np.random.default_rng(0)
    parts = {
        "recordings/normal": (ENOUGH, 0), "valve/normal": (10, 0), "valve/train": (10, 0), "valve/anomaly": (0, 3),
        "valve/test": (3, 3), "today": (3, 1), "incoming": (10, 1), "may": (10, 0), "flac": (2, 2),
    }  # fmt: skip
    for part, (normal, faulty) in parts.items():
        suffix = ".flac" if part == "flac" else ".wav"
        for number in range(normal + faulty):
            tone = NORMAL if number < normal else FAULTY
            write(folder / part / f"{number:02}{suffix}", noise(rng, SECONDS, tone))
    write(folder / "half_hour.wav", np.concatenate([noise(rng, 5 * SECONDS, NORMAL), noise(rng, SECONDS, FAULTY)]))


def _scores(folder: Path, seed: int) -> None:
    """Score files of 2020, the labels in the clips' names."""
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True)
    for unit in ("00", "02"):
        names = [f"{label}_id_{unit}_{clip:08d}.wav" for label in ("normal", "anomaly") for clip in range(8)]
        values = rng.normal(size=16) + seed * np.repeat([0, 1], 8)
        lines = [f"{name},{value:.4f}" for name, value in zip(names, values, strict=True)]
        (folder / f"anomaly_score_fan_id_{unit}.csv").write_text("\n".join(lines) + "\n")


def _sweep_of_a_study(project: Project, study: str) -> None:
    """Results of a study that sweeps a number, both sets."""
    rows = [
        (arm, "native", "per_unit", which, "mean", "auc", 70.0 + place, 69.0 + place, 71.0 + place)
        for which in ("dev", "eval")
        for place, arm in enumerate(project.params.rows(study))
    ]
    columns = ["arm", "backend", "convention", "set", "machine", "metric", "value", "ci_low", "ci_high"]
    folder = project.paths.results(study)
    folder.mkdir(parents=True)
    pd.DataFrame(rows, columns=columns).to_csv(folder / "summary.csv", index=False)
    evaluate = project.section("evaluate").model_copy(update={"reference": project.params.studies[study].reference})
    arms, tables = project.params.rows(study), project.params.tables(study)
    write_record(folder, results_settings(project.profile, evaluate, arms, tables), [], digests=True)


def _every_back_end(project: Project) -> None:
    """As `auscult run --backends` leaves them."""
    rng, sweep = np.random.default_rng(0), project.section("backends")
    rows = [
        (arm, backend, "per_unit", "dev", "auc", rng.uniform(50, 90))
        for arm in project.params.rows()
        for backend in sweep.sweep
    ]
    folder = project.paths.backends("project")
    folder.mkdir(parents=True)
    table = pd.DataFrame(rows, columns=["arm", "backend", "convention", "set", "metric", "value"])
    table.to_csv(folder / "table.csv", index=False)
    settings = backends_settings(project.profile, project.section("evaluate"), sweep, project.params.rows())
    write_record(folder, settings, [], digests=True)
