"""Result tables in the papers' layout: CSV for programs, Markdown for the repository, LaTeX for a paper.

`table2` and `table4` follow OS-SCL Tables II (AUC and pAUC per machine type) and IV (mAUC). A table is a list of blocks,
one per set, convention and metric, so that no two numbers of one block are formed differently.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import Any

import pandas as pd

from auscult.evaluation import Key, machine_order
from auscult.evaluation import undefined as undefined_of
from auscult.files import atomic_file
from auscult.papers import CONVENTION, PRINTED_ROW, printed
from auscult.reporting.render import latex, markdown

CELL_COLUMNS = ["set", "convention", "metric", "arm", "backend", "machine", "value", "ci_low", "ci_high"]
CELL_COLUMNS += ["seeds", "printed_row", "printed", "best", "note"]
_DOMAIN_METRICS = ("auc_source", "auc_target", "pauc_source", "pauc_target", "pauc", "official")


def write_tables(
    summary: pd.DataFrame,
    profile_name: str,
    dataset: str,
    out: Path,
    arms: Sequence[str] = (),
    best: pd.DataFrame | None = None,
    undefined: pd.DataFrame | None = None,
) -> list[Path]:
    """Write `table2` and `table4` as .csv, .md and .tex into the folder `out`.

    Args:
        summary: long table of `evaluation.evaluate`, of one or many arms.
        profile_name: named in the captions.
        dataset: the profile's data set; the papers' printed values stand beside ours only for "dcase2020".
        out: folder, made when absent. Each file is whole or absent.
        arms: arms to show, in this order; one without numbers is shown as not run. Empty: those of `summary`.
        best: `evaluation.best` of the same numbers (paired). Without it a value counts as better than another only when
            their intervals do not overlap, which is stricter.
        undefined: `evaluation.undefined`, the reasons of empty values, when `summary` was read back from a file.

    Returns:
        The files written.
    """
    reasons = undefined_of(summary) if undefined is None else undefined
    order = list(arms) or list(dict.fromkeys(summary["arm"]))
    domains = bool(summary["metric"].isin(["auc_source"]).any())
    present = set(summary["metric"])
    if domains:
        metrics = [
            name for name in _DOMAIN_METRICS if name in present and not (name == "pauc" and "pauc_source" in present)
        ]
    else:
        metrics = ["auc", "pauc"]
    files = []
    for name, wanted, conventions, title in (
        ("table2", metrics, ("pooled", "per_unit"), "Detection of anomalies"),
        ("table4", ["mauc"], ("per_unit",), "Lowest AUC over the units of a machine type (mAUC)"),
    ):
        cells = _cells(summary, wanted, conventions, order, best, reasons)
        papers = _printed_cells(name, dataset, cells)
        table = pd.concat([cells, papers], ignore_index=True) if len(papers) else cells
        title = f"{title}, profile {profile_name}"
        for suffix, text in (
            (".csv", table.to_csv(index=False, float_format="%.4f", lineterminator="\n")),
            (".md", markdown(table, title, best is not None)),
            (".tex", latex(table, title, best is not None)),
        ):
            with atomic_file(out / f"{name}{suffix}") as path:
                path.write_text(text, encoding="utf-8")
            files.append(out / f"{name}{suffix}")
    return files


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


def _cells(
    summary: pd.DataFrame,
    metrics: Sequence[str],
    conventions: Sequence[str],
    arms: Sequence[str],
    best: pd.DataFrame | None,
    reasons: pd.DataFrame,
) -> pd.DataFrame:
    """One row per cell of ours, complete: what was not run or is undefined has a row with a note."""
    why = {tuple(row[:-1]): row[-1] for row in reasons[[*Key._fields, "reason"]].itertuples(index=False)}
    known = {
        tuple(row[:6]): row[6:]
        for row in summary[[*Key._fields, "value", "ci_low", "ci_high", "seeds"]].itertuples(index=False)
    }
    rows: list[tuple[Any, ...]] = []
    for set_name in sorted(summary["set"].unique()):
        of_set = summary[summary["set"] == set_name]
        machines = sorted(of_set["machine"].unique(), key=machine_order)
        backends = {arm: list(dict.fromkeys(of_set.loc[of_set["arm"] == arm, "backend"])) or ["native"] for arm in arms}
        sources = [(arm, backend) for arm in arms for backend in backends[arm]]
        for convention, metric, machine in product(conventions, metrics, machines):
            keys = [Key(arm, backend, convention, set_name, machine, metric) for arm, backend in sources]
            values = {key: known.get(tuple(key), (math.nan, math.nan, math.nan, 0)) for key in keys}
            top = _top(values, best)
            for key, row in values.items():
                note = _note(why.get(tuple(key), ""), key in known) if math.isnan(row[0]) else ""
                head = (set_name, convention, metric, key.arm, key.backend, machine)
                rows.append((*head, *row, "", "", key == top, note))
    return pd.DataFrame(rows, columns=CELL_COLUMNS)


def _note(reason: str, evaluated: bool) -> str:
    """What an empty cell says: "not run", or "undefined: why"."""
    if not evaluated or reason == "no scores":
        return "not run"
    return f"undefined: {reason or 'a class is missing in a unit'}"


def _top(values: dict[Key, tuple[Any, ...]], best: pd.DataFrame | None) -> Key | None:
    """The key whose value is better than every other by more than a tie; None when there is none."""
    defined = {key: row for key, row in values.items() if not math.isnan(row[0])}
    if len(defined) < 2:
        return None
    top = max(defined, key=lambda key: defined[key][0])
    if best is None:
        clear = all(defined[top][1] > row[2] for key, row in defined.items() if key != top)
        return top if clear else None
    for row in best[best["clear"]].itertuples(index=False):
        if Key(row.arm, row.backend, row.convention, row.set, row.machine, row.metric) == top:  # type: ignore[arg-type]
            return top
    return None


def _printed_cells(name: str, dataset: str, cells: pd.DataFrame) -> pd.DataFrame:
    """Cells of OS-SCL Table II or IV, for the blocks that form their numbers alike; empty for other data sets."""
    if dataset != "dcase2020":
        return pd.DataFrame(columns=CELL_COLUMNS)
    arm_of = {row: arm for arm, row in PRINTED_ROW.items()}
    shown = set(cells["machine"])
    nothing = (math.nan, math.nan, math.nan, 0)
    rows: list[tuple[Any, ...]] = []
    for cell in printed(f"os_scl_{name}").itertuples(index=False):
        for convention in dict.fromkeys(cells["convention"]):
            stated = "per_unit" if cell.metric == "mauc" else CONVENTION.get(str(cell.method), "")
            if stated not in ("", convention) or cell.machine not in shown or cell.split not in set(cells["set"]):
                continue
            note = "" if stated else "the paper does not say how the units of a machine were combined"
            head = (cell.split, convention, cell.metric, arm_of.get(str(cell.method), ""), "", cell.machine)
            rows.append((*head, *nothing, cell.method, cell.text, False, note))
    return pd.DataFrame(rows, columns=CELL_COLUMNS)
