"""A small packed data set, made through the real manifest and pack code."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from auscult.data.manifest import build_manifest
from auscult.data.pack import pack
from auscult.settings.profile import Profile
from auscult.settings.rules import MetricRules
from auscult.settings.schema import Data


def tiny_profile(**changes: object) -> Profile:
    values: dict[str, object] = {
        "name": "tiny", "dataset": "tiny", "title": "noise", "licence": "none",
        "source": {"kind": "local", "path": "raw"}, "grammar": "dcase2020", "sets": {"dev": "."},
        "clip_seconds": 1.0, "rules": MetricRules(scheme="dcase2020"),
    }  # fmt: skip
    return Profile.model_validate({**values, **changes})


def pack_tree(root: Path, out: Path, profile: Profile, frontends: list[str]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Manifest and both packed partitions (out/train, out/test) of a tree."""
    clips, labels = build_manifest(profile, root, workers=1)
    for partition in ("train", "test"):
        rows = clips[clips["partition"] == partition]
        pack(rows, root, out / partition, profile, Data(profile=profile.name, workers=1), frontends)
    return clips, labels
