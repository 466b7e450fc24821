"""Training curves of all arms in one small table, for `dvc plots`: an average over networks and seeds at a few epochs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from auscult.files import atomic_file

EPOCHS = 50  # points of a curve; a figure is a few hundred pixels wide
COLUMNS = ["arm", "curve", "epoch", "value"]


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
        last = history[~history["scope"].astype(str).str.contains("(", regex=False)] if "scope" in history else history
        mean = last.drop(columns="scope", errors="ignore").select_dtypes("number").groupby("epoch").mean()
        kept = mean.iloc[np.unique(np.linspace(len(mean) - 1, 0, min(EPOCHS, len(mean))).round().astype(int))]
        long = kept.reset_index().melt("epoch", var_name="curve").dropna().assign(arm=arm)
        frames.append(long[COLUMNS])
    return pd.concat([frame for frame in frames if len(frame)] or frames, ignore_index=True)


def write_curves(histories: Mapping[str, pd.DataFrame], path: Path) -> None:
    """Write `curve_points` as a CSV that `dvc plots` can draw (x: epoch, y: value)."""
    with atomic_file(path) as temporary:
        curve_points(histories).to_csv(temporary, index=False, float_format="%.6g", lineterminator="\n")
