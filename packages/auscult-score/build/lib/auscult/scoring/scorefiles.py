"""Score files of anybody: the challenge's `anomaly_score_*.csv` and `decision_result_*.csv` of every year, as one table.

What `submission.py` writes, and what the challenge's baselines leave (`anomaly_score_DCASE2023T2<machine>_section_<ss>_test_
seed<n><tag>.csv`), is read here. A folder is a system. Nothing is guessed: whatever is not a clip and a number is refused with
its file and line. Other files in the folder, such as `result.csv`, are not looked at.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import pandas as pd

from auscult.data.labels.groundtruth import key
from auscult.errors import AuscultError, listed

COLUMNS = ["machine", "unit", "domain", "name", "key", "scheme", "score", "decision", "file", "line"]
SHOWN = 10
_CLIP = ["machine", "unit", "key"]
_FILE = re.compile(
    r"(anomaly_score|decision_result)_(?:DCASE\d{4}T2)?(.+?)_"
    r"(?:id_(\d+)|section_(\d+)(?:_(source|target))?(?:_test)?(?:_seed.*)?)\.csv"
)
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
_UNIT = re.compile(r"(?:^|_)(?:id|section)_(\d+)_(?:(source|target)_)?")


class Place(NamedTuple):
    """What a file's name says. `scheme`: the rules of the year that names its files so."""

    kind: str
    machine: str
    unit: str
    domain: str
    scheme: str


def place_of(file: str) -> Place | None:
    """What the name of a file says; None where it is no score file.

    >>> place_of("anomaly_score_fan_id_00.csv")
    Place(kind='anomaly_score', machine='fan', unit='00', domain='unknown', scheme='dcase2020')
    >>> place_of("decision_result_ToyCar_section_03_source_test.csv")[1:]
    ('ToyCar', '03', 'source', 'dcase2021')
    >>> place_of("anomaly_score_DCASE2023T2ToyTank_section_00_test_seed13711_id(0_)_Eval.csv")[1:]
    ('ToyTank', '00', 'unknown', 'dcase2022')
    """
    match = _FILE.fullmatch(file)
    if not match:
        return None
    kind, machine, ident, section, domain = match.groups()
    if ident:
        return Place(kind, machine, ident, "unknown", "dcase2020")
    return Place(kind, machine, section, domain or "unknown", "dcase2021" if domain else "dcase2022")


def read_system(folder: Path) -> pd.DataFrame:
    """The scores of every clip in a folder, columns `COLUMNS`: `key` is what two names of one clip have in common
    (`groundtruth.key`), `decision` is 0, 1 or NaN where there is no file of decisions, `line` counts from 1.

    Raises:
        AuscultError: no such folder or no score files in it, names or lines that are not the challenge's (all of them, with
            file and line), a clip that stands twice, decisions about other clips than the scores.
    """
    if not folder.is_dir():
        raise AuscultError("there is no such folder", str(folder), "name a folder of anomaly_score_*.csv")
    paths = sorted(path for path in folder.glob("*.csv") if path.name.startswith(("anomaly_score", "decision_result")))
    places = {path: place_of(path.name) for path in paths}
    odd = [path.name for path, place in places.items() if place is None]
    if odd:
        names = "anomaly_score_<machine>_id_<nn>.csv or anomaly_score_<machine>_section_<nn>[_<domain>]_test.csv"
        what = f"{len(odd)} file(s) are not named as the challenge's:{listed(odd, SHOWN)}"
        raise AuscultError(what, str(folder), f"call them {names}")
    problems: list[str] = []
    rows: dict[str, list[tuple[object, ...]]] = {"anomaly_score": [], "decision_result": []}
    for path, place in places.items():
        if place is not None:
            rows[place.kind] += _rows(path, place, problems)
    if problems:
        what = f"{len(problems)} problem(s) in score files:{listed(problems, SHOWN)}"
        raise AuscultError(
            what, str(folder), "one row per clip: `<file name>,<number>`, with a decimal point, no heading"
        )
    if not rows["anomaly_score"]:
        raise AuscultError("there are no score files", str(folder), "name a folder of anomaly_score_*.csv")
    columns = [*COLUMNS[:6], "score", "file", "line"]
    scores, decisions = (pd.DataFrame(rows[kind], columns=columns) for kind in ("anomaly_score", "decision_result"))
    for frame in (scores, decisions):
        _refuse_doubles(frame, folder)
    return _with_decisions(scores, decisions, folder)


