"""A training in several processes: spawned here for one machine, or started by torchrun.

Spawned processes meet in a file of a private folder and talk over the loopback interface alone, in PyTorch's own protocols:
nothing that listens unpickles what it is sent. torchrun opens a port to the network and unpickles what arrives there.

A process that ends ends all: within seconds the others are stopped, and one message says which it was and why. Nothing
half-written is left, and the same command continues after the last saved epoch.
"""

from __future__ import annotations

import ctypes
import json
import multiprocessing.connection
import os
import re
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from multiprocessing import resource_tracker
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import torch

from auscult.errors import AuscultError
from auscult.files import atomic_file
from auscult.methods import load_method
from auscult.settings.training import MethodSettings, Train
from auscult.training import distributed
from auscult.training.device import pick_device

TIMEOUT = timedelta(minutes=10)
"""How long a process waits for the others before it takes them for stuck."""
GRACE = 5.0
"""Seconds that a process has to end after SIGTERM."""
LOST = 75
"""Exit status of a process that ended because another did."""
AGAIN = "run the same command again: it continues after the last saved epoch"
_GONE = re.compile(r"/gloo/|Connection (closed|reset|refused)|Timed out waiting")
_LOOPBACK = "lo0" if sys.platform == "darwin" else "lo"

Work = Callable[..., None]


def run(work: Work, arguments: tuple[Any, ...], settings: MethodSettings, train: Train) -> None:
    """Call `work(*arguments)` in every process of a training: in this one, or in as many new ones as `train` asks for.

    Args:
        work: a function that an import finds; it sees the process group through `distributed`.

    Raises:
        AuscultError: more processes than GPUs, several for one GPU, or a process that failed.
        KeyboardInterrupt: Ctrl-C; all have been stopped.
    """
    if torch.distributed.is_torchelastic_launched():
        _join_torchrun(work, arguments, settings, train)
        return
    count = wanted(settings, train)
    if count == 1:
        work(*arguments)
    else:
        spawn(work, arguments, count, pick_device(train.device).type)


def wanted(settings: MethodSettings, train: Train) -> int:
    """How many processes a training shall have, as far as its method allows.

    Raises:
        AuscultError: more processes than GPUs, or several for one GPU.
    """
    if train.processes == 1:
        return 1
    device = pick_device(train.device)
    gpus = torch.cuda.device_count() if device.type == "cuda" else 0
    count = max(gpus, 1) if train.processes == "all" else train.processes
    _check_gpus(count, torch.device(train.device) if train.device != "auto" else device, gpus)
    if count > 1 and not _divisible(settings):
        print(f"`{settings.method}` is trained by one process: its loss cannot be divided", file=sys.stderr)
        return 1
    return count


def _check_gpus(count: int, device: torch.device, gpus: int) -> None:
    """Refuse `count` processes that `gpus` GPUs, or the one that `device` names, do not suffice for."""
    if count > 1 and device.index is not None:
        what = f"{count} processes would share `{device}`"
        raise AuscultError(what, "train.device", "use: cuda, or train.processes: 1")
    if device.type == "cuda" and count > gpus:
        what = f"{count} processes need as many GPUs, and there are {gpus}"
        raise AuscultError(what, "train.processes", "use: all, or fewer")


def _divisible(settings: MethodSettings) -> bool:
    return settings.trained and load_method(settings.method).divisible


# ------------------------------------------------------------------------------------------------------------ the launcher
def spawn(work: Work, arguments: tuple[Any, ...], count: int, device: str = "cpu") -> None:
    """Call `work(*arguments)` in `count` new processes of one process group; return when all have ended well.

    Args:
        device: "cuda" gives each process the GPU of its number.

    Raises:
        AuscultError: one of them failed, or this process was stopped by SIGTERM.
    """
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")  # DistributedDataParallel's hints on speed
    _processes(work, [arguments] * count, device)


def side_by_side(work: Work, parts: Sequence[tuple[Any, ...]]) -> None:
    """Call `work(*part)` for each of `parts` in a new process of its own that knows nothing of the others; errors as `spawn`."""
    _processes(work, parts, "")


def _processes(work: Work, parts: Sequence[tuple[Any, ...]], device: str) -> None:
    count = len(parts)
    context = torch.multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory(prefix="auscult-") as folder, _stopped_by_sigterm():
        group = _Group(count, device, Path(folder), os.getpid())
        workers = [context.Process(target=_work, args=(number, group, work, part)) for number, part in enumerate(parts)]
        try:
            _start(workers)
            running = list(workers)
            while running and not any(worker.exitcode for worker in workers):
                multiprocessing.connection.wait([worker.sentinel for worker in running])
                running = [worker for worker in running if worker.exitcode is None]
        finally:
            _end([worker for worker in workers if worker.pid is not None])
        exits = {number: worker.exitcode for number, worker in enumerate(workers) if worker.exitcode}
        if exits:
            raise explained(exits, count, Path(folder))


def _start(workers: Sequence[BaseProcess]) -> None:
    """Start them deaf to Ctrl-C, which a terminal sends to all: this process hears it, and ends them."""
    resource_tracker.ensure_running()  # it would undo the mask
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        for worker in workers:
            worker.start()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _end(workers: Sequence[BaseProcess]) -> None:
    """End those that are still at work, whatever it takes."""
    for worker in workers:
        worker.terminate()
    deadline = time.monotonic() + GRACE
    for worker in workers:
        worker.join(max(0.0, deadline - time.monotonic()))
        worker.kill()
        worker.join()


