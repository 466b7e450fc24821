"""Scores new recordings in a folder, each once, across kills and restarts.

What is done stands in the journal (journal.py), one line per recording: either a score or the reason why there is none.

A file is scored when two looks at it find it unchanged, it is finished by all that can be told (finished.py) or has been at
rest for a while, and nothing about it changed meanwhile. Polling, not notification: a network drive does not notify. Whatever
is wrong with one entry of a folder is a line about that entry alone.
"""

from __future__ import annotations

import hashlib
import math
import os
import stat
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from auscult.detector.finished import finished
from auscult.detector.journal import Journal, State
from auscult.detector.places import require_folder
from auscult.detector.words import reason
from auscult.errors import AuscultError

if TYPE_CHECKING:
    from auscult.detector.score import FileScore

PATIENCE = 30.0
"""Seconds for which a file must be unchanged before it is taken for whole without proof, or for unreadable: a writer may
pause."""
DEATHS = 3
"""How often the program may end while it reads a file, before the file is left out."""


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


@dataclass
class Watcher:
    """A folder, the journal of what is done in it, and what is known of its other files.

    Attributes:
        score: of one recording; what it raises is the reason that is written down.
        suffixes: of recordings, lower case.
        patience: see `PATIENCE`.
        apart: `score` in another process, for a file during whose reading this program has ended before.
        say: is told of each line and of what a user should know.
        clock: seconds, not those of a day.
        refresh: is called before each look.
        written: is told of each line, after it is on the disk.
    """

    score: Callable[[Path], FileScore]
    folder: Path
    journal: Journal
    suffixes: Sequence[str]
    patience: float = PATIENCE
    apart: Callable[[Path], FileScore] | None = None
    say: Callable[[str], None] = lambda line: None
    clock: Callable[[], float] = time.monotonic
    refresh: Callable[[], None] = lambda: None
    written: Callable[[dict[str, Any]], None] = lambda row: None
    counts: Counts = field(default_factory=Counts)
    seen: dict[str, _Seen] = field(default_factory=dict)

    def look(self, stop: Stop) -> None:
        """Go once through the folder and score what is ready.

        Raises:
            OSError: the folder is not there.
            AuscultError: the output cannot be written, or the bundle became another one.
        """
        self.refresh()
        there = dict(self._entries())
        self.seen = {name: each for name, each in self.seen.items() if name in there}
        for name, (path, state) in sorted(there.items()):
            if stop.is_set():
                return
            known = self.seen.get(name)
            if self.journal.has(state):
                self.seen.pop(name, None)
            elif known is None or known.state != state:
                self.seen[name] = _Seen(state, self.clock())
            elif self._handled(path, known):
                del self.seen[name]

    def _handled(self, path: Path, known: _Seen) -> bool:
        """Score a file at rest; whether it has a line now. One that cannot be read is read again when its time is up."""
        rested = self.clock() - known.since >= self.patience
        try:
            if not rested and (known.problem or not finished(path)):
                return False
            content = _digest(path) if self.journal.knows(known.state) else ""
        except (OSError, AuscultError) as error:
            return self._failed(known, reason(error), "", rested)
        if self.journal.has_content(known.state, content):
            return True  # touched, moved back, or on a drive that was mounted anew
        deaths = self.journal.begin(known.state.file)
        problem, found = self._scored(path, known.state.file, deaths)
        rested = rested or deaths > 0
        try:
            if _state(path, self.folder) != known.state:
                return False
            content = content or _digest(path)
        except OSError as error:
            return isinstance(error, FileNotFoundError) or self._failed(known, problem or reason(error), "", rested)
        if found is None:
            return self._failed(known, problem, content, rested)
        row = {key: getattr(found, key) for key in ("seconds", "score", "p_value", "anomalous", "start", "end")}
        note = found.warning
        if found.verdict == "check recording":
            note = f"{found.verdict}: {note}"
        full = self._write(known.state, {**row, "note": note, "content": content})
        self.counts.scored += 1
        self.counts.anomalous += found.anomalous
        mark = f"{found.verdict} at {found.start:.2f} s" if found.anomalous else found.verdict
        warning = f"; {found.warning}" if found.warning else ""
        self.say(f"{known.state.file}: {found.score:.6g} (p = {found.p_value:.3g}) {mark}{warning}")
        self.written(full)
        return True

    def _scored(self, path: Path, name: str, deaths: int) -> tuple[str, FileScore | None]:
        """("", score) or (why there is none, None). A file during whose reading the program has ended is read apart."""
        score = self.score
        try:
            if deaths >= DEATHS:
                return f"the program ended {deaths} times while it read this file", None
            if deaths:
                self.say(f"{name}: the program ended while it read this file; read again, in a process of its own")
                score = self.apart or score
            found = score(path)
            if math.isfinite(found.score):
                return "", found
            return "the score is no finite number", None
        except Exception as error:  # one file must not keep the others waiting, whatever is wrong with it
            return reason(error), None
        finally:
            self.journal.end(name)

    def _failed(self, known: _Seen, problem: str, content: str, rested: bool) -> bool:
        known.problem = problem
        if not rested:
            return False
        self._write(known.state, {"note": " ".join(problem.split()), "content": content})  # no judgement: no alarm
        self.counts.failed += 1
        self.say(f"{known.state.file}: not scored: {problem}")
        return True

    def _write(self, state: State, row: dict[str, Any]) -> dict[str, Any]:
        now = datetime.now(UTC).isoformat(timespec="milliseconds")
        return self.journal.write({"time": now, **state._asdict(), **row})

    def _entries(self) -> Iterator[tuple[str, tuple[Path, State]]]:
        """Recordings anywhere below the folder, by name. Hidden ones are left out: synchronising programs write those."""
        stack = [self.folder]
        while stack:
            inside = stack.pop()
            try:
                with os.scandir(inside) as found:
                    entries = list(found)
            except OSError as error:
                if inside == self.folder:
                    raise
                if not isinstance(error, FileNotFoundError):
                    self._unreadable(inside, "/", reason(error))
                continue
            for entry in entries:
                if entry.name.startswith("."):
                    continue
                path = Path(entry.path)
                try:
                    if entry.is_dir(follow_symlinks=False):
                        stack.append(path)
                    elif os.path.splitext(entry.name)[1].lower() in self.suffixes:
                        state = _state(path, self.folder)
                        yield state.file, (path, state)
                    elif entry.is_symlink() and path.is_dir():
                        self._unreadable(path, "", "a link to a folder, which is not followed")
                except OSError as error:
                    if path.is_symlink() or not isinstance(error, FileNotFoundError):  # otherwise gone meanwhile
                        self._unreadable(path, "", reason(error))

    def _unreadable(self, path: Path, mark: str, problem: str) -> None:
        """A line about an entry that is no file to be read, once."""
        state = State(_name(path, self.folder) + mark, 0, 0, 0, 0)
        if not self.journal.has(state):
            self._failed(_Seen(state, 0.0), problem, "", rested=True)


