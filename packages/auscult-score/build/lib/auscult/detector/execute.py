"""A command that is run for every alarm event: the event as JSON on its standard input, its main facts in the environment.

No shell: the command line is split once, at the start, and nothing of an event is ever part of it. What it prints goes to our
standard error. Status 0 says that it has the event.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time

from auscult.detector.alarms import Event
from auscult.detector.outbox import Receiver
from auscult.errors import AuscultError

TIMEOUT = 60.0
"""Seconds after which the command, and what it has started, is killed."""
TRIES = 5
"""Of one event. After them it waits for the next one that arrives, or the next start."""
BACK_OFF = 2.0
"""Seconds before the second try; twice as many before each further one."""


class Execute(Receiver):
    """Runs `command` for one event after the other, in a thread of its own.

    Raises:
        AuscultError: no such command.
    """

    name = "exec"

    def __init__(self, command: str, timeout: float = TIMEOUT, back_off: float = BACK_OFF) -> None:
        fix = "give a program and its arguments, such as '/opt/plant/notify --line 3'; a shell's syntax: sh -c '...'"
        try:
            self._command = shlex.split(command)
        except ValueError as error:
            raise AuscultError(f"--exec cannot be split into words ({error})", command, fix) from None
        if not self._command or shutil.which(self._command[0]) is None:
            raise AuscultError("--exec names no program that can be run", command, fix)
        super().__init__()
        self._timeout, self._back_off = timeout, back_off
        self._given_up: list[Event] = []
        self._abandoned = threading.Event()

    def close(self, seconds: float) -> None:
        self._waiting.put(None)
        self._thread.join(seconds)
        self._abandoned.set()
        self._thread.join(1.0)

    def _work(self) -> None:
        while (event := self._waiting.get()) is not None and not self._abandoned.is_set():
            if not self._delivered(event):
                self._given_up.append(event)
                continue
            self._has_arrived(event)
            for each in self._given_up:  # it works again
                self._waiting.put(each)
            self._given_up.clear()

    def _delivered(self, event: Event) -> bool:
        for number in range(TRIES):
            problem = self._run(event)
            if not problem:
                return True
            more = "" if number + 1 < TRIES else f"; given up after {TRIES} tries, kept for later"
            self._say(f"--exec: alarm {event['id']}: {problem}{more}")
            if more or self._abandoned.wait(self._back_off * 2**number):
                break
        return False

    def _run(self, event: Event) -> str:
        """Why it did not work; "" = it did."""
        try:
            with tempfile.TemporaryFile() as text:  # a pipe might be full, and nobody read it
                text.write(json.dumps(event).encode() + b"\n")  # so that `cat >> file` makes lines
                text.seek(0)
                process = subprocess.Popen(
                    self._command, stdin=text, stdout=sys.__stderr__, env={**_environment(), **_variables(event)},
                    start_new_session=True,
                )  # fmt: skip
        except OSError as error:
            return f"cannot be run ({error.strerror})"
        end = time.monotonic() + self._timeout
        while process.poll() is None:
            if time.monotonic() > end or self._abandoned.is_set():
                _kill(process)
                return f"killed after {self._timeout:g} s" if time.monotonic() > end else "killed at the end"
            time.sleep(0.02)
        return f"exit status {process.returncode}" if process.returncode else ""


def _environment() -> dict[str, str]:
    """Ours, without what is the broker's alone."""
    return {name: value for name, value in os.environ.items() if not name.startswith("AUSCULT_MQTT_PASSWORD")}


def _variables(event: Event) -> dict[str, str]:
    last = event["recordings"][-1]
    return {
        "AUSCULT_EVENT": event["event"], "AUSCULT_ID": event["id"], "AUSCULT_ALARM": event["alarm"],
        "AUSCULT_TIME": event["time"], "AUSCULT_BUNDLE": event["bundle"], "AUSCULT_RULE": event["rule"],
        "AUSCULT_RECORDING": last["file"],
    }  # fmt: skip


def _kill(process: subprocess.Popen[bytes]) -> None:
    """And everything that it started."""
    if sys.platform == "win32":
        process.kill()
    else:
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
    process.wait()
