"""A project folder as the stages see it: its parameters, the chosen profile, and the paths that follow from it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from auscult.settings.params import Params, arm_settings, load_params, load_profile
from auscult.settings.paths import Paths
from auscult.settings.profile import Profile
from auscult.settings.schema import Data
from auscult.settings.training import MethodSettings


@dataclass(frozen=True)
class Project:
    params: Params
    profile: Profile
    paths: Paths

    @classmethod
    def open(cls, root: Path = Path()) -> Project:
        """Read params.yaml, the studies' and the profile that is chosen."""
        params = load_params(root)
        data: Data = params.section("data")
        return cls(params, load_profile(data.profile, root / "profiles"), Paths(data.profile, root))

    def section(self, name: str) -> Any:
        """One checked section of params.yaml."""
        return self.params.section(name)

    @property
    def seeds(self) -> tuple[int, ...]:
        seeds: tuple[int, ...] = self.section("train").seeds
        return seeds

    def scores(self, study: str = "") -> Path:
        """The folder with the scores of every arm of the project, or of a study."""
        return self.paths.scores(study or "project").with_suffix("")

    def sweep(self, study: str = "") -> Path:
        """As `scores`, under every back-end of the sweep."""
        return self.paths.sweep(study or "project").with_suffix("")

    def scores_of(self, arm: str) -> Path:
        """The scores of an arm, of all seeds."""
        return self.scores(self.params.arm(arm).study) / f"{arm}.parquet"

    def embeddings(self, arm: str) -> dict[int, Path]:
        """Folders of an arm's embeddings, by seed."""
        return {seed: self.paths.embeddings(arm, seed) for seed in self.seeds}

    def arm(self, name: str) -> MethodSettings:
        """The complete settings of an arm."""
        return arm_settings(self.params, self.profile, name)
