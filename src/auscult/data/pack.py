"""Write the packed data set: every clip is decoded once, and what is read often is computed once. store.py reads it."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

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
        (part / "audio").mkdir()
        bad: list[str] = []
        index = clips.drop(columns="path").assign(valid=0)
        with tqdm(total=len(clips), desc=f"decode {out.name}", unit="clip") as bar:
            for machine, rows in clips.groupby("machine", sort=True):
                audio = _create(part / "audio" / f"{machine}.npy", (len(rows), samples), np.int16)

                def one(task: tuple[int, str], audio: np.ndarray = audio) -> tuple[int, str]:
                    try:
                        audio[task[0]], valid = decode(root / task[1], profile.sample_rate, samples, data.channel)
                        return valid, ""
                    except (ValueError, OSError) as problem:
                        return 0, f"{root / task[1]}: {problem}"
                    finally:
                        bar.update()

                with ThreadPoolExecutor(workers_or_cores(data.workers)) as pool:
                    results = list(pool.map(one, enumerate(rows["path"])))
                bad += [error for _, error in results if error]
                index.loc[rows.index, "valid"] = [valid for valid, _ in results]
        if bad:
            raise AuscultError(f"{len(bad)} recording(s) cannot be decoded:{listed(bad)}", fix="mend or remove them")
        index[INDEX].to_parquet(part / "index.parquet", index=False)
        facts = {"sample_rate": profile.sample_rate, "samples": samples, "channel": data.channel}
        (part / "facts.json").write_text(json.dumps(facts) + "\n")
        for frontend in frontends:
            _compute(part, frontend, profile.sample_rate)


def _create(path: Path, shape: tuple[int, ...], dtype: type) -> np.ndarray:
    path.parent.mkdir(exist_ok=True)
    return np.lib.format.open_memmap(path, "w+", dtype, shape)


def _compute(folder: Path, frontend: str, sample_rate: int) -> None:
    for path in sorted((folder / "audio").glob("*.npy")):
        audio = np.load(path, mmap_mode="r")
        shape = (len(audio), FRONTENDS[frontend].mels, frames(audio.shape[1], frontend))
        mel = _create(folder / frontend / path.name, shape, np.float32)
        for start in tqdm(range(0, len(audio), CHUNK), desc=f"{frontend} {path.stem}", unit="batch", leave=False):
            wave = to_float(torch.from_numpy(np.array(audio[start : start + CHUNK])))
            mel[start : start + CHUNK] = log_mel(wave, frontend, sample_rate).numpy()
