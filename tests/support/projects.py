"""A project folder around a local tree of recordings, in which the stage scripts run as they do under DVC."""

from __future__ import annotations

import io
import os
import runpy
import shutil
import signal
import subprocess
import sys
import traceback
from contextlib import chdir, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any
from unittest.mock import patch

import yaml

ROOT = Path(__file__).parents[2]

PROFILE: dict[str, Any] = {
    "name": "tiny", "dataset": "tiny", "title": "seeded noise", "licence": "none",
    "source": {"kind": "local", "path": "recordings"}, "grammar": "dcase2020", "sets": {"dev": "."},
    "machines": [], "eval_labels": "", "holdout": 0.0, "sample_rate": 16000, "clip_seconds": 1.0, "inputs": [],
    "class_label": "unit",
    "rules": {"scheme": "dcase2020"},
    "overrides": {
        "os_scl": {"epochs": 1, "batch_size": 4, "valid_fraction": 0.0, "selection": "last"},
        "stgram_mfn": {"epochs": 1, "batch_size": 4}, "ae": {"epochs": 1},
    },
}  # fmt: skip
PARAMS: dict[str, Any] = {
    "data": {"profile": "tiny", "workers": 2},
    "features": {"frontends": ["osscl"]},
    "train": {"threads": 1, "device": "cpu"},
    "evaluate": {"replicates": 20},
}


def make_project(
    folder: Path, profile_overrides: dict[str, Any] | None = None, params_overrides: dict[str, Any] | None = None
) -> Path:
    """Copy params.yaml, profiles, stages and dvc.yaml into `folder` and choose the profile `tiny`.

    Args:
        folder: made if need be; the recordings are expected at `folder`/recordings.
        profile_overrides: top-level keys of the tiny profile to replace.
        params_overrides: sections of params.yaml to change, key by key; a section that is None is left out.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("stages", "profiles"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "dvc.yaml", folder)
    params: dict[str, Any] = yaml.safe_load((ROOT / "params.yaml").read_text())
    for changes in (PARAMS, params_overrides or {}):
        for name, values in changes.items():
            params[name] = {**params.get(name, {}), **values} if isinstance(values, dict) else values
    params = {name: values for name, values in params.items() if values is not None}
    (folder / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))
    profile = {**PROFILE, **(profile_overrides or {})}
    (folder / "profiles" / "tiny.yaml").write_text(yaml.safe_dump(profile, sort_keys=False))
    return folder


def hear_ctrl_c() -> None:
    """For `preexec_fn`: a process started in the background of a shell script ignores SIGINT, and so would its children."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def stage_command(name: str, *arguments: str) -> list[str]:
    return [sys.executable, f"stages/{name}.py", *arguments]


def stage_environment() -> dict[str, str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1"}
    environment.pop("DVC_ROOT", None)
    return environment


def run_stage(folder: Path, name: str, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    """Run stages/<name>.py in `folder`; with `check` a failure raises with its output."""
    result = subprocess.run(
        stage_command(name, *arguments),
        cwd=folder,
        env=stage_environment(),
        capture_output=True,
        text=True,
        timeout=300,
    )
    if check and result.returncode:
        raise AssertionError(f"{name} exited {result.returncode}\n{result.stdout}\n{result.stderr}")
    return result


def run_here(folder: Path, name: str, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    """As `run_stage`, within this process, where everything is loaded: what the script does and says, and its exit status."""
    out, err, status = io.StringIO(), io.StringIO(), 0
    with redirect_stdout(out), redirect_stderr(err):
        try:
            run_script(folder, name, *arguments)
        except SystemExit as end:
            status = end.code if isinstance(end.code, int) else 1
            err.write("" if isinstance(end.code, int) else f"{end.code}\n")
        except Exception:
            status = 1
            traceback.print_exc(file=err)
    if check and status:
        raise AssertionError(f"{name} exited {status}\n{out.getvalue()}\n{err.getvalue()}")
    return subprocess.CompletedProcess([name, *arguments], status, out.getvalue(), err.getvalue())


def run_script(folder: Path, name: str, *arguments: str) -> None:
    """stages/<name>.py within this process, which it may end."""
    script = f"stages/{name}.py"
    with chdir(folder), patch.object(sys, "argv", [script, *arguments]), patch.dict(os.environ):
        os.environ.pop("DVC_ROOT", None)
        runpy.run_path(script, run_name="__main__")
