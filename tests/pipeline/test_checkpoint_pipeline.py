"""An arm that starts from a checkpoint, through the real `dvc` commands: the file is missing, arrives, changes, and goes."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest
import torch
import yaml
from safetensors.torch import save_file

from auscult.encoders.base import new_encoder
from auscult.encoders.beats import authors_key
from auscult.settings.sections import EncoderSettings
from auscult.training import modelfolder
from support.methods import TINY_ENCODER
from support.pipeline import commit, make, run

SECTIONS = """
anopatch_tiny:
  method: anopatch
  encoder:
    checkpoint: tiny
  embedding: 8
  chunk_seconds: 0.5
  train_steps: 4
  warmup_steps: 2
  batch_size: 8
  accumulate: 2
"""
LOOK = "digests"
ARM = ["train@anopatch_tiny-2024", "embed@2024", "score", "tables"]


def put(project: Path, seed: int) -> Path:
    torch.manual_seed(seed)
    network = new_encoder(EncoderSettings.model_validate(TINY_ENCODER)).network
    path = project / "checkpoints" / "tiny" / "tiny.safetensors"
    path.parent.mkdir(exist_ok=True)
    save_file({authors_key(key): value for key, value in network.state_dict().items()}, path)
    return path


def ran(project: Path, stage: str = "tables") -> list[str]:
    output = run(project, "dvc", "repro", stage).stdout
    return [line.split("'")[1] for line in output.splitlines() if line.startswith("Running stage")]


def test_missing_arriving_changing_going(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    project = make(tmp_path / "project", arms=["spectral_knn", "anopatch_tiny"], study=None, sections=SECTIONS)
    entry = {
        "encoder": "beats", "title": "tiny", "source": "https://example.org", "licence": "none",
        "size": TINY_ENCODER["size"], "files": [{"name": "tiny.safetensors"}],
    }  # fmt: skip
    (project / "checkpoints.yaml").write_text(yaml.safe_dump({"checkpoints": {"tiny": entry}}))
    model = project / "models" / "tiny" / "anopatch_tiny" / "2024"

    assert ran(project)[-1] == "tables"
    skipped = yaml.safe_load((model / "config.yaml").read_text())["skipped"]["all"]
    assert "put tiny.safetensors into checkpoints/tiny" in skipped
    summary = pd.read_csv(project / "metrics" / "tiny" / "summary.csv")
    assert set(summary["arm"]) == {"spectral_knn"}, "the other arm goes on"
    assert "put tiny.safetensors into checkpoints/tiny" in (project / "metrics" / "tiny" / "table.md").read_text()

    path = put(project, seed=0)
    assert run(project, "git", "check-ignore", str(path)).returncode == 0
    assert ran(project) == [LOOK, *ARM]
    assert set(pd.read_csv(project / "metrics" / "tiny" / "summary.csv")["arm"]) == {"spectral_knn", "anopatch_tiny"}
    first = (model / "weights.safetensors").read_bytes()
    assert ran(project) == [LOOK]
    commit(project, "trained")
    assert "checkpoints/found.json" in run(project, "git", "ls-files").stdout
    digest = json.loads((project / "checkpoints" / "found.json").read_text())["tiny"]["sha256"]["tiny.safetensors"]
    assert yaml.safe_load((model / "config.yaml").read_text())["checkpoint"]["sha256"] == {"tiny.safetensors": digest}

    put(project, seed=1)
    assert ran(project, ARM[0]) == [LOOK, ARM[0]]
    assert (model / "weights.safetensors").read_bytes() != first

    path.unlink()
    assert ran(project, ARM[0]) == [LOOK], "who has the trained model needs no checkpoint"
    monkeypatch.chdir(project)
    assert modelfolder.load(model).networks
