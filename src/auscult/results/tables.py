"""Result tables in the papers' layout: CSV for programs, Markdown for the repository, LaTeX for a paper.

A table is what `params.yaml` says of it (`TableSettings`): its metrics, and whose printed values stand beside ours. It is
a list of blocks, one per set, convention and metric, so that no two numbers of one block are formed differently. Beside its
numbers every row says how far its average lies from the reference arm's, and what the arm costs.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Any

import pandas as pd

from auscult.errors import AuscultError, listed
from auscult.evaluation.aggregation import CONVENTIONS, NO_LABELS
from auscult.evaluation.evaluate import Key, machine_order
from auscult.evaluation.evaluate import undefined as undefined_of
from auscult.files import atomic_file
from auscult.papers import PRINTED_ROW, convention
from auscult.papers.printed import comparable
from auscult.results.names import BACKEND_NOTES, COSTS, METRICS
from auscult.results.preamble import preamble
from auscult.results.render import latex, markdown
from auscult.settings.schema import TableSettings

CELL_COLUMNS = [
    "set",
    "convention",
    "metric",
    "arm",
    "backend",
    "machine",
    "value",
    "ci_low",
    "ci_high",
    "seeds",
    "std",
]
CELL_COLUMNS += ["difference", "difference_low", "difference_high", "verdict", *COSTS]
CELL_COLUMNS += ["printed_table", "printed_row", "printed", "best", "note", "row_note"]
# What a cell of a printed row has in place of value ... verdict.
_NOTHING = (math.nan, math.nan, math.nan, 0, math.nan, math.nan, math.nan, math.nan, "")
_DOMAIN_METRICS = ("auc_source", "auc_target", "pauc_source", "pauc_target", "pauc", "official")
_SETS = ("dev", "eval", "all")
UNLABELLED = (
    "No test clip has a label, so there is no number to show. `dvc repro submissions/dvc.yaml` writes the scores and "
    "decisions in the challenge's format."
)
_UNSAID = "the paper does not say how the units of a machine were combined"


@dataclass(frozen=True)
class Beside:
    """What tables show beside the numbers; everything may be left out.

    Attributes:
        arms: arms to show, in this order; one without numbers is shown as not run. Empty: those of the summary.
        best: `evaluation.best` of the same numbers (paired). Without it a value counts as better than another only when
            their intervals do not overlap, which is stricter.
        undefined: `evaluation.undefined`, the reasons of empty values, when the summary was read back from a file.
        differences: `evaluation.differences` of the same numbers.
        reference: (arm, back-end) of `differences`.
        costs: one row per arm: `arm`, `names.COSTS` (NaN where unknown) and `device`.
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


def write_tables(
    summary: pd.DataFrame,
    tables: Mapping[str, TableSettings],
    out: Path,
    profile_name: str,
    dataset: str,
    beside: Beside | None = None,
) -> list[Path]:
    """Write every table as <name>.csv, .md and .tex into the folder `out`.

    Args:
        summary: long table of `evaluation.evaluate`, of one or many arms.
        tables: name -> what the table shows. Of a profile with domains the first table shows the challenge's metrics
            instead of its own; a table none of whose metrics the profile has is left out.
        out: folder, made when absent. Each file is whole or absent.
        profile_name: named in the captions.
        dataset: the profile's data set; printed values stand beside ours where they are of the same.
        beside: best values, differences, costs, reasons of missing numbers.

    Returns:
        The files written.

    Raises:
        AuscultError: a table names a metric or a printed table that does not exist.
    """
    beside = beside or Beside()
    present = set(summary["metric"])
    files = []
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
        if not metrics and not beside.unlabelled:
            continue
        ours = _cells(summary, metrics, beside)
        cells = ours + [cell for of_paper in printed_cells for cell in _beside_ours(of_paper, ours)]
        table = pd.DataFrame(cells, columns=CELL_COLUMNS)
        title = f"{settings.title}, profile {profile_name}"
        said = preamble(table, beside.level, beside.best is not None, beside.reference, beside.costs)
        said = [UNLABELLED] if beside.unlabelled else said
        reference = beside.reference[0] if beside.differences is not None else ""
        text = {
            ".csv": _csv(table),
            ".md": markdown(table, title, said, reference, beside.costs is not None),
            ".tex": latex(table, title, said, reference, beside.costs is not None),
        }
        for suffix, content in text.items():
            with atomic_file(out / f"{name}{suffix}") as path:
                path.write_text(content, encoding="utf-8")
            files.append(out / f"{name}{suffix}")
    return files


