"""The arms of studies trained by the workers of a cluster: `auscult run --scheduler`.

Nothing is new but who runs what: a task is `dvc repro --pull train@<arm>-<seed>` and `dvc push --run-cache` in a clone of the
project that belongs to one worker. What a stage gives goes through DVC's remote and is found there by what went into it, so a
stage that was run twice is wasted time and nothing else, and this machine's `dvc repro --pull` afterwards trains nothing.
"""

from __future__ import annotations

import json
import re
import subprocess
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from configparser import RawConfigParser
from pathlib import Path
from typing import TYPE_CHECKING

from auscult.cluster.connect import TIMEOUT, Tasks, connected
from auscult.cluster.program import program
from auscult.cluster.stage import TAIL, Plan, Task, arm_of, environment, make_stage, started, tail_of
from auscult.errors import AuscultError
from auscult.pipeline.graph import IGNORE, included
from auscult.settings.params import load_params

if TYPE_CHECKING:
    from distributed import Client

_FEATURES = "features"
_RUNNING = re.compile(r"Running stage '([^']+)'")


def train_arms(
    studies: Sequence[str],
    scheduler: str,
    git: str = "",
    workspaces: str = "",
    say: Callable[[str], object] = lambda line: None,
    timeout: float = TIMEOUT,
) -> list[str]:
    """Train what studies need (the project, without any), then make their tables here; gives the stages that failed.

    Args:
        studies: names of folders of studies/, which are in DVC's graph.
        git: where workers clone the project from; "" = its `origin`, or this folder.
        say: told of each stage that ends, and of what DVC says here.

    Raises:
        AuscultError: no project, no such study, uncommitted changes, no remote; see `connected`.
    """
    files = [_pipeline_of(study) for study in studies] or ["dvc.yaml"]
    _require_remote()
    plan = Plan(git or _origin(), _commit(), str(Path.cwd()), workspaces, program(), tuple(included()))
    with connected(scheduler, timeout) as client:
        stages = _trained_for(files)
        say(f"{len(stages)} stages to train or to fetch; what is here is pushed first")
        _here("dvc", "push", "--run-cache")
        failed = _made_by_workers(client, plan, stages, say)
    if not failed:
        for file in files:
            _repro_without_training(file, say)
    return failed


def _made_by_workers(client: Client, plan: Plan, stages: Sequence[str], say: Callable[[str], object]) -> list[str]:
    """The data once, before all want them; then arms, and those that wait for others last. Gives the stages that failed."""
    failed: list[str] = []
    found = Path("checkpoints", "found.json")
    known = json.loads(found.read_bytes()) if found.is_file() else {}
    params = load_params(Path()) if known else None

    def task(stage: str) -> Task:
        name = params.encoder(arm_of(stage))[1] if params and arm_of(stage) else ""
        return Task(plan, stage, name, known.get(name, {}).get("sha256", {}))

    def died(task: Task) -> list[Task]:
        failed.append(task.stage)
        say(f"{task.stage}: FAILED: the process of every worker that ran it ended")
        return []

    late = [stage for stage in stages if arm_of(stage, "late")]
    tasks = Tasks(client, make_stage, died)
    for some in ([_FEATURES], [stage for stage in stages if stage not in late], late):
        for result in tasks.results(map(task, some)):
            if "refused" in result:
                raise AuscultError(*result["refused"])
            say(_said(result))
            if result["problem"]:
                failed.append(result["stage"])
        if _FEATURES in failed:
            break
    return failed


def _pipeline_of(study: str) -> str:
    file = Path("studies", study, "dvc.yaml")
    if not file.is_file():
        names = sorted(path.parent.name for path in Path("studies").glob("*/dvc.yaml"))
        raise AuscultError("there is no such study", study, f"name one of these: {', '.join(names) or 'none here'}")
    return file.as_posix()


def _require_remote() -> None:
    if not Path("dvc.yaml").is_file():
        raise AuscultError("this is no project", str(Path.cwd()), "go to the folder that holds dvc.yaml")
    config = RawConfigParser()
    config.read(".dvc/config")  # the only one that a clone has, too
    if not config.get("core", "remote", fallback=""):
        what = "workers exchange what they train by DVC's remote, and none is configured"
        raise AuscultError(
            what, ".dvc/config", "dvc remote add -d shared /mnt/share/auscult (or s3://...), and commit that"
        )


def _commit() -> str:
    """The commit that workers clone; what .dvcignore lets into the graph they are told."""
    if changed := _here("git", "status", "--porcelain", "--untracked-files=no", "--", ".", f":!{IGNORE}"):
        what = f"changes that are not committed, which workers would not have:\n{changed}"
        raise AuscultError(what, fix="commit them")
    return _here("git", "rev-parse", "HEAD")


def _origin() -> str:
    return _here("git", "config", "remote.origin.url", check=False) or str(Path.cwd())


def _trained_for(files: Sequence[str]) -> list[str]:
    """The trainings that any stage of pipeline files is or rests on, those of other studies too."""
    graph = _here("dvc", "dag", "--dot")
    edges = re.findall(r'"([^"]+)" -> "([^"]+)"', graph)
    needed = {name for name in re.findall(r'"([^"]+)"', graph) if (name.rpartition(":")[0] or "dvc.yaml") in files}
    while more := {stage for stage, dependent in edges if dependent in needed} - needed:
        needed |= more
    return sorted(filter(arm_of, needed))


def _here(*command: str, check: bool = True) -> str:
    """What a command prints.

    Raises:
        AuscultError: it fails.
    """
    found = subprocess.run(command, capture_output=True, text=True, env=environment())
    if check and found.returncode:
        raise AuscultError(f"{' '.join(command)} failed:\n{tail_of(found.stderr.splitlines())}", str(Path.cwd()))
    return found.stdout.strip()


def _repro_without_training(file: str, say: Callable[[str], object]) -> None:
    with started(["dvc", "repro", "--pull", file], Path()) as process:
        assert process.stdout is not None
        tail: deque[str] = deque(maxlen=TAIL)
        for line in process.stdout:
            tail.append(line.rstrip())
            say(line.rstrip())
            running = _RUNNING.search(line)
            if running and arm_of(running[1]):
                what = f"{running[1]} was trained by a worker and is not in the remote that this machine sees"
                fix = "give all machines the same remote and checkpoints; or `dvc repro` trains it here"
                raise AuscultError(what, fix=fix)
        if process.wait():
            raise AuscultError(f"dvc repro --pull {file} failed:\n{tail_of(tail)}")


def _said(result: Mapping[str, str]) -> str:
    if result["problem"]:
        return f"{result['stage']}: FAILED on {result['worker']}:\n{result['problem']}"
    return f"{result['stage']}: {result['how']} in {result['seconds']} s by {result['worker']}{result['left_out']}"
