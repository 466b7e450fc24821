"""Points of ROC curves and of training curves, for `dvc plots` and the page of results."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from auscult.evaluation.evaluate import joined
from auscult.evaluation.metrics import roc
from auscult.files import atomic_file

ROC_POINTS = 200
EPOCHS = 50  # points of a training curve for `dvc plots`; a figure is a few hundred pixels wide
COLUMNS = ["arm", "curve", "epoch", "value"]


# -------------------------------------------------------------------------------------------------------------------- ROC
def labelled(scores: pd.DataFrame, labels: pd.DataFrame) -> pd.DataFrame:
    """What curves are made of: the labelled clips, of the first training seed of each arm.

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
        backend: "native" is the score of the method itself.
        set_name: "dev" or "eval".

    Returns:
        Columns arm, backend, machine, fpr, tpr (fractions), at most `ROC_POINTS` rows per curve, kept at even steps along
        its length, ends included. A machine where one class is missing has no rows.
    """
    frames = []
    for (arm, machine), rows in table[table["set"] == set_name].groupby(["arm", "machine"], sort=False):
        chosen = backend if (rows["backend"] == backend).any() else str(rows["backend"].iloc[0])
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


def write_curve_points(histories: Mapping[str, pd.DataFrame], path: Path) -> None:
    """Write `curve_points` as a CSV that `dvc plots` can draw (x: epoch, y: value)."""
    with atomic_file(path) as temporary:
        curve_points(histories).to_csv(temporary, index=False, float_format="%.6g", lineterminator="\n")
