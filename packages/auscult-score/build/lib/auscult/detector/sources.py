"""Where sound comes from while it is made: a microphone (sounddevice), or what FFmpeg's libraries read (PyAV): RTSP, HTTP, a
pipe, a file. A source is connected to again and again; each connection gives blocks without a hole, until it ends with a reason.
"""

from __future__ import annotations

import errno
import os
import queue
import stat
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from auscult.data.audio import Channel
from auscult.errors import AuscultError
from auscult.packages import require

CONNECT = 10.0
"""Seconds in which a connection is made."""
HOLE = 0.25
"""Seconds by which the time stamps of a stream may differ from the samples that came."""
HELD = 200
"""Blocks of a microphone that wait to be heard, 0.1 s each; a program that is slower loses what comes then, and says so."""


class SourceError(AuscultError):
    """A source that cannot be heard, or not any more. `lasting`: waiting does not mend it."""

    def __init__(self, what: str, where: str = "", fix: str = "", lasting: bool = False) -> None:
        super().__init__(what, where, fix)
        self.lasting = lasting


@dataclass(frozen=True)
class Connection:
    """Sound that comes now: Hz, channels, and blocks float32 [n, channels]."""

    rate: int
    channels: int
    blocks: Iterator[np.ndarray]


class Source(Protocol):
    """`name`: what it is called in an output, without a password. `ends`: its end is the end, as of a file."""

    name: str
    ends: bool

    def connect(self, patience: float) -> AbstractContextManager[Connection]:
        """Args:
            patience: seconds without a sample after which it counts as gone.

        Raises:
            SourceError: also by the blocks; where these just end, so did the source.
        """


class Stream:
    """What PyAV opens: an address (rtsp, http, ...) or the name of a file or pipe.

    Raises:
        AuscultError: PyAV is not installed.
    """

    def __init__(self, address: str) -> None:
        self._av: Any = require("av", "listening to a stream")
        self._address, self.name = address, without_password(address)
        self.ends = "://" not in address and not _is_pipe(address)

    @contextmanager
    def connect(self, patience: float) -> Iterator[Connection]:
        options = {"rtsp_transport": "tcp"} if self._address.startswith("rtsp") else {}
        try:
            container = self._av.open(self._address, timeout=(CONNECT, patience), options=options)
        except (self._av.error.FFmpegError, OSError) as error:
            raise self._problem(error) from None
        with container:
            if not container.streams.audio:
                raise SourceError("there is no sound in this stream", self.name, "choose another source", lasting=True)
            stream = container.streams.audio[0]
            yield Connection(stream.rate, stream.codec_context.channels, self._blocks(container, stream))

    def _blocks(self, container: Any, stream: Any) -> Iterator[np.ndarray]:
        rate, layout = stream.rate, stream.layout.name
        as_float = self._av.AudioResampler(format="fltp", layout=layout, rate=rate)
        first, seen = None, 0
        try:
            for frame in container.decode(stream):
                if (frame.sample_rate, frame.layout.name) != (rate, layout):
                    raise SourceError(f"the stream goes on with {frame.sample_rate} Hz, {frame.layout.name}", self.name)
                if frame.pts is not None:
                    stamp = float(frame.pts * frame.time_base)
                    first = stamp if first is None else first
                    if abs(stamp - first - seen / rate) > HOLE:
                        raise SourceError(f"{stamp - first - seen / rate:.2g} s of sound are missing", self.name)
                seen += frame.samples
                for part in as_float.resample(frame):
                    yield part.to_ndarray().T
        except (self._av.error.FFmpegError, OSError) as error:
            if getattr(error, "errno", None) == errno.EIO and not self.ends:
                return  # how FFmpeg calls the end of a connection that had stated no length
            raise self._problem(error) from None

    def _problem(self, error: Exception) -> SourceError:
        """FFmpeg's words, without the address, in which a password may stand."""
        if isinstance(error, self._av.error.ExitError):
            return SourceError("nothing came in time", self.name)
        passing = isinstance(error, (OSError, EOFError)) or type(error).__name__.startswith("HTTPServer")
        mendable = (FileNotFoundError, PermissionError, IsADirectoryError)
        what = f"cannot be heard ({getattr(error, 'strerror', None) or type(error).__name__})"
        lasting = not passing or isinstance(error, mendable)
        return SourceError(what, self.name, "check the address, and whether it is sound" if lasting else "", lasting)


