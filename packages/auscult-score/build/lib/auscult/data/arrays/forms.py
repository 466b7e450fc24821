"""The three forms in which arrays are read (docs/your-own-features.md), each into `Part`s.

    <machine>.npz                       train_<unit>, test_<unit>, anomaly_<unit>
    <machine>/train.npy, test.npy       with train.csv and test.csv, a row per clip
    train.parquet, test.parquet         a row per clip, its values as a list in the column `values`

What cannot be read becomes a message, and reading goes on: all that is wrong is told at once.
"""

from __future__ import annotations

import re
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from auscult.data.own.facts import read_cells
from auscult.errors import AuscultError
from auscult.settings.section import near

PARTITIONS = ("train", "test")
INDEX = ["unit", "domain", "attributes", "anomaly"]
FORMS = "<machine>.npz, <machine>/train.npy with train.csv, or train.parquet"
_DOMAINS = ("source", "target", "unknown")
_ANOMALY = {"": np.nan, "0": 0.0, "1": 1.0}
_DAMAGED = (ValueError, OSError, EOFError, KeyError, zipfile.BadZipFile, zlib.error, NotImplementedError)
"""What NumPy and pyarrow raise on files that are no arrays, or are cut short."""


@dataclass(frozen=True)
class Part:
    """Clips of one machine and partition as they stand in one array of a file.

    Attributes:
        place: what messages call the array, "fan.npz/train_00"; with "/<row>" it names a clip.
        values: numbers [clips, ...].
        rows: int64 [clips], of each clip in its file.
        index: columns `INDEX`, a row per clip; `anomaly` is 0, 1 or NaN (not known).
    """

    machine: str
    partition: str
    place: str
    values: np.ndarray
    rows: np.ndarray
    index: pd.DataFrame


def read_parts(base: Path, prefix: str, bad: list[str]) -> list[Part]:
    """Every array in the folder `base`, in the order of the files' names.

    Args:
        prefix: of `base` in messages: "" or "dev/".
        bad: gets a message for all that cannot be read.
    """
    parts: list[Part] = []
    for path in sorted(base.iterdir()):
        if path.name.startswith("."):
            continue
        if path.suffix == ".npz":
            parts += _of_npz(path, f"{prefix}{path.name}", bad)
        elif path.name in ("train.parquet", "test.parquet"):
            parts += _of_parquet(path, f"{prefix}{path.name}", bad)
        elif path.suffix == ".npy":
            bad.append(
                f"{prefix}{path.name}: an array by itself; put it into a folder of its machine, as train.npy or test.npy"
            )
        elif path.is_dir():
            parts += _of_folder(path, f"{prefix}{path.name}", bad)
    return parts


# ------------------------------------------------------------------------------------------------------------ <machine>.npz
def _of_npz(path: Path, place: str, bad: list[str]) -> Iterator[Part]:
    arrays: dict[str, np.ndarray] = {}
    try:
        with np.load(path, allow_pickle=False) as file:
            for key in file.files:
                match = re.fullmatch(r"(train|test|anomaly)_(.+)", key)
                if not match:
                    bad.append(f"{place}: key `{key}` is none of train_<unit>, test_<unit>, anomaly_<unit>")
                elif (values := _numbers(lambda key=key: file[key], f"{place}/{key}", bad)) is not None:
                    arrays[key] = values
            keys = set(file.files)
    except (*_DAMAGED, TypeError) as error:  # the last of a lone array by this name
        bad.append(f"{place}: not a whole .npz file ({_words(error)})")
        return
    pairs = {"test": "anomaly", "anomaly": "test"}  # neither of the two without the other
    for key, values in arrays.items():
        kind, _, unit = key.partition("_")
        other = f"{pairs.get(kind, kind)}_{unit}"
        if other not in keys:
            bad.append(f"{place}: key `{key}` without `{other}`")
        elif kind != "anomaly" and other in arrays:
            marks = _marks(arrays[other], len(values), f"{place}/{other}", bad) if kind == "test" else np.nan
            index = pd.DataFrame(
                {"unit": unit, "domain": "unknown", "attributes": "", "anomaly": marks}, range(len(values))
            )
            yield Part(path.stem, kind, f"{place}/{key}", values, np.arange(len(values)), index)


def _marks(marks: np.ndarray, clips: int, place: str, bad: list[str]) -> np.ndarray | float:
    """Labels of so many clips as float64; NaN, and a message, where they are none."""
    if marks.shape != (clips,):
        bad.append(f"{place}: labels of shape {list(marks.shape)} for {clips} clips")
        return np.nan
    if wrong := np.flatnonzero((marks != 0) & (marks != 1)).tolist():
        bad.append(f"{place}, row {wrong[0]}: {marks[wrong[0]]} is neither 0 (normal) nor 1")
    return marks.astype(np.float64)


