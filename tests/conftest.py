"""Shared by all tests: one thread, so that results do not depend on the machine, folders that are emptied as soon as their test
has passed, and a packed data set made once."""

from __future__ import annotations

import os
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

# For NumPy and for the processes that tests start; before either is loaded.
os.environ["OMP_NUM_THREADS"] = "1"

import pytest
import torch

from support.methods import few_blocks
from support.packed import pack_tree, tiny_profile
from support.trees import write_tree_2020

torch.set_num_threads(1)

# The tests start hundreds of processes, which need not compile the package each.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False


LONG = (
    "test_pipeline", "test_precision", "test_distributed", "test_checkpoint_pipeline", "test_bad_input", "test_docs",
    "test_benchmarks", "test_contract", "test_own_recordings_pipeline", "test_resume", "test_digests", "test_leakage",
)  # fmt: skip


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files that take longest come first, so that no process is left with one alone at the end."""
    items.sort(key=lambda item: LONG.index(item.path.stem) if item.path.stem in LONG else len(LONG))


@contextmanager
def emptied(folder: Path, session: pytest.Session) -> Iterator[Path]:
    """`folder`, whose content goes if no test of this process fails meanwhile.

    The empty folder stays, so that none after it gets its name: MLflow and others remember by paths what they have opened.
    """
    before = session.testsfailed
    yield folder
    if session.testsfailed == before:
        for path in folder.iterdir():
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path, ignore_errors=True)  # a process that was sent a signal may still write
            else:
                path.unlink(missing_ok=True)


@pytest.fixture
def tmp_path(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """As pytest's own, but that it is emptied, and not deleted, after its test."""
    name = re.sub(r"\W", "_", request.node.name)[:30]
    with emptied(tmp_path_factory.mktemp(name), request.session) as folder:
        yield folder


@pytest.fixture(scope="module")
def module_path(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder of the tests of one file, for what they share and is large; emptied after the last of them."""
    with emptied(tmp_path_factory.mktemp(request.path.stem), request.session) as folder:
        yield folder


@pytest.fixture(scope="module")
def small_networks() -> Iterator[None]:
    """The two deepest networks with fewer of their blocks, for all tests of a file; by `usefixtures`."""
    with few_blocks():
        yield


@pytest.fixture(scope="session", autouse=True)
def elsewhere(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What tests and their processes would leave in the machine's temporary folders lies among the tests' own, and goes with it.

    DVC notes every project that it has seen in /var/tmp; a killed process leaves what it has begun; MLflow writes into the home.
    """
    folder = tmp_path_factory.mktemp("elsewhere")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TMPDIR", str(folder))
        patch.setenv("DVC_SITE_CACHE_DIR", str(folder / "dvc"))
        patch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
        patch.setattr(tempfile, "tempdir", None)
        yield


@pytest.fixture(scope="session")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with train/ and test/: 20 training clips of 1 s over four units, `osscl` computed, the rest on the fly."""
    folder = tmp_path_factory.mktemp("packed")
    write_tree_2020(folder / "raw", {"fan": ["00", "02"], "valve": ["00", "02"]}, train=5, normal=2, anomaly=2)
    pack_tree(folder / "raw", folder, tiny_profile(), ["osscl"])
    return folder
