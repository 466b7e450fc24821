"""Figures from data frames to PNG files, and the points behind the ROC curves for `dvc plots`."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.lines import Line2D
from numpy.typing import NDArray

from auscult.evaluation.evaluate import joined, machine_order
from auscult.evaluation.metrics import roc
from auscult.files import atomic_file
from auscult.results.names import CONVENTIONS, METRICS, SETS, backend_name
from auscult.results.style import ANOMALY, COLOURS, MARKERS, NORMAL, add_legend, look, panels, say

ROC_POINTS = 200
ROC_ARMS = 6  # more lines than this cannot be told apart in one panel
_GREY = "#c4c4c4"


def labelled(scores: pd.DataFrame, labels: pd.DataFrame) -> pd.DataFrame:
    """What the figures of scores are drawn from: the labelled clips, of the first training seed of each arm.

    Args:
        scores, labels: as for `evaluation.evaluate`, with a column `arm`.
    """
    table = joined(scores, labels)
    table = table[table["anomaly"].notna()]
    return table[table["seed"] == table.groupby("arm")["seed"].transform("first")]


def roc_points(table: pd.DataFrame, backend: str = "native", set_name: str = "dev") -> pd.DataFrame:
    """Points of the pooled ROC curve (all units of a machine type) of every arm, for one back-end and set.

    Args:
        table: of `labelled`. An arm without this back-end is shown with the first one it has.
        backend: "native" is the arm's own score.
        set_name: "dev" or "eval".

    Returns:
        Columns arm, backend, machine, fpr, tpr (fractions), at most `ROC_POINTS` rows per curve, kept at even steps along
        its length, ends included. A machine where one class is missing has no rows.
    """
    frames = []
    for (arm, machine), rows in table[table["set"] == set_name].groupby(["arm", "machine"], sort=False):
        chosen = _backend(rows, backend)
        rows = rows[rows["backend"] == chosen]
        fpr, tpr, _ = roc(rows["score"], rows["anomaly"].astype(int))
        if np.isnan([fpr[-1], tpr[-1]]).any():
            continue
        keep = _thinned(fpr, tpr)
        frames.append(
            pd.DataFrame({"arm": arm, "backend": chosen, "machine": machine, "fpr": fpr[keep], "tpr": tpr[keep]})
        )
    empty = pd.DataFrame(columns=["arm", "backend", "machine", "fpr", "tpr"])
    return pd.concat(frames, ignore_index=True) if frames else empty


def write_roc_csv(points: pd.DataFrame, path: Path) -> None:
    """Write `roc_points` as a CSV that `dvc plots` can draw (x: fpr, y: tpr)."""
    with atomic_file(path) as temporary:
        points.to_csv(temporary, index=False, float_format="%.6f", lineterminator="\n")


def plot_roc(points: pd.DataFrame, path: Path, max_fpr: float = 0.1, reference: str = "") -> None:
    """One panel per machine type, one line per arm; the part that the pAUC looks at is shaded.

    Of more than `ROC_ARMS` arms, that many are told apart: the reference and those with the highest average area. The
    others are thin grey lines behind them; their points are in the CSV.

    Args:
        points: of `roc_points`.
        path: PNG.
        max_fpr: end of the shaded part.
        reference: arm that is told apart in any case.
    """
    machines = sorted(points["machine"].unique(), key=machine_order)
    arms = list(dict.fromkeys(points["arm"]))
    leaders = _leaders(points, arms, reference)
    others = f"{len(arms) - len(leaders)} other arms"
    names = [*leaders, *([others] if len(leaders) < len(arms) else [])]
    with panels(len(machines), path, legend=names) as (figure, axes):
        if not machines:
            say(axes[0], "no machine has labelled clips of both classes")
            return
        lines: dict[str, Any] = {}
        curves = {key: (curve["fpr"], curve["tpr"]) for key, curve in points.groupby(["machine", "arm"])}
        for axis, machine in zip(axes, machines, strict=True):
            axis.axvspan(0, max_fpr, color="#f0f0f0", zorder=0)
            axis.plot([0, 1], [0, 1], color="#999999", linewidth=1, linestyle=":")
            for arm in arms:
                if arm not in leaders and (machine, arm) in curves:
                    (lines[others],) = axis.plot(*curves[machine, arm], color=_GREY, linewidth=0.8)
            for index, arm in enumerate(leaders):
                (lines[arm],) = axis.plot(*curves.get((machine, arm), ([], [])), **{**look(index), "marker": None})
            axis.set(title=machine, xlim=(-0.01, 1.01), ylim=(-0.01, 1.01), aspect="equal")
            axis.set(xlabel="false positive rate", ylabel="true positive rate")
            axis.label_outer()
        add_legend(figure, {name: lines[name] for name in names})


def _leaders(points: pd.DataFrame, arms: list[str], reference: str) -> list[str]:
    """At most `ROC_ARMS` of `arms`, in their order: the reference, then by the area averaged over machine types."""
    areas = {
        arm: sum(float(np.trapezoid(c["tpr"], c["fpr"])) for _, c in curves.groupby("machine"))
        for arm, curves in points.groupby("arm")
    }
    ranked = sorted(arms, key=lambda arm: (arm != reference, -areas[arm]))  # an arm that lacks a machine ranks lower
    return [arm for arm in arms if arm in ranked[:ROC_ARMS]]


def plot_histograms(
    table: pd.DataFrame, arm: str, path: Path, backend: str = "native", set_name: str = "dev", bins: int = 40
) -> None:
    """Scores of normal and anomalous test clips of one arm, one panel per machine type, units pooled.

    Both classes share the bins; heights are the share of the class, so that unequal class sizes do not mislead. The
    outermost bins also hold what lies beyond the 0.5th and 99.5th percentile. Arguments as for `roc_points`. An arm
    without labelled clips of this set has a figure that says so.
    """
    rows = table[(table["arm"] == arm) & (table["set"] == set_name) & np.isfinite(table["score"])]
    chosen = _backend(rows, backend) if len(rows) else backend
    rows = rows[rows["backend"] == chosen]
    machines = sorted(rows["machine"].unique(), key=machine_order)
    with panels(len(machines), path, size=(3.4, 2.6), legend=("normal", "anomaly")) as (figure, axes):
        if not machines:
            say(axes[0], f"{arm}: no labelled clips in the {SETS.get(set_name, set_name)}")
            return
        classes: dict[str, Any] = {}
        for axis, machine in zip(axes, machines, strict=True):
            here = rows[rows["machine"] == machine]
            values = here["score"].to_numpy(dtype=np.float64)
            low, high = np.quantile(values, [0.005, 0.995])
            edges = np.linspace(low, high if high > low else low + 1, bins + 1)
            for mark, name, colour in ((0, "normal", NORMAL), (1, "anomaly", ANOMALY)):
                group = np.clip(values[here["anomaly"] == mark], edges[0], edges[-1])
                share = 100 * np.histogram(group, edges)[0] / max(1, len(group))
                axis.stairs(share, edges, fill=True, alpha=0.35, color=colour)
                line = "-" if mark == 0 else "--"
                classes[name] = axis.stairs(share, edges, color=colour, linestyle=line, linewidth=1.6)
            axis.set(title=machine)
            axis.locator_params(axis="x", nbins=5)
        figure.supxlabel(f"anomaly score of {arm}, {backend_name(chosen)} (no unit)", fontsize=11)
        figure.supylabel("clips of the class (%)", fontsize=11)
        add_legend(figure, classes, "upper")


def plot_history(history: pd.DataFrame, path: Path, title: str = "") -> None:
    """Training curves: one panel per quantity of the history, against the epoch.

    Args:
        history: columns epoch, then numbers per epoch (train_loss, valid_loss, learning_rate, ...); an optional column
            `scope` names the model a row belongs to (a machine, when one is trained per machine) and gives one line each.
            Columns that share what follows `train_` and `valid_` share a panel.
        path: PNG.
        title: above the figure.
    """
    quantities = [name for name in history.columns if name not in ("epoch", "scope") and history[name].notna().any()]
    quantities = [name for name in quantities if pd.api.types.is_numeric_dtype(history[name])]
    groups: dict[str, list[str]] = {}
    for name in quantities:
        groups.setdefault(name.removeprefix("train_").removeprefix("valid_"), []).append(name)
    scopes = list(history.groupby("scope", sort=False)) if "scope" in history else [("", history)]
    # With a few models the colour tells which one; with many it tells training from validation, and each line is thin.
    few = 1 < len(scopes) <= len(COLOURS)
    kinds = [kind for kind in ("train", "valid") if any(name.startswith(f"{kind}_") for name in quantities)]
    many = f", {len(scopes)} models" if len(scopes) > len(COLOURS) else ""
    entries: dict[str, Any] = {}
    if few:
        entries |= {str(scope): Line2D([], [], color=COLOURS[index]) for index, (scope, _) in enumerate(scopes)}
    for kind in kinds:
        colour = "#444444" if few else COLOURS[int(kind == "valid")]
        text = "validation" if kind == "valid" else "training"
        entries[text + many] = Line2D([], [], color=colour, linestyle="--" if kind == "valid" else "-")
    with panels(len(groups), path, size=(4.6, 3.1), columns=2, legend=list(entries)) as (figure, axes):
        if not groups:
            say(axes[0], "nothing was trained")
            return
        for axis, (group, names) in zip(axes, groups.items(), strict=True):
            for (index, (_, rows)), name in product(enumerate(scopes), names):
                valid = name.startswith("valid_")
                shown = rows[rows[name].notna()]
                axis.plot(
                    shown["epoch"],
                    shown[name],
                    color=COLOURS[index if few else int(valid)],
                    linestyle="--" if valid else "-",
                    linewidth=0.7 if many else 1.8,
                    marker="o" if len(shown) == 1 else None,
                )
            axis.set(xlabel="epoch", ylabel="learning rate" if group == "lr" else group.replace("_", " "))
            axis.locator_params(axis="x", integer=True)
        if title:
            figure.suptitle(title, fontsize=12)
        if entries:
            add_legend(figure, entries)


def plot_summary(
    summary: pd.DataFrame,
    path: Path,
    metric: str = "auc",
    convention: str = "per_unit",
    set_name: str = "dev",
    machine: str = "mean",
    arms: Sequence[str] = (),
) -> None:
    """One row per arm from top to bottom: one number with its interval, by the arm's own score and by the first other one.

    Args:
        summary: long table of `evaluation.evaluate`.
        path: PNG.
        metric, convention, set_name, machine: which number.
        arms: arms to show, in this order; empty: those of `summary`. One without a number says so.
    """
    rows = summary[
        (summary["metric"] == metric)
        & (summary["convention"] == convention)
        & (summary["set"] == set_name)
        & (summary["machine"] == machine)
    ]
    backends = list(dict.fromkeys(rows["backend"]))
    others = [backend for backend in backends if not backend.startswith("native")]
    shown = (["native"] if "native" in backends else []) + others[:1]
    arms = list(arms) or list(dict.fromkeys(summary["arm"]))
    rows = rows[rows["backend"].isin(shown) & rows["arm"].isin(arms) & rows["value"].notna()]
    names = [backend_name(backend) for backend in shown]
    with panels(1, path, size=(8.0, 1.2 + 0.42 * len(arms)), legend=names) as (figure, axes):
        axis = axes[0]
        if rows.empty:
            say(axis, "no arm has this number")
            return
        points: dict[str, Any] = {}
        for index, (backend, name) in enumerate(zip(shown, names, strict=True)):
            of = rows[rows["backend"] == backend]
            offset = (index - (len(shown) - 1) / 2) * 0.36
            y = np.array([arms.index(arm) for arm in of["arm"]], dtype=np.float64) + offset
            value = of["value"].to_numpy(dtype=np.float64)
            bounds = of[["ci_low", "ci_high"]].to_numpy(dtype=np.float64)
            colour, marker = COLOURS[index % len(COLOURS)], MARKERS[index % len(MARKERS)]
            axis.hlines(y, bounds[:, 0], bounds[:, 1], color=colour, linewidth=2.2)
            (points[name],) = axis.plot(value, y, linestyle="none", color=colour, marker=marker, markersize=6)
            for where, number, right in zip(y, value, np.fmax(bounds[:, 1], value), strict=True):
                axis.annotate(
                    f"{number:.1f}", (right, where), (6, 0), textcoords="offset points", va="center", fontsize=8.5
                )
        for place in [place for place, arm in enumerate(arms) if arm not in set(rows["arm"])]:
            axis.text(
                0.01, place, "not run, or undefined", transform=axis.get_yaxis_transform(), va="center", color="#555555"
            )
        axis.set_yticks(range(len(arms)), arms)
        axis.set_ylim(len(arms) - 0.5, -0.5)
        axis.grid(axis="y", visible=False)
        for place in range(len(arms) - 1):
            axis.axhline(place + 0.5, color="#e4e4e4", linewidth=0.8)
        axis.margins(x=0.09)
        which = {"mean": "average over machine types", "hmean": "harmonic mean over machine types"}.get(
            machine, machine
        )
        how = "" if metric == "mauc" else CONVENTIONS[convention].split(":")[0] + "; "
        axis.set_xlabel(
            f"{METRICS.get(metric, metric)} (%), {which}, {SETS.get(set_name, set_name)}\n({how}bars: bootstrap interval)"
        )
        add_legend(figure, points, "upper")


def _backend(rows: pd.DataFrame, backend: str) -> str:
    return backend if (rows["backend"] == backend).any() else str(rows["backend"].iloc[0])


def _thinned(fpr: NDArray[np.float64], tpr: NDArray[np.float64]) -> NDArray[np.intp]:
    """At most `ROC_POINTS` indices at even steps of the distance travelled along the curve, both ends included."""
    travelled = np.concatenate([[0.0], np.cumsum(np.abs(np.diff(fpr)) + np.abs(np.diff(tpr)))])
    return np.unique(np.searchsorted(travelled, np.linspace(0, travelled[-1], ROC_POINTS)).clip(max=len(fpr) - 1))
