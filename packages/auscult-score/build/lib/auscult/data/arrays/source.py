"""Arrays on this machine, brought into the one form that the later stages read, or refused as a whole.

raw/clips.parquet     set, partition, machine, unit, domain, attributes, anomaly, path, content, row; a row per clip
raw/<machine>.npy     float32 [clips, rows, columns], the clips of `clips.parquet` by its `row`

Clips stand in the order of their content, so that the order in the files, which often tells normal from anomalous, is lost here.
"""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
from tqdm import tqdm

from auscult.data.arrays.forms import FORMS, Part, read_parts, rows_in_words
from auscult.data.inventory import describe
from auscult.data.own.facts import Facts
from auscult.errors import AuscultError, listed
from auscult.files import atomic_folder
from auscult.settings.paths import project_root
from auscult.settings.profile import Profile
from auscult.settings.section import Positive, Section, validated


class ArraysSource(Section):
    """Features that somebody has computed; their values are copied into the project's data folder."""

    kind: Literal["arrays"]
    path: str
    """Folder, absolute or relative to the project root, in one of the forms of forms.py."""
    shape: tuple[Positive, ...] = ()
    """Of one clip, where the file has its values in one row: [60, 8] = 60 rows of 8, row by row. Empty = as in the file."""
    origin: str = ""
    """Where these arrays can be had: told to whoever lacks them."""
    version: Positive = 1
    """Raise it when the files have changed: only a changed setting makes the stage look again."""


def write_arrays(profile: Profile, raw: Path) -> None:
    """Write the arrays of `profile.source` into the folder `raw`, or leave it as it was.

    Raises:
        AuscultError: no such folder; or everything that is wrong with its arrays, in one message.
    """
    source = validated(ArraysSource, profile.source, "source")
    folder = project_root() / Path(source.path).expanduser()
    if not folder.is_dir():
        fix = f"they come from: {source.origin}" if source.origin else "put it there, or mend `source.path`"
        raise AuscultError("the folder of arrays is not there", str(folder), fix)
    bad: list[str] = []
    parts = _parts(profile, folder, bad)
    shape = _one_shape(parts, source.shape, bad)
    tables = [_table(set_name, part, bad) for set_name, part in parts]
    if not bad:
        table = pd.concat(tables, ignore_index=True)
        _check(table, bad)
    if bad:
        what = f"{len(bad)} thing(s) in the arrays are not as they must be:{listed(bad)}"
        raise AuscultError(what, str(folder), "mend the files; their forms: docs/your-own-features.md")
    with atomic_folder(raw) as out:
        table = _write(out, table, parts, shape)
        table.to_parquet(out / "clips.parquet", index=False)
        describe(out, ".", {})
    tqdm.write(_summary(table, shape))


def _parts(profile: Profile, folder: Path, bad: list[str]) -> list[tuple[str, Part]]:
    """(set, array) of every array of the profile's machines.

    Raises:
        AuscultError: there is none at all.
    """
    found: list[tuple[str, Part]] = []
    for set_name, below in profile.sets.items():
        base, prefix = folder / below, "" if below == "." else f"{below}/"
        if not base.is_dir():
            raise AuscultError(f"the {set_name} set has no folder", str(base), "mend `sets` of the profile")
        found += [(set_name, part) for part in read_parts(base, prefix, bad)]
    if not found and not bad:
        raise AuscultError("no arrays in this folder", str(folder), f"put them there: {FORMS}")
    missing = sorted(set(profile.machines) - {part.machine for _, part in found})
    if missing and not bad:
        bad.append(f"no arrays of the profile's machines {', '.join(missing)}")
    return [one for one in found if not profile.machines or one[1].machine in profile.machines]


# ---------------------------------------------------------------------------------------------------------- what a clip is
def two_axes(shape: Sequence[int]) -> tuple[int, int]:
    """Rows and columns of a clip whose array has this shape: a vector is one column, further axes are laid side by side.

    >>> two_axes([480]), two_axes([60, 8]), two_axes([3, 4, 5]), two_axes([])
    ((480, 1), (60, 8), (3, 20), (1, 1))
    """
    return (shape[0] if shape else 1), math.prod(shape[1:])


def _one_shape(parts: list[tuple[str, Part]], wanted: tuple[int, ...], bad: list[str]) -> tuple[int, int]:
    """Rows and columns that every clip has."""
    if not parts:
        return (0, 0)
    first, shape = parts[0][1].place, parts[0][1].values.shape[1:]
    for _, part in parts:
        if part.values.shape[1:] != shape:
            other = _by(part.values.shape[1:])
            bad.append(f"{part.place}: {other} values per clip, where {first} has {_by(shape)}")
    if not math.prod(shape):
        bad.append(f"{first}: {_by(shape)} values per clip")
    if wanted and math.prod(wanted) != math.prod(shape):
        bad.append(f"{first}: {_by(shape)} values per clip, which `source.shape` {_by(wanted)} does not fit")
    return two_axes(wanted or shape)


