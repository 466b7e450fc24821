"""Write the packed data set: every clip is decoded once, and what is read often is computed once. store.py reads it."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

import numpy as np
import pandas as pd
import torch
from tqdm import tqdm

from auscult.config import Data, Profile
from auscult.data.audio import decode, workers_or_cores
from auscult.data.store import to_float
from auscult.errors import AuscultError, listed
from auscult.files import atomic_folder
from auscult.frontends import FRONTENDS, frames, log_mel

INDEX = ["clip_id", "set", "machine", "unit", "domain", "attributes", "valid"]
CHUNK = 64  # clips per front-end batch: 10 s clips of 16 kHz make 40 MB


def pack(clips: pd.DataFrame, root: Path, out: Path, profile: Profile, data: Data, frontends: list[str]) -> None:
    """Decode `clips` (rows of the manifest, one partition) below `root` and compute `frontends`, into folder `out`.

    Raises:
        AuscultError: unknown front-end; every undecodable, truncated or non-finite recording at once. `out` is then absent.
    """
    unknown = sorted(set(frontends) - set(FRONTENDS))
    if unknown:
        raise AuscultError(f"unknown front-end `{unknown[0]}`", "features.frontends", f"use: {', '.join(FRONTENDS)}")
    samples = round(profile.clip_seconds * profile.sample_rate)
    with atomic_folder(out) as part:
        bad: list[str] = []
        index = clips.drop(columns="path").assign(valid=0)
        with tqdm(total=len(clips), desc=f"decode {out.name}", unit="clip") as bar:
            for machine, rows in clips.groupby("machine", sort=True):
                recordings = [root / path for path in rows["path"]]
                results = _decode_all(recordings, part / "audio" / f"{machine}.npy", samples, profile, data, bar)
                bad += [error for _, error in results if error]
                index.loc[rows.index, "valid"] = [valid for valid, _ in results]
        if bad:
            raise AuscultError(f"{len(bad)} recording(s) cannot be decoded:{listed(bad)}", fix="mend or remove them")
        index[INDEX].to_parquet(part / "index.parquet", index=False)
        facts = {"sample_rate": profile.sample_rate, "samples": samples, "channel": data.channel}
        (part / "facts.json").write_text(json.dumps(facts) + "\n")
        for frontend in frontends:
            _compute(part, frontend, profile.sample_rate)


def _decode_all(
    recordings: list[Path], out: Path, samples: int, profile: Profile, data: Data, bar: tqdm
) -> list[tuple[int, str]]:
    """Write `recordings` to `out`, int16 [clips, samples]; of each the valid length, and what is wrong with it ("" = nothing)."""
    with _array_file(out, (len(recordings), samples), np.int16) as write:

        def one(row: int, recording: Path) -> tuple[int, str]:
            try:
                audio, valid = decode(recording, profile.sample_rate, samples, data.channel)
            except ValueError as problem:
                return 0, f"{recording}: {problem}"
            write(row, audio)
            return valid, ""

        results = []
        with ThreadPoolExecutor(workers_or_cores(data.workers)) as pool:
            try:
                for result in pool.map(one, range(len(recordings)), recordings):
                    results.append(result)
                    bar.update()
            except BaseException:  # Ctrl-C or a full disk: what has not begun need not begin
                pool.shutdown(cancel_futures=True)
                raise
        return results


class Writer(Protocol):
    """Write `rows` [n, ...] or one row from row `first` on. Any number of threads may call it."""

    def __call__(self, first: int, rows: np.ndarray) -> None: ...


@contextmanager
def _array_file(path: Path, shape: tuple[int, ...], dtype: type[np.generic]) -> Iterator[Writer]:
    """A .npy file to be filled row by row, its room on the disk reserved first.

    Written with `pwrite`, not through a memory map: there a disk that fills up kills the process (SIGBUS) without a word.
    """
    path.parent.mkdir(exist_ok=True)
    row_bytes = int(np.prod(shape[1:])) * np.dtype(dtype).itemsize
    with open(path, "wb") as file:
        header = {"descr": np.lib.format.dtype_to_descr(np.dtype(dtype)), "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(file, header)
        file.flush()
        start = file.tell()
        if hasattr(
            os, "posix_fallocate"
        ):  # a full disk shows now, not after an hour; elsewhere it shows when it is full
            os.posix_fallocate(file.fileno(), 0, start + shape[0] * row_bytes)

        def write(first: int, rows: np.ndarray) -> None:
            view, at = np.ascontiguousarray(rows, dtype).data.cast("B"), start + first * row_bytes
            while view:  # the last write before the disk is full may be a short one
                done = os.pwrite(file.fileno(), view, at)
                view, at = view[done:], at + done

        yield write


def _compute(folder: Path, frontend: str, sample_rate: int) -> None:
    for path in sorted((folder / "audio").glob("*.npy")):
        audio = np.load(path, mmap_mode="r")
        shape = (len(audio), FRONTENDS[frontend].mels, frames(audio.shape[1], frontend))
        with _array_file(folder / frontend / path.name, shape, np.float32) as write:
            for start in tqdm(range(0, len(audio), CHUNK), desc=f"{frontend} {path.stem}", unit="batch", leave=False):
                wave = to_float(torch.from_numpy(np.array(audio[start : start + CHUNK])))
                write(start, log_mel(wave, frontend, sample_rate).numpy())
