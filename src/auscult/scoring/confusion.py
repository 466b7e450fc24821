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
from typing import Literal

import numpy as np
import pandas as pd
from sklearn.neighbors import NearestNeighbors

from auscult.errors import AuscultError, listed
from auscult.metrics import Floats, auc

CONFUSION_COLUMNS = ["machine", "unit", "other", "quantity", "value", "clips"]
QUANTITIES = ("accepted", "nearest", "auc")
Metric = Literal["cosine", "euclidean"]


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
    known = set(zip(train_meta["machine"], train_meta["unit"], strict=True))
    strange = sorted(set(zip(test_meta["machine"], test_meta["unit"], strict=True)) - known)
    if strange:
        names = listed([" ".join(map(str, pair)) for pair in strange])
        raise AuscultError(f"test clips of units without training clips:{names}", fix="embed both partitions again")

    normal = test_meta["clip_id"].isin(labels.loc[labels["anomaly"] == 0, "clip_id"]).to_numpy()
    rows: list[tuple[str, str, str, str, float, int]] = []
    for machine, banks in sorted(_units(train_meta).items()):
        here = np.flatnonzero(normal & (test_meta["machine"] == machine).to_numpy())
        units = sorted(banks)
        owner = test_meta["unit"].to_numpy()[here]
        distance, threshold = _distances([train[banks[unit]] for unit in units], test[here], k, metric, level)
        of_unit = [owner == unit for unit in units]
        rows += [(machine, *row) for row in _table(units, distance, threshold, of_unit)]
    return pd.DataFrame(rows, columns=CONFUSION_COLUMNS)


def confusion_of(embeddings: Path, labels: pd.DataFrame, k: int) -> pd.DataFrame:
    """`confusion` of the embeddings in a folder (as the stage `embed` writes them)."""
    arrays = [np.load(embeddings / f"{partition}.npy") for partition in ("train", "test")]
    metas = [pd.read_parquet(embeddings / f"{partition}.parquet") for partition in ("train", "test")]
    return confusion(arrays[0], metas[0], arrays[1], metas[1], labels, k)


def matrix(table: pd.DataFrame, machine: str, quantity: str) -> pd.DataFrame:
    """One quantity of one machine type as units x other units, NaN where there is none (the diagonal of `nearest`)."""
    rows = table[(table["machine"] == machine) & (table["quantity"] == quantity)]
    units = sorted(set(table.loc[table["machine"] == machine, "unit"]))
    return rows.pivot(index="unit", columns="other", values="value").reindex(index=units, columns=units)


def _units(meta: pd.DataFrame) -> dict[str, dict[str, np.ndarray]]:
    """Row numbers of each unit of each machine type."""
    out: dict[str, dict[str, np.ndarray]] = {}
    meta = meta.reset_index(drop=True)
    for machine, of_machine in meta.groupby("machine"):
        out[str(machine)] = {str(unit): rows.index.to_numpy() for unit, rows in of_machine.groupby("unit")}
    return out


def _distances(
    banks: list[np.ndarray], queries: np.ndarray, k: int, metric: str, level: float
) -> tuple[Floats, Floats]:
    """Distance of each query to each bank, [queries, units], and the threshold of each bank, [units]."""
    distance = np.full((len(queries), len(banks)), np.nan)
    threshold = np.full(len(banks), np.nan)
    for column, bank in enumerate(banks):
        search = NearestNeighbors(metric=metric, algorithm="brute").fit(bank)
        if len(queries):
            distance[:, column] = search.kneighbors(queries, min(k, len(bank)))[0].mean(axis=1)
        if len(bank) > 1:  # without queries, each clip of the bank is searched among the others
            left_out = search.kneighbors(None, min(k, len(bank) - 1))[0].mean(axis=1)
            threshold[column] = np.quantile(left_out, level)
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
            accepted = (
                float((mine[:, j] <= threshold[j]).mean()) if len(mine) and threshold[j] == threshold[j] else np.nan
            )
            yield unit, other, "accepted", accepted, len(mine)
        for j in others:
            share = float((nearest == j).mean()) if len(alarms) else np.nan
            yield unit, units[j], "nearest", share, len(alarms)
        for j in others:
            theirs = distance[of_unit[j], j]
            scores = np.concatenate([mine[:, j], theirs])
            farther = np.repeat([1, 0], [len(mine), len(theirs)])
            yield unit, units[j], "auc", auc(scores, farther), len(scores)
