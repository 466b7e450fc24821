"""From numbers to the cells of result tables in long form: one row per cell, complete, with a note where there is no number.

A table is what `params.yaml` says of it (`TableSettings`): its metrics, and whose printed values are shown with ours. `tables`
lays the cells out.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from typing import Any

import pandas as pd

from auscult.errors import AuscultError, listed
from auscult.evaluation.aggregation import CONVENTIONS, NO_LABELS
from auscult.evaluation.evaluate import Key, machine_order
from auscult.evaluation.evaluate import undefined as undefined_of
from auscult.papers import PRINTED_ROW, convention
from auscult.papers.printed import comparable, remark
from auscult.results.names import BACKEND_NOTES, METRICS, SIZES
from auscult.settings.schema import TableSettings

VALUES = ["value", "ci_low", "ci_high", "seeds", "std", "few_clips"]
CELL_COLUMNS = ["set", "convention", "metric", "arm", "backend", "machine", *VALUES]
CELL_COLUMNS += ["difference", "difference_low", "difference_high", "verdict", *SIZES]
CELL_COLUMNS += ["printed_table", "printed_row", "printed", "best", "note", "row_note"]
# What a cell of a printed row has in place of value ... verdict.
_NOTHING = (math.nan, math.nan, math.nan, 0, math.nan, False, math.nan, math.nan, math.nan, "")
_DOMAIN_METRICS = ("auc_source", "auc_target", "pauc_source", "pauc_target", "pauc", "official")
SETS = ("dev", "eval", "all")


@dataclass(frozen=True)
class Evidence:
    """What tables show besides the numbers; everything may be left out.

    Attributes:
        arms: arms to show, in this order; one without numbers is shown as not run. Empty: those of the summary.
        best: `evaluation.best` of the same numbers (paired). Without it a value counts as better than another only when
            their intervals do not overlap, which is stricter.
        undefined: `evaluation.undefined`, the reasons of empty values, when the summary was read back from a file.
        differences: `evaluation.differences` of the same numbers.
        reference: (arm, back-end) of `differences`.
        costs: one row per arm: `arm` and `names.SIZES` (NaN where unknown).
        absent: (arm, machine or "all") -> why there are no scores, as for `evaluation.replicate`.
        remarks: arm -> what to say of all its rows.
        level: coverage of the intervals.
        unlabelled: not one test clip has a label; the tables say so.
    """

    arms: Sequence[str] = ()
    best: pd.DataFrame | None = None
    undefined: pd.DataFrame | None = None
    differences: pd.DataFrame | None = None
    reference: tuple[str, str] = ("", "")
    costs: pd.DataFrame | None = None
    absent: Mapping[tuple[str, str], str] = field(default_factory=dict)
    remarks: Mapping[str, str] = field(default_factory=dict)
    level: float = 0.95
    unlabelled: bool = False


def result_cells(
    summary: pd.DataFrame, tables: Mapping[str, TableSettings], dataset: str, evidence: Evidence
) -> dict[str, pd.DataFrame]:
    """The cells of every table.

    Args:
        summary: long table of `evaluation.evaluate`, of one or many arms.
        tables: name -> what the table shows. Of a profile with domains the first table shows the challenge's metrics
            instead of its own; a table none of whose metrics the profile has is left out.
        dataset: the profile's data set; printed values are shown with ours where they are of the same.

    Returns:
        Name -> `CELL_COLUMNS`.

    Raises:
        AuscultError: a table names a metric or a printed table that does not exist.
    """
    present = set(summary["metric"])
    found = {}
    for index, (name, settings) in enumerate(tables.items()):
        unknown = [metric for metric in settings.metrics if metric not in METRICS]
        if unknown:
            raise AuscultError(
                f"no such metric: {', '.join(unknown)}; there are:{listed(sorted(METRICS))}", f"tables.{name}.metrics"
            )
        metrics = [metric for metric in settings.metrics if metric in present]
        if "auc_source" in present and index == 0:
            metrics = [m for m in _DOMAIN_METRICS if m in present and not (m == "pauc" and "pauc_source" in present)]
        papers = [paper.strip() for paper in settings.printed.split(",") if paper.strip()]
        printed_cells = [comparable(paper, dataset) for paper in papers]  # also says so when there is no such table
        if metrics or evidence.unlabelled:
            ours = _ours(summary, metrics, evidence)
            cells = ours + [cell for of_paper in printed_cells for cell in _printed(of_paper, ours)]
            found[name] = pd.DataFrame(cells, columns=CELL_COLUMNS)
    return found


def csv_text(cells: pd.DataFrame) -> str:
    """Percent with four decimals, counts as they are."""
    counts = {name: cells[name].map(lambda amount: "" if math.isnan(amount) else f"{amount:.10g}") for name in SIZES}
    return cells.assign(**counts).to_csv(index=False, float_format="%.4f", lineterminator="\n")


def _ours(summary: pd.DataFrame, metrics: Sequence[str], evidence: Evidence) -> list[tuple[Any, ...]]:
    """One row per cell of ours, complete: what was not run or is undefined has a row with a note."""
    reasons = undefined_of(summary) if evidence.undefined is None else evidence.undefined
    why = {Key(*row[:-1]): row[-1] for row in reasons[[*Key._fields, "reason"]].itertuples(index=False)}
    summary = summary if "few_clips" in summary else summary.assign(few_clips=False)
    numbers = {Key(*row[:6]): row[6:] for row in summary[[*Key._fields, *VALUES]].itertuples(index=False)}
    arms = list(evidence.arms) or list(dict.fromkeys(summary["arm"]))
    backends: dict[str, list[str]] = {arm: [] for arm in arms}
    for arm, backend in summary[["arm", "backend"]].drop_duplicates().itertuples(index=False):
        backends.setdefault(arm, []).append(backend)
    sources = [(arm, backend) for arm in arms for backend in backends[arm] or ["native"]]
    differences, clear, sizes = _differences(evidence), _clear(evidence.best), _sizes(evidence.costs)
    rows: list[tuple[Any, ...]] = []
    for set_name, how, metric in product(SETS, CONVENTIONS, metrics):
        block = [key for key in numbers if (key.set, key.convention, key.metric) == (set_name, how, metric)]
        for machine in sorted({key.machine for key in block}, key=machine_order):
            keys = [Key(arm, backend, how, set_name, machine, metric) for arm, backend in sources]
            values = {key: numbers.get(key, _NOTHING[:6]) for key in keys}
            top = _top(values, clear)
            for key, row in values.items():
                note = _note(key, why.get(key, ""), key in numbers, evidence.absent) if math.isnan(row[0]) else ""
                verdict = "reference" if key[:2] == evidence.reference else ""
                head = (set_name, how, metric, key.arm, key.backend, machine)
                remarks = [evidence.remarks.get(key.arm, ""), BACKEND_NOTES.get(key.backend, "")]
                tail = ("", "", "", key == top, note, "; ".join(text for text in remarks if text))
                difference = differences.get(key, (math.nan, math.nan, math.nan, verdict))
                rows.append((*head, *row, *difference, *sizes.get(key.arm, (math.nan,) * len(SIZES)), *tail))
    return rows


def _note(key: Key, reason: str, evaluated: bool, absent: Mapping[tuple[str, str], str]) -> str:
    """What an empty cell says: "not run", "no labels", or why there is no number."""
    skipped = absent.get((key.arm, key.machine)) or absent.get((key.arm, "all"))
    if skipped:
        return skipped
    if not evaluated or reason == "no scores":
        return "not run"
    if reason == NO_LABELS:
        return NO_LABELS
    return f"undefined: {reason or 'a class is missing in a unit'}"


def _differences(evidence: Evidence) -> dict[Key, tuple[Any, ...]]:
    if evidence.differences is None:
        return {}
    columns = [*Key._fields, "difference", "ci_low", "ci_high", "verdict"]
    return {Key(*row[:6]): row[6:] for row in evidence.differences[columns].itertuples(index=False)}


def _sizes(costs: pd.DataFrame | None) -> dict[str, tuple[float, ...]]:
    if costs is None:
        return {}
    return {row[0]: row[1:] for row in costs[["arm", *SIZES]].itertuples(index=False)}


def _clear(best: pd.DataFrame | None) -> set[Key] | None:
    """The numbers that are better than every other; None when that is not known."""
    if best is None:
        return None
    return {Key(*row) for row in best.loc[best["clear"], list(Key._fields)].itertuples(index=False)}


def _top(values: dict[Key, tuple[Any, ...]], clear: set[Key] | None) -> Key | None:
    """The key whose value is better than every other by more than a tie; None when there is none."""
    defined = {key: row for key, row in values.items() if not math.isnan(row[0])}
    if len(defined) < 2:
        return None
    top = max(defined, key=lambda key: defined[key][0])
    if clear is not None:
        return top if top in clear else None
    apart = all(defined[top][1] > row[2] for key, row in defined.items() if key != top)
    return top if apart else None


def _printed(paper: pd.DataFrame, ours: Sequence[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    """Printed cells for the blocks of ours that form their numbers alike, below each arm that reproduces the row.

    A row that belongs to no arm of ours has the arm "".
    """
    shown = {(*row[:3], row[5]) for row in ours}
    arms = list(dict.fromkeys(row[3] for row in ours))
    unknown = (math.nan,) * (len(SIZES) - 1)
    rows: list[tuple[Any, ...]] = []
    for cell in paper.itertuples(index=False):
        name, method, split, machine, metric = (
            str(value) for value in (cell.table, cell.method, cell.split, cell.machine, cell.metric)
        )
        stated = convention(name, method, metric)
        arm_of = PRINTED_ROW.get(name, {})
        owners = [arm for arm in arms if arm_of.get(arm) == cell.row] or [""]
        for how in [stated] if stated else CONVENTIONS:
            if (split, how, metric, machine) not in shown:
                continue
            note, row_note = str(cell.misprint), remark(name, method, metric)
            sizes = (1e6 * float(cell.params), *unknown)  # type: ignore[arg-type]
            for owner in owners:
                head = (split, how, metric, owner, "", machine)
                rows.append((*head, *_NOTHING, *sizes, name, cell.row, cell.text, False, note, row_note))
    return rows
