"""The arms of studies trained by the workers of a cluster: `auscult run --scheduler`.

Nothing is new but who runs what: a task is `dvc repro --pull train@<arm>-<seed>` and `dvc push --run-cache` in a clone of the
project that belongs to one worker. What a stage gives goes through DVC's remote and is found there by what went into it, so a
stage that was run twice is wasted time and nothing else, and this machine's `dvc repro --pull` afterwards trains nothing.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from configparser import RawConfigParser
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from auscult.cluster.connect import TIMEOUT, Tasks, connected, still_wanted, worker_name
from auscult.cluster.program import program, require_same
from auscult.encoders.checkpoints import folder_of, status
from auscult.errors import AuscultError
from auscult.files import try_lock
from auscult.settings.params import load_params
from auscult.settings.paths import Paths
from auscult.settings.reading import read_yaml

if TYPE_CHECKING:
    from distributed import Client

_LOOK = 0.5
"""Seconds between two looks whether a task is still wanted."""
_TAIL = 12
"""Lines of a command's output that are said when it fails."""
_FEATURES = "features"
_TRAIN = re.compile(r"(?:^|:)train(?P<late>_on_clusters)?@(?P<arm>.+?)(?:-(?P<seed>\d+))?$")
"""Names of stages that train; `late` ones take classes from the embeddings of other arms."""
_RUNNING = re.compile(r"Running stage '([^']+)'")
_WITH_ITS_PARENT = """
import os, subprocess, sys, threading
def end_with_parent():
    os.read(0, 1)
    os.killpg(0, 9)
threading.Thread(target=end_with_parent, daemon=True).start()
sys.exit(subprocess.call(sys.argv[1:], stdin=subprocess.DEVNULL))
"""
"""Runs a command in a session of its own; when its standard input ends, with the parent or before, all of it is killed."""


@dataclass(frozen=True)
class Plan:
    """What is the same for all tasks: the commit and where it is cloned from, the project's folder on the head, where workspaces
    lie ("" = in the worker's own folder, which goes with it), and the program that trains."""

    git: str
    commit: str
    head: str
    workspaces: str
    program: dict[str, str]


@dataclass(frozen=True)
class Task:
    """A stage, and the checkpoint that its arm starts from, with the digests that results here rest on."""

    plan: Plan
    stage: str
    checkpoint: str
    sha256: dict[str, str]


