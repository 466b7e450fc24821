"""Write the packed data set: every clip is decoded once, and what is read often is computed once. store.py reads it."""

from __future__ import annotations

import hashlib
import json
import os
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import pandas as pd
import torch
from tqdm import tqdm

from auscult.data.audio import Channel, RecordingError, decode
from auscult.data.parallel import in_threads
from auscult.data.store import ARRAYS, INPUTS, to_float
from auscult.errors import AuscultError, listed
from auscult.features import FRONTENDS, frames, spectrogram
from auscult.features.cancel import SHORTEST, heard
from auscult.files import atomic_folder
from auscult.settings.profile import Profile
from auscult.settings.schema import Data

INDEX = ["clip_id", "set", "machine", "unit", "domain", "attributes", "valid"]


def pack(clips: pd.DataFrame, root: Path, out: Path, profile: Profile, data: Data, frontends: list[str]) -> None:
    """Decode `clips` (rows of the manifest, one partition) below `root` and compute `frontends`, into folder `out`.

    Arrays of features are one front-end, `arrays`, and no other can be computed. Each of the profile's `inputs` has a folder
    of its own.

    Raises:
        AuscultError: unknown front-end or channel; every undecodable, truncated or non-finite recording, or one without a second
            channel where two are heard, at once. `out` is then absent.
    """
    if profile.arrays:
        _pack_arrays(clips, root, out)
        return
    _check(frontends, "features.frontends")
    channel = _channel(profile, data)
    with atomic_folder(out) as part:
        bad: list[str] = []
        silent: list[str] = []
        index = clips.drop(columns="path").assign(valid=0, content=0)
        with tqdm(total=len(clips), desc=f"decode {out.name}", unit="clip") as bar:
            for machine, rows in clips.groupby("machine", sort=True):
                recordings = [
                    (root / path, seconds) for path, seconds in zip(rows["path"], rows["seconds"], strict=True)
                ]
                outs = [part / name / "audio" / f"{machine}.npy" for name in profile.inputs or ("",)]
                results = _decode_all(recordings, outs, profile, channel, data.workers, bar)
                bad += [one.error for one in results if one.error]
                silent += [
                    f"{path} ({one.silent})" for (path, _), one in zip(recordings, results, strict=True) if one.silent
                ]
                index.loc[rows.index, "valid"] = [one.valid for one in results]
                index.loc[rows.index, "content"] = [one.content for one in results]
        if bad:
            raise AuscultError(f"{len(bad)} recording(s) cannot be decoded:{listed(bad)}", fix="mend or remove them")
        if silent:
            tqdm.write(
                f"warning: {len(silent)} recording(s) with a silent channel, heard as they are:{listed(silent, 5)}"
            )
        content = hashlib.sha256(index["content"].to_numpy(np.int64).tobytes()).hexdigest()[:16]
        facts: dict[str, Any] = {"sample_rate": profile.sample_rate, "samples": _samples(profile), "content": content}
        facts |= {INPUTS: profile.inputs} if profile.inputs else {"channel": channel}
        _finish(part, index, facts, frontends, data.workers)


def _channel(profile: Profile, data: Data) -> Channel:
    """The channel that is heard where the profile has no `inputs`.

    Raises:
        AuscultError: the input takes two channels.
    """
    known: dict[int | str, Channel] = {"near": 0, "far": 1, "mean": "mean"}
    if isinstance(data.input, str) and data.input not in known and not profile.inputs:
        fix = "name it under `inputs` of the profile, whose recordings then need a near and a far channel"
        raise AuscultError(f"`{data.input}` is made of two channels, and one is heard", f"profile {profile.name}", fix)
    return known.get(data.input, data.input)  # type: ignore[arg-type]


def _samples(profile: Profile) -> int:
    return round(profile.clip_seconds * profile.sample_rate)


class Decoded(NamedTuple):
    """Of one recording the valid length, what is wrong with it ("" = nothing), which of two channels is silent ("" = none), and
    a checksum of its samples."""

    valid: int = 0
    error: str = ""
    silent: str = ""
    content: int = 0


def _decode(path: Path, profile: Profile, channel: Channel) -> tuple[np.ndarray, int, str]:
    """One recording as int16 [inputs, samples] (without `inputs` of the profile one, by `channel`), its valid length, and which
    of two channels is silent."""
    rate, samples = profile.sample_rate, _samples(profile)
    if not profile.inputs:
        audio, valid = decode(path, rate, samples, channel)
        return audio[None], valid, ""
    (near, valid), (far, _) = (decode(path, rate, samples, number) for number in (0, 1))
    if valid < SHORTEST and {"w1", "ss"} & set(profile.inputs):
        raise RecordingError(f"{valid} samples, and `w1` and `ss` take {SHORTEST}", path, "remove it")
    pair = torch.from_numpy(np.stack([near, far])[:, :valid]).double() / 32768
    out = np.zeros((len(profile.inputs), samples), np.int16)
    for row, name in zip(out, profile.inputs, strict=True):
        row[:valid] = (heard(pair, name) * 32768).round().clamp(-32768, 32767).numpy()
    silent = [name for name, wave in (("near", near), ("far", far)) if not wave.any()]
    return out, valid, " and ".join(silent)


def _check(frontends: list[str], where: str) -> None:
    unknown = sorted(set(frontends) - set(FRONTENDS))
    if unknown:
        raise AuscultError(f"unknown front-end `{unknown[0]}`", where, f"use: {', '.join(FRONTENDS)}")


