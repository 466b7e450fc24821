"""Result tables in the papers' layout: cells in long form, laid out as `table.Table`, and what is said above them.

A table of a report is several blocks, one per set, convention and metric, so that no two numbers of one block are formed
differently. Besides its numbers every row says how far its average lies from the reference arm's, and how large the arm is.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import groupby
from pathlib import Path
from typing import Any

import pandas as pd

from auscult.evaluation.aggregation import AGGREGATES
from auscult.evaluation.evaluate import machine_order
from auscult.files import atomic_file
from auscult.papers import table_name
from auscult.papers.frontier import beside
from auscult.results.cells import Evidence, csv_text, result_cells
from auscult.results.names import CONVENTIONS, COSTS, METRICS, SIZES, UNKNOWN, backend_name, machine_name, set_name
from auscult.results.table import VERDICTS, Cell, Column, Document, Row, Table, amount_text, known, number, signed
from auscult.results.text import FEW_CLIPS, latex
from auscult.settings.schema import TableSettings

UNLABELLED = (
    "No test clip has a label, so there is no number to show. `auscult run extras:submission` writes the scores and "
    "decisions in the challenge's format."
)
FEW = f"{FEW_CLIPS} So few clips that the interval may not cover what it says."
_PAIRED = "Bold: better than every other row of the block, by the paired bootstrap interval of the difference."
_APART = "Bold: the best, and its interval overlaps that of no other row of the block."


def write_tables(
    summary: pd.DataFrame,
    tables: Mapping[str, TableSettings],
    out: Path,
    profile: tuple[str, str],
    evidence: Evidence | None = None,
) -> Document:
    """Write every table as <name>.csv and .tex into the folder `out`; each file is whole or absent.

    Args:
        summary, tables: as for `cells.result_cells`, with its errors.
        profile: name, which titles say, and data set.

    Returns:
        All tables, a section each.
    """
    name, dataset = profile
    evidence = evidence or Evidence()
    found = result_cells(summary, tables, dataset, evidence)
    reference = evidence.reference[0] if evidence.differences is not None else ""
    sizes = SIZES if evidence.costs is not None else ()
    parts = {table: laid_out(cells, reference, sizes) for table, cells in found.items()}
    for table, cells in found.items():
        alone = Document(f"{tables[table].title}, profile {name}", preamble(cells, evidence), [("", parts[table])])
        for suffix, content in ((".csv", csv_text(cells)), (".tex", latex(alone))):
            with atomic_file(out / f"{table}{suffix}") as path:
                path.write_text(content, encoding="utf-8")
    if not found:
        return Document("")
    sections = [(tables[table].title, blocks) for table, blocks in parts.items()]
    cells = pd.concat(found.values())
    said = [*preamble(cells, evidence), *beside(dataset, official_types(cells))]
    return Document(f"Results, profile {name}", said, sections)


def official_types(cells: pd.DataFrame) -> dict[str, int]:
    """Set -> the number of machine types that official scores of it are over, where `cells` have such scores."""
    ours = cells[cells["metric"].isin(["official", "mean_auc_pauc"]) & (cells["printed_row"] == "")]
    types = ours[~ours["machine"].isin(AGGREGATES)].groupby("set")["machine"].nunique()
    return {str(name): int(count) for name, count in types.items()}


def preamble(cells: pd.DataFrame, evidence: Evidence) -> list[str]:
    """How to read the numbers, differences and sizes of `cells`, in paragraphs."""
    if evidence.unlabelled:
        return [UNLABELLED]
    coverage = f"{100 * evidence.level:g} %"
    numbers = f"Percent, with the {coverage} bootstrap interval over test clips in brackets."
    if (cells["seeds"] > 1).any():
        numbers += " With ±: mean and sample standard deviation over training seeds, the interval over clips and seeds."
    numbers += " Each block forms its numbers as its title says; numbers of different blocks do not compare."
    lines = [f"{numbers} {_PAIRED if evidence.best is not None else _APART}"]
    arm, backend = evidence.reference
    if arm:
        lines.append(
            f"Difference: average of the row minus average of `{arm}` ({backend_name(backend)}), percentage "
            f"points, paired over test clips, with its {coverage} interval. A tie: the interval contains zero. Each row is "
            "judged by itself; with many rows some differ by chance."
        )
    if (cells["few_clips"].astype(str) == "True").any():
        lines.append(FEW)
    papers = [table_name(name) for name in dict.fromkeys(cells["printed_table"]) if name]
    if papers:
        lines.append(f"In italics, as printed: {'; '.join(papers)}.")
    if evidence.costs is not None:
        lines.append(
            "Size, once per arm: parameters of its networks and multiply-accumulate operations per clip, in millions; means "
            "over seeds. Seconds of training and speed differ from run to run; they are in MLflow and on the page of results."
        )
    return lines


def laid_out(cells: pd.DataFrame, reference: str = "", costs: Sequence[str] = ()) -> list[Table]:
    """A block per set, convention and metric of cells (`cells.CELL_COLUMNS`, and the columns `costs`).

    Args:
        reference: arm that a column of differences is about; "" = no such column.
        costs: of `names.COSTS`, a column each.
    """
    grouped: dict[tuple[str, str, str], list[Any]] = {}
    for cell in cells.itertuples(index=False):
        grouped.setdefault((cell.set, cell.convention, cell.metric), []).append(cell)  # type: ignore[arg-type]
    papers = len(set(cells["printed_table"]) - {""})
    return [_block(key, of_block, reference, costs, papers > 1) for key, of_block in grouped.items()]


def caption_of(which_set: str, convention: str, metric: str) -> str:
    """What a block shows: "AUC, development set, per unit, then averaged"."""
    caption = f"{METRICS.get(metric, metric)}, {set_name(which_set, metric)}"
    return caption if metric == "mauc" else f"{caption}, {CONVENTIONS[convention]}"


def _block(
    key: tuple[str, str, str], cells: list[Any], reference: str, costs: Sequence[str], name_paper: bool
) -> Table:
    machines = sorted({cell.machine for cell in cells}, key=machine_order)
    columns = [Column("arm", "label"), Column("score", "label"), *(Column(machine_name(m)) for m in machines)]
    columns += [Column("difference", "difference")] if reference else []
    columns += [Column(COSTS[name], "cost") for name in costs]
    rows: list[Row] = []
    before = ""
    for of_row in _rows(cells):
        one = next(iter(of_row.values()))
        found = [_cell(of_row.get(machine)) for machine in machines]
        if one.printed_row:
            label = f"printed: {one.printed_row}"
            label += f" ({table_name(one.printed_table)})" if name_paper else ""
            labels = [Cell(), Cell(label, style="faint", note=one.row_note)]
            found += [Cell()] if reference else []
            found += [_printed_cost(one, name) for name in costs]
        else:
            labels = [Cell(one.arm, style="code"), Cell(backend_name(one.backend), note=one.row_note)]
            found += [_difference(of_row.get("mean", one))] if reference else []
            found += [_cost(one, name) for name in costs]
        repeats = not one.printed_row and one.arm == before
        rows.append(Row([*labels, *found], one.arm, one.backend, one.printed_table, repeats))
        before = before if one.printed_row else one.arm
    return Table(caption_of(*key), columns, rows, key, reference)


def _rows(cells: list[Any]) -> Iterator[dict[str, Any]]:
    """Rows (machine -> cell) in reading order: each arm's scores and its printed rows, then the other printed rows."""
    arms = list(dict.fromkeys(cell.arm for cell in cells if not cell.printed_row))
    place = {arm: index for index, arm in enumerate(arms)}

    def row_of(cell: Any) -> tuple[Any, ...]:
        return (place.get(cell.arm, len(arms)), bool(cell.printed_row), order[_label(cell)])

    order: dict[tuple[str, ...], int] = {}
    for cell in cells:
        order.setdefault(_label(cell), len(order))
    for _, of_row in groupby(sorted(cells, key=row_of), key=row_of):
        yield {cell.machine: cell for cell in of_row}


