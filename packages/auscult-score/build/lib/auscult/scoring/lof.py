"""Local outlier factor (Breunig et al., SIGMOD 2000): how much sparser training clips lie around a test clip than around
its neighbours among them. scikit-learn computes it; only training clips are neighbours."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np

from auscult.evaluation.metrics import Floats
from auscult.scoring.banks import DomainSettings, Metric, per_bank
from auscult.scoring.knn import nearest
from auscult.settings.section import Positive


class LofSettings(DomainSettings):
    """About 1 among training clips, larger outside; of a bank with one clip, which has no density, the distance to it.

    Where a domain has one clip, there is one bank for all.
    """

    kind: Literal["lof"]
    metric: Metric = "cosine"
    neighbours: Positive = 20
    """All other clips of the bank, if fewer. A number of its own: a density of one neighbour is none."""


def fit(bank: np.ndarray, domain: np.ndarray, settings: LofSettings) -> Any:
    """A fitted `sklearn.neighbors.LocalOutlierFactor`, or the single clip [1, D]."""
    from sklearn.neighbors import LocalOutlierFactor

    if len(bank) == 1:
        return bank
    neighbours = min(settings.neighbours, len(bank) - 1)
    return LocalOutlierFactor(neighbours, metric=settings.metric, algorithm="brute", novelty=True).fit(bank)


def score(state: Any, queries: np.ndarray, settings: LofSettings) -> Floats:
    if isinstance(state, np.ndarray):
        return nearest(state, queries, 1, settings.metric)
    inlier: np.ndarray = state.score_samples(queries)
    return -inlier.astype(np.float64)


BACKEND = per_bank(LofSettings, fit, score, least=2)
