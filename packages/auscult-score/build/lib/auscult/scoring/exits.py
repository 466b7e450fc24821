"""Cluster exit detection: a training clip's surroundings end where its next neighbour is suddenly far away.

Wilkinghoff, Wichern, Le Roux and Tan (arXiv 2602.18777, Interspeech 2026). d_1 <= ... <= d_K are the distances of a training
clip y to its K nearest others; with K neighbours too many the density of a small cluster is taken from clips beyond it.

    r_k = d_k / d_(k+1),    s_k = (r_k + r_(k+1)) / 2,    k = 1 .. K - 2
    K(y) = the first k with s_k < q, where q is the 4 % quantile of the s of this clip; K - 2 where there is none
    K(y) = 2 where the smallest r is extremely small: in a sparse place one jump says nothing

From a full reading of the paper by others; it was not at hand itself. Not printed there, so chosen here: what is extremely
small (`SPARSE`), that this is said of r and not of s, that a k after smoothing keeps the neighbours 1 to k, and all K
neighbours where K < 3 (nothing to smooth).
"""

from __future__ import annotations

import numpy as np

from auscult.evaluation.metrics import Floats
from auscult.scoring.banks import Metric
from auscult.scoring.knn import distances, nearest_others

QUANTILE = 0.04
SPARSE = 0.1
"""Ratio of neighbouring distances below which a clip has `FEW` neighbours: the next one is ten times as far."""
FEW = 2


def own_size(near: Floats) -> np.ndarray:
    """Neighbours [clips] that belong to each clip's own surroundings, of its sorted distances [clips, K].

    >>> own_size(np.array([[1.0, 1.1, 1.2, 1.3, 4.0, 4.1, 4.2], [1.0, 2.0, 21.0, 22.0, 23.0, 24.0, 25.0]])).tolist()
    [3, 2]
    """
    neighbours = near.shape[1]
    if neighbours < 3:
        return np.full(len(near), neighbours)
    with np.errstate(divide="ignore", invalid="ignore"):
        r = near[:, :-1] / near[:, 1:]
    r[near[:, 1:] == 0] = 1.0  # equal clips: no jump
    s = (r[:, :-1] + r[:, 1:]) / 2
    below = s < np.quantile(s, QUANTILE, axis=1, keepdims=True)
    first = below.argmax(axis=1) + 1
    size = np.where(below.any(axis=1), first, neighbours - 2)
    return np.where(r.min(axis=1) < SPARSE, FEW, size)


def surroundings(bank: np.ndarray, density: int, metric: Metric, exits: bool) -> tuple[Floats, np.ndarray]:
    """Mean distance [clips] of each clip of a bank of two or more to its own surroundings, and their number [clips].

    Args:
        bank: [clips, D].
        density: K nearest others (all there are, if fewer); with `exits` the most that may count.
    """
    count = min(density, len(bank) - 1)
    if not exits:
        return nearest_others(bank, count, metric), np.full(len(bank), count)
    mean, size = np.empty(len(bank)), np.empty(len(bank), np.int64)
    for rows, distance in distances(bank, bank, metric):
        distance[np.arange(len(distance)), np.arange(rows.start, rows.stop)] = np.inf  # itself
        near = np.sort(np.partition(distance, count - 1, axis=1)[:, :count], axis=1).astype(np.float64)
        size[rows] = own_size(near)
        mean[rows] = np.take_along_axis(near.cumsum(axis=1), size[rows][:, None] - 1, axis=1)[:, 0] / size[rows]
    return mean, size