@contextmanager
def _stopped_by_sigterm() -> Iterator[None]:
    def stop(number: int, frame: Any) -> None:
        raise AuscultError("the training was stopped by SIGTERM", fix=AGAIN)

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def explained(exits: dict[int, int], count: int, folder: Path) -> AuscultError:
    """One message for the processes that failed, and what to do.

    Args:
        exits: number of the process -> exit status (negative: the signal); those that were ended thereupon, by SIGTERM, are
            among them.
        folder: `<number>.json` is what a process says of its failure (the first to do so is the one that counts),
            `<number>.log` what it has printed.
    """
    reports = sorted(folder.glob("*.json"), key=lambda path: path.stat().st_mtime_ns)
    if reports:
        return AuscultError(*json.loads(reports[0].read_text()))
    causes = {number: status for number, status in exits.items() if status != LOST}
    if not causes:
        what = f"the {count} processes of this training lost each other"
        return AuscultError(what, fix=f"look for one that stood still for {TIMEOUT}; {AGAIN}")
    number = min(causes, key=lambda n: causes[n] == -signal.SIGTERM)  # of equals the first
    who, status = _who(number, count), causes[number]
    if status < 0:
        name = signal.Signals(-status).name if -status in set(signal.Signals) else f"signal {-status}"
        hint = "; SIGKILL from nobody is the system's, short of memory" if name == "SIGKILL" else ""
        return AuscultError(f"{who} was ended by {name}, and the training with it", fix=AGAIN + hint)
    log = folder / f"{number}.log"
    tail = "\n".join(log.read_text(errors="replace").splitlines()[-30:]) if log.is_file() else ""
    where = f"what it printed last:\n{tail}" if tail else "see what it printed above"
    return AuscultError(f"{who} ended with status {status}, and the training with it", where, AGAIN)


def _who(number: int, count: int) -> str:
    return f"process {number} of {count} (numbered from 0)"


# ------------------------------------------------------------------------------------------------------ one of the processes
@dataclass(frozen=True)
class _Group:
    """How many processes there are, on which kind of device ("" = each by itself, no group), their private folder, and the
    launcher's process id."""

    count: int
    device: str
    folder: Path
    launcher: int


def _work(number: int, group: _Group, work: Work, arguments: tuple[Any, ...]) -> None:
    """What process `number` does; its failure goes into a file, for the launcher to print once."""
    _end_with_parent(group.launcher)
    if not group.device:
        os.environ["TQDM_POSITION"] = str(number)  # a bar each, below the other
    elif number:  # process 0 alone speaks
        log = os.open(group.folder / f"{number}.log", os.O_WRONLY | os.O_CREAT, 0o600)
        os.dup2(log, 1)
        os.dup2(log, 2)
    os.environ |= {"GLOO_SOCKET_IFNAME": _LOOPBACK, "NCCL_SOCKET_IFNAME": _LOOPBACK, "NCCL_RAS_ENABLE": "0"}
    meeting: dict[str, Any] = {
        "init_method": f"file://{group.folder / 'store'}", "rank": number, "world_size": group.count
    }  # fmt: skip
    try:
        with _joined(group.device, number, **meeting):
            work(*arguments)
    except AuscultError as error:
        report = error.what, error.where, error.fix
    except Exception as error:
        if _is_loss(error):
            sys.exit(LOST)
        what = f"{_who(number, group.count)} failed, and the training with it: {error!r}"
        report = what, f"\n{traceback.format_exc()}", AGAIN
    else:
        return
    with atomic_file(group.folder / f"{number}.json") as part:  # this process may be ended at any moment
        part.write_text(json.dumps(report))
    sys.exit(1)


@contextmanager
def _joined(device: str, gpu: int, **meeting: Any) -> Iterator[None]:
    """In the process group, on the GPU of this number if the device is one."""
    if not device:
        yield
        return
    if device != "cuda":
        with distributed.group("gloo", timeout=TIMEOUT, **meeting):
            yield
        return
    torch.cuda.set_device(gpu)
    with distributed.group("nccl", timeout=TIMEOUT, device_id=torch.device("cuda", gpu), **meeting):
        yield


def _is_loss(error: Exception) -> bool:
    """Whether another process's end is what this one failed of."""
    return isinstance(error, torch.distributed.DistError) or (
        isinstance(error, RuntimeError) and bool(_GONE.search(str(error)))
    )


def _end_with_parent(launcher: int) -> None:
    """The launcher's end is this process's end, also where it waits for the others inside PyTorch."""
    if sys.platform.startswith("linux"):
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG, from <sys/prctl.h>
        if os.getppid() != launcher:
            sys.exit(LOST)


def _join_torchrun(work: Work, arguments: tuple[Any, ...], settings: MethodSettings, train: Train) -> None:
    """Take this process's place among those that torchrun has started, on one machine or on several.

    Of a method whose loss cannot be divided, process 0 alone trains.

    Raises:
        AuscultError: more processes than GPUs, or another process is gone.
    """
    count, number = int(os.environ["WORLD_SIZE"]), int(os.environ["RANK"])
    here, gpu = int(os.environ["LOCAL_WORLD_SIZE"]), int(os.environ["LOCAL_RANK"])
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # ends it also where it waits inside PyTorch
    _end_with_parent(os.getppid())
    if here == count:
        for variable in ("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME"):
            os.environ.setdefault(variable, _LOOPBACK)
    device = pick_device(train.device)
    if count > 1:
        _check_gpus(here, device, torch.cuda.device_count() if device.type == "cuda" else 0)
    if count == 1 or not _divisible(settings):
        if number == 0:
            if count > 1:
                print(f"`{settings.method}` is trained by one process: its loss cannot be divided", file=sys.stderr)
            work(*arguments)
        return
    try:
        with _joined(device.type, gpu):
            work(*arguments)
    except Exception as error:
        if not _is_loss(error):
            raise
        raise AuscultError("another process of this training is gone", fix=AGAIN) from error
