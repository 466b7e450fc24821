"""The numbers behind the plots, small enough to be read by a browser: curves of every unit, histograms, training curves."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from auscult.evaluation.evaluate import machine_order
from auscult.evaluation.metrics import auc, roc
from auscult.results.arms import read_history
from auscult.results.curves import thinned
from auscult.results.names import COSTS, METRICS, backend_name
from auscult.results.page.context import Context
from auscult.results.page.gather import Group
from auscult.scoring.submission import Unit

ROC_POINTS = 80
BINS = 30
FEW_CLIPS = 100
"""Of fewer, each is a point: bars of one or two clips look like a distribution, and are none."""
EPOCHS = 400
"""Points of a training curve at most."""
POOLED = ""


# ------------------------------------------------------------------------------------------------------------------ an arm
def arm_data(context: Context, arm: str, limits: Mapping[Unit, float]) -> dict[str, Any]:
    """Curves, histograms, decisions and training of one arm (first seed; training curves of all).

    Args:
        limits: (machine, unit) -> threshold, of `gather.thresholds_of`; may lack units.

    Returns:
        `score` (name of the back-end), `seed`, `groups`: set -> machine -> list of units, the pooled one first, each
        `unit`, `auc` (percent or None), `roc` ([fpr], [tpr]), `edges` (lowest and highest shown), `normal`, `anomaly` (percent of
        the class per bin, or `points`: the scores themselves, of fewer than `FEW_CLIPS`),
        `clips` (normal, anomalous), `threshold`, `alarms` and `found` (percent of normals and anomalies above it);
        `training`: quantity -> lines (`name`, `valid`, `x`, `y`).
    """
    table = context.headline(arm)
    found: dict[str, dict[str, list[dict[str, Any]]]] = {}
    for names, rows in table.groupby(["set", "machine"], sort=True):
        which, machine = (str(name) for name in names)
        units = [(str(unit), of_unit) for unit, of_unit in rows.groupby("unit", sort=True)]
        pooled = [] if len(units) == 1 else [_group(POOLED, rows, _limits(rows, machine, limits))]
        of_units = [_group(unit, r, np.full(len(r), limits.get((machine, unit), np.nan))) for unit, r in units]
        if context.profile.rules.domains:
            of_units += _domains(rows, machine, limits)
        found.setdefault(which, {})[machine] = pooled + of_units
    ordered = {
        which: {m: machines[m] for m in sorted(machines, key=machine_order)} for which, machines in found.items()
    }
    score = backend_name(context.backends[arm])
    return {
        "arm": arm,
        "score": score,
        "seed": context.seed(arm),
        "groups": ordered,
        "training": training(context, arm),
    }


def _limits(rows: pd.DataFrame, machine: str, limits: Mapping[Unit, float]) -> NDArray[np.float64]:
    """Threshold of each clip's unit."""
    by_unit = {unit: limits.get((machine, str(unit)), np.nan) for unit in rows["unit"].unique()}
    return rows["unit"].map(by_unit).to_numpy(dtype=np.float64)


def _domains(rows: pd.DataFrame, machine: str, limits: Mapping[Unit, float]) -> list[dict[str, Any]]:
    """As the challenge forms the AUC of a domain: its normal clips against all anomalies."""
    out = []
    for domain in ("source", "target"):
        chosen = rows[(rows["domain"] == domain) | (rows["anomaly"] == 1)]
        if (chosen["anomaly"] == 0).any():
            out.append(_group(f"{domain} domain", chosen, _limits(chosen, machine, limits)))
    return out


def _group(unit: str, rows: pd.DataFrame, limit: NDArray[np.float64]) -> dict[str, Any]:
    """Curve, histogram and decisions of the clips in `rows`, each with its threshold."""
    labelled = rows["anomaly"].notna().to_numpy()
    scores, marks = rows["score"].to_numpy(dtype=np.float64)[labelled], rows["anomaly"].to_numpy()[labelled].astype(int)
    limit = limit[labelled]
    out: dict[str, Any] = {"unit": unit, "clips": [int(np.sum(marks == 0)), int(np.sum(marks == 1))]}
    if len(scores) == 0:
        return {**out, "unlabelled": len(rows)}
    if 0 < marks.sum() < len(marks):
        fpr, tpr, _ = roc(scores, marks)
        keep = thinned(fpr, tpr, ROC_POINTS)
        out |= {"auc": round(100 * auc(scores, marks), 2), "roc": [_short(fpr[keep], 4), _short(tpr[keep], 4)]}
    known = np.isfinite(limit)
    same = limit[known][0] if known.any() and np.all(limit == limit[known][0]) else np.nan
    few = len(scores) < FEW_CLIPS
    low, high = np.quantile(scores, [0, 1] if few else [0.005, 0.995])
    if np.isfinite(same) and high > low:  # a threshold that no clip reaches is shown, too, if it is not far away
        low, high = min(low, max(same, low - (high - low))), max(high, min(same, high + (high - low)))
    edges = np.linspace(low, high if high > low else low + 1, int(np.clip(2 * np.sqrt(len(scores)), 10, BINS)) + 1)
    for mark, name in ((0, "normal"), (1, "anomaly")):
        values = scores[marks == mark]
        inside = np.clip(values, edges[0], edges[-1])
        bars = _short(100 * np.histogram(inside, edges)[0] / max(1, len(values)), 1)
        out[name] = [_significant(value) for value in np.sort(values)] if few else bars
    out |= {"points": True} if few else {}
    out["edges"] = [_significant(edges[0]), _significant(edges[-1])]
    if np.isfinite(same):
        out["threshold"] = _significant(same)
    if known.all():
        above = scores > limit
        for mark, name in ((0, "alarms"), (1, "found")):
            if np.any(marks == mark):
                out[name] = round(100 * float(np.mean(above[marks == mark])), 1)
    return out


