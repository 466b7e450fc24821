"""The arms of studies trained by the workers of a cluster: `auscult run --scheduler`.

Nothing is new but who runs what: a task is `dvc repro --pull train@<arm>-<seed>` and `dvc push --run-cache` in a clone of the
project that belongs to one worker. What a stage gives goes through DVC's remote and is found there by what went into it, so a
stage that was run twice is wasted time and nothing else, and this machine's `dvc repro --pull` afterwards trains nothing.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from auscult.cluster.connect import TIMEOUT, Tasks, connected, still_wanted, worker_name
from auscult.cluster.program import program, require_same
from auscult.errors import AuscultError
from auscult.files import try_lock

_LOOK = 0.5
"""Seconds between two looks whether a task is still wanted."""
_TAIL = 12
"""Lines of a command's output that are said when it fails."""
_FEATURES, _TRAIN = "features", re.compile(r"(?:^|:)train@")
_TRAINING = re.compile(r"Running stage '([^']*train@[^']+)'")
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
    """What is the same for all tasks: the commit and where it is cloned from, where workspaces lie ("" = in the worker's own
    folder, which goes with it), and the program that trains."""

    git: str
    commit: str
    workspaces: str
    program: dict[str, str]


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
    plan = Plan(git or _origin(), _commit(), workspaces, program())
    stages = list(dict.fromkeys(stage for file in files for stage in _trained_for(file)))
    say(f"{len(stages)} stages to train or to fetch; what is here is pushed first")
    _here("dvc", "push", "--run-cache")
    failed = []
    with connected(scheduler, timeout) as client:
        tasks = Tasks(client, make_stage)
        for some in ([_FEATURES], stages):  # the data once, before all want them
            for result in tasks.results((plan, stage) for stage in some):
                if "refused" in result:
                    raise AuscultError(*result["refused"])
                say(_said(result))
                if result["problem"]:
                    failed.append(result["stage"])
            if failed:
                break
    if not failed:
        for file in files:
            _repro_without_training(file, say)
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
    if not _here("dvc", "config", "core.remote", check=False):
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


def _trained_for(file: str) -> list[str]:
    """The trainings that any stage of a pipeline file is or rests on, those of other studies too."""
    needed = {line.split()[0] for line in _here("dvc", "stage", "list", file, "--name-only").splitlines()}
    edges = re.findall(r'"([^"]+)" -> "([^"]+)"', _here("dvc", "dag", "--dot"))
    while more := {stage for stage, dependent in edges if dependent in needed} - needed:
        needed |= more
    return sorted(stage for stage in needed if _TRAIN.search(stage))


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
            if training := _TRAINING.search(line):
                what = f"{training[1]} was trained by a worker and is not in the remote that this machine sees"
                fix = "give all machines the same remote; or `dvc repro` trains it here"
                raise AuscultError(what, fix=fix)
        if process.wait():
            raise AuscultError(f"dvc repro --pull {file} failed:\n{_tail(tail)}")


def _said(result: Mapping[str, str]) -> str:
    if result["problem"]:
        return f"{result['stage']}: FAILED on {result['worker']}:\n{result['problem']}"
    return f"{result['stage']}: {result['how']} in {result['seconds']} s by {result['worker']}"


# -------------------------------------------------------------------------------------------------------------- on a worker
def make_stage(task: tuple[Plan, str]) -> dict[str, str] | dict[str, tuple[str, str, str]]:
    """Run a stage, or fetch what another machine has made of it, and push it."""
    plan, stage = task
    start = time.monotonic()
    try:
        require_same(plan.program, worker_name())
        with _workspace(plan) as folder:
            ran = _run(["dvc", "repro", "--pull", stage], folder, f"Running stage '{stage}'")
            _run(["dvc", "push", "--run-cache"], folder)
    except AuscultError as error:
        return {"refused": (error.what, " ".join(filter(None, (error.where, worker_name()))), error.fix)}
    except _FailedError as error:
        how, problem = "failed", str(error)
    else:
        how, problem = "run" if ran else "fetched", ""
    seconds = f"{time.monotonic() - start:.0f}"
    return {"stage": stage, "how": how, "problem": problem, "seconds": seconds, "worker": worker_name()}


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
            if not (folder / ".git").exists():
                _run(["git", "clone", "-q", "--no-checkout", plan.git, str(folder)], above)
            else:
                _run(["git", "fetch", "-q", "origin"], folder)
            _run(["git", "checkout", "-q", "--detach", "--force", plan.commit], folder)
        except _FailedError as error:
            what = f"the project cannot be cloned at commit {plan.commit[:12]}:\n{error}"
            fix = "push the commit, or say by --git where workers find it"
            raise AuscultError(what, plan.git, fix) from None
        yield folder
    finally:
        os.close(lock)


def _own_folder() -> str:
    from distributed import get_worker

    return str(Path(get_worker().local_directory) / "auscult-workspaces")


def _run(command: list[str], folder: Path, sought: str = "") -> bool:
    """Run a command; whether `sought` is in what it prints.

    Raises:
        _FailedError: it failed, or nobody waits for it any more.
    """
    found = False
    tail: deque[str] = deque(maxlen=_TAIL)
    with _started(command, folder) as process:
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
def _started(command: Sequence[str], folder: Path) -> Iterator[subprocess.Popen[str]]:
    """A command whose output can be read, killed with all it has started when the block is left before its end."""
    process = subprocess.Popen(
        [sys.executable, "-c", _WITH_ITS_PARENT, *command], cwd=folder, env=_environment(), text=True, errors="replace",
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True,
    )  # fmt: skip
    try:
        yield process
    finally:
        assert process.stdin is not None
        process.stdin.close()
        process.wait()


def _environment() -> dict[str, str]:
    """Without a path to another copy of the code; `dvc` of this environment."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    return {**os.environ, "PATH": path, "PYTHONPATH": "", "DVC_NO_ANALYTICS": "1", "GIT_TERMINAL_PROMPT": "0"}


def _tail(lines: Iterable[str]) -> str:
    return "\n".join(f"    {line.rstrip()}" for line in list(lines)[-_TAIL:])
