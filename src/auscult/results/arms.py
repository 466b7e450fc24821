"""Where the outputs of arms lie, and what is read of them: costs, training curves, why a network is missing."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml

from auscult.results.names import COSTS
from auscult.settings.project import Project
from auscult.settings.reading import Loader

COST_COLUMNS = ["arm", *COSTS, "peak_memory_mib", "device", "seeds"]


@dataclass(frozen=True)
class ArmFiles:
    """Where an arm's outputs lie; each may be absent.

    Attributes:
        scores: parquet of all its training seeds, columns as for `evaluation.evaluate` and `seed`.
        models: training seed -> model folder (`history.csv`, `config.yaml`).
        embeddings: training seed -> folder of embeddings (`network.json`).
        costs: training seed -> files of what it has cost, which only the machine has that did the work.
    """

    scores: Path
    models: dict[int, Path]
    embeddings: dict[int, Path] = field(default_factory=dict)
    costs: dict[int, tuple[Path, ...]] = field(default_factory=dict)

    def measured(self, seed: int) -> dict[str, Any]:
        """Size of the network, and what training and embedding have cost, as far as it is known here."""
        found: dict[str, Any] = {}
        if seed in self.embeddings:
            found |= _json(self.embeddings[seed] / "network.json")
        for path in self.costs.get(seed, ()):
            found |= _json(path)
        return found


def arm_files(
    project: Project, arms: Iterable[str], scores: Callable[[str], Path] | None = None
) -> dict[str, ArmFiles]:
    """Where the outputs of arms lie, for the seeds in use.

    Args:
        scores: study -> folder of its arms' scores, where they are not those of their own back-ends.
    """
    paths, found = project.paths, {}
    for name in arms:
        weights = project.params.arm(name).weights
        found[name] = ArmFiles(
            (scores or project.scores)(project.params.arm(name).study) / f"{name}.parquet",
            {seed: paths.model(weights, seed) for seed in project.seeds},
            project.embeddings(name),
            {
                seed: (paths.cost("train", weights, seed), paths.cost("embed", name, seed, weights))
                for seed in project.seeds
            },
        )
    return found


def skipped(arms: Mapping[str, ArmFiles]) -> dict[tuple[str, str], str]:
    """(arm, machine or "all") -> why no network was trained, from the arms' model folders."""
    found: dict[tuple[str, str], str] = {}
    for arm, files in arms.items():
        for folder in files.models.values():
            config = folder / "config.yaml"
            settings: Any = yaml.load(config.read_bytes(), Loader) if config.is_file() else {}
            for network, reason in ((settings or {}).get("skipped") or {}).items():
                found.setdefault((arm, str(network)), f"not trained: {reason}")
    return found


def arm_costs(arms: Mapping[str, ArmFiles]) -> pd.DataFrame:
    """What each arm costs: columns `COST_COLUMNS`, means over its training seeds, NaN where not measured."""
    rows = []
    for arm, files in arms.items():
        measured = [files.measured(seed) for seed in files.models]
        means = []
        for name in (*COSTS, "peak_memory_mib"):
            values = [float(one[name]) for one in measured if isinstance(one.get(name), int | float)]
            means.append(float(np.mean(values)) if values else float("nan"))
        devices = ", ".join(dict.fromkeys(str(one["device"]) for one in measured if one.get("device")))
        rows.append((arm, *means, devices, sum("train_seconds" in one for one in measured)))
    return pd.DataFrame(rows, columns=COST_COLUMNS)


def read_history(path: Path) -> pd.DataFrame:
    """history.csv of a model folder; empty where there is none, or nothing was trained."""
    if not path.is_file() or path.stat().st_size <= 1:
        return pd.DataFrame()
    table = pd.read_csv(path)
    return table if "epoch" in table else pd.DataFrame()


def history(files: ArmFiles) -> pd.DataFrame:
    """Training curves of all seeds; with several the column `scope` says whose a row is."""
    frames = []
    for seed, folder in files.models.items():
        frame = read_history(folder / "history.csv")
        if len(frame) and len(files.models) > 1:
            scopes = frame["scope"].astype(str) if "scope" in frame else ["all"] * len(frame)
            frame["scope"] = [f"seed {seed}" if scope == "all" else f"{scope}, seed {seed}" for scope in scopes]
        frames.append(frame)
    frames = [frame for frame in frames if len(frame)]
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame()


def _json(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    return content
