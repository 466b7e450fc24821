"""Whether a recording is finished, as far as the file and the system can tell."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from io import BufferedReader
from pathlib import Path

_TAIL = 4096
"""Bytes at the end that are not all zero in a recording, unless it ends in digital silence. A copy into a file that was given
its full size first ends in zeros until its last piece is there."""


def finished(path: Path) -> bool:
    """The file has the length that its header states, and no program has it open for writing.

    False also where neither can be told (an MP3 states no length; other people's files and network drives do not say who has
    them open): there, only time shows it.

    Raises:
        OSError: it cannot be read.
    """
    with open(os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)), "rb") as stream:
        return _closed(stream.fileno()) and states_its_length(stream)


def states_its_length(stream: BufferedReader) -> bool:
    """Whether the header of a WAV, RF64, W64, AIFF, AU, FLAC or OGG file states the length that the file has; a FLAC's is in
    samples, which reading it compares.

    A recorder writes a length of zero first, or one larger than any file, and the true one when it closes the file.
    """
    size = stream.seek(0, os.SEEK_END)
    stream.seek(max(0, size - _TAIL))
    if not any(stream.read(_TAIL)):
        return False
    stream.seek(0)
    head = stream.read(64)
    for mark, states in _FORMATS.items():
        if head.startswith(mark):
            return states(stream, head, size)
    return False


def _closed(descriptor: int) -> bool:
    """Whether no program of this machine has a file open for writing: Linux grants a read lease on no other (fcntl(2))."""
    if not sys.platform.startswith("linux"):
        return False
    import fcntl

    try:
        fcntl.fcntl(descriptor, fcntl.F_SETSIG, signal.SIGURG)  # whose arrival does nothing, unlike that of SIGIO
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_RDLCK)
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    except OSError:
        return False
    return True


def _wav(stream: BufferedReader, head: bytes, size: int) -> bool:
    order = "little" if head[:4] == b"RIFF" else "big"  # RIFX and FORM
    return _covers(int.from_bytes(head[4:8], order) + 8, size) and _sound_length(stream, order, size) > 0  # type: ignore[arg-type]


def _sound_length(stream: BufferedReader, order: str, size: int) -> int:
    """Bytes of sound that the chunk `data` or `SSND` states; 0 where there is none, or more than the file has."""
    at = 12
    for _ in range(1000):
        stream.seek(at)
        chunk = stream.read(8)
        length = int.from_bytes(chunk[4:], order)  # type: ignore[arg-type]
        if chunk[:4] in (b"data", b"SSND"):
            return length if at + 8 + length <= size else 0
        at += 8 + length + length % 2
        if at >= size:
            break
    return 0


def _rf64(stream: BufferedReader, head: bytes, size: int) -> bool:
    sound = int.from_bytes(head[28:36], "little")
    return head[12:16] == b"ds64" and sound > 0 and _covers(int.from_bytes(head[20:28], "little") + 8, size)


def _w64(stream: BufferedReader, head: bytes, size: int) -> bool:
    return _covers(int.from_bytes(head[16:24], "little"), size)


def _au(stream: BufferedReader, head: bytes, size: int) -> bool:
    offset, length = int.from_bytes(head[4:8], "big"), int.from_bytes(head[8:12], "big")
    return length > 0 and _covers(offset + length, size)


def _flac(stream: BufferedReader, head: bytes, size: int) -> bool:
    return int.from_bytes(head[21:26], "big") % 2**36 > 0  # samples


def _ogg(stream: BufferedReader, head: bytes, size: int) -> bool:
    """The last page is marked as the last one, and ends where the file does."""
    stream.seek(max(0, size - 2**16 - 2**9))
    tail = stream.read()
    page = tail[max(0, tail.rfind(b"OggS")) :]
    segments = page[26] if len(page) > 26 else 255
    return (
        len(page) > 27 + segments and bool(page[5] & 4) and 27 + segments + sum(page[27 : 27 + segments]) == len(page)
    )


def _covers(stated: int, size: int) -> bool:
    """A length in whole pairs of bytes may count one that nobody wrote."""
    return size <= stated <= size + 1


_FORMATS: dict[bytes, Callable[[BufferedReader, bytes, int], bool]] = {
    b"RIFF": _wav, b"RIFX": _wav, b"FORM": _wav, b"RF64": _rf64, b"riff": _w64, b".snd": _au, b"fLaC": _flac, b"OggS": _ogg,
}  # fmt: skip
