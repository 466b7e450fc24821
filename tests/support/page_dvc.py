"""A clone in which DVC's commands of the pages run in a second each: the project's pipeline, of one stage that makes numbers up.

What is the project's own in it: params.yaml, and of dvc.yaml the metrics, plots, models and what the stage `tables` writes.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import yaml

from support.projects import ROOT

STAGE = """\
width=$(sed -n '/^fph:/,/^[a-z]*:$/s/ *reduction: *//p' params.yaml | tr -dc 0-9)
plots=data/synthetic/results/project/plots
mkdir -p metrics/synthetic $plots
printf '{"tfst_os_scl": {"dev": {"auc": %s}}}' "$width" > metrics/synthetic/metrics.json
printf 'arm,backend,machine,fpr,tpr\\nae,native,fan,0,0\\nae,native,fan,0.%s,1\\n' "$width" > $plots/roc.csv
printf 'arm,scope,curve,epoch,value\\nae,all,train_loss,1,0.%s\\n' "$width" > $plots/curves.csv
"""


def make_clone(folder: Path) -> Path:
    """A repository with one commit, before `dvc repro`, and the tag `first`, which has results of other profiles."""
    (folder / ".dvc").mkdir(parents=True)
    (folder / "profiles").mkdir()
    for name in (".gitignore", ".dvc/.gitignore", "params.yaml", "profiles/synthetic.yaml"):
        shutil.copy(ROOT / name, folder / name)
    shutil.copytree(ROOT / ".dvc" / "plots", folder / ".dvc" / "plots")
    (folder / ".dvc" / "config").write_text("[core]\n    analytics = false\n")
    pipeline = yaml.safe_load((ROOT / "dvc.yaml").read_text())
    tables = pipeline["stages"]["tables"] | {"cmd": "sh stage.sh", "deps": ["stage.sh"], "params": ["fph", "score"]}
    pipeline["stages"] = {"tables": tables}
    (folder / "dvc.yaml").write_text(yaml.safe_dump(pipeline, sort_keys=False))
    (folder / "stage.sh").write_text(STAGE)
    for profile in ("arrays", "folder"):
        (folder / "metrics" / profile).mkdir(parents=True)
        (folder / "metrics" / profile / "table.md").write_text("# A table")
    git(folder, "init", "-q", "-b", "main")
    for key, value in {"user.name": "Somebody", "user.email": "somebody@example.org"}.items():
        git(folder, "config", key, value)
    commit(folder, "code")
    git(folder, "tag", "first")
    return folder


def git(folder: Path, *words: str) -> str:
    done = subprocess.run(["git", *words], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def commit(folder: Path, message: str) -> None:
    git(folder, "add", "-A")
    git(folder, "commit", "-q", "-m", message)
