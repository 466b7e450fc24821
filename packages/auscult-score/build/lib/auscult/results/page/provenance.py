"""Where the numbers come from: revision, settings, data and versions."""

from __future__ import annotations

import hashlib
import json
import platform
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from auscult.results.page.context import Context
from auscult.settings.reading import Loader

PACKAGES = ("auscult", "torch", "numpy", "scipy", "pandas", "scikit-learn", "plotly")


@dataclass(frozen=True)
class Provenance:
    """Pairs of a name and what is known of it, and the settings as text."""

    facts: Sequence[tuple[str, str]]
    settings: Sequence[tuple[str, str]]


def provenance(context: Context) -> Provenance:
    root = context.paths.root
    facts = [("Profile", context.profile.title), ("Licence of the data", context.profile.licence)]
    revision, dirty = _git(root, "rev-parse", "HEAD"), _git(root, "status", "--porcelain", "--untracked-files=no")
    if revision:
        when = _git(root, "show", "-s", "--format=%cs", "HEAD")
        facts.append(
            ("Git revision", f"{revision} of {when}" + (", with changes that are not committed" if dirty else ""))
        )
    else:
        facts.append(("Git revision", "unknown: not a git checkout"))
    facts += [("Data, stage " + stage, digest) for stage, digest in data_digests(root, context.profile.name)]
    if context.paths.clips.is_file():
        clips = pd.read_parquet(context.paths.clips, columns=["clip_id"])["clip_id"]
        digest = hashlib.sha256(clips.to_numpy().tobytes()).hexdigest()[:16]
        facts.append(("Clips", f"{len(clips):,}; digest of their ids {digest} (`auscult.data` in MLflow)"))
    evaluate = context.params.section("evaluate")
    bootstrap = f"{100 * evaluate.level:g} %, {evaluate.replicates} bootstrap replicates, seed {evaluate.seed}"
    facts += [("Training seeds", ", ".join(str(seed) for seed in context.seeds)), ("Intervals", bootstrap)]
    facts += _trained(context)
    versions = [f"{name} {found}" for name in PACKAGES if (found := _version(name))]
    facts.append(("Versions of this page", ", ".join([f"Python {platform.python_version()}", *versions])))
    settings = []
    for path in (root / "params.yaml", root / "profiles" / f"{context.profile.name}.yaml"):
        if path.is_file():
            settings.append((path.relative_to(root).as_posix(), path.read_text(encoding="utf-8")))
    return Provenance(facts, settings)


def data_digests(root: Path, profile: str) -> list[tuple[str, str]]:
    """(stage, digest and size of its output) of the data stages in dvc.lock, where they are of this profile."""
    path = root / "dvc.lock"
    if not path.is_file():
        return []
    stages: dict[str, Any] = (yaml.load(path.read_text(encoding="utf-8"), Loader) or {}).get("stages", {})
    found = []
    for stage in ("download", "manifest", "features"):
        for out in stages.get(stage, {}).get("outs", []):
            if str(out.get("path", "")).startswith(f"data/{profile}/"):
                size = f", {_size(out['size'])}" if "size" in out else ""
                found.append(
                    (stage, f"{out['path']}: {out.get('hash', 'md5')} {out.get(out.get('hash', 'md5'), '?')}{size}")
                )
    return found


def _size(count: int) -> str:
    return f"{count / 1e6:,.1f} MB" if count >= 1e6 else f"{count / 1e3:,.1f} kB"


def _trained(context: Context) -> list[tuple[str, str]]:
    """Versions and machines of the trainings."""
    versions: dict[str, int] = {}
    for arm in context.arms:
        weights = context.params.arm(arm).weights
        for seed in context.seeds:
            path = context.paths.cost("train", weights, seed)
            if path.is_file():
                cost = json.loads(path.read_text(encoding="utf-8"))
                words = [
                    f"{name} {cost[key]}" for name, key in (("torch", "torch"), ("Python", "python")) if cost.get(key)
                ]
                words += [str(cost[key]) for key in ("device",) if cost.get(key)]
                text = ", ".join(words)
                versions[text] = versions.get(text, 0) + 1
    said = "; ".join(
        f"{text} ({count} {'model' if count == 1 else 'models'})" for text, count in versions.items() if text
    )
    return [("Trained with", said)] if said else []


def _git(root: Path, *words: str) -> str:
    try:
        done = subprocess.run(["git", "-C", str(root), *words], capture_output=True, text=True, timeout=60)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return ""
