"""Shared by all tests: one thread, so that results do not depend on the machine, and a packed data set made once."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from support.packed import pack_tree, tiny_profile
from support.trees import write_tree_2020

torch.set_num_threads(1)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What takes longest comes first, so that no process is left with it alone at the end."""
    items.sort(key=lambda item: "pipeline" not in item.path.parts)


@pytest.fixture(scope="session")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with train/ and test/: 20 training clips of 1 s over four units, `osscl` computed, the rest on the fly."""
    folder = tmp_path_factory.mktemp("packed")
    write_tree_2020(folder / "raw", {"fan": ["00", "02"], "valve": ["00", "02"]}, train=5, normal=2, anomaly=2)
    pack_tree(folder / "raw", folder, tiny_profile(), ["osscl"])
    return folder
