"""Result tables as the page shows them: those of `results.tables`, a paper's row merged into that of the arm that has it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import pandas as pd

from auscult.papers import table_name
from auscult.results.names import CONVENTIONS, COSTS, METRICS, SIZES, UNKNOWN, set_name
from auscult.results.page.gather import Group
from auscult.results.table import Cell, Column, Row, Table
from auscult.results.tables import laid_out

MARKS = {"better": "\u25b2", "worse": "\u25bc", "tie": "="}


@dataclass(frozen=True)
class Choice:
    """One table as the selects name it."""

    key: str
    group: str
    group_title: str
    set: str
    convention: str
    metric: str


@dataclass(frozen=True)
class Block:
    """A table ready for the template: footnotes are numbered, `notes` has them in order.

    Attributes:
        backends: arm -> the back-end it is judged by; its other rows are hidden at first.
    """

    table: Table
    notes: Sequence[str]
    backends: Mapping[str, str]

    def number(self, note: str) -> str:
        return str(self.notes.index(note) + 1) if note else ""

    def is_headline(self, row: Row) -> bool:
        return bool(row.paper) or self.backends.get(row.arm) == row.backend


def blocks(group: Group, costs: pd.DataFrame, backends: Mapping[str, str]) -> Iterator[tuple[Choice, Block]]:
    """The tables of a group, in reading order.

    Args:
        costs: `arm`, and `names.COSTS` per arm, where they are known.
        backends: arm -> the back-end it is judged by.
    """
    measured = costs.set_index("arm")[[name for name in COSTS if name not in SIZES]]
    cells = group.cells.join(measured, on="arm")
    known = [name for name in COSTS if name in cells and pd.to_numeric(cells[name]).notna().any()]
    for table in laid_out(cells, group.reference, known):
        which, convention, metric = table.key
        choice = Choice(
            ".".join([group.name, *table.key]),
            group.name,
            group.title,
            set_name(which, metric),
            CONVENTIONS[convention],
            METRICS.get(metric, metric),
        )
        shown = with_papers(table)
        notes = dict.fromkeys(cell.note for row in shown.rows for cell in [*row.cells[2:], *row.cells[:2]] if cell.note)
        yield choice, Block(shown, list(notes), backends)


def with_papers(table: Table) -> Table:
    """The first printed row below an arm's rows moves into these, and their average has its distance to the paper's.

    Other printed rows stay, and say of which paper they are.
    """
    own: dict[str, Row] = {}
    for row in table.rows:
        if row.paper and row.arm:
            own.setdefault(row.arm, row)
    merged = {id(row) for row in own.values()}
    numbers = [place for place, column in enumerate(table.columns) if column.kind == "number"]
    after = next((i for i, column in enumerate(table.columns) if column.kind == "cost"), len(table.columns))
    average = next((i for i in numbers if table.columns[i].title == "average"), numbers[-1])
    rows = []
    for row in table.rows:
        if id(row) in merged:
            continue
        cells, gap = list(row.cells), Cell()
        if row.paper:
            name = cells[1].text.removeprefix("printed: ").removesuffix(f" ({table_name(row.paper)})")
            cells[1] = replace(cells[1], text=f"{name} ({table_name(row.paper)})")
        elif row.arm in own:
            for place in numbers:
                cells[place] = replace(cells[place], printed=own[row.arm].cells[place].text)
            gap = _gap(cells[average], own[row.arm].cells[average])
        rows.append(replace(row, cells=[*cells[:after], *([gap] if own else []), *cells[after:]]))
    more = [Column("to the paper", "paper")] if own else []
    return replace(table, columns=[*table.columns[:after], *more, *table.columns[after:]], rows=rows)


def _gap(ours: Cell, printed: Cell) -> Cell:
    """Our average minus the printed one."""
    if not printed.text:
        return Cell()
    if ours.value is None or printed.value is None:
        return Cell(UNKNOWN)
    gap = ours.value - printed.value
    return Cell(f"{gap:+.1f}", gap, note="", difference=f"of {printed.text}")
