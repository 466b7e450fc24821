"""Publishing without mlflow; with it, tests/test_pipeline.py looks at the runs."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from auscult.project import Project
from auscult.tracking import publish

ROOT = Path(__file__).parents[1]


def test_no_stage_fails_for_lack_of_mlflow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.split(".")[0] == "mlflow"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "mlflow", None)  # importing it raises ImportError
    publish(Project.open(ROOT), tmp_path / "receipt.json")
    receipt = json.loads((tmp_path / "receipt.json").read_text())
    assert receipt["published"] is None
    assert "install" in receipt["reason"]
