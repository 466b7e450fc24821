"""The output of `auscult watch`, which is the record of what is done: one line per recording and content, written whole and on
the disk before the next file is looked at. A last line that has no end, because a kill came in the middle, is cut off.

What is begun and has no line yet stands in `<output>.begun` meanwhile, with how often: a recording that ends the program
each time it is read must not do so for ever.
"""

from __future__ import annotations

import csv
import json
import os
from contextlib import suppress
from io import StringIO
from pathlib import Path
from typing import Any, NamedTuple

from auscult.errors import AuscultError
from auscult.files import full_disk_reported, try_lock

_FIRST_COLUMNS = (
    "time", "file", "size", "mtime_ns", "seconds", "score", "p_value", "anomalous", "start", "end", "bundle", "note",
)  # fmt: skip
COLUMNS = (*_FIRST_COLUMNS, "ctime_ns", "inode", "content")
"""Of a line. `time`: when it was scored (UTC). `file`: below the folder. `note`: why there is no score, or a warning.
`content`: a digest of the file. An output that was begun without the last three goes on without them."""


class State(NamedTuple):
    """A file as the file system describes it: name below the folder, bytes, times of change of its content and of its entry
    (ns), and its number. Another state may be another recording."""

    file: str
    size: int
    mtime_ns: int
    ctime_ns: int
    inode: int


