"""Result tables of the page: one block per group of arms, set, convention and metric, and their rows ready to be written."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

import pandas as pd

from auscult.evaluation.evaluate import machine_order
from auscult.papers import table_name
from auscult.results.names import CONVENTIONS, COSTS, METRICS, UNKNOWN, backend_name, machine_name, set_name
from auscult.results.page.gather import Group
from auscult.results.render import amount_text

MARKS = {"better": "\u25b2", "worse": "\u25bc", "tie": "="}
_MILLIONS = ("parameters", "macs_per_clip")


@dataclass(frozen=True)
class Cell:
    """What one cell shows: `sort` is its sort key (None = last), `value` the number's text, and what stands beside it."""

    value: str
    sort: float | None = None
    interval: str = ""
    verdict: str = ""
    difference: str = ""
    best: bool = False
    note: str = ""
    printed: str = ""


@dataclass(frozen=True)
class Row:
    """One arm under one back-end (`headline`: the one it is judged by), or a printed row of a paper (`arm` is "")."""

    arm: str
    score: str
    headline: bool
    cells: Sequence[Cell]
    note: str = ""


@dataclass(frozen=True)
class Block:
    """One table; all of its numbers are formed alike."""

    key: str
    caption: str
    reference: str
    columns: Sequence[str]
    rows: Sequence[Row]
    notes: Sequence[str] = field(default_factory=tuple)


@dataclass(frozen=True)
class Choice:
    """One block as the selects name it."""

    key: str
    group: str
    group_title: str
    set: str
    convention: str
    metric: str


def choices(group: Group) -> Iterator[tuple[Choice, pd.DataFrame]]:
    """The blocks of a group and their cells, in reading order."""
    for names, cells in group.cells.groupby(["set", "convention", "metric"], sort=False):
        which, convention, metric = (str(name) for name in names)
        key = ".".join([group.name, which, convention, metric])
        yield (
            Choice(
                key,
                group.name,
                group.title,
                set_name(which, metric),
                CONVENTIONS[convention],
                METRICS.get(metric, metric),
            ),
            cells,
        )


def block(group: Group, choice: Choice, cells: pd.DataFrame, backends: Mapping[str, str]) -> Block:
    """Rows and columns of one block.

    Args:
        cells: those of the block, columns as `reporting.tables.CELL_COLUMNS`.
        backends: arm -> the back-end it is judged by.
    """
    machines = sorted(cells["machine"].unique(), key=machine_order)
    records: list[Any] = list(cells.itertuples(index=False))
    printed = _printed(records)
    owners = {arm: list(rows) for arm, rows in groupby(sorted(printed, key=lambda key: key[0]), key=lambda key: key[0])}
    notes: dict[str, int] = {}
    rows = []
    ours = [cell for cell in records if not cell.printed_row]
    papers = any(arm for arm in owners)
    last = "mean" if "mean" in machines else machines[-1]
    for (arm, backend), of_row in _by_row(ours).items():
        own_printed = printed[owners[arm][0]] if arm in owners else {}
        out = [_ours(of_row.get(machine), own_printed.get(machine), notes) for machine in machines]
        one = next(iter(of_row.values()))
        out += [_difference(of_row.get(last, one))] if group.reference else []
        out += [_paper_gap(of_row.get(last), own_printed.get(last))] if papers else []
        out += [_cost(one, name) for name in COSTS]
        rows.append(Row(arm, backend_name(backend), backends.get(arm) == backend, out, _number(one.row_note, notes)))
    width = 1 + papers + bool(group.reference)
    for (arm, table, name), of_row in printed.items():
        if arm and owners[arm][0] == (arm, table, name):
            continue  # stands in the row of the arm that reproduces it
        one = next(iter(of_row.values()))
        out = [_of_paper(of_row.get(machine), notes) for machine in machines]
        out += [Cell("")] * (width - 1)
        out += [_cost(one, cost) if cost == "parameters" else Cell("") for cost in COSTS]
        rows.append(Row("", f"{name} ({table_name(table)})", True, out, _number(one.row_note, notes)))
    columns = [machine_name(machine) for machine in machines]
    columns += ["difference"] if group.reference else []
    columns += ["to the paper"] if papers else []
    caption = f"{choice.metric}, {choice.set}"
    caption += f", {choice.convention}" if not choice.key.endswith(".mauc") else ""
    return Block(choice.key, caption, group.reference, [*columns, *COSTS.values()], rows, list(notes))


