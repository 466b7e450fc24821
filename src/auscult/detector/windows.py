"""Recordings of normal sound as windows that do not overlap, for `auscult fit`; and which recordings are refused."""

from __future__ import annotations

import re
import sys
import wave
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from tqdm import tqdm

from auscult.data.audio import Channel
from auscult.data.own.cutting import Measured, measure
from auscult.detector.stream import Recording, below, cut
from auscult.errors import AuscultError, listed

FEWEST = 10
"""Windows; fewer say nothing about a false-alarm rate."""

_FAULTY = re.compile(
    r"(^|/)(anomal\w*|abnormal\w*|fault\w*)(/|$)|(^|/|_(train|test)_)(anomaly|abnormal)_", re.IGNORECASE
)


def measured_below(folder: Path) -> tuple[dict[str, Measured], int]:
    """What each recording below a folder is, by its name there; and how many files are no recordings."""
    if not folder.is_dir():
        what = "this is a file; a folder of recordings is wanted" if folder.exists() else "there is no such folder"
        raise AuscultError(what, str(folder), "give the folder that holds recordings of normal sound")
    files = {path.relative_to(folder).as_posix(): path for path in below(folder)}
    if not files:
        raise AuscultError(
            "no recordings below this folder", str(folder), "put WAV, FLAC, OGG, MP3 or AIFF files there"
        )
    faulty = [name for name in files if _FAULTY.search(name.rpartition("/")[0]) or _FAULTY.search(name)]
    if faulty:
        what = f"{len(faulty)} recording(s) are named as anomalies, and a detector is fitted to normal sound alone:"
        raise AuscultError(what + listed(faulty, 5), str(folder), "give the folder of the normal ones, or rename them")
    found: dict[str, Measured] = {}
    bad = []
    for name, path in tqdm(files.items(), desc="read", unit="recording", **quiet()):
        try:
            found[name] = measure(path)
            if found[name].peak == 0:
                bad.append(f"{path}: silent, nothing but zeros")
        except AuscultError as problem:
            bad.append(f"{problem.where}: {problem.what}")
    if bad:
        raise AuscultError(f"{len(bad)} recording(s) cannot be used:{listed(bad)}", fix="mend, convert or remove them")
    others = sum(path.is_file() for path in folder.rglob("*")) - len(files)
    return found, others


def cut_windows(
    measured: Mapping[str, Measured], folder: Path, raw: Path, sample_rate: int, window: int, channel: Channel
) -> pd.DataFrame:
    """Write every whole window as 16-bit WAV; a table of them as the manifest has, and the recording of each."""
    raw.mkdir(parents=True)
    rows = []
    names = tqdm(measured, desc="cut", unit="recording", **quiet())
    for number, name in enumerate(names):
        recording = Recording(folder / name, sample_rate, channel)
        unit = name.rpartition("/")[0] or "00"
        place = 0
        for first, parts in cut(_whole(recording, window), window, window):
            for audio in parts[first % window == 0]:  # without the one that overlaps its neighbour to reach the end
                path = f"{number:06d}-{place:06d}.wav"
                with wave.open(str(raw / path), "wb") as file:
                    file.setparams((1, 2, sample_rate, window, "NONE", ""))
                    file.writeframes((audio * 32768).astype("<i2").tobytes())
                rows.append((path, unit, number))
                place += 1
    table = pd.DataFrame(rows, columns=["path", "unit", "recording"])
    return table.assign(
        clip_id=np.arange(len(table)), set="dev", machine="machine", domain="unknown", attributes="",
        seconds=window / sample_rate,
    )  # fmt: skip


def _whole(recording: Recording, window: int) -> Iterable[np.ndarray]:
    """The sound without mirroring: a recording that is a window but for the rounding of its rate gets its last sample."""
    length = 0
    for block in recording.blocks():
        length += len(block)
        yield block
    if 0 < window - length <= 2:
        yield np.zeros(window - length, np.float32)


def check_count(clips: pd.DataFrame, seconds: float, folder: Path) -> None:
    if len(clips) < FEWEST:
        what = f"{len(clips)} window(s) of {seconds:g} s are too few to know what is normal, {FEWEST} are needed"
        raise AuscultError(what, str(folder), "record more normal sound, or use shorter windows (--seconds)")


def quiet() -> dict[str, Any]:
    """How often a progress bar speaks: seldom to a log."""
    return {"mininterval": 0.5 if sys.stderr.isatty() else 15.0}
