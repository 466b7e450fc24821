"""A tree of recordings unpacked from archives, each exactly once: a note per archive says what came out of it."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from threading import Event, Lock
from typing import Any

from tqdm import tqdm

from auscult.data.audio import SUFFIXES
from auscult.data.download.unzip import unpack, unpacked_bytes
from auscult.files import atomic_file, atomic_folder, require_room

_UNFINISHED = "unfinished"
"""In place of an archive's MD5 while its recordings are being moved to their places."""


class _Stopped(Exception):
    """Another archive's failure, or Ctrl-C, ended the run."""


@dataclass(frozen=True)
class Archive:
    """`folder`/`machine` is where its recordings go, `key` names it, `md5` "" = whichever was unpacked."""

    folder: str
    machine: str
    key: str
    md5: str = ""


class Recordings:
    """The tree at `folder`; its notes lie in `folder`/.archives."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def whole(self, archive: Archive) -> bool:
        """Whether this archive was unpacked, in this version, and every recording of it is still there."""
        note = _read(self._note(archive))
        if not note or note["folder"] != archive.folder or (archive.md5 and note["md5"] != archive.md5):
            return False
        return all(_size(self.folder / path) == size for path, size in note["files"].items())

    def sizes(self, archives: Sequence[Archive]) -> dict[str, int]:
        """Bytes of every recording of these archives, by path below `folder`."""
        files: dict[str, int] = {}
        for archive in archives:
            files |= _read(self._note(archive))["files"]
        return dict(sorted(files.items()))

    def forget_all_but(self, keys: set[str]) -> None:
        """Remove what came out of archives that the data set no longer has: a reissued one has another name."""
        for note in sorted((self.folder / ".archives").glob("[!.]*.json")):
            if note.stem not in keys:
                self._forget(note)

    def unpack(self, archives: Sequence[tuple[Archive, Path]], workers: int) -> None:
        """Unpack archives, several at once.

        Raises:
            AuscultError: one is damaged or not to be trusted. Those finished by then are kept.
            DiskFull: there is no room.
        """
        if not archives:
            return
        total, lock, stop = sum(unpacked_bytes(path) for _, path in archives), Lock(), Event()
        require_room(self.folder, total, "the recordings take {wanted}, and {free} are free", "free some room")
        with tqdm(total=total, desc="unpack", unit="B", unit_scale=True) as bar, ThreadPoolExecutor(workers) as pool:

            def advance(count: int) -> None:
                if stop.is_set():
                    raise _Stopped
                with lock:
                    bar.update(count)

            def one(archive: Archive, path: Path) -> None:
                staged = self.folder / ".archives" / archive.key
                with atomic_folder(staged) as part:
                    unpack(path, archive.machine, part, advance)
                self._adopt(archive, staged)

            tasks = [pool.submit(one, archive, path) for archive, path in archives]
            try:
                for task in tasks:
                    task.result()
            except BaseException:
                stop.set()
                pool.shutdown(wait=False, cancel_futures=True)
                raise

    def _adopt(self, archive: Archive, staged: Path) -> None:
        """Move unpacked files to their places. The note makes them count only once all are there."""
        self._forget(self._note(archive))
        moves = {
            path: f"{archive.folder}/{path.relative_to(staged).as_posix()}"
            for path in sorted(path for path in staged.rglob("*") if path.is_file())
        }
        # Recordings alone: tables of attributes may come in several archives of a machine type.
        files = {place: _size(path) for path, place in moves.items() if path.suffix.lower() in SUFFIXES}
        self._write(archive, {"md5": _UNFINISHED, "folder": archive.folder, "files": files})
        for path, place in moves.items():
            (self.folder / place).parent.mkdir(parents=True, exist_ok=True)
            os.replace(path, self.folder / place)
        shutil.rmtree(staged)
        self._write(archive, {"md5": archive.md5, "folder": archive.folder, "files": files})

    def _write(self, archive: Archive, content: dict[str, Any]) -> None:
        with atomic_file(self._note(archive)) as out:
            out.write_text(json.dumps(content, indent=0) + "\n")

    def _forget(self, note: Path) -> None:
        for path in _read(note).get("files", {}):
            (self.folder / path).unlink(missing_ok=True)
        note.unlink(missing_ok=True)

    def _note(self, archive: Archive) -> Path:
        return self.folder / ".archives" / f"{archive.key}.json"


def _read(note: Path) -> dict[str, Any]:
    try:
        content: dict[str, Any] = json.loads(note.read_text())
        return content
    except (OSError, ValueError):
        return {}


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return -1
