"""The answers to clips that are known by their names alone, as in score files: set, label and domain of each.

They come from the names, from the tables of this package, or from a list. A list also tells which units there are, so that one
that nobody scored is known; names cannot tell that.
"""

from __future__ import annotations

import csv
import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from auscult.data.labels import SHIPPED, Label, shipped
from auscult.data.labels.groundtruth import key, read_labels, told
from auscult.errors import AuscultError, listed
from auscult.settings.section import near

COLUMNS = ["clip_id", "set", "machine", "unit", "key", "anomaly", "domain"]
NAMES = "names"
SHOWN = 10
_LIST_COLUMNS = ("machine", "file", "anomaly")
_GET = (
    "give them: --labels, a csv with the columns machine,file,anomaly[,domain], or the folder of the year's evaluator"
)
# Machine types that are evaluated on and not developed on, 2023 to 2026: there every machine has the section 00 alone.
_EVALUATED = frozenset(
    "bandsaw grinder shaker ToyDrone ToyNscale ToyTank Vacuum 3DPrinter AirCompressor BrushlessMotor HairDryer HoveringDrone "
    "RoboticArm Scanner ToothBrush ToyCircuit AutoTrash BandSealer CoffeeGrinder HomeCamera Polisher ScrewFeeder ToyPet "
    "ToyRCCar BlowerDustCollector Sander SewingMachine".split()
)


@dataclass(frozen=True)
class Answers:
    """A row of `COLUMNS` for each clip and for each clip of a unit that nobody scored; where they come from, in words."""

    table: pd.DataFrame
    source: str


def answers(clips: pd.DataFrame, choice: str, year: str, scheme: str) -> Answers:
    """Labels and domains.

    Args:
        clips: machine, unit, domain, name, key, file and line of every scored clip.
        choice: "names", a year of SHIPPED, or a list: a csv with the columns machine, file, anomaly (0, 1) and perhaps domain,
            or what `groundtruth.read_labels` reads. "" = the names where they tell, else this package's table of the year.
        year: "2020" ...; "" = not known.
        scheme: of the rules, for a year that is not known.

    Raises:
        AuscultError: clips without a label, labels that contradict a name, or no domains where the rules need them.
    """
    clips = clips.drop_duplicates(["machine", "unit", "key"]).reset_index(drop=True)
    said = [_said(name) for name in clips["name"]]
    clips = clips.assign(said=[anomaly for anomaly, _ in said], told=[domain for _, domain in said])
    untold = clips[clips["said"].isna()]
    if choice in ("", NAMES) and not (choice == "" and len(untold)):
        _refuse(untold, "the names of {} clip(s) tell no label", _GET)
        labels, source = [], "the names of the clips"
    elif choice == "":
        table = f"dcase{year}" if year else scheme
        if table not in SHIPPED:
            _refuse(untold, "{} clip(s) have no label in their names, and this package has none of " + year, _GET)
        labels, source = shipped(table), f"this package's table of {table.removeprefix('dcase')}"
    else:
        labels, source = _listed_labels(choice), choice
    found = _joined(clips, labels, by_list=clips["said"].isna() | (choice not in ("", NAMES)), source=source)
    evaluated = {(label.machine, _unit(label.file)) for label in (shipped(scheme) if scheme in SHIPPED else [])}
    found["set"] = [
        _set((machine, unit), evaluated, named)
        for machine, unit, named in found[["machine", "unit", "named"]].itertuples(index=False, name=None)
    ]
    found["clip_id"] = [_clip_id("/".join(row)) for row in found[["machine", "unit", "key"]].itertuples(index=False)]
    if scheme != "dcase2020":
        strange = found[~found["domain"].isin(["source", "target"])]
        _refuse(strange, "the domain of {} clip(s) is not known, and the rules of " + scheme[5:] + " need it", _GET)
    return Answers(found[COLUMNS], source)


def missing(rows: pd.DataFrame, table: pd.DataFrame) -> list[str]:
    """Clips that a system has no score of, though it has scores of their unit: one line for each.

    Args:
        rows: machine, unit, key and file of the clips that it scored.
        table: of `answers`.
    """
    by = ["machine", "unit"]
    files = rows.groupby(by)["file"].agg(lambda names: ", ".join(dict.fromkeys(names)))
    wanted = table.merge(files.rename("file").reset_index(), on=by)
    scored = pd.MultiIndex.from_frame(rows[[*by, "key"]])
    lacking = wanted[~pd.MultiIndex.from_frame(wanted[[*by, "key"]]).isin(scored)]
    return [f"{row.file}: {row.key}" for row in lacking.sort_values([*by, "key"]).itertuples(index=False)]


