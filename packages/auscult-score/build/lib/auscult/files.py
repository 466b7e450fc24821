"""Writing that is whole or absent: everything goes to a temporary folder beside its place and is renamed at the end."""

from __future__ import annotations

import ctypes
import errno
import glob
import hashlib
import json
import os
import re
import secrets
import shutil
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from auscult.errors import AuscultError

# What a full disk, a quota or a limit on file size looks like through NumPy, PyTorch and Rust, which drop the error number.
_NO_ROOM = re.compile(r"requested and \d+ written|inline_container\.cc|\(os error (28|27|122)\)")


@contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """Yield a temporary path of the same name; it takes the place of `path` on success and vanishes on any failure.

    Raises:
        DiskFull: there is no room.
    """
    with _workshop(path) as (temporary, mode):
        yield temporary
        _open_to_others(temporary, mode)
        os.replace(temporary, path)


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Yield an empty temporary folder; it takes the place of `path` on success, and vanishes on any failure.

    The old and the new folder change places in one step where the system can do that (Linux). Elsewhere the old one is moved
    aside first: a run killed between the two steps leaves it there, and the next call puts it back.

    Raises:
        DiskFull: there is no room.
    """
    with _workshop(path) as (temporary, mode):
        temporary.mkdir()
        yield temporary
        for inside in temporary.rglob("*"):
            _open_to_others(inside, mode)
        if not os.path.lexists(path):
            os.replace(temporary, path)
        elif not _exchanged(temporary, path):
            os.replace(path, temporary.with_name(_OLD))
            os.replace(temporary, path)


_LOCK, _OLD = "lock", "old"


@contextmanager
def _workshop(path: Path) -> Iterator[tuple[Path, int]]:
    """A temporary folder beside `path`, `.<name>.<random>.part`, locked while its process lives.

    Yields a path in it of the name of `path`, which nothing has yet, and the mode that a new file has here.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    _remove_leftovers(path)
    with full_disk_reported(path):
        folder, lock = _locked_folder(path)
        try:
            yield folder / path.name, os.fstat(lock).st_mode & 0o666
        finally:
            os.close(lock)
            _tidy(folder, path)


def _locked_folder(path: Path) -> tuple[Path, int]:
    while True:
        folder = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
        folder.mkdir()
        with suppress(FileNotFoundError):  # another process tidied up before the lock was there
            lock = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT, 0o666)
            with suppress(OSError):  # no locks here: others will leave this folder alone
                try_lock(lock)
            if (folder / _LOCK).exists():
                return folder, lock
            os.close(lock)


def _tidy(folder: Path, path: Path) -> None:
    """Remove a temporary folder; what it had moved aside comes back if nothing has taken its place."""
    if os.path.lexists(folder / _OLD) and not os.path.lexists(path):
        os.replace(folder / _OLD, path)
    shutil.rmtree(folder, ignore_errors=True)


def try_lock(descriptor: int) -> bool:
    """Lock an open file for this process alone, until it is closed; False if another process has it.

    Unlike process ids, a lock means the same in every container that shares the folder. It lies far behind the end of the
    file on Windows, where it would keep others from reading.

    Raises:
        OSError: files cannot be locked here (some network drives).
    """
    try:
        if sys.platform == "win32":
            import msvcrt

            os.lseek(descriptor, 2**62, os.SEEK_SET)
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        return False
    return True


def _remove_leftovers(path: Path) -> None:
    """Remove temporary folders beside `path` whose process is gone: a killed one ran no clean-up."""
    for folder in path.parent.glob(f".{glob.escape(path.name)}.*.part"):
        if not re.fullmatch(r"[0-9a-f]{8}", folder.name[len(path.name) + 2 : -5]):
            continue
        with suppress(OSError):  # it has a lock
            folder.rmdir()
        with suppress(OSError):  # gone by now, not ours to remove, or no locks here
            lock = os.open(folder / _LOCK, os.O_RDWR)
            free = try_lock(lock)
            os.close(lock)
            if free:
                _tidy(folder, path)


def _exchanged(new: Path, path: Path) -> bool:
    """Let two names change places in one step (renameat2 of Linux, RENAME_EXCHANGE); False if that cannot be done here."""
    here, exchange = -100, 2
    try:
        rename = ctypes.CDLL(None).renameat2
    except (AttributeError, OSError, TypeError):
        return False
    return bool(rename(here, os.fsencode(new), here, os.fsencode(path), exchange) == 0)


def _open_to_others(path: Path, mode: int) -> None:
    """Give what a library made for its owner alone the mode of any other new file."""
    found = path.lstat().st_mode
    if stat.S_ISREG(found) and stat.S_IMODE(found) == 0o600 != mode:
        path.chmod(mode)


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


def digest_of(*values: object) -> str:
    """SHA-256 (hex) of values as JSON.

    >>> digest_of(1, "a") == digest_of(1, "a") != digest_of("1a")
    True
    """
    return hashlib.sha256(json.dumps(values, sort_keys=True, default=str).encode()).hexdigest()


def digest(*paths: Path) -> str:
    """SHA-256 (hex) over the names and contents of the files at or below `paths`, in sorted order."""
    total = hashlib.sha256()
    for path in paths:
        for file in sorted(p for p in ([path] if path.is_file() else path.rglob("*")) if p.is_file()):
            total.update(str(file.relative_to(path.parent)).encode())
            with open(file, "rb") as stream:
                total.update(hashlib.file_digest(stream, "sha256").digest())
    return total.hexdigest()