def without_password(address: str) -> str:
    """An address as it may be shown: cameras take passwords before the host and in the query.

    >>> without_password("rtsp://user:secret@camera:554/sound"), without_password("http://camera/sound?pwd=secret")
    ('rtsp://camera:554/sound', 'http://camera/sound')
    >>> without_password("rtsp://user:se/cr?et@camera/sound"), without_password("a/b.wav")
    ('rtsp://camera/sound', 'a/b.wav')
    """
    scheme, mark, rest = address.partition("://")
    return scheme + mark + rest.rpartition("@")[2].partition("?")[0] if mark else address


def _is_pipe(path: str) -> bool:
    try:
        return not stat.S_ISREG(os.stat(path).st_mode)
    except (OSError, ValueError):
        return False


class Microphone:
    """An input of this machine, by name, number or `default`, at its own rate.

    Raises:
        AuscultError: sounddevice or the PortAudio library is not installed.
    """

    ends = False

    def __init__(self, device: str, channel: Channel) -> None:
        try:
            self._library: Any = require("sounddevice", "a microphone")
        except OSError as error:
            fix = "install it: apt install libportaudio2, or your system's package of that name"
            raise AuscultError(f"a microphone needs the PortAudio library ({error})", fix=fix) from None
        self._device: str | int | None = int(device) if device.isdigit() else device
        if device == "default":
            self._device = None
        self.name, self._channel, self._used = f"device {device}", channel, False

    @contextmanager
    def connect(self, patience: float) -> Iterator[Connection]:
        library = self._library
        if self._used:  # PortAudio knows the devices of its start alone; one that was plugged in again is another one
            library._terminate()
            library._initialize()
        self._used = True
        waiting: queue.Queue[np.ndarray] = queue.Queue(HELD)
        lost: list[str] = []

        def heard(block: np.ndarray, frames: int, time: Any, status: Any) -> None:
            """In PortAudio's thread, which must not wait."""
            if status.input_overflow:
                lost.append("the system dropped samples of the microphone")
            try:
                waiting.put_nowait(block.copy())
            except queue.Full:
                lost.append("this program is too slow for the microphone: samples were dropped")

        try:
            facts = library.query_devices(self._device, "input")
            rate, there = int(facts["default_samplerate"]), int(facts["max_input_channels"])
            channels = there if self._channel == "mean" else min(there, self._channel + 1)
            stream = library.InputStream(
                device=self._device, channels=channels, samplerate=rate, blocksize=rate // 10, dtype="float32",
                callback=heard,
            )  # fmt: skip
            stream.start()
        except (library.PortAudioError, ValueError) as error:
            raise SourceError(f"no microphone ({error})", self.name, f"one of these: {self._inputs()}") from None
        try:
            yield Connection(rate, channels, self._blocks(stream, waiting, lost))
        finally:
            stream.abort()
            stream.close()

    def _blocks(self, stream: Any, waiting: queue.Queue[np.ndarray], lost: list[str]) -> Iterator[np.ndarray]:
        while True:
            try:
                yield waiting.get(timeout=0.5)
            except queue.Empty:
                if not stream.active:
                    raise SourceError("the microphone is gone: unplugged?", self.name) from None
            if lost:
                raise SourceError(lost[0], self.name)

    def _inputs(self) -> str:
        found = self._library.query_devices()
        names = [f"{i} ({each['name']})" for i, each in enumerate(found) if each["max_input_channels"]]
        return ", ".join(names) or "there is none"
