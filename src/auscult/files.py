"""Writing that is whole or absent: everything goes to a temporary sibling and is renamed at the end."""

from __future__ import annotations

import errno
import hashlib
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from auscult.errors import AuscultError

# What a full disk, a quota or a limit on file size looks like through NumPy, PyTorch and Rust, which drop the error number.
_NO_ROOM = re.compile(r"requested and \d+ written|inline_container\.cc|\(os error (28|27|122)\)")


@contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """Yield a temporary sibling of `path`; rename it to `path` on success, remove it on any failure.

    Raises:
        DiskFull: there is no room.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # The suffix stays last: writers such as matplotlib and pandas choose the format by it.
    remove_leftovers(path.parent, f".{path.stem}.", f".part{path.suffix}")
    temporary = path.with_name(f".{path.stem}.{os.getpid()}.part{path.suffix}")
    try:
        with full_disk_reported(path):
            yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Yield an empty temporary sibling folder; it takes the place of `path` on success, and vanishes on any failure.

    Raises:
        DiskFull: there is no room.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    remove_leftovers(path.parent, f".{path.name}.", ".part")
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    old = path.with_name(f".{path.name}.{os.getpid()}-old.part")
    temporary.mkdir()
    try:
        with full_disk_reported(path):
            yield temporary
        # Moved aside, not emptied in place: a run killed here must not leave half of the old folder under its name.
        if os.path.lexists(path):
            os.replace(path, old)
        os.replace(temporary, path)
    finally:
        _remove(temporary)
        _remove(old)


def remove_leftovers(folder: Path, prefix: str, suffix: str) -> None:
    """Remove `<prefix><process id>*<suffix>` of processes that are gone: a killed one ran no clean-up."""
    for stale in folder.iterdir() if folder.is_dir() else ():
        if stale.name.startswith(prefix) and stale.name.endswith(suffix):
            middle = stale.name[len(prefix) : len(stale.name) - len(suffix)]
            if "." not in middle and not _at_work(middle.removesuffix("-old")):
                _remove(stale)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _at_work(process: str) -> bool:
    """Whether `process` is the id of another living process. Our own id is an earlier process's, reused."""
    if not process.isdigit() or int(process) == os.getpid():
        return False
    try:
        os.kill(int(process), 0)
    except PermissionError:
        return True
    except (ProcessLookupError, OverflowError):
        return False
    return True


class DiskFull(AuscultError):
    """`path` could not be written for want of room."""

    def __init__(self, path: Path) -> None:
        what = "the disk is full, or a limit on file size is reached"
        super().__init__(what, str(path), "free some room and run the same command again")


def require_room(folder: Path, wanted: int, what: str, fix: str) -> None:
    """Refuse to write `wanted` bytes below `folder`, which need not exist yet, where fewer are free.

    Args:
        what: the message; `{wanted}` and `{free}` in it become sizes.
        fix: what to do about it.

    Raises:
        AuscultError: there is not enough room.
    """
    there = next(place for place in (folder, *folder.absolute().parents) if place.is_dir())
    free = shutil.disk_usage(there).free
    if wanted > free:
        sizes = {"wanted": f"{wanted / 1e9:.1f} GB", "free": f"{free / 1e9:.1f} GB"}
        raise AuscultError(what.format(**sizes), str(there), fix)


@contextmanager
def full_disk_reported(path: Path) -> Iterator[None]:
    """Turn what a full disk raises while `path` is written into `DiskFull`; what has been written by then stays.

    Raises:
        DiskFull: there is no room.
    """
    try:
        yield
    except Exception as error:
        number = error.errno if isinstance(error, OSError) else None
        full = number in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG) or _NO_ROOM.search(str(error))
        if full or isinstance(error, DiskFull):  # of a part of `path`, under its temporary name
            raise DiskFull(path) from error
        raise


def digest(*paths: Path) -> str:
    """SHA-256 (hex) over the names and contents of the files at or below `paths`, in sorted order."""
    total = hashlib.sha256()
    for path in paths:
        for file in sorted(p for p in ([path] if path.is_file() else path.rglob("*")) if p.is_file()):
            total.update(str(file.relative_to(path.parent)).encode())
            with open(file, "rb") as stream:
                total.update(hashlib.file_digest(stream, "sha256").digest())
    return total.hexdigest()