def _joined(clips: pd.DataFrame, labels: Iterable[Label], by_list: pd.Series, source: str) -> pd.DataFrame:
    """`COLUMNS` but the set and the id, and `named`: whether the name tells the label."""
    frame = pd.DataFrame(
        [(label.machine, key(label.file), label.file, label.anomaly, label.domain) for label in labels],
        columns=["machine", "key", "label_file", "anomaly", "listed"],
    )
    twice = frame[frame.duplicated(["machine", "key"])]
    if len(twice):
        what = f"{len(twice)} clip(s) are labelled twice:{listed(list(twice['machine'] + ': ' + twice['key']), SHOWN)}"
        raise AuscultError(what, source, "leave one label for each clip")
    known = sorted(frame["machine"].unique())
    strange = clips[by_list & ~clips["machine"].isin(known)]
    hints = {machine: near(machine, known) for machine in strange["machine"].unique()}
    words = "; ".join(f"`{machine}`{hint}" for machine, hint in hints.items())
    _refuse(
        strange,
        f"no labels of machine {words}, {{}} clip(s), in {source}",
        f"name the files after the machine, or {_GET}",
    )
    found = clips.merge(frame, on=["machine", "key"], how="outer", indicator="where")
    files = found["label_file"].fillna("")
    unscored = found["where"].eq("right_only")
    named = found["said"].notna() | (unscored & files.map(lambda file: _said(str(file))[0] >= 0))
    listed_too = found["anomaly"].notna()
    wanted = ~unscored & found.set_index(["machine", "key"]).index.isin(
        pd.MultiIndex.from_frame(clips.loc[by_list, ["machine", "key"]])
    )
    _refuse(found[wanted & ~listed_too], f"{{}} clip(s) have no label in {source}", "take out what is no test clip")
    against = found[found["said"].notna() & listed_too & (found["said"] != found["anomaly"])]
    _refuse(against, f"{source} contradicts the names of {{}} clip(s)", "mend the list")
    found["anomaly"] = found["anomaly"].where(listed_too, found["said"]).astype("int64")
    domain = found["listed"].where(found["listed"].isin(["source", "target"]))
    for column in ("told", "domain"):
        domain = domain.fillna(found[column].where(found[column].isin(["source", "target"])))
    unit = found["unit"].where(found["unit"].notna(), [_unit(str(file)) for file in files])
    return found.assign(domain=domain.fillna("unknown"), unit=unit, named=named)


def _said(name: str) -> tuple[float, str]:
    """Label (NaN = not told) and domain in a clip's name: as the challenge names them, or by the words alone.

    >>> _said("normal_id_01_00000000.wav"), _said("section_03_0001.wav"), _said("pump7-anomaly-2.wav")
    ((0.0, 'unknown'), (nan, 'unknown'), (1.0, 'unknown'))
    """
    anomaly, domain = told(re.sub(r"\.\w+$", ".wav", name))
    if anomaly is None and domain == "unknown":
        words = set(re.split(r"[^a-z]+", name.lower()))
        marks = [word == "anomaly" for word in ("normal", "anomaly") if word in words]
        domains = [word for word in ("source", "target") if word in words]
        anomaly = int(marks[0]) if len(marks) == 1 else None
        domain = domains[0] if len(domains) == 1 else "unknown"
    return float("nan") if anomaly is None else float(anomaly), domain


def _set(unit: tuple[str, str], evaluated: set[tuple[str, str]], named: bool) -> str:
    """The set of a unit: as the year's tables know it, by its machine type, or else by whether its clips hide their labels."""
    if unit in evaluated or unit[0] in _EVALUATED:
        return "eval"
    return "dev" if named else "eval"


def _unit(file: str) -> str:
    match = re.search(r"(?:^|_)(?:id|section)_(\d+)_", file)
    return match[1] if match else "00"


def _clip_id(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big", signed=True)


def _refuse(rows: pd.DataFrame, what: str, fix: str) -> None:
    """Raise about `rows`, if any; `{}` in `what` becomes their number."""
    if not len(rows):
        return
    places = [
        f"{row.file}:{row.line:.0f}: {row.key}" if isinstance(row.file, str) else f"{row.machine}: {row.key}"
        for row in rows.itertuples(index=False)
    ]
    raise AuscultError(what.replace("{}", str(len(rows))) + ":" + listed(places, SHOWN), fix=fix)


def _listed_labels(choice: str) -> list[Label]:
    """The labels of a list: with a heading, or as `read_labels` reads it."""
    path = Path(choice)
    if choice in SHIPPED or not path.is_file():
        return read_labels(choice if choice in SHIPPED else str(path.absolute()), Path())
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            rows = csv.DictReader(stream)
            if not set(_LIST_COLUMNS) <= set(rows.fieldnames or ()):
                return read_labels(str(path.absolute()), Path())
            labels, bad = [], []
            for row in rows:
                label = _label(row)
                if isinstance(label, Label):
                    labels.append(label)
                else:
                    bad.append(f"line {rows.line_num}: {label}")
    except (UnicodeDecodeError, csv.Error) as error:
        raise AuscultError(f"the labels cannot be read: {error}", choice, "save them as a csv in UTF-8") from None
    if bad:
        what = f"{len(bad)} line(s) of the labels cannot be read:{listed(bad, SHOWN)}"
        raise AuscultError(what, choice, "mend them")
    return labels


def _label(row: dict[str, str]) -> Label | str:
    """A row of a list with a heading, or what is wrong with it."""
    anomaly, domain = (row["anomaly"] or "").strip(), (row.get("domain") or "unknown").strip()
    if not row["machine"] or not row["file"]:
        return "without a machine or a file"
    if anomaly not in ("0", "1", "normal", "anomaly"):
        return f"`{anomaly}` is no label: 0 (normal) or 1 (anomaly)"
    if domain not in ("source", "target", "unknown"):
        return f"`{domain}` is no domain: source or target"
    return Label(row["machine"].strip(), row["file"].strip(), int(anomaly in ("1", "anomaly")), domain)
