"""Reading recordings: header checks without decoding, and one decode to int16 at the profile's rate."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import soundfile

SUFFIXES = (".wav", ".flac")


@dataclass(frozen=True)
class Header:
    """What the header of a recording says, and a 63-bit hash of the file's bytes."""

    seconds: float
    sample_rate: int
    channels: int
    content: int


def probe(path: Path) -> Header:
    """Check and hash one recording. PCM WAV is judged by its sizes; float and compressed audio is decoded once, for only
    the samples tell a NaN or a stream that was cut.

    Raises:
        ValueError: empty, unreadable, cut short, not finite, or without a single sample; the message says which.
    """
    try:
        blob = path.read_bytes()
    except OSError as error:
        raise ValueError(f"cannot be read ({error.strerror})") from None
    if not blob:
        raise ValueError("empty file")
    # libsndfile quietly shortens a WAV that ends before its RIFF size; a cut download must not pass as a clip.
    promised = int.from_bytes(blob[4:8], "little") + 8
    if blob[:4] == b"RIFF" and promised > len(blob) and promised < 0xFFFFFFFF:
        raise ValueError(f"cut short: {len(blob)} of {promised} bytes")
    try:
        info = soundfile.info(str(path))
        if info.frames == 0:
            raise ValueError("no samples")
        if info.format not in ("WAV", "WAVEX", "RF64") or not info.subtype.startswith("PCM"):
            _check_samples(path)
    except soundfile.SoundFileError as error:
        raise ValueError(f"not a readable recording ({_reason(error)})") from None
    content = int.from_bytes(hashlib.blake2b(blob, digest_size=8).digest(), "little") >> 1
    return Header(info.frames / info.samplerate, info.samplerate, info.channels, content)


def _check_samples(path: Path) -> None:
    with soundfile.SoundFile(str(path)) as file:
        count = 0
        for block in file.blocks(2**18, dtype="float32"):
            if not np.isfinite(block).all():
                raise ValueError("holds NaN or infinite samples")
            count += len(block)
        if count < file.frames:
            raise ValueError(f"cut short: {count} of {file.frames} samples")


def _reason(error: Exception) -> str:
    """libsndfile's own words, without the path that the caller names anyway."""
    return str(getattr(error, "error_string", error)).strip().rstrip(".")


def decode(path: Path, sample_rate: int, samples: int, channel: Literal["mean"] | int) -> tuple[np.ndarray, int]:
    """Decode the first `samples` samples as int16 [samples] (padded with zeros) at `sample_rate`; also the valid length.

    16-bit mono at the right rate is copied bit by bit. Anything else goes through float32: several channels by the
    `channel` rule, another rate by torchaudio's windowed-sinc resampler, then rounded to 16 bit.

    Raises:
        ValueError: undecodable, cut short, not finite, or without the wanted channel.
    """
    out = np.zeros(samples, np.int16)
    try:
        with soundfile.SoundFile(str(path)) as file:
            rate, channels = file.samplerate, file.channels
            if channel != "mean" and channel >= channels:
                raise ValueError(f"has {channels} channel(s), so no channel {channel} (data.channel counts from 0)")
            exact = file.subtype == "PCM_16" and channels == 1 and rate == sample_rate
            # A second more than needed, so that the resampler's edge lies beyond the part that is kept.
            wanted = samples if exact else int(np.ceil(samples * rate / sample_rate)) + rate
            audio = file.read(wanted, dtype="int16" if exact else "float32", always_2d=True)
            if len(audio) < min(wanted, file.frames):
                raise ValueError(f"cut short: {len(audio)} of {file.frames} samples")
    except soundfile.SoundFileError as error:
        raise ValueError(f"cannot be decoded ({_reason(error)})") from None
    if exact:
        out[: len(audio)] = audio[:, 0]
        return out, len(audio)
    if not np.isfinite(audio).all():
        raise ValueError("holds NaN or infinite samples")
    mono = audio.mean(axis=1) if channel == "mean" else audio[:, channel]
    if rate != sample_rate:
        import torch
        from torchaudio.functional import resample

        mono = resample(torch.from_numpy(np.ascontiguousarray(mono)), rate, sample_rate).numpy()
    mono = mono[:samples]
    out[: len(mono)] = np.clip(np.round(mono * 32768.0), -32768, 32767)
    return out, len(mono)


def workers_or_cores(workers: int) -> int:
    return workers or os.cpu_count() or 1
