"""`attributes_<ss>.csv` beside the recordings, held against the names. The names are what is used: nothing here fails."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from auscult.data.names.grammar import Name


def differences(root: Path, found: Iterable[tuple[str, Name]]) -> list[str]:
    """One line for each csv that does not agree with the names of its machine and unit, with counts.

    A csv has the columns `file_name` (`<machine>/<folder>/<name>.wav`) and `d1p,d1v,d2p,d2v,...`, an attribute's name and
    value by turns. The csv and the file name call attributes differently ("speed", "spd"), so that each value is only looked
    for in the tail of the name. Evaluation clips without a label in their name are not expected in it.

    Args:
        found: path below `root` and what the name says, of each recording.
    """
    clips: dict[tuple[str, str], dict[str, str]] = {}
    for path, name in found:
        if name.partition == "train" or name.anomaly is not None:
            *above, folder, file = path.split("/")
            clips.setdefault(("/".join(above), name.unit), {})[f"{folder}/{file.rsplit('.', 1)[0]}"] = name.attributes
    lines = []
    for (machine, unit), names in sorted(clips.items()):
        csv_path = root / machine / f"attributes_{unit}.csv"
        if not csv_path.is_file():
            continue
        try:
            values = _values(csv_path)
        except (OSError, UnicodeDecodeError, csv.Error, KeyError) as error:
            lines.append(f"{csv_path}: cannot be read ({error})")
            continue
        shared = names.keys() & values.keys()
        counts = {
            "clip(s) not in it": len(names.keys() - shared),
            "row(s) without a clip": len(values.keys() - shared),
            "clip(s) whose name tells other values": sum(
                not all(_in_tail(value, names[clip]) for value in values[clip]) for clip in shared
            ),
        }
        if any(counts.values()):
            lines.append(f"{csv_path}: " + ", ".join(f"{count} {words}" for words, count in counts.items() if count))
    return lines


def _values(path: Path) -> dict[str, list[str]]:
    """`<folder>/<stem>` of each row -> its attribute values, without empty ones."""
    with open(path, encoding="utf-8-sig", newline="") as file:
        rows: dict[str, list[str]] = {}
        for row in csv.DictReader(file):
            clip = PurePosixPath(row["file_name"] or "")
            marked = [value for column, value in row.items() if re.fullmatch(r"d\d+v", column or "")]
            rows[f"{clip.parent.name}/{clip.stem}"] = [value.strip() for value in marked if value and value.strip()]
        return rows


def _in_tail(value: str, tail: str) -> bool:
    """Whether `value` stands in the tail as a whole: 15 in weight15_BckgF, but not in weight150."""
    return re.search(rf"(?<!\d){re.escape(value)}(?![0-9A-Za-z])", tail, re.IGNORECASE) is not None