def _by(shape: Sequence[int]) -> str:
    return " x ".join(map(str, shape)) or "single"


def _values(part: Part) -> np.ndarray:
    """float32 [clips, values]."""
    with np.errstate(over="ignore"):  # infinity, which is refused
        return np.asarray(part.values.reshape(len(part.values), -1), np.float32)


def _table(set_name: str, part: Part, bad: list[str]) -> pd.DataFrame:
    """What is known of the clips of an array; `content` is a 63-bit hash of a row's float32 values, as a recording's of its
    bytes."""
    values = _values(part)
    wrong = part.rows[~np.isfinite(values).all(axis=1)]
    if len(wrong):
        bad.append(f"{part.place}, {rows_in_words(wrong)}: NaN, infinity or beyond float32")
    for unit in sorted(set(part.index["unit"])):
        if fault := Facts(part.machine, unit).problem():
            bad.append(f"{part.place}: {fault}")
    hashes = (hashlib.blake2b(row, digest_size=8).digest() for row in np.ascontiguousarray(values))
    return part.index.assign(
        anomaly=0.0 if part.partition == "train" else part.index["anomaly"],  # held out, it counts as normal
        set=set_name,
        partition=part.partition,
        machine=part.machine,
        path=[f"{part.place}/{row}" for row in part.rows],
        content=np.array([int.from_bytes(one, "little") >> 1 for one in hashes], np.int64),
    )


# ----------------------------------------------------------------------------------------------------- what is refused
def _check(table: pd.DataFrame, bad: list[str]) -> None:
    """Test clips that were trained on, units that were not, and labels that contradict each other."""
    train, test = (table[table["partition"] == partition] for partition in ("train", "test"))
    places = train.drop_duplicates("content").set_index("content")["path"]
    leaks = test[test["content"].isin(places.index)]
    bad += [
        f"{path}: a leak, for the same values are trained on ({places[content]})"
        for path, content in zip(leaks["path"], leaks["content"], strict=True)
    ]
    for _, copies in test[test.duplicated("content", keep=False)].groupby("content"):
        if copies["anomaly"].nunique(dropna=False) > 1:
            bad.append(f"{' = '.join(copies['path'])}: the same values with different labels")
    trained = set(zip(train["machine"], train["unit"], strict=True))
    for (machine, unit), rows in test.groupby(["machine", "unit"]):
        if (machine, unit) not in trained:
            bad.append(f"{rows['path'].iloc[0]}: unit {unit} of {machine} has test clips and not one to train on")


# ------------------------------------------------------------------------------------------------------------- what is kept
def _write(out: Path, table: pd.DataFrame, parts: list[tuple[str, Part]], shape: tuple[int, int]) -> pd.DataFrame:
    """Write <machine>.npy of every machine; `table` (in the order of `parts`) sorted, and with its `row`."""
    tables = []
    for machine, of_machine in table.groupby("machine", sort=True):
        order = of_machine.reset_index(drop=True).sort_values(["set", "partition", "unit", "content", "path"])
        values = np.concatenate([_values(part) for _, part in parts if part.machine == machine])[order.index]
        np.save(out / f"{machine}.npy", values.reshape(len(values), *shape))
        tables.append(order.assign(row=np.arange(len(order))))
    return pd.concat(tables, ignore_index=True)


def _summary(table: pd.DataFrame, shape: tuple[int, int]) -> str:
    """What became of the arrays, and what their owner may not expect."""
    train = table["partition"] == "train"
    marks = Counter(table.loc[~train, "anomaly"].map({0.0: "normal", 1.0: "anomalous"}).fillna("unlabelled"))
    units = len(table[["machine", "unit"]].drop_duplicates())
    tested = ", ".join(f"{marks[word]} {word}" for word in ("normal", "anomalous", "unlabelled") if marks[word])
    lines = [
        f"{len(table)} clips of {_by(shape)} values, {table['machine'].nunique()} machine(s), {units} unit(s): "
        f"{int(train.sum())} to train on, to test with {tested or 'none'}"
    ]
    lines += _copies(table)
    return "\n".join(lines)


def _copies(table: pd.DataFrame) -> Iterator[str]:
    for partition, clips in table.groupby("partition"):
        copies = clips[clips.duplicated("content", keep=False)]
        if len(copies):
            groups = [" = ".join(of["path"]) for _, of in copies.groupby("content")]
            yield (
                f"warning: clips of equal values inside the {partition} part, each kept and counted: {len(copies)} clips, "
                f"{len(groups)} different{listed(groups, 5)}"
            )
