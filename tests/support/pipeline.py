"""A copy of the repository with a tiny profile, in which the real `dvc` commands run."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from auscult.pipeline import writer as pipeline
from auscult.pipeline.graph import into_graph
from auscult.settings.params import load_params
from support import preloaded

ROOT = Path(__file__).parents[2]
ARMS = ["spectral_knn", "ae", "stgram_mfn", "logmel_os_scl", "tfst_os_scl"]
COPIED = ("params.yaml", "checkpoints.yaml", "profiles", "src", "stages", ".dvcignore", ".gitignore")

TINY: dict[str, Any] = {
    "name": "tiny", "dataset": "tiny", "title": "A few synthetic clips", "licence": "MIT", "grammar": "dcase2020",
    "source": {
        "kind": "synthetic", "version": 1, "seed": 7, "machines": {"fan": {"dev": ["00", "02"]}, "valve": {"dev": ["00", "02"]}},
        "train_clips": 5, "test_normal": 3, "test_anomaly": 3, "snr_db": 6.0, "severity": 1.0,
    },
    "sets": {"dev": "dev"}, "eval_labels": "", "holdout": 0.0, "machines": ["fan", "valve"],
    "sample_rate": 16000, "clip_seconds": 1.0, "inputs": [],
    "class_label": "unit", "rules": {"scheme": "dcase2020"},
    "overrides": {
        "os_scl": {"epochs": 2, "batch_size": 8}, "stgram_mfn": {"epochs": 2, "batch_size": 8, "schedule_delay": 0},
        "ae": {"epochs": 2},
    },
}  # fmt: skip


# One study of each kind: an arm based on another, one that tests another's weights under a condition, rows of both.
STUDY: dict[str, Any] = {
    "title": "A study", "rows": ["logmel_8", "logmel_noise", "logmel_os_scl"], "arms": ["logmel_8", "logmel_noise"],
    "logmel_8": {"base": "logmel_os_scl", "fph": {"reduction": 8}},
    "logmel_noise": {"weights": "logmel_os_scl", "condition": {"snr_db": -20.0}},
    "tables": {"noise": {"title": "Noise", "metrics": ["auc"]}},
    "sweep": {"parameter": "x", "lines": {"a": {"logmel_8": 8, "logmel_os_scl": 64}}},
    "confusion": ["logmel_os_scl"],
}  # fmt: skip


def make(
    folder: Path,
    profile: dict[str, Any] = TINY,
    evaluate: int = 50,
    arms: Sequence[str] = ARMS,
    study: dict[str, Any] | None = STUDY,
    sections: str = "",
) -> Path:
    """Copy the project into `folder` with `profile` chosen, a few arms and one study, under git and dvc, committed.

    Args:
        sections: text added to params.yaml.
    """
    folder.mkdir(parents=True)
    for name in COPIED:
        subprocess.run(["cp", "-rp", str(ROOT / name), str(folder)], check=True)  # as old as the compiled files say
    (folder / "profiles" / f"{profile['name']}.yaml").write_text(yaml.safe_dump(profile, sort_keys=False))
    text = (folder / "params.yaml").read_text()
    text = text.replace("profile: synthetic ", f"profile: {profile['name']} ").replace("threads: 2 ", "threads: 1 ")
    text = text.replace("replicates: 1000", f"replicates: {evaluate}")
    listed = re.search(r"^arms:.*\n((  - .*\n)+)", text, re.M)
    assert listed
    (folder / "params.yaml").write_text(text.replace(listed[1], "".join(f"  - {arm}\n" for arm in arms)) + sections)
    if study:
        (folder / "studies" / "noise").mkdir(parents=True)
        (folder / "studies" / "noise" / "params.yaml").write_text(yaml.safe_dump(study, sort_keys=False))
    pipeline.main(folder)
    into_graph(load_params(folder), ["noise"] if study else [], root=folder)
    run(folder, "git", "init", "-q", "-b", "main")
    run(folder, "dvc", "init", "-q")
    run(folder, "dvc", "config", "core.analytics", "false")
    commit(folder, "start")
    return folder


def commit(folder: Path, message: str) -> None:
    run(folder, "git", "add", "-A")
    run(folder, "git", "-c", "user.name=test", "-c", "user.email=test@localhost", "commit", "-q", "-m", message)


def run(folder: Path, *command: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    """Run a command of this environment in `folder`, one thread each, output captured; stages and DVC from a loaded Python."""
    here, loaded = Path(sys.executable).parent, preloaded.python()
    environment = {
        **os.environ, "PATH": f"{loaded}:{here}:{os.environ['PATH']}", "OMP_NUM_THREADS": "1",
        "GIT_AUTHOR_NAME": "test", "GIT_AUTHOR_EMAIL": "test@localhost", "GIT_COMMITTER_NAME": "test",
        "GIT_COMMITTER_EMAIL": "test@localhost", "PYTHONPATH": "", "DVC_NO_ANALYTICS": "1",
    }  # fmt: skip
    environment.pop("MLFLOW_TRACKING_URI", None)
    if command[0] in ("dvc", "auscult"):
        command = (str(loaded / "python"), str(here / command[0]), *command[1:])
    result = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    if check and result.returncode:
        raise AssertionError(f"{command} exited {result.returncode}\n{result.stdout[-3000:]}\n{result.stderr[-5000:]}")
    return result
