"""Starts a stage again in several processes, by PyTorch's own launcher, and lets a process take its place among them.

A process that ends ends all: within seconds the launcher stops the others and says in one message which it was and why.
Nothing half-written is left, and the same command continues after the last saved epoch.
"""

from __future__ import annotations

import ctypes
import json
import logging
import os
import re
import signal
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch

from auscult.errors import AuscultError
from auscult.methods import load_method
from auscult.settings.training import MethodSettings, Train
from auscult.training import distributed
from auscult.training.device import pick_device

TIMEOUT = timedelta(minutes=10)
"""How long a process waits for the others before it takes them for stuck."""
LAUNCHER = "AUSCULT_LAUNCHER"
"""Environment variable: process id of the launcher, where that is `start` and not torchrun by hand."""
LOST = 75
"""Exit status of a process that ended because another did."""
AGAIN = "run the same command again: it continues after the last saved epoch"
_GONE = re.compile(r"/gloo/|Connection (closed|reset|refused)|Timed out waiting")


# ------------------------------------------------------------------------------------------------------------ the launcher
def wanted(settings: MethodSettings, train: Train) -> int:
    """How many processes a training shall have, as far as its method allows; 1 inside one of them.

    Raises:
        AuscultError: more processes than GPUs, or several for one GPU.
    """
    if torch.distributed.is_torchelastic_launched():
        return 1
    if train.processes == 1:
        return 1
    device = pick_device(train.device)
    gpus = torch.cuda.device_count() if device.type == "cuda" else 0
    count = max(gpus, 1) if train.processes == "all" else train.processes
    check(count, torch.device(train.device) if train.device != "auto" else device, gpus)
    if count > 1 and not divisible(settings):
        print(f"`{settings.method}` is trained by one process: its loss cannot be divided", file=sys.stderr)
        return 1
    return count


def check(count: int, device: torch.device, gpus: int) -> None:
    """Refuse `count` processes that `gpus` GPUs, or the one that `device` names, do not suffice for."""
    if count > 1 and device.index is not None:
        what = f"{count} processes would share `{device}`"
        raise AuscultError(what, "train.device", "use: cuda, or train.processes: 1")
    if device.type == "cuda" and count > gpus:
        what = f"{count} processes need as many GPUs, and there are {gpus}"
        raise AuscultError(what, "train.processes", "use: all, or fewer")


def divisible(settings: MethodSettings) -> bool:
    return settings.trained and load_method(settings.method).divisible


def start(processes: int) -> None:
    """Run this very program with its arguments in so many processes; return when all have ended well.

    Raises:
        AuscultError: one of them did not.
        KeyboardInterrupt: Ctrl-C; all have been stopped.
    """
    from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, SignalException, Std
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    os.environ[LAUNCHER] = str(os.getpid())
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")  # DistributedDataParallel's hints on speed
    logging.disable(logging.CRITICAL)  # the launcher's own reports; ours is the one message
    with tempfile.TemporaryDirectory(prefix="auscult-") as folder:
        config = LaunchConfig(
            min_nodes=1, max_nodes=1, nproc_per_node=processes, run_id=uuid.uuid4().hex, max_restarts=0,
            rdzv_backend="c10d", rdzv_endpoint="127.0.0.1:0", local_addr="127.0.0.1",
            logs_specs=DefaultLogsSpecs(folder, {number: Std.ALL for number in range(1, processes)}),
        )  # fmt: skip
        try:
            elastic_launch(config, sys.executable)(*sys.argv)
        except ChildFailedError as error:
            raise explained(error.failures, processes, Path(folder)) from None
        except SignalException as stopped:
            if stopped.sigval == signal.SIGINT:
                raise KeyboardInterrupt from None
            raise AuscultError(f"the training was stopped by {stopped.sigval.name}", fix=AGAIN) from None
        finally:
            logging.disable(logging.NOTSET)


