"""The output of `auscult watch`, which is the record of what is done: one line per state of a file, written whole and on the
disk before the next file is looked at. A last line that has no end, because a kill came in the middle, is cut off.
"""

from __future__ import annotations

import csv
import json
import os
import sys
from contextlib import suppress
from io import StringIO
from pathlib import Path
from typing import Any

from auscult.errors import AuscultError
from auscult.files import full_disk_reported

COLUMNS = (
    "time", "file", "size", "mtime_ns", "seconds", "score", "p_value", "anomalous", "start", "end", "bundle", "note",
)  # fmt: skip
"""Of a line. `time`: when it was scored (UTC). `file`: below the folder. `note`: why there is no score, or a warning."""

State = tuple[str, int, int]
"""A file's name below the folder, size and modification time (ns): another state is another recording."""


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
        self.path, self.bundle, self.csv = path, bundle, path.suffix == ".csv"
        path.parent.mkdir(parents=True, exist_ok=True)
        self._lock = _locked(path)
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | getattr(os, "O_BINARY", 0), 0o644)
        self.done: set[State] = set()
        _sync_folder(path.parent)
        try:
            self._read()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        os.close(self._file)
        self._lock.close()

    def write(self, row: dict[str, Any]) -> None:
        """Append one line and wait until the disk has it; on failure nothing of it stays.

        Raises:
            AuscultError: the output was moved or removed, or the disk is full.
        """
        self._require_in_place()
        self._append(self._line(row))
        self.done.add((row["file"], row["size"], row["mtime_ns"]))

    def _read(self) -> None:
        content = self.path.read_bytes()
        whole = content.rfind(b"\n") + 1
        if whole < len(content):  # a kill came in the middle of a line
            os.ftruncate(self._file, whole)
            os.fsync(self._file)
        lines = content[:whole].decode("utf-8", "replace").split("\n")[:-1]  # not at what else counts as a line's end
        header = ",".join(COLUMNS)
        if self.csv and not lines:
            self._append(f"{header}\n".encode())
        elif self.csv and lines[0] != header:
            raise AuscultError("this file is not an output of `auscult watch`", str(self.path), "choose another --out")
        for number, line in enumerate(lines, 1):
            if self.csv and number == 1:
                continue
            try:
                row = dict(zip(COLUMNS, next(csv.reader([line])), strict=True)) if self.csv else json.loads(line)
                state = (str(row["file"]), int(row["size"]), int(row["mtime_ns"]))
                bundle = row["bundle"]
            except (ValueError, KeyError, TypeError, StopIteration, csv.Error) as error:
                what = f"line {number} is no line of `auscult watch`"
                raise AuscultError(what, str(self.path), "mend the line, or choose another --out") from error
            if bundle != self.bundle:
                what = f"line {number} was scored by bundle `{bundle}`, not `{self.bundle}`: scores do not compare"
                raise AuscultError(what, str(self.path), "choose another --out")
            self.done.add(state)

    def _line(self, row: dict[str, Any]) -> bytes:
        row = {**dict.fromkeys(COLUMNS), **row, "bundle": self.bundle}
        if not self.csv:
            return f"{json.dumps(row, allow_nan=False)}\n".encode()  # ASCII: U+2028 ends a line to some
        text = StringIO()
        csv.writer(text, lineterminator="\n").writerow([_cell(row[name]) for name in COLUMNS])
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
    return "" if value is None else int(value) if isinstance(value, bool) else value


def _locked(path: Path) -> Any:
    """A lock on `<path>.lock`, held until it is closed or the process ends, however it ends; the file stays."""
    beside = path.with_name(f"{path.name}.lock")
    file = open(beside, "a+")
    try:
        if sys.platform == "win32":
            import msvcrt

            file.seek(0)
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        file.close()
        fix = "stop that one, or choose another --out"
        raise AuscultError("another `auscult watch` writes to this output", str(path), fix) from None
    except OSError as error:
        file.close()
        what = f"the output cannot be locked here ({error.strerror})"
        raise AuscultError(what, str(path), "put --out on a local disk") from None
    return file
