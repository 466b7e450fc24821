"""How false alarms move between the units of a machine type: whose sound a unit's own sound is taken for.

A method that tells machines of one type apart by their id gives a false alarm when a normal clip looks like the
sister machine's. Three quantities per ordered pair (unit i, other unit j), from normal test clips alone, each unit
being the nearest-neighbour detector of knn.py:

* `accepted`: share of i's clips that j's detector takes for normal. On the diagonal, 1 - false-alarm rate of i.
* `nearest`: of i's false alarms (clips rejected by i itself), the share whose nearest other unit is j.
* `auc`: how well j's distance tells i's clips (farther) from j's (nearer). 1 = the units sound different, 0.5 = alike.

The threshold of j is a quantile of the distances of j's own training clips, each left out of the bank in turn; no test
clip has a say in it. A network has seen those clips in training: one that knows them by heart puts them nearer to each
other than it puts unheard ones, and its thresholds come out too low. The diagonal tells (0.95 is what it should be at
`level` 0.95), and `auc` does not depend on any threshold.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd

from auscult.errors import AuscultError
from auscult.evaluation.metrics import Floats, auc
from auscult.scoring.banks import Metric, groups, refuse_unknown
from auscult.scoring.knn import nearest, nearest_others
from auscult.scoring.table import read_embeddings

CONFUSION_COLUMNS = ["machine", "unit", "other", "quantity", "value", "clips"]
QUANTITIES = ("accepted", "nearest", "auc")


def confusion(
    train: np.ndarray,
    train_meta: pd.DataFrame,
    test: np.ndarray,
    test_meta: pd.DataFrame,
    labels: pd.DataFrame,
    k: int = 1,
    metric: Metric = "cosine",
    level: float = 0.95,
) -> pd.DataFrame:
    """Confusion of the units of every machine type, both sets together: dev and eval units are all trained on.

    Args:
        train, test: embeddings float32 [clips, D].
        train_meta, test_meta: machine and unit of each row; of test clips also clip_id.
        labels: clip_id, anomaly (0/1, empty = unlabelled). Clips that are not known to be normal take no part.
        k: neighbours whose mean distance counts (all there are, if fewer).
        metric: distance.
        level: quantile of the left-out training distances, linear between neighbours, that is the threshold; in (0, 1).
            A clip is accepted when its distance is at most that.

    Returns:
        Columns `CONFUSION_COLUMNS`, machines and units sorted; values are fractions. `clips` is how many clips a value
        rests on: i's normal clips (`accepted`), i's false alarms (`nearest`), normal clips of both units (`auc`). A value
        that rests on none, and any that needs the threshold of a unit with one training clip, is NaN. `nearest` and `auc`
        have no diagonal; a type with one unit has its diagonal of `accepted` alone.

    Raises:
        AuscultError: `level` or `k` out of range, or test clips of a unit without training clips.
    """
    if not 0 < level < 1:
        raise AuscultError(f"a threshold at the quantile {level}", "level", "between 0 and 1, such as 0.95")
    if k < 1:
        raise AuscultError(f"{k} neighbours", "k", "1 or more")
    of_units = groups(train_meta)
    refuse_unknown(of_units, test_meta)

    normal = test_meta["clip_id"].isin(labels.loc[labels["anomaly"] == 0, "clip_id"]).to_numpy()
    rows: list[tuple[str, str, str, str, float, int]] = []
    for machine in sorted({machine for machine, _ in of_units}):
        here = np.flatnonzero(normal & (test_meta["machine"] == machine).to_numpy())
        units = sorted(unit for of_type, unit in of_units if of_type == machine)
        owner = test_meta["unit"].to_numpy()[here]
        distance, threshold = _distances(
            [train[of_units[machine, unit]] for unit in units], test[here], k, metric, level
        )
        of_unit = [owner == unit for unit in units]
        rows += [(machine, *row) for row in _table(units, distance, threshold, of_unit)]
    return pd.DataFrame(rows, columns=CONFUSION_COLUMNS)


def confusion_of(embeddings: Path, labels: pd.DataFrame, k: int) -> pd.DataFrame:
    """`confusion` of the embeddings in a folder (as the stage `embed` writes them)."""
    of = read_embeddings(embeddings)
    return confusion(of.train, of.train_meta, of.test, of.test_meta, labels, k)


def matrix(table: pd.DataFrame, machine: str, quantity: str) -> pd.DataFrame:
    """One quantity of one machine type as units x other units, NaN where there is none (the diagonal of `nearest`)."""
    rows = table[(table["machine"] == machine) & (table["quantity"] == quantity)]
    units = sorted(set(table.loc[table["machine"] == machine, "unit"]))
    return rows.pivot(index="unit", columns="other", values="value").reindex(index=units, columns=units)


def _distances(
    banks: list[np.ndarray], queries: np.ndarray, k: int, metric: Metric, level: float
) -> tuple[Floats, Floats]:
    """Distance of each query to each bank, [queries, units], and the threshold of each bank, [units]."""
    distance = np.full((len(queries), len(banks)), np.nan)
    threshold = np.full(len(banks), np.nan)
    for column, bank in enumerate(banks):
        if len(queries):
            distance[:, column] = nearest(bank, queries, k, metric)
        if len(bank) > 1:
            threshold[column] = np.quantile(nearest_others(bank, k, metric), level)
    return distance, threshold


def _table(
    units: list[str], distance: Floats, threshold: Floats, of_unit: list[np.ndarray]
) -> Iterator[tuple[str, str, str, float, int]]:
    """(unit, other, quantity, value, clips) of one machine type."""
    for i, unit in enumerate(units):
        mine = distance[of_unit[i]]
        alarms = mine[mine[:, i] > threshold[i]]
        others = [j for j in range(len(units)) if j != i]
        nearest = np.array(others)[alarms[:, others].argmin(axis=1)] if others else np.empty(0)
        for j, other in enumerate(units):
            known = len(mine) > 0 and not np.isnan(threshold[j])
            accepted = float((mine[:, j] <= threshold[j]).mean()) if known else np.nan
            yield unit, other, "accepted", accepted, len(mine)
        for j in others:
            share = float((nearest == j).mean()) if len(alarms) else np.nan
            yield unit, units[j], "nearest", share, len(alarms)
        for j in others:
            theirs = distance[of_unit[j], j]
            scores = np.concatenate([mine[:, j], theirs])
            farther = np.repeat([1, 0], [len(mine), len(theirs)])
            yield unit, units[j], "auc", auc(scores, farther), len(scores)