def _rows(path: Path, place: Place, problems: list[str]) -> Iterator[tuple[object, ...]]:
    """The rows of one file; `problems` grows by a message for each line that is none."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        problems.append(f"{path.name}: not a text file")
        return
    lines = [(number, line.strip()) for number, line in enumerate(text.splitlines(), 1) if line.strip()]
    if not lines:
        problems.append(f"{path.name}: the file is empty")
    for number, line in lines:
        name, _, value = line.partition(",")
        name, value = PurePosixPath(name.strip()).name, value.strip()
        fault = _fault(name, value, line, place)
        if fault:
            problems.append(f"{path.name}:{number}: {fault}")
        else:
            yield (*place[1:4], name, key(name), place.scheme, float(value), path.name, number)


def _fault(name: str, value: str, line: str, place: Place) -> str:
    """What is wrong with a line; "" if nothing."""
    if not name or not value:
        return f"not `<file name>,<number>`: {line[:80]}"
    if re.fullmatch(r"[+-]?\d+,\d+", value):
        return f"`{value}`: the decimal mark is a comma"
    if not _NUMBER.fullmatch(value) or not math.isfinite(float(value)):
        heading = " (a heading?)" if re.fullmatch(r"[A-Za-z_ ]+", value) and "." not in name else ""
        return f"`{value[:40]}` is not a finite number{heading}"
    if place.kind == "decision_result" and float(value) not in (0, 1):
        return f"`{value}` is no decision: 0 or 1"
    said = _UNIT.search(name)
    if said and said[1] != place.unit:
        return f"{name} is of unit {said[1]}, the file of unit {place.unit}"
    if said and said[2] and place.domain not in ("unknown", said[2]):
        return f"{name} is of the {said[2]} domain, the file of the {place.domain} domain"
    return ""


def _refuse_doubles(frame: pd.DataFrame, folder: Path) -> None:
    twice = frame[frame.duplicated(_CLIP, keep=False)].sort_values(_CLIP, kind="stable")
    if len(twice):
        lines = [f"{row.file}:{row.line}: {row.name_}" for row in twice.rename(columns={"name": "name_"}).itertuples()]
        what = f"{len(twice.drop_duplicates(_CLIP))} clip(s) stand more than once:{listed(lines, SHOWN)}"
        raise AuscultError(what, str(folder), "leave one row for each clip")


def _with_decisions(scores: pd.DataFrame, decisions: pd.DataFrame, folder: Path) -> pd.DataFrame:
    """Scores and the decisions of the files that there are."""
    units = decisions[["machine", "unit", "domain"]].drop_duplicates()
    about = scores.merge(units, on=["machine", "unit", "domain"])
    both = about[_CLIP].merge(decisions[_CLIP], on=_CLIP, how="outer", indicator=True)
    apart = both[both["_merge"] != "both"]
    if len(apart):
        words = {"left_only": "has no decision", "right_only": "has a decision and no score"}
        lines = [f"{row.machine}: {row.key} {words[str(row[-1])]}" for row in apart.itertuples(index=False)]
        what = f"scores and decisions are about different clips:{listed(lines, SHOWN)}"
        raise AuscultError(what, str(folder), "give every scored clip of a unit a decision, or leave its file out")
    found = decisions.set_index(_CLIP)["score"]
    at = pd.MultiIndex.from_frame(scores[_CLIP])
    return scores.assign(decision=found.reindex(at).to_numpy(dtype=float))[COLUMNS]
