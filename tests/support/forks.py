"""Processes that need not load anything, for they are forked from this one: to be killed, and to be sent signals."""

from __future__ import annotations

import atexit
import os
import signal
import sys
import time
from collections.abc import Callable
from multiprocessing import get_context
from multiprocessing.context import ForkProcess
from pathlib import Path
from typing import Any


def forked(log: Path, work: Callable[..., Any], *arguments: Any) -> ForkProcess:
    """A process that calls `work(*arguments)`, its output in `log`. It hears Ctrl-C, and has open what is open here."""

    def begin() -> None:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(descriptor, 1), os.dup2(descriptor, 2)
        sys.stdout = sys.stderr = open(1, "w", buffering=1, closefd=False)
        work(*arguments)

    log.unlink(missing_ok=True)
    process = get_context("fork").Process(target=begin, daemon=False)
    process.start()
    # After a test that failed: this process would wait at its end, for ever, for one that nobody has ended.
    atexit.register(process.kill)
    return process


def send(process: ForkProcess, number: signal.Signals) -> int | None:
    """A signal, and the exit status thereupon."""
    assert process.pid
    os.kill(process.pid, number)
    return ended(process)


def ended(process: ForkProcess) -> int | None:
    """The exit status.

    Raises:
        AssertionError: none within a minute; the process is killed then.
    """
    process.join(60)
    in_time = process.exitcode is not None
    process.kill()
    process.join()
    assert in_time, "it did not end within a minute"
    return process.exitcode


def wait_for(condition: Callable[[], object], alive: Callable[[], bool]) -> None:
    """Until `condition()` holds; a minute is for machines with much else to do.

    Raises:
        AssertionError: the process that is waited for has ended, or the minute.
    """
    for _ in range(6000):
        if condition():
            return
        assert alive(), "the process has ended"
        time.sleep(0.01)
    raise AssertionError("did not happen within a minute")