def _pack_arrays(clips: pd.DataFrame, root: Path, out: Path) -> None:
    """Copy the arrays of `clips` from what the download stage left below `root` (arrays/source.py)."""
    place = pd.read_parquet(root / "clips.parquet", columns=["path", "row"]).set_index("path")["row"]
    shape = (0, 0)
    with atomic_folder(out) as part:
        (part / ARRAYS).mkdir()
        for machine, rows in clips.groupby("machine", sort=True):
            values = np.load(root / f"{machine}.npy", mmap_mode="r")[place[rows["path"]]]
            np.save(part / ARRAYS / f"{machine}.npy", values)
            shape = values.shape[1:]
        facts = {"sample_rate": 0, "samples": 0, "channel": 0, ARRAYS: shape}
        _finish(part, clips.assign(valid=0), facts, [], 0)


def pack_windows(windows: np.ndarray, units: list[str], out: Path, sample_rate: int, frontends: list[str]) -> None:
    """Pack windows int16 [n, samples] of one machine, with the unit of each, as `pack` does the clips of a manifest.

    Raises:
        AuscultError: unknown front-end.
    """
    _check(frontends, "")
    with atomic_folder(out) as part:
        with _array_file(part / "audio" / "machine.npy", windows.shape, np.int16) as write:
            for row, window in enumerate(windows):
                write(row, window)
        index = pd.DataFrame({
            "clip_id": np.arange(len(windows)), "set": "dev", "machine": "machine", "unit": units, "domain": "unknown",
            "attributes": "", "valid": windows.shape[1],
        })  # fmt: skip
        _finish(part, index, {"sample_rate": sample_rate, "samples": windows.shape[1], "channel": 0}, frontends, 0)


def _finish(folder: Path, index: pd.DataFrame, facts: dict[str, Any], frontends: list[str], workers: int) -> None:
    index[INDEX].to_parquet(folder / "index.parquet", index=False)
    (folder / "facts.json").write_text(json.dumps(facts) + "\n")
    for place in facts.get(INPUTS, [""]):
        for frontend in frontends:
            _compute(folder / place, frontend, index, facts["sample_rate"], workers)


def _decode_all(
    recordings: list[tuple[Path, float]], outs: list[Path], profile: Profile, channel: Channel, workers: int, bar: tqdm
) -> list[Decoded]:
    """Write `recordings` (path, seconds by the manifest) to `outs`, one file for each input, int16 [clips, samples]."""
    samples = _samples(profile)
    with ExitStack() as files:
        shape = (len(recordings), samples)
        writers = [files.enter_context(_array_file(out, shape, np.int16)) for out in outs]

        def one(row: int) -> Decoded:
            path, seconds = recordings[row]
            try:
                audio, valid, silent = _decode(path, profile, channel)
                # The header of a WAV that was cut since then has been quietly read as that of a shorter clip.
                if valid < min(samples, int(seconds * profile.sample_rate)):
                    raise RecordingError(f"cut short: {seconds:g} s when the manifest was made", path)
            except AuscultError as problem:
                return Decoded(error=f"{path}: {problem.what}")
            for write, values in zip(writers, audio, strict=True):
                write(row, values)
            return Decoded(valid, silent=silent, content=zlib.crc32(np.ascontiguousarray(audio).data))

        return in_threads(one, range(len(recordings)), workers, bar)


def _compute(folder: Path, frontend: str, index: pd.DataFrame, sample_rate: int, workers: int) -> None:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # clip by clip in threads of ours: a batch's spectra would not fit the processor's cache
    try:
        for path in sorted((folder / "audio").glob("*.npy")):
            audio = np.load(path, mmap_mode="r")
            shape = (len(audio), FRONTENDS[frontend].mels, frames(audio.shape[1], frontend))
            lengths = index["valid"][index["machine"] == path.stem].to_numpy(np.int64)
            with (
                _array_file(folder / frontend / path.name, shape, np.float32) as write,
                tqdm(total=len(audio), desc=f"{frontend} {path.stem}", unit="clip", leave=False) as bar,
            ):

                def one(
                    row: int, audio: np.ndarray = audio, lengths: np.ndarray = lengths, write: Writer = write
                ) -> None:
                    wave = to_float(torch.from_numpy(np.array(audio[row])))
                    valid = torch.tensor(lengths[row]) if lengths[row] < len(wave) else None
                    write(row, spectrogram(wave, frontend, sample_rate, valid).numpy())

                in_threads(one, range(len(audio)), workers, bar)
    finally:
        torch.set_num_threads(threads)


class Writer(Protocol):
    """Write one row of an array file. Any number of threads may call it."""

    def __call__(self, row: int, values: np.ndarray) -> None: ...


@contextmanager
def _array_file(path: Path, shape: tuple[int, ...], dtype: type[np.generic]) -> Iterator[Writer]:
    """A .npy file to be filled row by row, its room on the disk reserved first.

    Written with `pwrite`, not through a memory map: there a disk that fills up kills the process (SIGBUS) without a word.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    row_bytes = int(np.prod(shape[1:])) * np.dtype(dtype).itemsize
    with open(path, "wb") as file:
        header = {"descr": np.lib.format.dtype_to_descr(np.dtype(dtype)), "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(file, header)
        file.flush()
        start = file.tell()
        # Where this call is missing (macOS), a full disk shows when it is full, and not now.
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(file.fileno(), 0, start + shape[0] * row_bytes)

        def write(row: int, values: np.ndarray) -> None:
            view, at = np.ascontiguousarray(values, dtype).data.cast("B"), start + row * row_bytes
            while view:  # the last write before the disk is full may be a short one
                done = os.pwrite(file.fileno(), view, at)
                view, at = view[done:], at + done

        yield write
