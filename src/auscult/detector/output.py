"""A file of scores that grows by whole lines, one per judgement, for as long as a detector runs: locked, on the disk before the
next judgement, and of one bundle alone. A last line that has no end, because a kill came in the middle, is cut off.
"""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from io import StringIO
from pathlib import Path
from typing import Any

from auscult.errors import AuscultError
from auscult.files import full_disk_reported, try_lock

_FLAGS = os.O_RDWR | os.O_CREAT | os.O_APPEND | getattr(os, "O_BINARY", 0) | getattr(os, "O_NONBLOCK", 0)
DIGITS = 16
"""Of a bundle's digest in a line: 64 bits tell all bundles of a plant apart, and a line stays one."""


class Lines:
    """A file of lines, made if it is not there, open for appending.

    Args:
        path: if it is a link, the file that it leads to is meant.
    """

    def __init__(self, path: Path) -> None:
        self.path = path.resolve()
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.descriptor = os.open(self.path, _FLAGS, 0o666)
        _sync_folder(self.path.parent)

    def close(self) -> None:
        os.close(self.descriptor)

    def read(self) -> Iterator[str]:
        """All lines that have an end, one by one; what follows the last one is cut off."""
        return whole_lines(self.path, self.descriptor)

    def append(self, line: bytes) -> None:
        """Append one line and wait until the disk has it; on failure nothing of it stays.

        Raises:
            AuscultError: the file was moved or removed, or the disk is full.
        """
        self._require_in_place()
        before = os.fstat(self.descriptor).st_size
        with full_disk_reported(self.path):
            try:
                left = line
                while left:
                    left = left[os.write(self.descriptor, left) :]
                os.fsync(self.descriptor)
            except OSError:
                os.ftruncate(self.descriptor, before)
                raise

    def _require_in_place(self) -> None:
        try:
            there = os.path.samestat(os.stat(self.path), os.fstat(self.descriptor))
        except FileNotFoundError:
            there = False
        if not there:
            raise AuscultError("the output was moved or removed while in use", str(self.path), "start again")


def whole_lines(path: Path, descriptor: int | None = None) -> Iterator[str]:
    """All lines of a file that have an end, without it, one by one.

    Args:
        descriptor: of a file that is to be written to; then what follows the last line is cut off.
    """
    with open(path, "rb") as stream:
        for line in stream:
            if line.endswith(b"\n"):
                yield line[:-1].decode("utf-8", "replace")
            elif descriptor is not None:
                os.ftruncate(descriptor, stream.tell() - len(line))
                os.fsync(descriptor)


def rows_of(
    path: Path, lines: Iterator[str], command: str, check: Callable[[dict[str, Any]], object]
) -> Iterator[tuple[int, dict[str, Any]]]:
    """(number, values by name) of the lines of an output, one by one; of CSV, whose heading names them, every value is text.

    Args:
        command: that writes it, for messages.
        check: raises a ValueError, KeyError, TypeError or AttributeError on what is no such line.

    Raises:
        AuscultError: there is such a line.
    """
    columns = None
    for number, line in enumerate(lines, 1):
        try:
            if path.suffix == ".csv":
                cells = next(csv.reader([line]))
                if columns is None:
                    columns = cells
                    continue
                row = dict(zip(columns, cells, strict=True))
            else:
                row = dict(json.loads(line))
            check(row)
        except (ValueError, KeyError, TypeError, AttributeError, StopIteration, RecursionError, csv.Error) as error:
            what = f"line {number} is no line of `{command}`"
            raise AuscultError(what, str(path), "mend the line, or choose another file") from error
        yield number, row


class Output:
    """An output, open for appending and locked.

    Args:
        path: `.csv` or `.jsonl`; made if it is not there.
        command: that writes it, for messages.
        columns: of a line, `threshold` and `bundle_digest` among them.
        bundle, digest: name and digest of what scores. A file with lines of another digest is refused, for its scores do not
            compare.

    Attributes:
        threshold: written to each line from now on.
        count: how many lines there are.

    Raises:
        AuscultError: another program writes to it, or it is no such output.
    """

    def __init__(
        self, path: Path, command: str, columns: Sequence[str], bundle: str, digest: str, threshold: float | None
    ) -> None:
        if path.suffix not in (".csv", ".jsonl"):
            raise AuscultError(f"`{path.suffix}` is no format of the output", str(path), "name it .csv or .jsonl")
        self.csv, self.command, self.columns = path.suffix == ".csv", command, columns
        self.bundle, self.digest, self.threshold, self.count = bundle, digest[:DIGITS], threshold, 0
        self._lines = Lines(path)
        self.path = self._lines.path  # through a link: the lock is the file's own, whatever name it is reached by
        try:
            self._lock()
            self._check_heading()
            for number, row in self._numbered():
                self._check_bundle(number, row)
                self.count += 1
        except BaseException:
            self._lines.close()
            raise

    def close(self) -> None:
        self._lines.close()

    def rows(self) -> Iterator[dict[str, Any]]:
        """All lines so far; of CSV, every value is text."""
        return (row for _, row in self._numbered())

    def write(self, row: dict[str, Any]) -> dict[str, Any]:
        """Append one line and wait until the disk has it; the line as `rows` gives it, but for numbers that are no text.

        Raises:
            AuscultError: see `Lines.append`.
        """
        mine = {"bundle": self.bundle, "threshold": self.threshold, "bundle_digest": self.digest}
        row = {name: {**row, **mine}.get(name) for name in self.columns}
        if self.csv:
            text = StringIO()
            csv.writer(text, lineterminator="\n").writerow(map(_cell, row.values()))
            self._lines.append(text.getvalue().encode())
        else:  # in ASCII: U+2028 ends a line to some
            self._lines.append(f"{json.dumps(row, allow_nan=False)}\n".encode())
        self.count += 1
        return row

    def _check_heading(self) -> None:
        if not self.csv:
            return
        heading = next(self._lines.read(), None)
        if heading is None:
            self._lines.append(f"{','.join(self.columns)}\n".encode())
            return
        if heading != ",".join(self.columns):
            what = f"this file is not an output of `{self.command}`"
            raise AuscultError(what, str(self.path), "choose another --out")

    def _numbered(self) -> Iterator[tuple[int, dict[str, Any]]]:
        return rows_of(self.path, self._lines.read(), self.command, self._check_row)

    def _check_row(self, row: dict[str, Any]) -> None:
        """Raise what `rows_of` takes for a line of something else."""
        str(row["time"]), row["bundle"], row["bundle_digest"]

    def _check_bundle(self, number: int, row: dict[str, Any]) -> None:
        if (digest := row["bundle_digest"]) != self.digest:
            what = f"line {number} was scored by another bundle (`{row['bundle']}`, {digest}; this is {self.digest}): "
            raise AuscultError(what + "scores do not compare", str(self.path), "choose another --out")

    def _lock(self) -> None:
        try:
            free = try_lock(self._lines.descriptor)
        except OSError as error:
            what = f"the output cannot be locked here ({error.strerror})"
            raise AuscultError(what, str(self.path), "put --out on a local disk") from None
        if not free:
            fix = "stop that one, or choose another --out"
            raise AuscultError(f"another `{self.command}` writes to this output", str(self.path), fix)


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
