"""A bundle, an archive, a cluster in this process, and what it has made of them."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from auscult.cluster import fleet
from auscult.detector import bundle
from auscult.detector.bundle import Bundle
from support.fleet import CLIPS
from support.trees import noise, write


@pytest.fixture(scope="module")
def fitted(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    folder = tmp_path_factory.mktemp("normal")
    rng = np.random.default_rng(0)
    for number in range(12):
        write(folder / f"{number:02d}.wav", noise(rng, 0.3, 300.0))
    return bundle.fit(folder, tmp_path_factory.mktemp("out") / "pump")


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Recordings in two days, one of them unreadable; a hidden one and a text that are none."""
    folder = tmp_path_factory.mktemp("archive")
    rng = np.random.default_rng(1)
    for number in range(CLIPS - 1):
        write(folder / f"day{number % 2}" / f"{number:02d}.wav", noise(rng, 0.3, 900.0 if number % 5 == 0 else 300.0))
    (folder / "day0" / "broken.wav").write_bytes(b"RIFF no sound")
    (folder / "day0" / ".hidden.wav").write_bytes(b"")
    (folder / "day0" / "notes.txt").write_text("")
    return folder


@pytest.fixture(scope="module")
def here() -> Iterator[str]:
    """The address of two workers in this process."""
    from distributed import LocalCluster  # the modules that ask for it are skipped without

    with LocalCluster(n_workers=2, threads_per_worker=1, processes=False, dashboard_address=None) as cluster:
        yield cluster.scheduler_address


@pytest.fixture(scope="module")
def scored(fitted: Bundle, archive: Path, here: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("scored") / "out"
    outcome = fleet.score_archive(fitted.folder, [str(archive)], here, str(out), 4)
    assert (outcome.scored, outcome.before, outcome.failed) == (CLIPS, 0, [])
    return out


@pytest.fixture
def copy(scored: Path, tmp_path: Path) -> Path:
    shutil.copytree(scored, tmp_path / "copy")
    return tmp_path / "copy"
