"""A stage of DVC on a worker of a cluster: a clone of the project that no other task has, the command in it, and its end with
its parent's. Who hands the stages out: train.py."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from auscult.cluster.connect import still_wanted, worker_name
from auscult.cluster.program import require_same
from auscult.encoders.checkpoints import folder_of, status
from auscult.errors import AuscultError
from auscult.files import try_lock
from auscult.pipeline.graph import include
from auscult.settings.paths import Paths
from auscult.settings.reading import read_yaml

_LOOK = 0.5
"""Seconds between two looks whether a task is still wanted."""
TAIL = 12
"""Lines of a command's output that are said when it fails."""
_TRAIN = re.compile(r"(?:^|:)train(?P<late>_on_clusters)?@(?P<arm>.+?)(?:-(?P<seed>\d+))?$")
"""Names of stages that train; `late` ones take classes from the embeddings of other arms."""
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
    lie ("" = in the worker's own folder, which goes with it), the program that trains, and the studies in DVC's graph."""

    git: str
    commit: str
    head: str
    workspaces: str
    program: dict[str, str]
    studies: tuple[str, ...] = ()


@dataclass(frozen=True)
class Task:
    """A stage, and the checkpoint that its arm starts from, with the digests that results here rest on."""

    plan: Plan
    stage: str
    checkpoint: str
    sha256: dict[str, str]


def arm_of(stage: str, group: str = "arm") -> str:
    """The arm that a stage trains, or another `group` of its name; "" for one that trains none."""
    found = _TRAIN.search(stage)
    return (found[group] or "") if found else ""


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
    except FailedError as error:
        how, problem = "failed", str(error)
    else:
        how, problem = "run" if ran else "fetched", ""
    seconds = f"{time.monotonic() - start:.0f}"
    return {
        "stage": stage, "how": how, "problem": problem, "seconds": seconds, "worker": worker_name(), "left_out": left_out
    }  # fmt: skip


def _left_out(stage: str, folder: Path) -> str:
    """What a training that went well has left out all the same (on a machine without a GPU large encoders, say), and why."""
    arm, seed, params = arm_of(stage), arm_of(stage, "seed"), folder / "params.yaml"
    if not seed or not params.is_file():
        return ""
    config = Paths(str(read_yaml(params)["data"]["profile"]), folder).model(arm, int(seed)) / "config.yaml"
    skipped = read_yaml(config).get("skipped", {}) if config.is_file() else {}
    return "".join(f"\n    NOT TRAINED, network `{name}`: {reason}" for name, reason in skipped.items())


class FailedError(Exception):
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
        except FailedError as error:
            what = f"the project cannot be cloned at commit {plan.commit[:12]}:\n{error}"
            fix = "push the commit, or say by --git where workers find it"
            raise AuscultError(what, plan.git, fix) from None
        include(plan.studies, folder)
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
        FailedError: it failed, or nobody waits for it any more.
    """
    found = False
    tail: deque[str] = deque(maxlen=TAIL)
    with started(command, folder, checkpoints) as process:
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
                raise FailedError("taken back")
            time.sleep(_LOOK)
    if process.returncode:
        raise FailedError(f"{' '.join(command)}\n{tail_of(tail)}")
    return found


@contextmanager
def started(command: Sequence[str], folder: Path, checkpoints: Path | None = None) -> Iterator[subprocess.Popen[str]]:
    """A command whose output can be read, killed with all it has started when the block is left before its end."""
    process = subprocess.Popen(
        [sys.executable, "-c", _WITH_ITS_PARENT, *command], cwd=folder, env=environment(checkpoints),
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True,
        text=True, errors="replace",
    )  # fmt: skip
    try:
        yield process
    finally:
        assert process.stdin is not None
        process.stdin.close()
        process.wait()


def environment(checkpoints: Path | None = None) -> dict[str, str]:
    """Without a path to another copy of the code; `dvc` of this environment."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    named = {"AUSCULT_CHECKPOINTS": str(checkpoints)} if checkpoints else {}
    return {**named, **os.environ, "PATH": path, "PYTHONPATH": "", "DVC_NO_ANALYTICS": "1", "GIT_TERMINAL_PROMPT": "0"}


def tail_of(lines: Iterable[str]) -> str:
    return "\n".join(f"    {line.rstrip()}" for line in list(lines)[-TAIL:])
