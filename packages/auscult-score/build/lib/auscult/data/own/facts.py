"""What each of your recordings is: told by folders, or by a CSV `file[,machine][,unit][,attributes][,label]`."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from unicodedata import normalize

from auscult.data.audio import printable
from auscult.data.names.encoding import name_fault
from auscult.data.names.grammar import folder as folder_grammar
from auscult.errors import AuscultError, listed
from auscult.settings.section import near

COLUMNS = ["file", "machine", "unit", "attributes", "label"]
LABELS = ["normal", "anomaly", "test_normal"]
_RESERVED = {*LABELS, "all", "mean", "hmean"}  # folders of labels, and what tables call averages


@dataclass(frozen=True)
class Facts:
    """What is known of a recording beside its sound. `label` is one of `LABELS`."""

    machine: str = "machine"
    unit: str = "00"
    attributes: str = ""
    label: str = "normal"

    def problem(self) -> str:
        """Why clips of this machine and unit could not be filed; "" if they can."""
        if fault := name_fault(f"{self.machine}/{self.unit}", self.machine, self.unit):
            return fault
        for what, name in (("machine", self.machine), ("unit", self.unit)):
            if name in _RESERVED or name.startswith(".") or {"/", "\\"} & set(name) or len(name.encode()) > 100:
                return f"`{name}` cannot be the name of a {what}"
        return ""


def facts_of_folders(files: list[str]) -> dict[str, Facts]:
    """What the folders say of `files` (relative, with `/`); files in no folder at all are normal ones of one machine.

    Raises:
        AuscultError: every file whose folders say nothing, or too much.
    """
    if all("/" not in name for name in files):
        return dict.fromkeys(files, Facts())
    facts, problems = {}, []
    for name in files:
        try:
            read = folder_grammar(PurePosixPath(name))
        except ValueError as error:
            problems.append(f"{printable(name)}: {error}")
            continue
        label = next(part for part in PurePosixPath(name).parts if part in LABELS)
        facts[name] = Facts(read.machine, read.unit, label=label)
        if facts[name].problem():
            problems.append(f"{printable(name)}: {facts[name].problem()}")
    if problems:
        fix = "sort them into [<machine>/[<unit>/]]normal/, anomaly/ and test_normal/, or give a `source.table`"
        raise AuscultError(f"the folders do not tell what these are:{listed(problems)}", fix=fix)
    return facts


def facts_of_table(path: Path, files: list[str]) -> dict[str, Facts]:
    """What the table at `path` says of each of `files` (relative, with `/`). Commas, semicolons or tabs between cells.

    Raises:
        AuscultError: not a table with these columns; or, all at once: rows without a file, of an unknown file or of one
            named twice, empty or unknown words, and files without a row.
    """
    columns, rows = read_cells(path, COLUMNS, "file")
    known = {normalize("NFC", name): name for name in files}
    found: dict[str, Facts] = {}
    problems = []
    for number, row in rows:
        if len(row) != len(columns):
            problems.append(f"row {number}: {len(row)} cells under {len(columns)} columns")
            continue
        values = dict(zip(columns, row, strict=True))
        name = normalize("NFC", PurePosixPath(values.pop("file").replace("\\", "/")).as_posix())
        if name == ".":
            problems.append(f"row {number}: no file")
        elif name not in known:
            problems.append(f"row {number}: no recording `{name}`{near(name, list(known))}")
        elif known[name] in found:
            problems.append(f"row {number}: `{name}` for the second time")
        else:
            found[known[name]] = facts = Facts(**values)
            empty = [key for key, value in values.items() if not value and key != "attributes"]
            if empty:
                problems.append(f"row {number}: no {', '.join(empty)}")
            elif facts.label not in LABELS:
                hint = near(facts.label, LABELS)
                problems.append(f"row {number}: label `{facts.label}` is none of {', '.join(LABELS)}{hint}")
            elif facts.problem():
                problems.append(f"row {number}: {facts.problem()}")
    problems += [f"no row for `{printable(name)}`" for name in files if name not in found]
    if problems:
        fix = "mend the table; its file names are relative to `source.path`"
        raise AuscultError(f"the table does not fit the recordings:{listed(problems)}", str(path), fix)
    return found


def read_cells(path: Path, known: list[str], needed: str = "") -> tuple[list[str], list[tuple[int, list[str]]]]:
    """The names of a CSV's columns, and of each row that is not empty its number and its cells, stripped.

    Raises:
        AuscultError: no such file, not UTF-8, a column that is not `known` or stands twice, none called `needed`.
    """
    if path.exists() and not path.is_file():
        raise AuscultError("the table is no regular file", str(path), "give a CSV file")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise AuscultError("the table is not UTF-8 text", str(path), "save it as `CSV UTF-8`") from None
    except FileNotFoundError:
        fix = "mend `source.table` (relative to `source.path`), or leave it empty"
        raise AuscultError("there is no such table", str(path), fix) from None
    head = text.partition("\n")[0]
    rows = csv.reader(io.StringIO(text, newline=""), delimiter=max(",;\t", key=head.count))
    columns, *cells = [[cell.strip() for cell in row] for row in rows] or [[]]
    problems = [f"unknown column `{name}`{near(name, known)}" for name in columns if name not in known]
    problems += [f"column `{name}` stands twice" for name in known if columns.count(name) > 1]
    problems += [f"no column `{needed}`"] if needed and needed not in columns else []
    if problems:
        what = f"the table's first row does not name its columns:{listed(problems)}"
        rest = f"; `{needed}` is needed, the others are not" if needed else ""
        raise AuscultError(what, str(path), f"use: {', '.join(known)}{rest}")
    return columns, [(number, row) for number, row in enumerate(cells, 2) if any(row)]
