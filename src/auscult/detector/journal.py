"""The output of `auscult watch`, which is the record of what is done: one line per recording and content, written whole and on
the disk before the next file is looked at.

What is begun and has no line yet stands in `<output>.begun` meanwhile, with how often: a recording that ends the program
each time it is read must not do so for ever.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

from auscult.detector.output import Output
from auscult.files import full_disk_reported

COLUMNS = (
    "time", "file", "size", "mtime_ns", "seconds", "score", "p_value", "anomalous", "start", "end", "bundle", "note",
    "ctime_ns", "inode", "content", "threshold", "bundle_digest",
)  # fmt: skip
"""Of a line. `time`: when it was scored (UTC). `file`: below the folder. `note`: why there is no score, or a warning.
`content`: a digest of the file. `threshold`: in force then. `bundle_digest`: the first digits of the bundle's."""


class State(NamedTuple):
    """A file as the file system describes it: name below the folder, bytes, times of change of its content and of its entry
    (ns), and its number. Another state may be another recording."""

    file: str
    size: int
    mtime_ns: int
    ctime_ns: int
    inode: int


class Journal(Output):
    """The output, and what is done by it.

    Args:
        path, bundle, digest, threshold: see `Output`.

    Raises:
        AuscultError: see `Output`.
    """

    def __init__(self, path: Path, bundle: str, digest: str = "", threshold: float | None = None) -> None:
        self._done: dict[tuple[str, int, int], dict[tuple[int, int], str]] = {}
        super().__init__(path, "auscult watch", COLUMNS, bundle, digest, threshold)
        self._begun_path = self.path.with_name(f"{self.path.name}.begun")
        self.begun: dict[str, int] = self._read_begun()

    def __len__(self) -> int:
        """Recordings that have a line."""
        return len(self._done)

    def has(self, state: State) -> bool:
        """Whether this very state has a line."""
        return state[3:] in self._done.get(state[:3], {})

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

    def write(self, row: dict[str, Any]) -> dict[str, Any]:
        written = super().write(row)
        self._remember(row)
        return written

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

    def _check_row(self, row: dict[str, Any]) -> None:
        super()._check_row(row)
        self._remember(row)

    def _remember(self, row: dict[str, Any]) -> None:
        key = str(row["file"]), int(row["size"]), int(row["mtime_ns"])
        identity = int(row["ctime_ns"]), int(row["inode"])
        self._done.setdefault(key, {})[identity] = str(row["content"] or "")
