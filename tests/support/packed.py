"""A small packed data set of seeded noise, made through the real manifest and pack code."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import soundfile

from auscult.config import Data, Profile
from auscult.data.manifest import build_manifest
from auscult.data.pack import pack
from auscult.rules import MetricRules

RATE = 16000


def tiny_profile(**changes: object) -> Profile:
    values: dict[str, object] = {
        "name": "tiny", "dataset": "tiny", "title": "noise", "licence": "none",
        "source": {"kind": "local", "path": "raw"}, "grammar": "dcase2020", "sets": {"dev": "."},
        "clip_seconds": 1.0, "rules": MetricRules(scheme="dcase2020"),
    }  # fmt: skip
    return Profile.model_validate({**values, **changes})


def noise(rng: np.random.Generator, seconds: float = 1.0, tone: float = 0.0) -> np.ndarray:
    """Noise and a tone of `tone` Hz, int16."""
    time = np.arange(round(seconds * RATE)) / RATE
    wave = 0.05 * rng.standard_normal(len(time)) + 0.2 * np.sin(2 * np.pi * tone * time + rng.uniform(0, 6))
    return np.round(wave * 32767).astype(np.int16)


def write_tree(root: Path, train: int = 5, test: int = 2, seed: int = 0) -> None:
    """fan units 00 and 02, valve unit 00; `train` normal clips, `test` clips of each kind per unit, DCASE 2020 names."""
    rng = np.random.default_rng(seed)
    for number, (machine, unit) in enumerate([("fan", "00"), ("fan", "02"), ("valve", "00")]):
        for partition, kind, count, tone in (
            ("train", "normal", train, 0), ("test", "normal", test, 0), ("test", "anomaly", test, 1500),
        ):  # fmt: skip
            folder = root / machine / partition
            folder.mkdir(parents=True, exist_ok=True)
            for clip in range(count):
                wave = noise(rng, tone=300 + 200 * number + tone)
                soundfile.write(folder / f"{kind}_id_{unit}_{clip:08d}.wav", wave, RATE)


def pack_tree(root: Path, out: Path, profile: Profile, frontends: list[str]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Manifest and both packed partitions (out/train, out/test) of a tree."""
    clips, labels = build_manifest(profile, root, workers=1)
    for partition in ("train", "test"):
        rows = clips[clips["partition"] == partition]
        pack(rows, root, out / partition, profile, Data(profile=profile.name, workers=1), frontends)
    return clips, labels