# --------------------------------------------------------------------------------------------------------------- on the head
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
        studies: names of folders of studies/.
        git: where workers clone the project from; "" = its `origin`, or this folder.
        say: told of each stage that ends, and of what DVC says here.

    Raises:
        AuscultError: no project, no such study, uncommitted changes, no remote; see `connected`.
    """
    files = [_pipeline_of(study) for study in studies] or ["dvc.yaml"]
    _require_remote()
    plan = Plan(git or _origin(), _commit(), str(Path.cwd()), workspaces, program())
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
        name = params.encoder(_arm_of(stage))[1] if params and _arm_of(stage) else ""
        return Task(plan, stage, name, known.get(name, {}).get("sha256", {}))

    def died(task: Task) -> list[Task]:
        failed.append(task.stage)
        say(f"{task.stage}: FAILED: the process of every worker that ran it ended")
        return []

    late = [stage for stage in stages if _arm_of(stage, "late")]
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


def _arm_of(stage: str, group: str = "arm") -> str:
    """The arm that a stage trains, or another `group` of its name; "" for one that trains none."""
    found = _TRAIN.search(stage)
    return (found[group] or "") if found else ""


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
    if changed := _here("git", "status", "--porcelain", "--untracked-files=no"):
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
    return sorted(filter(_arm_of, needed))


def _here(*command: str, check: bool = True) -> str:
    """What a command prints.

    Raises:
        AuscultError: it fails.
    """
    found = subprocess.run(command, capture_output=True, text=True, env=_environment())
    if check and found.returncode:
        raise AuscultError(f"{' '.join(command)} failed:\n{_tail(found.stderr.splitlines())}", str(Path.cwd()))
    return found.stdout.strip()


def _repro_without_training(file: str, say: Callable[[str], object]) -> None:
    with _started(["dvc", "repro", "--pull", file], Path()) as process:
        assert process.stdout is not None
        tail: deque[str] = deque(maxlen=_TAIL)
        for line in process.stdout:
            tail.append(line.rstrip())
            say(line.rstrip())
            running = _RUNNING.search(line)
            if running and _arm_of(running[1]):
                what = f"{running[1]} was trained by a worker and is not in the remote that this machine sees"
                fix = "give all machines the same remote and checkpoints; or `dvc repro` trains it here"
                raise AuscultError(what, fix=fix)
        if process.wait():
            raise AuscultError(f"dvc repro --pull {file} failed:\n{_tail(tail)}")


def _said(result: Mapping[str, str]) -> str:
    if result["problem"]:
        return f"{result['stage']}: FAILED on {result['worker']}:\n{result['problem']}"
    return f"{result['stage']}: {result['how']} in {result['seconds']} s by {result['worker']}{result['left_out']}"


# -------------------------------------------------------------------------------------------------------------- on a worker
def make_stage(task: Task) -> dict[str, str] | dict[str, tuple[str, str, str]]:
    """Run a stage, or fetch what another machine has made of it, and push it."""
    plan, stage = task.plan, task.stage
    start = time.monotonic()
    left_out = ""
    try:
        require_same(plan.program, worker_name())
        with _workspace(plan) as folder:
            root = Path(plan.head) if Path(plan.head, "checkpoints.yaml").is_file() else folder
            _require_checkpoint(task, root)
            ran = _run(["dvc", "repro", "--pull", stage], folder, f"Running stage '{stage}'", root / "checkpoints")
            _run(["dvc", "push", "--run-cache"], folder)
            left_out = _left_out(stage, folder)
    except AuscultError as error:
        return {"refused": (error.what, " ".join(filter(None, (error.where, worker_name()))), error.fix)}
    except _FailedError as error:
        how, problem = "failed", str(error)
    else:
        how, problem = "run" if ran else "fetched", ""
    seconds = f"{time.monotonic() - start:.0f}"
    return {
        "stage": stage, "how": how, "problem": problem, "seconds": seconds, "worker": worker_name(), "left_out": left_out
    }  # fmt: skip


def _left_out(stage: str, folder: Path) -> str:
    """What a training that went well has left out all the same (on a machine without a GPU large encoders, say), and why."""
    arm, seed, params = _arm_of(stage), _arm_of(stage, "seed"), folder / "params.yaml"
    if not seed or not params.is_file():
        return ""
    config = Paths(str(read_yaml(params)["data"]["profile"]), folder).model(arm, int(seed)) / "config.yaml"
    skipped = read_yaml(config).get("skipped", {}) if config.is_file() else {}
    return "".join(f"\n    NOT TRAINED, network `{name}`: {reason}" for name, reason in skipped.items())


class _FailedError(Exception):
    """A stage that failed; the others may go on."""


@contextmanager
def _workspace(plan: Plan) -> Iterator[Path]:
    """A clone of the project at the commit, which no other task has at the same time; an old one is used again.

    Raises:
        AuscultError: it cannot be cloned.
    """
    above = Path(plan.workspaces or _own_folder())
    above.mkdir(parents=True, exist_ok=True)
    number = 0
    while True:
        lock = os.open(above / f"{number}.lock", os.O_RDWR | os.O_CREAT, 0o600)
        if try_lock(lock):
            break
        os.close(lock)
        number += 1
    folder = above / str(number)
    try:
        try:
            if folder.exists():
                (folder / ".git" / "index.lock").unlink(missing_ok=True)  # of a worker that was killed
                _run(["git", "fetch", "-q", "origin"], folder)
            else:
                half = above / f"{number}.part"
                shutil.rmtree(half, ignore_errors=True)
                _run(["git", "clone", "-q", "--no-checkout", plan.git, str(half)], above)
                half.rename(folder)
            _run(["git", "checkout", "-q", "--detach", "--force", plan.commit], folder)
        except _FailedError as error:
            what = f"the project cannot be cloned at commit {plan.commit[:12]}:\n{error}"
            fix = "push the commit, or say by --git where workers find it"
            raise AuscultError(what, plan.git, fix) from None
        yield folder
    finally:
        os.close(lock)


def _require_checkpoint(task: Task, root: Path) -> None:
    """Refuse to train without the checkpoint that the head has: the arm would be left out, and the head believe it trained.

    `root`: the project whose checkpoints/ is looked into, unless $AUSCULT_CHECKPOINTS names another folder.
    """
    if task.checkpoint and status(task.checkpoint, root).sha256 != task.sha256:
        what = f"checkpoint `{task.checkpoint}` is not here as checkpoints/found.json says"
        fix = "put the same files on all machines (AUSCULT_CHECKPOINTS names their folder), `dvc repro digests`, commit"
        raise AuscultError(what, str(folder_of(task.checkpoint, root)), fix)


def _own_folder() -> str:
    from distributed import get_worker

    return str(Path(get_worker().local_directory) / "auscult-workspaces")


def _run(command: list[str], folder: Path, sought: str = "", checkpoints: Path | None = None) -> bool:
    """Run a command; whether `sought` is in what it prints. `checkpoints`: their folder, unless this machine names another.

    Raises:
        _FailedError: it failed, or nobody waits for it any more.
    """
    found = False
    tail: deque[str] = deque(maxlen=_TAIL)
    with _started(command, folder, checkpoints) as process:
        assert process.stdout is not None
        os.set_blocking(process.stdout.fileno(), False)
        while True:
            ended = process.poll() is not None
            for line in process.stdout.readlines():
                found |= sought in line
                tail.append(line)
            if ended:
                break
            if not still_wanted():
                raise _FailedError("taken back")
            time.sleep(_LOOK)
    if process.returncode:
        raise _FailedError(f"{' '.join(command)}\n{_tail(tail)}")
    return found


@contextmanager
def _started(command: Sequence[str], folder: Path, checkpoints: Path | None = None) -> Iterator[subprocess.Popen[str]]:
    """A command whose output can be read, killed with all it has started when the block is left before its end."""
    process = subprocess.Popen(
        [sys.executable, "-c", _WITH_ITS_PARENT, *command], cwd=folder, env=_environment(checkpoints),
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True,
        text=True, errors="replace",
    )  # fmt: skip
    try:
        yield process
    finally:
        assert process.stdin is not None
        process.stdin.close()
        process.wait()


def _environment(checkpoints: Path | None = None) -> dict[str, str]:
    """Without a path to another copy of the code; `dvc` of this environment."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    named = {"AUSCULT_CHECKPOINTS": str(checkpoints)} if checkpoints else {}
    return {**named, **os.environ, "PATH": path, "PYTHONPATH": "", "DVC_NO_ANALYTICS": "1", "GIT_TERMINAL_PROMPT": "0"}


def _tail(lines: Iterable[str]) -> str:
    return "\n".join(f"    {line.rstrip()}" for line in list(lines)[-_TAIL:])