# -------------------------------------------------------------------------------------------------- a folder per machine
def _of_folder(path: Path, place: str, bad: list[str]) -> Iterator[Part]:
    for partition in PARTITIONS:
        array, table = path / f"{partition}.npy", path / f"{partition}.csv"
        here = f"{place}/{array.name}"
        if not array.is_file():
            if table.is_file():
                bad.append(f"{place}/{table.name}: without {array.name}")
            continue
        values = _numbers(lambda array=array: np.load(array, mmap_mode="r", allow_pickle=False), here, bad)
        if not table.is_file():
            bad.append(f"{here}: without its index {table.name} (columns {', '.join(INDEX)}; a row per clip)")
        elif values is not None:
            try:
                columns, lines = read_cells(table, INDEX)
            except AuscultError as error:
                bad.append(f"{place}/{table.name}: {error.what}")
                continue
            uneven = [number for number, row in lines if len(row) != len(columns)]
            if uneven or len(lines) != len(values):
                what = f"line {uneven[0]} has not {len(columns)} cells" if uneven else f"{len(lines)} rows"
                bad.append(f"{place}/{table.name}: {what}, for {len(values)} clips in {array.name}")
                continue
            words = pd.DataFrame([row for _, row in lines], columns=columns, dtype=str)
            if (index := _index(words, partition, f"{place}/{table.name}", bad)) is not None:
                yield Part(path.name, partition, here, values, np.arange(len(values)), index)


# ------------------------------------------------------------------------------------------------- a table per partition
def _of_parquet(path: Path, place: str, bad: list[str]) -> Iterator[Part]:
    try:
        table = pd.read_parquet(path)
    except _DAMAGED as error:
        bad.append(f"{place}: not a whole Parquet file ({_words(error)})")
        return
    known = ["values", "machine", *INDEX]
    if unknown := [str(name) for name in table if name not in known]:
        bad.append(f"{place}: unknown column `{unknown[0]}`{near(unknown[0], known)}; use {', '.join(known)}")
        return
    if "values" not in table or not len(table):
        bad.append(f"{place}: {'no column `values`' if len(table) else 'not one clip'}")
        return
    words = pd.DataFrame({name: _as_words(table[name]) for name in known[1:] if name in table}, index=range(len(table)))
    machines = words.pop("machine") if "machine" in words else pd.Series("machine", words.index)
    index = _index(words, path.stem, place, bad)
    for machine, rows in machines.groupby(machines).groups.items():
        values = _numbers(lambda rows=rows: np.stack(list(table["values"].iloc[rows])), f"{place} ({machine})", bad)
        if index is not None and values is not None:
            of_machine = index.iloc[rows].reset_index(drop=True)
            yield Part(str(machine), path.stem, place, values, rows.to_numpy(np.int64), of_machine)


def _as_words(column: pd.Series) -> list[str]:
    """Cells as text: nothing where they are empty, whole numbers without a point."""
    if column.dtype.kind == "f":  # integers with gaps
        return [f"{x:.16g}" if x == x else "" for x in column]
    return ["" if x is None or x is pd.NA or x != x else str(x) for x in column]


# ------------------------------------------------------------------------------------------------------- what they share
def _index(words: pd.DataFrame, partition: str, place: str, bad: list[str]) -> pd.DataFrame | None:
    """A table of text as columns `INDEX`, absent ones filled; None, and messages, where it says what cannot be."""
    defaults = {"unit": "00", "domain": "unknown", "attributes": "", "anomaly": ""}
    index = words.assign(**{name: word for name, word in defaults.items() if name not in words})[INDEX]
    index["domain"] = index["domain"].replace("", "unknown")
    index["anomaly"] = index["anomaly"].replace({"0.0": "0", "1.0": "1", "False": "0", "True": "1"})
    wrong = {
        "no unit": index["unit"] == "",
        f"the domain is none of {', '.join(_DOMAINS)}": ~index["domain"].isin(_DOMAINS),
        "`anomaly` is neither 0, 1 nor empty": ~index["anomaly"].isin(_ANOMALY),
        "an anomaly among the training clips": (index["anomaly"] == "1") & (partition == "train"),
    }
    found = {what: np.flatnonzero(rows) for what, rows in wrong.items()}
    problems = [f"{place}, {rows_in_words(rows)}: {what}" for what, rows in found.items() if len(rows)]
    bad += problems
    return None if problems else index.assign(anomaly=index["anomaly"].map(_ANOMALY).astype(np.float64))


def rows_in_words(rows: np.ndarray) -> str:
    """Which rows of a file, counted from 0: the first, and how many more.

    >>> rows_in_words(np.array([3])), rows_in_words(np.array([3, 7, 9]))
    ('row 3', 'row 3 (and 2 more)')
    """
    return f"row {rows[0]}" + (f" (and {len(rows) - 1} more)" if len(rows) > 1 else "")


def _numbers(read: Any, place: str, bad: list[str]) -> np.ndarray | None:
    """An array of numbers [clips, ...]; None, and a message, where it cannot be read or holds something else."""
    try:
        values: np.ndarray = read()
    except (*_DAMAGED, TypeError) as error:
        bad.append(f"{place}: no array of numbers of one shape ({_words(error)})")
        return None
    if values.dtype.kind not in "biuf":
        bad.append(f"{place}: holds `{values.dtype}`, and numbers are wanted")
    elif not values.ndim or not len(values):
        bad.append(f"{place}: not one clip")
    else:
        return values
    return None


def _words(error: Exception) -> str:
    return " ".join(str(error).split())[:120] or type(error).__name__
