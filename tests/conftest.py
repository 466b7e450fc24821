"""Shared by all tests: one thread, so that results do not depend on the machine, and a packed data set made once."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
import torch

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


@pytest.fixture(scope="session")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with train/ and test/: 20 training clips of 1 s over four units, `osscl` computed, the rest on the fly."""
    folder = tmp_path_factory.mktemp("packed")
    write_tree_2020(folder / "raw", {"fan": ["00", "02"], "valve": ["00", "02"]}, train=5, normal=2, anomaly=2)
    pack_tree(folder / "raw", folder, tiny_profile(), ["osscl"])
    return folder