# ---------------------------------------------------------------------------------------------------------------- training
def training(context: Context, arm: str) -> dict[str, list[dict[str, Any]]]:
    """Training curves: quantity ("loss", "lr", ...) -> lines; one per network, seed, and training or validation."""
    weights = context.params.arms[arm].weights if arm in context.params.arms else arm
    out: dict[str, list[dict[str, Any]]] = {}
    for seed in context.seeds:
        history = read_history(context.paths.model(weights, seed) / "history.csv")
        scopes = list(history.groupby("scope", sort=False)) if "scope" in history else [("all", history)]
        for scope, rows in scopes if len(history) else ():
            words = [] if str(scope) == "all" else [str(scope)]
            words += [f"seed {seed}"] if len(context.seeds) > 1 else []
            step = -(-len(rows) // EPOCHS)
            for column in rows.columns:
                if column in ("epoch", "scope") or not pd.api.types.is_numeric_dtype(rows[column]):
                    continue
                shown = rows[rows[column].notna()].iloc[::step]
                if len(shown):
                    quantity = column.removeprefix("train_").removeprefix("valid_")
                    line = {"name": ", ".join(words), "valid": column.startswith("valid_")}
                    points = {"x": shown["epoch"].tolist(), "y": [_significant(value) for value in shown[column]]}
                    out.setdefault(quantity, []).append(line | points)
    return out


# ------------------------------------------------------------------------------------------------------------ quality, cost
def overview(groups: Sequence[Group], costs: pd.DataFrame, context: Context) -> dict[str, Any]:
    """Average of every arm by its headline back-end, under every measure, and what the arm costs.

    Returns:
        `measures`: key -> name; `arms`: `name`, `group` (where it was first met), `costs`: cost -> number or None,
        `values`: measure -> [value, low, high] in percent.
    """
    arms: dict[str, dict[str, Any]] = {}
    measures: dict[str, dict[str, str]] = {}
    by_arm = costs.set_index("arm")
    wanted = [*COSTS, "peak_memory_mib"]
    for group in groups:
        cells = group.cells
        cells = cells[(cells["printed_row"] == "") & cells["machine"].isin(["mean", "hmean"]) & cells["value"].notna()]
        cells = cells[cells["backend"] == cells["arm"].map(context.backends)]
        rows: list[Any] = list(cells.itertuples(index=False))
        for cell in rows:
            key = ".".join([cell.set, cell.convention, cell.metric, cell.machine])
            mean = "average" if cell.machine == "mean" else "harmonic mean"
            measures.setdefault(
                key,
                {"set": cell.set, "how": cell.convention, "name": f"{METRICS.get(cell.metric, cell.metric)}, {mean}"},
            )
            if cell.arm not in arms:
                amounts = {
                    name: _or_none(by_arm.at[cell.arm, name]) if cell.arm in by_arm.index else None for name in wanted
                }
                arms[cell.arm] = {"name": cell.arm, "group": group.title, "costs": amounts, "values": {}}
            arms[cell.arm]["values"][key] = [_or_none(round(v, 2)) for v in (cell.value, cell.ci_low, cell.ci_high)]
    order = {name: place for place, name in enumerate(context.arms)}
    return {"measures": measures, "arms": sorted(arms.values(), key=lambda arm: order[arm["name"]])}


def best_arm(found: Mapping[str, Any]) -> str:
    """The arm with the highest average of `overview`, under its first measure: the page opens on it. "" = there are none.

    >>> best_arm({"measures": {"auc": {}}, "arms": [{"name": "a", "values": {"auc": [60.0, 1, 2]}}]})
    'a'
    """
    wished = next((key for key in found["measures"] if key.startswith("dev.per_unit.")), "")
    key = wished or next(iter(found["measures"]), "")
    known = [arm for arm in found["arms"] if (arm["values"].get(key) or [None])[0] is not None]
    return str(max(known, key=lambda arm: arm["values"][key][0])["name"]) if known else ""


def _or_none(value: Any) -> float | None:
    number = float(value)
    return None if math.isnan(number) else number


def _short(values: NDArray[np.float64], digits: int) -> list[float]:
    """Rounded; whole numbers without their fraction, which are most."""
    return [int(v) if v == int(v) else v for v in np.round(values, digits).tolist()]


def _significant(value: float) -> float | None:
    return float(f"{value:.5g}") if np.isfinite(value) else None