def _by_row(ours: Sequence[Any]) -> dict[tuple[str, str], dict[str, Any]]:
    found: dict[tuple[str, str], dict[str, Any]] = {}
    for cell in ours:
        found.setdefault((cell.arm, cell.backend), {})[cell.machine] = cell
    return found


def _printed(records: Sequence[Any]) -> dict[tuple[str, str, str], dict[str, Any]]:
    """(arm or "", printed table, row) -> machine -> cell."""
    found: dict[tuple[str, str, str], dict[str, Any]] = {}
    for cell in records:
        if cell.printed_row:
            found.setdefault((cell.arm, cell.printed_table, cell.printed_row), {})[cell.machine] = cell
    return found


def _ours(cell: Any, printed: Any, notes: dict[str, int]) -> Cell:
    beside = str(printed.printed) if printed is not None else ""
    if cell is None or math.isnan(cell.value):
        note = "not run" if cell is None else cell.note or "undefined"
        return Cell(note.split(":")[0], note=_number(note, notes) if ":" in note else "", printed=beside)
    interval = "" if math.isnan(cell.ci_low) else f"{cell.ci_low:.1f}\u2013{cell.ci_high:.1f}"
    spread = "" if math.isnan(cell.std) else f" \u00b1 {cell.std:.1f}"
    verdict = cell.verdict if cell.verdict in MARKS else ""
    difference = _signed(cell) if verdict else ""
    best = str(cell.best) == "True"
    return Cell(f"{cell.value:.1f}{spread}", cell.value, interval, verdict, difference, best, printed=beside)


def _signed(cell: Any) -> str:
    return _minus(f"{round(cell.difference, 1) + 0.0:+.1f} [{cell.difference_low:.1f}, {cell.difference_high:.1f}]")


def _minus(text: str) -> str:
    return text.replace("-", "\u2212")


def _difference(cell: Any) -> Cell:
    """Of the average to that of the reference."""
    if cell.verdict in MARKS:
        bounds = _minus(f"{cell.difference_low:.1f} to {cell.difference_high:.1f}")
        return Cell(_minus(f"{round(cell.difference, 1) + 0.0:+.1f}"), cell.difference, bounds, cell.verdict)
    return Cell("reference", 0.0) if cell.verdict == "reference" else Cell(UNKNOWN)


def _paper_gap(cell: Any, printed: Any) -> Cell:
    """Our average minus the printed one."""
    number = _as_number(printed.printed) if printed is not None else math.nan
    if cell is None or math.isnan(cell.value) or math.isnan(number):
        return Cell("" if printed is None else UNKNOWN)
    gap = cell.value - number
    return Cell(_minus(f"{gap:+.1f}"), gap, f"of {printed.printed}")


def _of_paper(cell: Any, notes: dict[str, int]) -> Cell:
    if cell is None:
        return Cell("")
    number = _as_number(cell.printed)
    return Cell(str(cell.printed), None if math.isnan(number) else number, note=_number(cell.note, notes))


def _as_number(text: str) -> float:
    try:
        return float(str(text).split("\u00b1")[0].split("+-")[0])
    except ValueError:
        return math.nan


def _cost(cell: Any, name: str) -> Cell:
    amount = float(getattr(cell, name))
    if math.isnan(amount):
        return Cell(UNKNOWN)
    return Cell(amount_text(amount / 1e6 if name in _MILLIONS else amount), amount)


def _number(note: str, notes: dict[str, int]) -> str:
    return str(notes.setdefault(note, len(notes) + 1)) if note else ""
