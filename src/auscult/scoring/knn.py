"""Nearest-neighbour score: distance from a test clip to the training clips of its own unit.

With domains, each domain has its own bank and the smaller of the two scores counts (AnoPatch, section 3.3): a target bank
of ten clips would otherwise drown among a thousand source clips. The domain of a test clip is never looked at.
"""

from __future__ import annotations

from typing import Literal, Protocol

import numpy as np
import pandas as pd
from sklearn.neighbors import NearestNeighbors


class Backend(Protocol):
    """Scores [test clips] from embeddings [clips, D] and tables with machine, unit, domain (training clips only), in order."""

    def __call__(
        self,
        train: np.ndarray,
        train_meta: pd.DataFrame,
        test: np.ndarray,
        test_meta: pd.DataFrame,
        k: int,
        domains: bool,
    ) -> np.ndarray: ...


def knn_scores(
    train: np.ndarray,
    train_meta: pd.DataFrame,
    test: np.ndarray,
    test_meta: pd.DataFrame,
    k: int = 1,
    domains: bool = False,
    *,
    metric: Literal["cosine", "euclidean"] = "cosine",
) -> np.ndarray:
    """Mean distance to the `k` nearest training clips of the same machine and unit (all there are, if fewer).

    Args:
        train, test: embeddings float32 [clips, D].
        train_meta, test_meta: machine, unit and, for training clips, domain of each row.
        domains: one bank per domain and the minimum over banks.

    Returns:
        float64 [test clips], >= 0; cosine distances are at most 2.
    """
    scores = np.full(len(test), np.nan)
    banks = train_meta.reset_index(drop=True).groupby(["machine", "unit"]).indices
    for unit, rows in test_meta.reset_index(drop=True).groupby(["machine", "unit"]).indices.items():
        bank = banks[unit]
        parts = [bank]
        if domains:
            domain = train_meta["domain"].to_numpy()[bank]
            parts = [bank[domain == name] for name in np.unique(domain)]
        scores[rows] = np.min([_distance(train[part], test[rows], k, metric) for part in parts], axis=0)
    return scores


def _distance(bank: np.ndarray, queries: np.ndarray, k: int, metric: str) -> np.ndarray:
    search = NearestNeighbors(n_neighbors=min(k, len(bank)), metric=metric, algorithm="brute").fit(bank)
    mean: np.ndarray = search.kneighbors(queries)[0].mean(axis=1)
    return mean
