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
from support.fleet import CLIPS, threads
from support.trees import noise, write


@pytest.fixture(scope="session")
def fitted(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    folder = tmp_path_factory.mktemp("normal")
    rng = np.random.default_rng(0)
    for number in range(12):
        write(folder / f"{number:02d}.wav", noise(rng, 0.3, 300.0))
    return bundle.fit(folder, tmp_path_factory.mktemp("out") / "pump")


@pytest.fixture(scope="session")
def other(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """One that scores otherwise."""
    folder = tmp_path_factory.mktemp("other")
    for number in range(12):
        write(folder / f"{number}.wav", noise(np.random.default_rng(number + 50), 0.3, 500.0))
    return bundle.fit(folder, tmp_path_factory.mktemp("out") / "other")


@pytest.fixture(scope="session")
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
    with threads() as address:
        yield address


@pytest.fixture(scope="session")
def scored(fitted: Bundle, archive: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("scored") / "out"
    with threads() as here:
        outcome = fleet.score_archive(fitted.folder, [str(archive)], here, str(out), 4)
    assert (outcome.scored, outcome.before, outcome.failed) == (CLIPS, 0, [])
    return out


@pytest.fixture
def copy(scored: Path, tmp_path: Path) -> Path:
    shutil.copytree(scored, tmp_path / "copy")
    return tmp_path / "copy"