def explained(failures: Mapping[int, Any], processes: int, logs: Path) -> AuscultError:
    """One message for the processes that failed, and what to do.

    Args:
        failures: number of the process -> `exitcode` (negative: the signal) and `error_file_data`, in the order in which they
            were noticed; those that the launcher stopped thereupon, by SIGTERM, are among them.
        logs: where the launcher kept what all but process 0 have printed.
    """
    causes = {number: failure for number, failure in failures.items() if failure.exitcode != LOST}
    if not causes:
        what = f"the {processes} processes of this training lost each other"
        return AuscultError(what, fix=f"look for one that stood still for {TIMEOUT}; {AGAIN}")
    number = min(causes, key=lambda n: causes[n].exitcode == -signal.SIGTERM)  # of equals the first
    code, said = causes[number].exitcode, causes[number].error_file_data
    if "what" in said:
        return AuscultError(said["what"], said["where"], said["fix"])
    who = f"process {number} of {processes} (numbered from 0)"
    if code < 0:
        name = signal.Signals(-code).name if -code in set(signal.Signals) else f"signal {-code}"
        hint = "; SIGKILL from nobody is the system's, short of memory" if name == "SIGKILL" else ""
        return AuscultError(f"{who} was ended by {name}, and the training with it", fix=AGAIN + hint)
    log = "\n".join(part.read_text(errors="replace") for part in logs.glob(f"*/attempt_0/{number}/stderr.log"))
    tail = "\n".join(log.splitlines()[-30:])
    where = f"what it printed last:\n{tail}" if tail else "see what it printed above"
    return AuscultError(f"{who} ended with status {code}, and the training with it", where, AGAIN)


# ------------------------------------------------------------------------------------------------------ one of the processes
@contextmanager
def joined(settings: MethodSettings, train: Train) -> Iterator[bool]:
    """Take this process's place in a training by several; yield whether it has anything to do.

    Outside the launcher and torchrun this does nothing. Of a method whose loss cannot be divided, process 0 alone trains.

    Raises:
        AuscultError: processes on several machines, more processes than GPUs, or one of them is gone.
    """
    if not torch.distributed.is_torchelastic_launched():
        yield True
        return
    with _reported():
        _end_with_launcher()
        count, number = int(os.environ["WORLD_SIZE"]), int(os.environ["LOCAL_RANK"])
        if count != int(os.environ["LOCAL_WORLD_SIZE"]):
            what = "the processes of one training must be on one machine"
            raise AuscultError(what, "torchrun --nnodes", "several machines train several arms: docs/several-gpus.md")
        device = pick_device(train.device)
        if count > 1:
            check(count, device, torch.cuda.device_count() if device.type == "cuda" else 0)
        if count == 1 or not divisible(settings):
            if number == 0 and count > 1:
                print(f"`{settings.method}` is trained by one process: its loss cannot be divided", file=sys.stderr)
            yield number == 0
            return
        options: dict[str, Any] = {}
        if device.type == "cuda":
            torch.cuda.set_device(number)
            options["device_id"] = torch.device("cuda", number)
        with distributed.group("nccl" if device.type == "cuda" else "gloo", timeout=TIMEOUT, **options):
            yield True


def _end_with_launcher() -> None:
    """Ctrl-C and the launcher's end are this process's end, also where it waits for the others inside PyTorch."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    if sys.platform.startswith("linux"):
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG, from <sys/prctl.h>
        if LAUNCHER in os.environ and os.getppid() != int(os.environ[LAUNCHER]):
            sys.exit(LOST)


@contextmanager
def _reported() -> Iterator[None]:
    """Leave it to the launcher to print what went wrong: once, not once per process."""
    launched = LAUNCHER in os.environ
    try:
        yield
    except AuscultError as error:
        if not launched:
            raise
        said = {"message": str(error), "timestamp": int(time.time())}
        said |= {"what": error.what, "where": error.where, "fix": error.fix}
        Path(os.environ["TORCHELASTIC_ERROR_FILE"]).write_text(json.dumps(said))
        sys.exit(1)
    except (torch.distributed.DistError, RuntimeError) as error:
        if not isinstance(error, torch.distributed.DistError) and not _GONE.search(str(error)):
            raise
        if launched:
            sys.exit(LOST)
        raise AuscultError("another process of this training is gone", fix=AGAIN) from error
