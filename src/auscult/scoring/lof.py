"""Local outlier factor (Breunig et al., SIGMOD 2000): how much sparser training clips lie around a test clip than around
its neighbours among them. scikit-learn computes it; only training clips are neighbours."""

from __future__ import annotations

import numpy as np
import pandas as pd
from sklearn.neighbors import LocalOutlierFactor

from auscult.evaluation.metrics import Floats
from auscult.scoring.banks import Fit, Metric, Scope, Scorer, fit_and_score, per_domain
from auscult.scoring.knn import nearest


def lof_scores(
    train: np.ndarray,
    train_meta: pd.DataFrame,
    test: np.ndarray,
    test_meta: pd.DataFrame,
    k: int = 1,
    domains: bool = False,
    *,
    scope: Scope = "unit",
    metric: Metric = "cosine",
    neighbours: int = 20,
) -> Floats:
    """About 1 among training clips, larger outside.

    Args:
        k: does nothing: a density of one neighbour is none, so this score has a number of its own.
        domains: one bank per domain and the minimum; where a domain has one clip, which has no density, one bank for all.
        neighbours: all other clips of the bank, if fewer.
        others: as for `banks.fit_and_score`.

    Returns:
        float64 [test clips], > 0; of a unit with one training clip, the distance to it.
    """
    fit = per_domain(lof_fit(neighbours, metric), domains, least=2)
    return fit_and_score(fit, train, train_meta, test, test_meta, scope)


def lof_fit(neighbours: int, metric: Metric) -> Fit:
    def fit(bank: np.ndarray, domain: np.ndarray) -> Scorer:
        if len(bank) == 1:
            return lambda queries: nearest(bank, queries, 1, metric)
        factor = LocalOutlierFactor(min(neighbours, len(bank) - 1), metric=metric, algorithm="brute", novelty=True)
        factor.fit(bank)
        return lambda queries: -factor.score_samples(queries).astype(np.float64)

    return fit
