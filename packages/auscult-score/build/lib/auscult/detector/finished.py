"""Whether a recording is finished, as far as the file and the system can tell."""

from __future__ import annotations

import io
import os
import signal
import sys
from pathlib import Path

from auscult.data.audio import open_file
from auscult.data.codedstreams import find_stream
from auscult.data.containers import find_sound

_TAIL = 4096
"""Bytes at the end that are not all zero in a recording, unless it ends in digital silence. A copy into a file that was given
its full size first ends in zeros until its last piece is there."""


def finished(path: Path) -> bool:
    """The file has the length that its header states, and no program has it open for writing.

    False also where neither can be told (an MP3 states no length; other people's files and network drives do not say who has
    them open): there, only time shows it.

    Raises:
        RecordingError: it cannot be opened, or is no regular file.
    """
    with open_file(path) as stream:
        return _closed(stream.fileno()) and states_its_length(stream)


def states_its_length(stream: io.FileIO) -> bool:
    """Whether the header of a file states the length that it has.

    A recorder writes a length of zero first, or one larger than any file, and the true one when it closes the file; an OGG
    file says of its last page that it is the last.
    """
    size = stream.seek(0, os.SEEK_END)
    stream.seek(max(0, size - _TAIL))
    if not any(stream.read(_TAIL)):
        return False
    try:
        sound, coded = find_sound(stream, size), find_stream(stream, size)
    except ValueError:  # cut short
        return False
    if sound is not None:
        return sound.length > 0 and sound.faithful and not sound.whole
    stream.seek(0)
    if coded is None:
        return False
    return stream.read(4) == b"OggS" or (coded.claimed is not None and coded.claimed == coded.frames)


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