class Journal:
    """The output file, open for appending and locked.

    Args:
        path: `.csv` or `.jsonl`; made if it is not there.
        bundle: name written to each line; a file with lines of another is refused, for its scores do not compare.

    Raises:
        AuscultError: another watcher writes to it, or it is no such output.
    """

    def __init__(self, path: Path, bundle: str) -> None:
        if path.suffix not in (".csv", ".jsonl"):
            raise AuscultError(f"`{path.suffix}` is no format of the output", str(path), "name it .csv or .jsonl")
        # Through a link: the lock is the file's own, whatever name it is reached by.
        self.path, self.bundle, self.csv = path.resolve(), bundle, path.suffix == ".csv"
        self.path.parent.mkdir(parents=True, exist_ok=True)
        flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | getattr(os, "O_BINARY", 0) | getattr(os, "O_NONBLOCK", 0)
        self._file = os.open(self.path, flags, 0o666)
        self._columns: tuple[str, ...] = COLUMNS
        self._done: dict[tuple[str, int, int], dict[tuple[int, int], str]] = {}
        self._begun_path = self.path.with_name(f"{self.path.name}.begun")
        try:
            _lock(self._file, self.path)
            _sync_folder(self.path.parent)
            self._read()
            self.begun: dict[str, int] = self._read_begun()
        except BaseException:
            os.close(self._file)
            raise

    def __len__(self) -> int:
        """Recordings that have a line."""
        return len(self._done)

    def close(self) -> None:
        os.close(self._file)

    def has(self, state: State) -> bool:
        """Whether this very state has a line; of lines without a change time and number, the others decide."""
        lines = self._done.get(state[:3], {})
        return state[3:] in lines or (0, 0) in lines

    def has_content(self, state: State, content: str) -> bool:
        """Whether a file of this name, size and time, and with this content, has a line: then it has one in this state, too."""
        lines = self._done.get(state[:3], {})
        if not content or content not in lines.values():
            return False
        lines[state[3:]] = content
        return True

    def knows(self, state: State) -> bool:
        """Whether a file of this name, size and time has a line, which may be of another content."""
        return state[:3] in self._done

    def write(self, row: dict[str, Any]) -> None:
        """Append one line and wait until the disk has it; on failure nothing of it stays.

        Raises:
            AuscultError: the output was moved or removed, or the disk is full.
        """
        self._require_in_place()
        self._append(self._line(row))
        self._remember(row)

    def begin(self, file: str) -> int:
        """Note that a recording is about to be read; how often it was begun and never ended before."""
        before = self.begun.get(file, 0)
        self.begun[file] = before + 1
        self._write_begun()
        return before

    def end(self, file: str) -> None:
        """The reading of a recording has come to an end, whatever came of it."""
        self.begun.pop(file, None)
        self._write_begun()

    def _write_begun(self) -> None:
        with full_disk_reported(self._begun_path):
            if self.begun:
                self._begun_path.write_text(json.dumps(self.begun))
            else:
                self._begun_path.unlink(missing_ok=True)

    def _read_begun(self) -> dict[str, int]:
        try:
            found = json.loads(self._begun_path.read_bytes())
        except (OSError, ValueError, RecursionError):  # none, or torn by a kill while it was written
            return {}
        return (
            {str(file): times for file, times in found.items() if type(times) is int} if isinstance(found, dict) else {}
        )

    def _remember(self, row: dict[str, Any]) -> None:
        key = str(row["file"]), int(row["size"]), int(row["mtime_ns"])
        identity = int(row.get("ctime_ns") or 0), int(row.get("inode") or 0)
        self._done.setdefault(key, {})[identity] = str(row.get("content") or "")

    def _read(self) -> None:
        content = self.path.read_bytes()
        whole = content.rfind(b"\n") + 1
        if whole < len(content):  # a kill came in the middle of a line
            os.ftruncate(self._file, whole)
            os.fsync(self._file)
        lines = content[:whole].decode("utf-8", "replace").split("\n")[:-1]  # not at what else counts as a line's end
        if self.csv and not lines:
            self._append(f"{','.join(COLUMNS)}\n".encode())
        elif self.csv and lines[0] == ",".join(_FIRST_COLUMNS):
            self._columns = _FIRST_COLUMNS
        elif self.csv and lines[0] != ",".join(COLUMNS):
            raise AuscultError("this file is not an output of `auscult watch`", str(self.path), "choose another --out")
        for number, line in enumerate(lines, 1):
            if self.csv and number == 1:
                continue
            try:
                row = dict(zip(self._columns, next(csv.reader([line])), strict=True)) if self.csv else json.loads(line)
                bundle = row["bundle"]
                self._remember(row)
            except (ValueError, KeyError, TypeError, AttributeError, StopIteration, RecursionError, csv.Error) as error:
                what = f"line {number} is no line of `auscult watch`"
                raise AuscultError(what, str(self.path), "mend the line, or choose another --out") from error
            if bundle != self.bundle:
                what = f"line {number} was scored by bundle `{bundle}`, not `{self.bundle}`: scores do not compare"
                raise AuscultError(what, str(self.path), "choose another --out")

    def _line(self, row: dict[str, Any]) -> bytes:
        row = {**dict.fromkeys(COLUMNS), **row, "bundle": self.bundle}
        if not self.csv:
            return f"{json.dumps(row, allow_nan=False)}\n".encode()  # ASCII: U+2028 ends a line to some
        text = StringIO()
        csv.writer(text, lineterminator="\n").writerow([_cell(row[name]) for name in self._columns])
        return text.getvalue().encode()

    def _append(self, line: bytes) -> None:
        before = os.fstat(self._file).st_size
        with full_disk_reported(self.path):
            try:
                left = line
                while left:
                    left = left[os.write(self._file, left) :]
                os.fsync(self._file)
            except OSError:
                os.ftruncate(self._file, before)
                raise

    def _require_in_place(self) -> None:
        try:
            there = os.path.samestat(os.stat(self.path), os.fstat(self._file))
        except FileNotFoundError:
            there = False
        if not there:
            raise AuscultError("the output was moved or removed while in use", str(self.path), "start again")


def _sync_folder(folder: Path) -> None:
    """A file's name is in its folder, and must be on the disk, too; Windows does that by itself."""
    if hasattr(os, "O_DIRECTORY"):
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        with suppress(OSError):  # some network drives cannot
            os.fsync(descriptor)
        os.close(descriptor)


def _cell(value: Any) -> Any:
    if value is None:
        return ""
    return int(value) if isinstance(value, bool) else value


def _lock(descriptor: int, path: Path) -> None:
    try:
        free = try_lock(descriptor)
    except OSError as error:
        what = f"the output cannot be locked here ({error.strerror})"
        raise AuscultError(what, str(path), "put --out on a local disk") from None
    if not free:
        fix = "stop that one, or choose another --out"
        raise AuscultError("another `auscult watch` writes to this output", str(path), fix)
