"""What of an arm's results goes into its run, as plain numbers and text: metrics, training curves, params."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pandas as pd

HEADLINE = {"set": "dev", "convention": "per_unit"}  # under the short names `auc/fan`; the long names say all
AGGREGATES = ("mean", "hmean")


def run_metrics(rows: pd.DataFrame) -> dict[str, float]:
    """`auc/fan`: every machine type, by the arm's first back-end under `HEADLINE`; `eval.knn_cosine.per_unit/auc.mean`: the
    averages of everything else. All other numbers are in the run's `summary.csv`: hundreds of metrics hide the few.

    Args:
        rows: of `summary.csv`, one arm; numbers that are not defined are left out.
    """
    rows = rows[rows["value"].notna()]
    out = {
        f"{r['set']}.{r['backend']}.{r['convention']}/{r['metric']}.{r['machine']}": float(r["value"])
        for r in records(rows[rows["machine"].isin(AGGREGATES)])
    }
    short = rows[(rows["set"] == HEADLINE["set"]) & (rows["convention"] == HEADLINE["convention"])]
    if len(short):
        short = short[short["backend"] == short["backend"].iloc[0]]
    # Averages first: MLflow's tables and the axes it chooses go by the order of writing.
    short = short.sort_values("machine", key=lambda names: ~names.isin(AGGREGATES), kind="stable")
    out = {f"{r['metric']}/{r['machine']}": float(r["value"]) for r in records(short)} | out
    return {metric_name(name): value for name, value in out.items()}


def run_curves(model: Path, suffix: str = "") -> list[tuple[str, float, int]]:
    """(name, value, epoch) of every number in a model folder's `history.csv`, in its order.

    Args:
        suffix: at the end of every name, where a run has several seeds.
    """
    table = pd.read_csv(model / "history.csv")
    numbers = [str(name) for name in table.select_dtypes("number") if name not in ("scope", "epoch")]
    return [
        (curve_name(column, row["scope"], suffix), float(row[column]), int(row["epoch"]))
        for row in records(table)
        for column in numbers
        if pd.notna(row[column])
    ]


def metric_name(name: str) -> str:
    """A name that MLflow takes: what it refuses, as the name of a machine type may hold, by its number in Unicode.

    >>> metric_name("auc/pump (north)"), metric_name("auc/fan")
    ('auc/pump _28_north_29_', 'auc/fan')
    """
    return re.sub(r"[^\w\-. :/]", lambda found: f"_{ord(found[0]):x}_", name)


def curve_name(column: str, scope: str, suffix: str = "") -> str:
    """Brackets of a phase, "all (pretrain)", are not allowed in names."""
    scope = re.sub(r" \(([^()]*)\)$", r".\1", str(scope))
    return metric_name(f"curve/{column}{suffix}" if scope == "all" else f"curve/{column}.{scope}{suffix}")


def param_text(value: Any) -> str:
    """A number as itself, so that a chart has an axis for it; of a list its items."""
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def records(table: pd.DataFrame) -> list[dict[str, Any]]:
    out: list[dict[str, Any]] = table.to_dict("records")  # type: ignore[assignment]
    return out
