"""Where everything lies, relative to the project root (the folder that holds dvc.yaml)."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Paths:
    """The paths of one profile. Stages and tests take them from here; no other module spells a path."""

    profile: str
    root: Path = Path()

    @property
    def data(self) -> Path:
        return self.root / "data" / self.profile

    @property
    def raw(self) -> Path:
        return self.data / "raw"

    @property
    def clips(self) -> Path:
        return self.data / "manifest" / "clips.parquet"

    @property
    def labels(self) -> Path:
        return self.data / "manifest" / "labels.parquet"

    def features(self, partition: str) -> Path:
        """`partition` is "train" or "test"; training is given the first folder only."""
        return self.data / "features" / partition

    def model(self, arm: str) -> Path:
        return self.root / "models" / self.profile / arm

    def cost(self, arm: str) -> Path:
        """Seconds, memory, machine: beside the model, for they differ between equal runs."""
        return self.root / "models" / self.profile / f"{arm}.cost.json"

    def embeddings(self, arm: str) -> Path:
        return self.data / "embeddings" / arm

    def scores(self, arm: str) -> Path:
        return self.data / "scores" / f"{arm}.parquet"

    @property
    def metrics(self) -> Path:
        return self.root / "metrics" / self.profile


def project_root() -> Path:
    """The user's own checkout, also inside the temporary workspace of a queued experiment (DVC sets DVC_ROOT)."""
    return Path(os.environ.get("DVC_ROOT", "."))


def resume_folder() -> Path:
    """Training states of interrupted runs. Keyed by content, so one folder serves every workspace of a checkout."""
    return project_root() / ".cache" / "resume"
