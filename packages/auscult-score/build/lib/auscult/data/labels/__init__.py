"""Published labels of evaluation clips whose names carry none: 2020, 2021 and 2022, one small table per year.

A table has one line per machine and unit. Its clips are numbered from 0 without a gap, so a line holds what their names
begin with, how many digits the number has, and one answer per clip: 0 normal, 1 anomaly; in 2022, which hides the domain
too, 2 more for a clip of the target domain. `python -m auscult.data.labels <list.csv>` makes such a table.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Iterator
from importlib.resources import files
from typing import NamedTuple


class Label(NamedTuple):
    """One clip's answer: the file's name, 1 for an anomaly, and "source", "target" or "unknown"."""

    machine: str
    file: str
    anomaly: int
    domain: str = "unknown"


SHIPPED = ("dcase2020", "dcase2021", "dcase2022")
_DOMAINS = ("source", "target")


def shipped(name: str) -> list[Label]:
    """The labels of the year `name`, one of SHIPPED."""
    return list(unpacked(files(__package__).joinpath(f"{name}.csv").read_text()))


def unpacked(table: str) -> Iterator[Label]:
    """The labels in a table of this package's own form; lines that begin with # are comments.

    The domain of a clip is known where the line says that it is written beside the label, or where the name tells it.
    """
    rows = csv.DictReader(line for line in table.splitlines() if not line.startswith("#"))
    for row in rows:
        prefix, digits = row["prefix"], int(row["digits"])
        said = re.search("source|target", prefix)
        for number, answer in enumerate(row["answers"]):
            domain = said[0] if said else "unknown"
            if row["domains"] == "hidden":
                domain = _DOMAINS[int(answer) // 2]
            yield Label(row["machine"], f"{prefix}{number:0{digits}d}.wav", int(answer) % 2, domain)


def packed(labels: Iterable[Label], hidden: bool) -> str:
    """A table for `unpacked`, without comments; `hidden`: the domain is written beside the label.

    Raises:
        ValueError: the numbers of a machine and unit have a gap, or do not begin with 0.
    """
    groups: dict[tuple[str, str, int], dict[int, int]] = {}
    for label in sorted(labels):
        match = re.fullmatch(r"(.*_)(\d+)\.wav", label.file)
        if not match:
            raise ValueError(f"{label.file} does not end in a number")
        answer = label.anomaly + (2 * _DOMAINS.index(label.domain) if hidden else 0)
        groups.setdefault((label.machine, match[1], len(match[2])), {})[int(match[2])] = answer
    lines = ["machine,prefix,digits,domains,answers"]
    for (machine, prefix, digits), answers in groups.items():
        if list(answers) != list(range(len(answers))):
            raise ValueError(f"{machine}/{prefix}: not numbered from 0 without a gap")
        written = "".join(map(str, answers.values()))
        lines.append(f"{machine},{prefix},{digits},{'hidden' if hidden else 'named'},{written}")
    return "\n".join(lines) + "\n"