def _csv(table: pd.DataFrame) -> str:
    """Percent with four decimals, counts as they are."""
    counts = {name: table[name].map(lambda amount: "" if math.isnan(amount) else f"{amount:.10g}") for name in COSTS}
    return table.assign(**counts).to_csv(index=False, float_format="%.4f", lineterminator="\n")


def write_arm_json(summary: pd.DataFrame, arm: str, path: Path) -> None:
    """Numbers of one arm for `dvc metrics`: set -> backend -> convention -> metric -> machine -> percent.

    Values are rounded to 4 decimals, an undefined one is null. Only what follows from scores and labels is in it, so
    equal scores give equal bytes.
    """
    tree: dict[str, Any] = {}
    for row in summary[summary["arm"] == arm].itertuples(index=False):
        node = tree
        for level in (row.set, row.backend, row.convention, row.metric):
            node = node.setdefault(str(level), {})
        value = float(row.value)  # type: ignore[arg-type]
        node[str(row.machine)] = None if math.isnan(value) else round(value, 4)
    with atomic_file(path) as temporary:
        temporary.write_text(json.dumps(tree, indent=2) + "\n", encoding="utf-8")


def _cells(summary: pd.DataFrame, metrics: Sequence[str], beside: Beside) -> list[tuple[Any, ...]]:
    """One row per cell of ours, complete: what was not run or is undefined has a row with a note."""
    reasons = undefined_of(summary) if beside.undefined is None else beside.undefined
    why = {Key(*row[:-1]): row[-1] for row in reasons[[*Key._fields, "reason"]].itertuples(index=False)}
    columns = [*Key._fields, "value", "ci_low", "ci_high", "seeds", "std"]
    known = {Key(*row[:6]): row[6:] for row in summary[columns].itertuples(index=False)}
    arms = list(beside.arms) or list(dict.fromkeys(summary["arm"]))
    backends: dict[str, list[str]] = {arm: [] for arm in arms}
    for arm, backend in summary[["arm", "backend"]].drop_duplicates().itertuples(index=False):
        backends.setdefault(arm, []).append(backend)
    sources = [(arm, backend) for arm in arms for backend in backends[arm] or ["native"]]
    apart, tops, costs = _differences(beside), _clear(beside.best), _costs(beside.costs)
    rows: list[tuple[Any, ...]] = []
    for set_name, how, metric in product(_SETS, CONVENTIONS, metrics):
        block = [key for key in known if (key.set, key.convention, key.metric) == (set_name, how, metric)]
        for machine in sorted({key.machine for key in block}, key=machine_order):
            keys = [Key(arm, backend, how, set_name, machine, metric) for arm, backend in sources]
            values = {key: known.get(key, _NOTHING[:5]) for key in keys}
            top = _top(values, tops)
            for key, row in values.items():
                note = _note(key, why.get(key, ""), key in known, beside.absent) if math.isnan(row[0]) else ""
                verdict = "reference" if key[:2] == beside.reference else ""
                head = (set_name, how, metric, key.arm, key.backend, machine)
                remarks = [beside.remarks.get(key.arm, ""), BACKEND_NOTES.get(key.backend, "")]
                tail = ("", "", "", key == top, note, "; ".join(text for text in remarks if text))
                difference = apart.get(key, (math.nan, math.nan, math.nan, verdict))
                rows.append((*head, *row, *difference, *costs.get(key.arm, (math.nan,) * len(COSTS)), *tail))
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


def _differences(beside: Beside) -> dict[Key, tuple[Any, ...]]:
    if beside.differences is None:
        return {}
    columns = [*Key._fields, "difference", "ci_low", "ci_high", "verdict"]
    return {Key(*row[:6]): row[6:] for row in beside.differences[columns].itertuples(index=False)}


def _costs(costs: pd.DataFrame | None) -> dict[str, tuple[float, ...]]:
    if costs is None:
        return {}
    return {row[0]: row[1:] for row in costs[["arm", *COSTS]].itertuples(index=False)}


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


def _beside_ours(paper: pd.DataFrame, ours: Sequence[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    """Printed cells for the blocks of ours that form their numbers alike, below each arm that reproduces the row.

    A row that belongs to no arm of ours has the arm "".
    """
    shown = {(*row[:3], row[5]) for row in ours}
    arms = list(dict.fromkeys(row[3] for row in ours))
    unknown = (math.nan,) * (len(COSTS) - 1)
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
            note, row_note = str(cell.misprint), "" if stated else _UNSAID
            costs = (1e6 * float(cell.params), *unknown)  # type: ignore[arg-type]
            for owner in owners:
                head = (split, how, metric, owner, "", machine)
                rows.append((*head, *_NOTHING, *costs, name, cell.row, cell.text, False, note, row_note))
    return rows
