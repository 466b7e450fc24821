"""Scores new recordings in a folder, each once, across kills and restarts.

What is done stands in the journal (journal.py), one line per state of a file: name, size, modification time. A line is
either a score or the reason why there is none.

A file is scored when two looks at it find the same size and modification time, its sound has the length that its header
states, and nothing about it changed meanwhile. Polling, not notification: a network drive does not notify.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

from auscult.detector.journal import Journal, State
from auscult.errors import AuscultError

PATIENCE = 30.0
"""Seconds for which a file may be unchanged and unreadable before the reason is written down: a writer may pause."""


class Scored(Protocol):
    """What is used of `auscult.detector.stream.FileScore`."""

    seconds: float
    score: float
    p_value: float
    anomalous: bool
    start: float
    end: float
    warning: str


class Stop:
    """Tells a watcher to end. Unlike `threading.Event` it may be set by a signal handler while it is waited for, whose
    lock the interrupted wait would hold for ever."""

    def __init__(self) -> None:
        self._set = False

    def set(self) -> None:
        self._set = True

    def is_set(self) -> bool:
        return self._set

    def wait(self, seconds: float) -> None:
        """Until `seconds` are over, or a tenth of a second after it is set."""
        end = time.monotonic() + seconds
        while not self.is_set() and (left := end - time.monotonic()) > 0:
            time.sleep(min(left, 0.1))


@dataclass
class Counts:
    """Of one run: recordings scored, those of them that were anomalous, and those that could not be scored."""

    scored: int = 0
    anomalous: int = 0
    failed: int = 0


@dataclass
class _Seen:
    """A file that is not in the journal: its state, since when it has it (monotonic seconds), and what was wrong then."""

    state: State
    since: float
    problem: str = ""


def watch(
    score: Callable[[Path], Scored],
    folder: Path,
    journal: Journal,
    *,
    suffixes: Sequence[str],
    interval: float = 1.0,
    patience: float = PATIENCE,
    once: bool = False,
    stop: Stop | None = None,
    say: Callable[[str], None] = lambda line: None,
) -> Counts:
    """Score every recording below `folder` that `journal` does not have, as they arrive, until `stop` is set.

    Args:
        score: of one recording; what it raises is the reason that is written down.
        suffixes: of recordings, lower case.
        interval: seconds between looks.
        patience: see `PATIENCE`.
        once: end when the files that are there and at rest have a line; those still being written are left to the next run.
        say: is told of each line and of what a user should know.

    Raises:
        AuscultError: no such folder at the start, or the output cannot be written.
    """
    if not folder.is_dir():
        raise AuscultError("there is no such folder", str(folder), "give the folder in which recordings arrive")
    stop, counts, seen, away = stop or Stop(), Counts(), dict[str, _Seen](), False
    looks = 0
    while not stop.is_set():
        try:
            there = {state[0]: (path, state) for path, state in _files(folder, suffixes)}
        except OSError as error:  # a network drive that is gone for a while
            if once:
                raise
            if not away:
                say(f"{folder}: {error.strerror}; waiting for it to come back")
            away = True
            stop.wait(interval)
            continue
        away = False
        looks += 1
        seen = {name: each for name, each in seen.items() if name in there}
        for name, (path, state) in sorted(there.items()):
            if stop.is_set():
                return counts
            if state in journal.done:
                seen.pop(name, None)
            elif name not in seen or seen[name].state != state:
                seen[name] = _Seen(state, time.monotonic())
            elif _handled(score, folder, path, seen[name], journal, 0.0 if once else patience, counts, say):
                del seen[name]
        if once and looks == 2:
            if seen:
                say(f"{len(seen)} file(s) are still being written: left to the next run")
            break
        stop.wait(interval)
    return counts


def _handled(
    score: Callable[[Path], Scored],
    folder: Path,
    path: Path,
    known: _Seen,
    journal: Journal,
    patience: float,
    counts: Counts,
    say: Callable[[str], None],
) -> bool:
    """Score a file at rest; whether it has a line now. One that cannot be read is read again when its time is up."""
    name, size, mtime = known.state
    waited = time.monotonic() - known.since >= patience
    if known.problem and not waited:
        return False
    try:
        problem, found = _unfinished(path), None
        if not problem:
            found = score(path)
            problem = "" if math.isfinite(found.score) else "the score is no finite number"
    except AuscultError as error:
        problem, found = error.what, None
    except Exception as error:  # one file must not keep the others waiting, whatever is wrong with it
        problem, found = f"{type(error).__name__}: {error}", None
    try:
        if _state(path, folder) != known.state:
            return False
    except OSError:
        return False  # gone
    row: dict[str, Any] = {
        "time": datetime.now(UTC).isoformat(timespec="milliseconds"), "file": name, "size": size, "mtime_ns": mtime,
    }  # fmt: skip
    if problem or found is None:
        known.problem = problem
        if not waited:
            return False
        journal.write({**row, "note": " ".join(problem.split())})
        counts.failed += 1
        say(f"{name}: not scored: {problem}")
        return True
    row |= {key: getattr(found, key) for key in ("seconds", "score", "p_value", "anomalous", "start", "end")}
    journal.write({**row, "note": found.warning})
    counts.scored += 1
    counts.anomalous += found.anomalous
    mark = f"ANOMALOUS at {found.start:.2f} s" if found.anomalous else "normal"
    say(f"{name}: {found.score:.6g} (p = {found.p_value:.3g}) {mark}{found.warning and f'; {found.warning}'}")
    return True


def _unfinished(path: Path) -> str:
    """Why a WAV cannot be finished: a recorder writes lengths of zero first, and the true ones when it closes the file."""
    with open(path, "rb") as stream:
        head = stream.read(8)
    return "its header states no length: the recorder has not closed it" if head == b"RIFF\0\0\0\0" else ""


def _files(folder: Path, suffixes: Sequence[str]) -> Iterator[tuple[Path, State]]:
    """Recordings anywhere below `folder` and their state. Hidden ones are left out: synchronising programs write those."""
    stack = [folder]
    while stack:
        inside = stack.pop()
        try:
            entries = list(os.scandir(inside))
        except FileNotFoundError:
            if inside == folder:
                raise
            continue
        for entry in entries:
            if entry.name.startswith("."):
                continue
            try:
                if entry.is_dir(follow_symlinks=False):
                    stack.append(Path(entry.path))
                elif os.path.splitext(entry.name)[1].lower() in suffixes and entry.is_file():
                    path = Path(entry.path)
                    yield path, _state(path, folder)
            except FileNotFoundError:
                continue


def _state(path: Path, folder: Path) -> State:
    found = os.stat(path)
    name = path.relative_to(folder).as_posix()
    # A record is a line of UTF-8, whatever a file system takes for a name.
    name = name.encode("utf-8", "backslashreplace").decode().replace("\r", "\\r").replace("\n", "\\n")
    return name, found.st_size, found.st_mtime_ns
