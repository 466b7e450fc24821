"""The one reader of recordings: opened, checked against its header, read block by block, brought to one channel and one rate.

Everything that listens goes this way: manifest, features, own recordings, detector.
"""

from __future__ import annotations

import hashlib
import io
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

import numpy as np
import soundfile

from auscult.data.codedstreams import find_stream
from auscult.data.containers import Rewrapped, cut_short, find_sound
from auscult.data.resampling import resample_clip, resampled
from auscult.errors import AuscultError

SUFFIXES = (".wav", ".flac")
"""Of the data sets' recordings."""
READ = (".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".aif", ".aiff", ".aifc", ".au", ".caf", ".w64", ".rf64")
NOT_READ = (".m4a", ".aac", ".wma", ".mp4", ".amr", ".3gp", ".webm", ".ape", ".wv")
"""Sound that libsndfile cannot read: worth an error, where other files are passed over."""
LOWEST_RATE, HIGHEST_RATE = 100, 4_000_000
"""Hz."""
QUIETEST_PEAK = 2.0**-8
"""Below it, a recording uses less than 8 of the 16 bits that samples get."""
BLOCK = 2**16
"""Frames read at once."""
Channel = Literal["mean"] | int


class RecordingError(AuscultError):
    """A recording that cannot be used; `what` says why."""

    def __init__(self, what: str, path: Path, fix: str = "mend, convert or remove it") -> None:
        super().__init__(what, printable(path), fix)


def printable(path: Path | str) -> str:
    r"""`path` as text that every terminal and file takes: a name that is not UTF-8 shows its bytes as `\udcXX`."""
    return str(path).encode("utf-8", "backslashreplace").decode()


class Recording:
    """An open recording, read once, from its beginning; a context manager.

    Attributes:
        rate: Hz.
        channels: how many.
        frames: samples of each channel that are there; 0 = only reading tells (MP3, some streams).
        claimed: samples by the header; None = it does not say.
        notes: what is worth saying: a header that is wrong.
        exact: whether the samples have 16 bits; `uncoded`: whether each takes the same room in the file.
        seen: samples of each channel read so far.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._stream = open_file(path)
        try:
            self._open()
        except BaseException:
            self._stream.close()
            raise

    def _open(self) -> None:
        size = os.fstat(self._stream.fileno()).st_size
        if not size:
            raise RecordingError("empty file", self.path, "copy or record it again")
        try:
            sound, stream = find_sound(self._stream, size), find_stream(self._stream, size)
        except ValueError as error:
            raise RecordingError(str(error), self.path, "copy or record it again") from None
        header, start = b"", 0
        if sound and not sound.faithful:
            header, start, size = sound.header, sound.start, sound.start + sound.length
        elif stream and stream.header:
            header, start = stream.header, len(stream.header)
        self._stream.seek(0)
        try:
            if header:
                self._file = soundfile.SoundFile(Rewrapped(self._stream, header, start, size - start))
            else:
                self._file = soundfile.SoundFile(os.dup(self._stream.fileno()), closefd=True)
        except soundfile.SoundFileError as error:
            raise self._unreadable(error) from None
        self.rate, self.channels = self._file.samplerate, self._file.channels
        if not LOWEST_RATE <= self.rate <= HIGHEST_RATE:
            what = f"{self.rate} samples per second by its header; {LOWEST_RATE} to {HIGHEST_RATE} Hz are read"
            raise RecordingError(what, self.path, "mend its header, or convert it")
        self.exact = self._file.subtype == "PCM_16"
        self.uncoded = sound is not None and sound.linear
        self.frames = self._file.frames if 0 < self._file.frames < 2**62 else 0
        self.claimed: int | None = self.frames or None
        self.notes: list[str] = []
        self.seen = 0
        self._estimated = self._file.format == "MP3"  # its header may only estimate
        if sound and sound.linear:
            self.frames = sound.length // sound.frame
            self.claimed = None if sound.claimed is None else sound.claimed // sound.frame
        elif stream and stream.frames is not None:
            self.frames, self.claimed = stream.frames, stream.claimed
        if sound and not sound.faithful:
            said = "no length" if sound.claimed is None else f"{sound.claimed} bytes of sound"
            self.notes.append(f"its header states {said}; the {sound.length} bytes that are there are read")
        if sound and sound.whole:
            self.notes.append(f"its header states a file of {sound.whole} bytes, and it has {size}; its sound is whole")
        if header and stream and stream.header:
            said = "no length" if stream.claimed is None else f"{stream.claimed} samples"
            self.notes.append(f"its header states {said}; the {stream.frames} samples that are there are read")

    def blocks(self) -> Iterator[np.ndarray]:
        """What follows, float32 [at most `BLOCK`, channels] at a time.

        Raises:
            RecordingError: not decodable, or fewer samples than there should be.
        """
        while len(block := self.read(BLOCK)):
            yield block
        if self.seen < self.frames and not self._estimated:
            raise self._cut()
        if not self.seen:
            raise RecordingError("no samples", self.path, "record it again")

    def read(self, frames: int, dtype: Literal["float32", "float64", "int16"] = "float32") -> np.ndarray:
        """The next `frames` samples, [frames, channels], fewer at the end."""
        try:
            block = self._file.read(frames, dtype=dtype, always_2d=True)
        except soundfile.SoundFileError as error:
            raise self._unreadable(error) from None
        self.seen += len(block)
        return block

    def mono(self, channel: Channel = 0) -> Iterator[np.ndarray]:
        """One channel, or the mean of all, float32 [n] at a time.

        Raises:
            RecordingError: as `blocks`; no such channel; samples that are no numbers.
        """
        self.check_channel(channel)
        for block in self.blocks():
            yield self._chosen(block, channel)

    def at_rate(self, rate: int, channel: Channel = 0) -> Iterator[np.ndarray]:
        """As `mono`, at `rate` Hz."""
        return resampled(self.mono(channel), self.rate, rate)

    def beginning(self, frames: int, channel: Channel = 0) -> np.ndarray:
        """The first `frames` samples of one channel, or of their mean: int16 [n] where the file holds one channel of these,
        else float32."""
        self.check_channel(channel)
        exact = self.exact and self.channels == 1
        audio = self.read(frames, "int16" if exact else "float32")
        if len(audio) < min(frames, self.frames) and not self._estimated:
            raise self._cut()
        return audio[:, 0] if exact else self._chosen(audio, channel)

    def peak(self) -> float:
        """The highest sample of all channels. The recording is read to its end."""
        peak = 0.0
        for block in self.blocks():
            if not np.isfinite(block).all():
                raise RecordingError("holds NaN or infinite samples", self.path, "record it again")
            peak = max(peak, float(np.abs(block).max()))
        return peak

    def content(self) -> int:
        """A 63-bit hash of the file's bytes, read in blocks. It ends the reading."""
        self._stream.seek(0)
        digest = hashlib.file_digest(self._stream, lambda: hashlib.blake2b(digest_size=8)).digest()
        return int.from_bytes(digest, "little") >> 1

    def check_channel(self, channel: Channel) -> None:
        """Refuse a channel that is not there."""
        if channel != "mean" and channel >= self.channels:
            what = f"has {self.channels} channel(s), so no channel {channel} (counted from 0)"
            raise RecordingError(what, self.path, "choose another channel, or record that one, too")

    def _chosen(self, block: np.ndarray, channel: Channel) -> np.ndarray:
        mono: np.ndarray = block.mean(axis=1) if channel == "mean" else np.ascontiguousarray(block[:, channel])
        if not np.isfinite(mono).all():
            raise RecordingError("holds NaN or infinite samples", self.path, "record it again")
        return mono

    def _cut(self) -> RecordingError:
        return RecordingError(str(cut_short(self.seen, self.frames, "samples")), self.path, "copy or record it again")

    def _unreadable(self, error: soundfile.SoundFileError) -> RecordingError:
        reason = str(getattr(error, "error_string", error)).strip().rstrip(".")
        if self.path.suffix.lower() in NOT_READ:
            return unread_format(self.path)
        return RecordingError(
            f"not a readable recording ({reason})", self.path, "give a WAV, FLAC, OGG, MP3 or AIFF recording"
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()
        self._stream.close()


def open_recording(path: Path) -> Recording:
    """Open a recording and hold its header against its bytes; nothing is decoded yet.

    Raises:
        RecordingError: no regular file, empty, unreadable, cut short, or of an absurd rate.
    """
    return Recording(path)


def open_file(path: Path) -> io.FileIO:
    """A regular file, opened for reading; a FIFO, a device or a folder is refused and never waited for.

    Raises:
        RecordingError: it cannot be opened, or is no regular file.
    """
    try:
        number = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise RecordingError(f"cannot be read ({reason})", path, "check the path and its permissions") from None
    if not stat.S_ISREG(os.fstat(number).st_mode):
        os.close(number)
        raise RecordingError("cannot be read (no regular file)", path, "give files that hold sound")
    return io.FileIO(number)


def unread_format(path: Path) -> RecordingError:
    """For sound that libsndfile cannot read."""
    name = printable(path.name)
    fix = f"convert it: ffmpeg -i '{name}' '{printable(path.stem)}.wav'"
    return RecordingError(f"{path.suffix} is not read here: convert it to WAV or FLAC (with ffmpeg)", path, fix)


# --------------------------------------------------------------------------------------------------- of the data pipeline
@dataclass(frozen=True)
class Header:
    """What a recording is, and a 63-bit hash of the file's bytes. `peak`: its highest sample, 0 = not looked for."""

    seconds: float
    sample_rate: int
    channels: int
    content: int
    peak: float = 0.0
    notes: tuple[str, ...] = ()


def probe(path: Path) -> Header:
    """Check and hash one recording. 16-bit PCM is judged by its sizes; all else is decoded once, for only the samples tell a
    NaN, a level or a stream that was cut.

    Raises:
        RecordingError: empty, unreadable, cut short, not finite, or without a single sample.
    """
    with open_recording(path) as recording:
        if recording.exact and recording.uncoded and recording.frames:
            peak, frames = 0.0, recording.frames
        else:
            peak, frames = recording.peak(), recording.seen
        seconds = frames / recording.rate
        return Header(seconds, recording.rate, recording.channels, recording.content(), peak, tuple(recording.notes))


def decode(path: Path, sample_rate: int, samples: int, channel: Channel) -> tuple[np.ndarray, int]:
    """Decode the first `samples` samples as int16 [samples] (padded with zeros) at `sample_rate`; also the valid length.

    16-bit mono at the right rate is copied bit by bit. Anything else goes through float32: several channels by the
    `channel` rule, another rate by torchaudio's windowed-sinc resampler, then rounded to 16 bit.

    Raises:
        RecordingError: undecodable, cut short, not finite, or without the wanted channel.
    """
    out = np.zeros(samples, np.int16)
    with open_recording(path) as recording:
        rate = recording.rate
        # A second more than needed, so that the resampler's edge lies beyond the part that is kept.
        wanted = samples if rate == sample_rate else int(np.ceil(samples * rate / sample_rate)) + rate
        audio = recording.beginning(wanted, channel)
    if audio.dtype == np.int16:
        if rate == sample_rate:
            out[: len(audio)] = audio
            return out, len(audio)
        audio = audio * np.float32(1 / 32768)
    mono = resample_clip(audio, rate, sample_rate)[:samples]
    out[: len(mono)] = np.clip(np.round(mono * 32768.0), -32768, 32767)
    return out, len(mono)


def workers_or_cores(workers: int) -> int:
    return workers or os.cpu_count() or 1
