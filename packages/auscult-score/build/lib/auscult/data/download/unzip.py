"""Unpacking archives that strangers made: nothing leaves the folder, every byte is checked.

The recordings of one machine type come as `<machine>/train/...` in some archives and as `train/...` in others; either way
they end up at `<machine>/train/...`.
"""

from __future__ import annotations

import re
import shutil
import stat
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path, PurePosixPath

from auscult.errors import AuscultError

_DAMAGED = (zipfile.BadZipFile, zlib.error, EOFError)
MOST_PACKED = 50
"""Times: silence packs better, and so do bombs; the data sets' recordings 1.3 times."""
_JUNK = {"__MACOSX", ".DS_Store", "Thumbs.db"}


def unpack(archive: Path, machine: str, out: Path, advance: Callable[[int], object] = lambda count: None) -> None:
    """Unpack every file of `archive` below `out`/`machine`, checking its CRC.

    Args:
        advance: told the unpacked bytes of each file.

    Raises:
        AuscultError: damaged or encrypted, or a name that leads out of the folder; nothing is unpacked after that.
    """
    try:
        with zipfile.ZipFile(archive) as zipped:
            for info, path in _members(zipped, archive, machine):
                target = out / path
                target.parent.mkdir(parents=True, exist_ok=True)
                with zipped.open(info) as source, open(target, "wb") as stream:
                    shutil.copyfileobj(source, stream, 2**20)
                advance(info.file_size)
    except _DAMAGED as error:
        raise _damaged(archive, str(error)) from None
    except NotImplementedError as error:  # a compression method that zipfile does not know
        raise AuscultError(f"the archive cannot be unpacked: {error}", str(archive)) from None


def unpacked_bytes(archive: Path) -> int:
    """Sum over the files of the archive.

    Raises:
        AuscultError: no archive, a damaged one, or one that unpacks to more than `MOST_PACKED` times its size.
    """
    try:
        with zipfile.ZipFile(archive) as zipped:
            total, packed = sum(info.file_size for info in zipped.infolist()), archive.stat().st_size
    except _DAMAGED as error:
        raise _damaged(archive, str(error)) from None
    if total > MOST_PACKED * packed + 2**26:
        what = f"the archive of {packed} bytes unpacks to {total}: no recordings are packed like that"
        raise AuscultError(what, str(archive), "nothing of it was unpacked: do not use it, fetch it from its page")
    return total


def _damaged(archive: Path, why: str) -> AuscultError:
    fix = "delete it and run the same command again; if it stays so, the data set's page may have a newer one"
    return AuscultError(f"the archive is damaged: {why}", str(archive), fix)


def _members(zipped: zipfile.ZipFile, archive: Path, machine: str) -> list[tuple[zipfile.ZipInfo, PurePosixPath]]:
    """The files and where they belong, all of them checked before the first one is written."""
    members: dict[PurePosixPath, zipfile.ZipInfo] = {}
    for info in zipped.infolist():
        name = info.filename.replace("\\", "/")  # some archives made on Windows
        parts = PurePosixPath(name).parts
        fault = _fault(info, name)
        if not fault and (name.endswith("/") or _JUNK & set(parts)):
            continue
        path = PurePosixPath(machine, *_below(parts, machine))
        if fault or path in members:
            fix = "nothing of it was unpacked: do not use it, fetch it from the data set's page"
            raise AuscultError(f"the archive has {fault or 'a file twice'}", f"{archive}: {info.filename!r}", fix)
        members[path] = info
    return [(info, path) for path, info in members.items()]


def _fault(info: zipfile.ZipInfo, name: str) -> str:
    if name.startswith("/") or re.match("[A-Za-z]:", name) or ".." in name.split("/"):
        return "a name that leads out of its folder"
    if stat.S_ISLNK(info.external_attr >> 16):
        return "a link"
    return "an encrypted file" if info.flag_bits & 1 else ""


def _below(parts: tuple[str, ...], machine: str) -> tuple[str, ...]:
    """`parts` below its last leading folder called `machine`, if it has one: no doubled folders."""
    while machine in parts[:-1]:
        parts = parts[parts.index(machine) + 1 :]
    return parts
