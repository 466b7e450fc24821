"""A project folder as the stages see it: its parameters, the chosen profile, and the paths that follow from it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from auscult.config import Data, MethodSettings, Profile, arm_settings, load_params, load_profile, section
from auscult.paths import Paths


@dataclass(frozen=True)
class Project:
    params: dict[str, Any]
    profile: Profile
    paths: Paths

    @classmethod
    def open(cls, root: Path = Path()) -> Project:
        """Read params.yaml and the profile it chooses."""
        params = load_params(root / "params.yaml")
        data: Data = section(params, "data")
        return cls(params, load_profile(data.profile, root / "profiles"), Paths(data.profile, root))

    def section(self, name: str) -> Any:
        """One checked section of params.yaml."""
        return section(self.params, name)

    def arm(self, name: str) -> MethodSettings:
        """The complete settings of an arm."""
        return arm_settings(self.params, self.profile, name)