def watch(watcher: Watcher, interval: float = 1.0, once: bool = False, stop: Stop | None = None) -> Counts:
    """Score every recording below the watcher's folder that the journal does not have, as they arrive, until `stop` is set.

    Args:
        interval: seconds between looks.
        once: end when everything that is there and does not change has a line; what is being written is left to the next run.

    Raises:
        AuscultError: no such folder at the start, or the output cannot be written.
    """
    require_folder(watcher.folder, "recordings", "give the folder in which recordings arrive")
    stop, away = stop or Stop(), False
    first = math.inf
    while not stop.is_set():
        try:
            watcher.look(stop)
            away = False
        except OSError as error:  # a network drive that is gone for a while
            if once:
                raise
            if not away:
                watcher.say(f"{watcher.folder}: {error.strerror}; waiting for it to come back")
            away = True
        if once and not any(each.since <= first for each in watcher.seen.values()):
            break  # what has changed since the first look is being written
        first = min(first, watcher.clock())
        stop.wait(interval)
    if once and watcher.seen:
        watcher.say(f"{len(watcher.seen)} file(s) are still being written: left to the next run")
    return watcher.counts


def _state(path: Path, folder: Path) -> State:
    """
    Raises:
        OSError: it is gone, or something that cannot be read as a file.
    """
    found = os.stat(path)
    if not stat.S_ISREG(found.st_mode):
        raise OSError(0, "not a regular file")
    return State(_name(path, folder), found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino)


def _name(path: Path, folder: Path) -> str:
    """A record is a line of UTF-8, whatever a file system takes for a name; two names never become one."""
    name = path.relative_to(folder).as_posix().replace("\\", "\\\\")
    return name.encode("utf-8", "backslashreplace").decode().replace("\r", "\\r").replace("\n", "\\n")


def _digest(path: Path) -> str:
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, lambda: hashlib.blake2b(digest_size=16)).hexdigest()
