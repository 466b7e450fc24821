"""Nearest-neighbour score: distance from a test clip to the training clips of its own unit or machine type.

With domains, each domain has its own bank and the smaller of the two scores counts (AnoPatch, section 3.3): a target bank
of ten clips would otherwise drown among a thousand source clips. The domain of a test clip is never looked at.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import numpy as np
import pandas as pd
from sklearn.neighbors import NearestNeighbors

from auscult.evaluation.metrics import Floats
from auscult.scoring.banks import Fit, Metric, Scope, banks, groups, refuse_strangers


def knn_scores(
    train: np.ndarray,
    train_meta: pd.DataFrame,
    test: np.ndarray,
    test_meta: pd.DataFrame,
    k: int = 1,
    domains: bool = False,
    *,
    scope: Scope = "unit",
    metric: Metric = "cosine",
) -> Floats:
    """Mean distance to the `k` nearest training clips of the same unit, or machine type (all there are, if fewer).

    Args:
        train, test: embeddings float32 [clips, D].
        train_meta, test_meta: machine, unit and, for training clips, domain of each row.
        domains: one bank per domain and the minimum over banks.

    Returns:
        float64 [test clips], >= 0; cosine distances are at most 2.

    Raises:
        AuscultError: see `banks.refuse_strangers`.
    """
    scores = np.full(len(test), np.nan)
    for rows, distances in bank_distances(train, train_meta, test, test_meta, k, domains, metric, scope):
        scores[rows] = np.min(distances, axis=0)
    return scores


def bank_distances(
    train: np.ndarray,
    train_meta: pd.DataFrame,
    test: np.ndarray,
    test_meta: pd.DataFrame,
    k: int,
    domains: bool,
    metric: Metric,
    scope: Scope = "unit",
) -> Iterator[tuple[np.ndarray, list[np.ndarray]]]:
    """(rows of the test clips, one array of their distances per bank) of every unit or type, as for `knn_scores`."""
    refuse_strangers(train_meta, test_meta, scope)
    found = banks(train_meta, domains, scope)
    for group, rows in groups(test_meta, scope).items():
        yield rows, [nearest(train[bank], test[rows], k, metric) for bank in found[group]]


def left_out_scores(
    train: np.ndarray,
    train_meta: pd.DataFrame,
    k: int = 1,
    domains: bool = False,
    *,
    scope: Scope = "unit",
    metric: Metric = "cosine",
) -> Floats:
    """The score each training clip would get if it were no training clip: `knn_scores` with this clip left out.

    What a threshold may be taken from without a look at a test clip. A network has seen these clips in training and may put
    them nearer to each other than it puts unheard ones; then the threshold is too low.

    Returns:
        float64 [training clips]; infinity for the only clip of its unit.
    """
    scores = np.full(len(train), np.inf)
    for of_group in banks(train_meta, domains, scope).values():
        for bank in of_group:
            if len(bank) > 1:
                scores[bank] = np.minimum(scores[bank], nearest_others(train[bank], k, metric))
            for other in of_group:
                if other is not bank:
                    scores[other] = np.minimum(scores[other], nearest(train[bank], train[other], k, metric))
    return scores


LEFT_OUT = {
    "knn_cosine": partial(left_out_scores, metric="cosine"),
    "knn_euclidean": partial(left_out_scores, metric="euclidean"),
}
"""Back-ends whose training clips have exact scores of their own. One that looks at other test clips has no place here."""


def nearest_fit(k: int, metric: Metric) -> Fit:
    """The score of `knn_scores` on one bank."""
    return lambda bank, domain: lambda queries: nearest(bank, queries, k, metric)


def nearest(bank: np.ndarray, queries: np.ndarray, k: int, metric: Metric) -> Floats:
    """Mean distance [queries] to the `k` nearest clips of the bank (all there are, if fewer)."""
    search = NearestNeighbors(n_neighbors=min(k, len(bank)), metric=metric, algorithm="brute").fit(bank)
    mean: Floats = search.kneighbors(queries)[0].mean(axis=1)
    return mean


def nearest_others(bank: np.ndarray, k: int, metric: Metric) -> Floats:
    """Mean distance [clips] of each clip of a bank of two or more to the `k` nearest others."""
    search = NearestNeighbors(metric=metric, algorithm="brute").fit(bank)
    mean: Floats = search.kneighbors(None, min(k, len(bank) - 1))[0].mean(axis=1)
    return mean
