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

    def arm(self, name: str) -> MethodSettings:
        """The complete settings of an arm."""
        return arm_settings(self.params, self.profile, name)
