"""ROC curves and training curves: pictures, and the points behind them for `dvc plots` and the page of results."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.lines import Line2D
from numpy.typing import NDArray

from auscult.evaluation.evaluate import machine_order
from auscult.evaluation.metrics import roc
from auscult.files import atomic_file
from auscult.results.figures import COLOURS, add_legend, drawn_backend, look, panels, say

ROC_POINTS = 200
ROC_ARMS = 6  # more lines than this cannot be told apart in one panel
EPOCHS = 50  # points of a training curve for `dvc plots`; a figure is a few hundred pixels wide
COLUMNS = ["arm", "curve", "epoch", "value"]
_GREY = "#c4c4c4"


# -------------------------------------------------------------------------------------------------------------------- ROC
def roc_points(table: pd.DataFrame, backend: str = "native", set_name: str = "dev") -> pd.DataFrame:
    """Points of the pooled ROC curve (all units of a machine type) of every arm, for one back-end and set.

    Args:
        table: of `labelled`. An arm without this back-end is shown with the first one it has.
        backend: "native" is the score of the method itself.
        set_name: "dev" or "eval".

    Returns:
        Columns arm, backend, machine, fpr, tpr (fractions), at most `ROC_POINTS` rows per curve, kept at even steps along
        its length, ends included. A machine where one class is missing has no rows.
    """
    frames = []
    for (arm, machine), rows in table[table["set"] == set_name].groupby(["arm", "machine"], sort=False):
        chosen = drawn_backend(rows, backend)
        rows = rows[rows["backend"] == chosen]
        fpr, tpr, _ = roc(rows["score"], rows["anomaly"].astype(int))
        if np.isnan([fpr[-1], tpr[-1]]).any():
            continue
        keep = thinned(fpr, tpr)
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


def thinned(fpr: NDArray[np.float64], tpr: NDArray[np.float64], points: int = 0) -> NDArray[np.intp]:
    """At most `points` indices at even steps of the distance travelled along the curve, both ends included."""
    points = points or ROC_POINTS
    corners = np.ones(len(fpr), dtype=bool)  # the middle of a straight step says nothing
    corners[1:-1] = ~((fpr[:-2] == fpr[2:]) | (tpr[:-2] == tpr[2:]))
    kept = np.flatnonzero(corners)
    if len(kept) <= points:
        return kept
    travelled = np.concatenate([[0.0], np.cumsum(np.abs(np.diff(fpr[kept])) + np.abs(np.diff(tpr[kept])))])
    places = np.searchsorted(travelled, np.linspace(0, travelled[-1], points)).clip(max=len(kept) - 1)
    return kept[np.unique(places)]


# --------------------------------------------------------------------------------------------------------------- training
def read_history(path: Path) -> pd.DataFrame:
    """history.csv of a model folder; empty where there is none, or nothing was trained."""
    if not path.is_file() or path.stat().st_size <= 1:
        return pd.DataFrame()
    history = pd.read_csv(path)
    return history if "epoch" in history else pd.DataFrame()


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


def curve_points(histories: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """
    Args:
        histories: arm -> its `history.csv`, or those of all its seeds below each other: `scope`, `epoch`, numbers.

    Returns:
        Columns `COLUMNS`: per arm, column of its history and epoch the mean over scopes, at most `EPOCHS` epochs evenly
        spread, the last included. An arm that was not trained has no rows. Phases before the last ("all (pretrain)") count
        epochs of their own and are left out.
    """
    frames = [pd.DataFrame(columns=COLUMNS)]
    for arm, history in histories.items():
        if not len(history):
            continue
        mean = (
            _last_phase(history).drop(columns="scope", errors="ignore").select_dtypes("number").groupby("epoch").mean()
        )
        kept = mean.iloc[np.unique(np.linspace(len(mean) - 1, 0, min(EPOCHS, len(mean))).round().astype(int))]
        long = kept.reset_index().melt("epoch", var_name="curve").dropna().assign(arm=arm)
        frames.append(long[COLUMNS])
    return pd.concat([frame for frame in frames if len(frame)] or frames, ignore_index=True)


def _last_phase(history: pd.DataFrame) -> pd.DataFrame:
    """Without "all (pretrain)", nor "fan (pretrain)" where there is "fan": a machine type may have brackets in its name."""
    if "scope" not in history:
        return history
    scopes = history["scope"].astype(str)
    later = scopes.str.replace(r" \([^()]*\)(?=$|, seed \d+$)", "", regex=True).str.removeprefix("all, ")
    earlier = (later != scopes) & (later.isin(set(scopes)) | scopes.str.startswith("all ("))
    return history[~earlier]


def write_curves(histories: Mapping[str, pd.DataFrame], path: Path) -> None:
    """Write `curve_points` as a CSV that `dvc plots` can draw (x: epoch, y: value)."""
    with atomic_file(path) as temporary:
        curve_points(histories).to_csv(temporary, index=False, float_format="%.6g", lineterminator="\n")
