"""Small trees of recordings in each way of naming: seeded noise, so that no two clips are alike."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import soundfile

RATE = 16000
UNITS_2020: Mapping[str, Sequence[str]] = {"fan": ["00", "02"], "valve": ["00"]}


def noise(rng: np.random.Generator, seconds: float, tone: float = 0.0, rate: int = RATE) -> np.ndarray:
    """Noise of 0.05 and a sine of 0.2 at `tone` Hz (0 = none), int16 [samples]."""
    time = np.arange(round(seconds * rate)) / rate
    sine = np.sin(2 * np.pi * tone * time + rng.uniform(0, 2 * np.pi))
    return np.round(32767 * (0.05 * rng.standard_normal(len(time)) + 0.2 * sine)).astype(np.int16)


def write(path: Path, audio: np.ndarray, rate: int = RATE, subtype: str = "PCM_16") -> Path:
    """Write `audio` (int16, or float in [-1, 1)) as the format of the suffix, folders included."""
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, audio, rate, subtype=subtype, format=path.suffix[1:].upper())
    return path


def write_tree_2020(
    root: Path,
    machines: Mapping[str, Sequence[str]] = UNITS_2020,
    train: int = 4,
    normal: int = 3,
    anomaly: int = 3,
    seconds: float = 1.0,
    seed: int = 0,
    suffix: str = ".wav",
) -> Path:
    """`<machine>/<train|test>/<label>_id_<unit>_<number>`; every unit hums at a pitch of its own, anomalies higher."""
    rng = np.random.default_rng(seed)
    for machine, units in machines.items():
        for number, unit in enumerate(units):
            for partition, label, count in (
                ("train", "normal", train), ("test", "normal", normal), ("test", "anomaly", anomaly),
            ):  # fmt: skip
                for clip in range(count):
                    tone = 300.0 + 200 * number + (1500 if label == "anomaly" else 0)
                    name = f"{label}_id_{unit}_{clip:08d}{suffix}"
                    write(root / machine / partition / name, noise(rng, seconds, tone))
    return root


def write_tree_2023(
    root: Path,
    machines: Sequence[str] = ("fan",),
    source: int = 4,
    target: int = 2,
    test: int = 2,
    seconds: float = 1.0,
    seed: int = 0,
) -> Path:
    """`section_00_<domain>_<partition>_<label>_<number>_<attributes>`: `spd_0` and `spd_1` in the source domain, `spd_2` in
    the target domain; `test` clips of each domain and label."""
    rng = np.random.default_rng(seed)
    for machine in machines:
        for domain, count in (("source", source), ("target", target)):
            for partition, label, clips in (
                ("train", "normal", count),
                ("test", "normal", test),
                ("test", "anomaly", test),
            ):
                for clip in range(clips):
                    speed = clip % 2 if domain == "source" else 2
                    name = f"section_00_{domain}_{partition}_{label}_{clip:04d}_spd_{speed}.wav"
                    tone = 400.0 + 100 * speed + (1500 if label == "anomaly" else 0)
                    write(root / machine / partition / name, noise(rng, seconds, tone))
    return root


def write_tree_folder(
    root: Path, normal: int = 4, anomaly: int = 2, test_normal: int = 2, seconds: float = 1.0, seed: int = 0
) -> Path:
    """`normal/`, `anomaly/` and `test_normal/` with any names, as users keep their own recordings."""
    rng = np.random.default_rng(seed)
    for kind, count in (("normal", normal), ("anomaly", anomaly), ("test_normal", test_normal)):
        for clip in range(count):
            write(root / kind / f"recording {clip}.wav", noise(rng, seconds, 1500.0 if kind == "anomaly" else 300.0))
    return root
