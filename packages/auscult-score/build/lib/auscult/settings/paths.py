"""Where everything lies, relative to the project root (the folder that holds dvc.yaml)."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import yaml


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

    @property
    def digests(self) -> Path:
        """What arms and stages depend on: `arms/<arm>.json`, `stages/<stage>.json`."""
        return self.data / "digests"

    def inputs(self, arm: str) -> Path:
        """What an arm's weights depend on beside the clips."""
        return self.digests / "arms" / f"{arm}.json"

    @property
    def checkpoints(self) -> Path:
        """Which checkpoints were found in place, and their digests."""
        return self.root / "checkpoints" / "found.json"

    def features(self, partition: str) -> Path:
        """`partition` is "train" or "test"; training is given the first folder only."""
        return self.data / "features" / partition

    def models(self, arm: str) -> Path:
        """Everything of an arm's training: one model folder per seed."""
        return self.root / "models" / self.profile / arm

    def model(self, arm: str, seed: int) -> Path:
        return self.models(arm) / str(seed)

    def cost(self, step: Literal["train", "embed"], arm: str, seed: int, weights: str = "") -> Path:
        """What a step has cost (seconds, memory, machine), of the model that is in place now; `weights`: whose, if not the
        arm's own. It differs between equal runs, and is no output of DVC."""
        config = self.model(weights or arm, seed) / "config.yaml"
        code = yaml.safe_load(config.read_bytes())["code"] if config.is_file() else "none"
        base = Path(os.environ.get("DVC_ROOT") or self.root)
        return base / ".cache" / "costs" / self.profile / arm / f"{seed}-{code}.{step}.json"

    def embeddings(self, arm: str, seed: int) -> Path:
        return self.data / "embeddings" / arm / str(seed)

    def clusters(self, arm: str, seed: int) -> Path:
        """The clusters that are classes of an arm's training clips without attributes."""
        return self.data / "clusters" / arm / f"{seed}.parquet"

    def scores(self, arm: str) -> Path:
        """Of all seeds; `<study>/<arm>`, see `Project.scores_of`."""
        return self.data / "scores" / f"{arm}.parquet"

    def metrics(self, study: str = "") -> Path:
        """What is committed of the results of the project, or of a study."""
        return (
            self.root / "studies" / study / "metrics" / self.profile if study else self.root / "metrics" / self.profile
        )

    def results(self, study: str = "") -> Path:
        """What is not committed of the results of the project, or of a study."""
        return self.data / "results" / (study or "project")

    def submission(self, arm: str) -> Path:
        """Scores and decisions in the challenge's format."""
        return self.data / "submission" / arm

    def sweep(self, arm: str) -> Path:
        """Scores under every back-end of the sweep, of all seeds; `<study>/<arm>`."""
        return self.data / "sweep" / f"{arm}.parquet"

    def backends(self, report: str) -> Path:
        """Results of the sweep: of the "project", of a study, or of "all" arms."""
        return self.data / "backends" / report

    @property
    def report(self) -> Path:
        """The page of results."""
        return self.data / "report"

    def confusion(self, study: str) -> Path:
        """Which units pass for which, by arms of a study."""
        return self.data / "confusion" / study


def project_root() -> Path:
    """The user's own checkout, also inside the temporary workspace of a queued experiment (DVC sets DVC_ROOT)."""
    return Path(os.environ.get("DVC_ROOT", "."))


def resume_folder() -> Path:
    """Training states of interrupted runs. Keyed by content, so one folder serves every workspace of a checkout."""
    return project_root() / ".cache" / "resume"
