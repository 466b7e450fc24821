"""One recording, of any length, read block by block: what it is, and its clips as 16-bit WAV at its own rate."""

from __future__ import annotations

import hashlib
import wave
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile

SHORTEST = 0.1
"""Seconds; a front-end has a handful of frames there."""
_BLOCK = 2**16  # frames


@dataclass(frozen=True)
class Measured:
    """What a recording is: `frames` samples of each channel, a 63-bit hash of the file's bytes, its highest sample."""

    sample_rate: int
    channels: int
    frames: int
    content: int
    peak: float


def measure(path: Path) -> Measured:
    """Decode a recording once, block by block. Only that tells how long an MP3 is, and that no sample is a NaN.

    Raises:
        ValueError: empty, unreadable, cut short, not finite, or shorter than `SHORTEST`; the message says which.
    """
    try:
        with open(path, "rb") as stream:
            head = stream.read(8)
            size = stream.seek(0, 2)
            stream.seek(0)
            content = hashlib.file_digest(stream, lambda: hashlib.blake2b(digest_size=8)).digest()
    except OSError as error:
        raise ValueError(f"cannot be read ({error.strerror})") from None
    if not size:
        raise ValueError("empty file")
    # libsndfile quietly shortens a WAV or AIFF that ends before the size in its header.
    promised = int.from_bytes(head[4:], "big" if head[:4] == b"FORM" else "little") + 8
    if head[:4] in (b"RIFF", b"FORM") and size < promised < 0xFFFFFFFF:
        raise ValueError(f"cut short: {size} of {promised} bytes")
    frames, peak = 0, 0.0
    try:
        with soundfile.SoundFile(str(path)) as file:
            while len(block := file.read(_BLOCK, dtype="float32", always_2d=True)):
                if not np.isfinite(block).all():
                    raise ValueError("holds NaN or infinite samples")
                frames, peak = frames + len(block), max(peak, float(np.abs(block).max()))
            rate, channels, stated, kind = file.samplerate, file.channels, file.frames, file.format
    except soundfile.SoundFileError as error:
        reason = str(getattr(error, "error_string", error)).strip().rstrip(".")
        raise ValueError(f"not a readable recording ({reason})") from None
    if frames == 0:
        raise ValueError("no samples")
    if frames < stated and kind != "MP3":  # an MP3's header may only estimate
        raise ValueError(f"cut short: {frames} of {stated} samples")
    if frames < SHORTEST * rate:
        raise ValueError(f"{1000 * frames / rate:.0f} ms long, shorter than {1000 * SHORTEST:.0f} ms")
    return Measured(rate, channels, frames, int.from_bytes(content, "little") >> 1, peak)


def pieces(frames: int, clip: int, hop: int, minimum: int) -> list[tuple[int, int]]:
    """(start, length) of each clip of a recording, all in frames.

    The last one is what is left over; below `minimum` it is dropped, unless it is the only one.
    """
    starts = range(0, max(frames - clip, 0) + hop, hop)  # the first clip that reaches the end is the last
    found = [(start, min(clip, frames - start)) for start in starts]
    return [piece for piece in found if piece[1] >= minimum] or found[:1]


def cut(path: Path, found: list[tuple[int, int]], name: Callable[[int], Path], done: Callable[[], object]) -> None:
    """Write the clips `found` (by `pieces`) of a recording; one clip is in memory at a time.

    16-bit samples are copied bit by bit, all others rounded to 16 bits, and cut off at full scale.

    Args:
        name: path of the clip that starts at a frame. It must not exist.
        done: called after each clip.

    Raises:
        ValueError: the recording is shorter than it was, or cannot be decoded any more.
    """
    try:
        with soundfile.SoundFile(str(path)) as file:
            for (start, _), audio in zip(found, _windows(file, found), strict=True):
                with open(name(start), "xb") as out, wave.open(out, "wb") as target:
                    target.setparams((file.channels, 2, file.samplerate, len(audio), "NONE", ""))
                    target.writeframes(audio.astype("<i2").tobytes())
                done()
    except soundfile.SoundFileError as error:
        raise ValueError(f"cannot be decoded ({error})") from None


def _windows(file: soundfile.SoundFile, found: list[tuple[int, int]]) -> Iterator[np.ndarray]:
    """int16 [length, channels] of each piece, read in one pass: seeking in an MP3 is slow, and not exact."""
    exact = file.subtype == "PCM_16"
    held, at = np.empty((0, file.channels), np.int16), 0  # what is in memory, and the frame where it begins
    for start, length in found:
        held, at = held[start - at :], start
        wanted = length - len(held)
        new = file.read(wanted, dtype="int16" if exact else "float64", always_2d=True)
        if len(new) < wanted:
            raise ValueError("cut short since it was looked at")
        if not exact:
            new = np.clip(np.round(new * 32768.0), -32768, 32767).astype(np.int16)
        held = np.concatenate([held, new])
        yield held
