"""A project small enough to be drawn in a second: four arms, one of them not run, on a packed data set of noise."""

from __future__ import annotations

from pathlib import Path

import pytest

from auscult.results.page.build import write_report
from auscult.settings.project import Project
from support.reported import Run, reported

RUNS: tuple[Run, ...] = (
    ("spectral_knn", 0.5, ("knn_cosine",)),
    ("ae", 1.5, ("native", "knn_cosine")),
    ("stgram_mfn", 3.0, ("native", "knn_cosine")),
)


@pytest.fixture(scope="session")
def project(tmp_path_factory: pytest.TempPathFactory, packed: Path) -> Project:
    return reported(tmp_path_factory.mktemp("report") / "project", packed, RUNS, not_run=["logmel_os_scl"])


@pytest.fixture(scope="session")
def page(project: Project) -> Path:
    """The whole report; its folder."""
    return write_report(project, project.paths.report).parent
