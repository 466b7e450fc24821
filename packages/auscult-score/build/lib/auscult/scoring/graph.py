"""Clusters as connected components of the nearest-neighbour graph, and the distance to the nearest cluster.

The training-free method of Tiwari et al. (DCASE 2020 Task 2; code L-A-Sandhu/DCASE2020-Anomly-Detection) for denoised
modulation spectra: every training clip is joined to its nearest neighbour by city-block distance; what hangs together is a
cluster C with mean m and standard deviation s of each value, and

    score(x) = min over C of sum over d of |x_d - m_d| / (s_d + 1e-6).

No parameter is chosen. On the plain values of `dcase2020_modspec` it gives the authors' printed AUC and pAUC of all units.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from auscult.evaluation.metrics import Floats
from auscult.scoring.banks import DomainSettings, per_bank

FLOOR = 1e-6
"""Added to a standard deviation (the authors' code)."""
_BLOCK = 2**22  # distances held at once


class GraphSettings(DomainSettings):
    """Sum over dimensions of the deviations from a cluster's mean, in its standard deviations; not negative."""

    kind: Literal["graph"]


@dataclass(frozen=True)
class Clusters:
    """Mean and standard deviation of each cluster, [clusters, D] each."""

    mean: Floats
    std: Floats


def fit(bank: np.ndarray, domain: np.ndarray, settings: GraphSettings) -> Clusters:
    clips = bank.astype(np.float64)
    cluster = components(clips)
    count = np.bincount(cluster)[:, None]
    sums = np.zeros((len(count), clips.shape[1]))
    np.add.at(sums, cluster, clips)
    mean = sums / count
    squares = np.zeros_like(sums)
    np.add.at(squares, cluster, np.square(clips - mean[cluster]))
    return Clusters(mean, np.sqrt(squares / count))


def score(clusters: Clusters, queries: np.ndarray, settings: GraphSettings) -> Floats:
    from scipy.spatial.distance import cdist

    found = np.full(len(queries), np.inf)
    for mean, std in zip(clusters.mean, clusters.std, strict=True):
        weight = 1 / (std + FLOOR)
        distance = cdist(queries.astype(np.float64), mean[None], "cityblock", w=weight)[:, 0]
        np.minimum(found, distance, out=found)
    return found


def components(clips: Floats) -> np.ndarray:
    """Cluster of each clip, int [clips]: those that are joined by the edges from each clip to its nearest other one.

    >>> components(np.array([[0.0], [1.0], [10.0], [11.5], [2.5]])).tolist()
    [0, 0, 1, 1, 0]
    """
    from scipy.sparse import csr_array
    from scipy.sparse.csgraph import connected_components
    from scipy.spatial.distance import cdist

    count = len(clips)
    if count == 1:
        return np.zeros(1, dtype=int)
    nearest = np.empty(count, dtype=int)
    step = max(1, _BLOCK // count)
    for start in range(0, count, step):
        rows = np.arange(start, min(start + step, count))
        distance = cdist(clips[rows], clips, "cityblock")
        distance[rows - start, rows] = np.inf  # itself
        nearest[rows] = distance.argmin(axis=1)
    edges = csr_array((np.ones(count), (np.arange(count), nearest)), shape=(count, count))
    found: np.ndarray = connected_components(edges, directed=False)[1]
    return found


BACKEND = per_bank(GraphSettings, fit, score)