def _label(cell: Any) -> tuple[str, ...]:
    return (cell.arm, cell.backend, cell.printed_table, cell.printed_row)


def _cell(cell: Any) -> Cell:
    """A number of ours or of a paper, or why there is none."""
    if cell is None:
        return Cell()
    if cell.printed_row:
        return Cell(str(cell.printed), printed_value(cell.printed), style="faint", note=cell.note)
    if math.isnan(cell.value):
        note = cell.note or "undefined"
        return Cell(note.split(":")[0], note=note if ":" in note else "")
    shown = number(cell, style="bold" if str(cell.best) == "True" else "")
    if cell.verdict not in VERDICTS:
        return shown
    words = f"{signed(cell.difference)} [{cell.difference_low:.1f}, {cell.difference_high:.1f}]"
    return replace(shown, mark=cell.verdict, difference=words)


def _difference(cell: Any) -> Cell:
    """Of an average to that of the reference: a number, "reference", or a dash where one of the two has none."""
    if cell.verdict in VERDICTS:
        bounds = (float(cell.difference_low), float(cell.difference_high))
        return Cell(signed(cell.difference), float(cell.difference), bounds, mark=cell.verdict)
    return Cell("reference", 0.0) if cell.verdict == "reference" else Cell(UNKNOWN)


def _cost(cell: Any, name: str) -> Cell:
    amount = known(getattr(cell, name))
    if amount is None:
        return Cell(UNKNOWN)
    unit = 1e6 if name in SIZES else 1
    return Cell(amount_text(amount / unit), amount)


def _printed_cost(cell: Any, name: str) -> Cell:
    """What a paper prints of a row's cost: its parameters, with the paper's digits."""
    amount = known(cell.parameters) if name == "parameters" else None
    return Cell() if amount is None else Cell(f"{amount / 1e6:g}", amount, style="faint")


def printed_value(text: str) -> float | None:
    """The number of a printed cell, without its deviation.

    >>> printed_value("85.1 ± 0.3"), printed_value("-")
    (85.1, None)
    """
    try:
        return float(str(text).split("±")[0].split("+-")[0])
    except ValueError:
        return None
