"""Nearest-neighbour score: distance from a test clip to the training clips of its own unit.

With domains, each domain has its own bank and the smaller of the two scores counts (AnoPatch, section 3.3): a target bank
of ten clips would otherwise drown among a thousand source clips. The domain of a test clip is never looked at.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal, Protocol

import numpy as np
import pandas as pd
from sklearn.neighbors import NearestNeighbors

Metric = Literal["cosine", "euclidean"]


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
    metric: Metric = "cosine",
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
    for rows, distances in bank_distances(train, train_meta, test, test_meta, k, domains, metric):
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
) -> Iterator[tuple[np.ndarray, list[np.ndarray]]]:
    """(rows of the test clips, one array of their distances per bank) of every machine and unit, as for `knn_scores`."""
    banks = _banks(train_meta, domains)
    for unit, rows in _units(test_meta).items():
        yield rows, [_distance(train[bank], test[rows], k, metric) for bank in banks[unit]]


def left_out_scores(
    train: np.ndarray, train_meta: pd.DataFrame, k: int = 1, domains: bool = False, *, metric: Metric = "cosine"
) -> np.ndarray:
    """The score each training clip would get if it were no training clip: `knn_scores` with this clip left out.

    What a threshold may be taken from without a look at a test clip. A network has seen these clips in training and may put
    them nearer to each other than it puts unheard ones; then the threshold is too low.

    Returns:
        float64 [training clips]; infinity for the only clip of its unit.
    """
    scores = np.full(len(train), np.inf)
    for banks in _banks(train_meta, domains).values():
        for bank in banks:
            if len(bank) > 1:
                search = NearestNeighbors(metric=metric, algorithm="brute").fit(train[bank])
                own = search.kneighbors(None, min(k, len(bank) - 1))[0].mean(axis=1)  # each among the others
                scores[bank] = np.minimum(scores[bank], own)
            for other in banks:
                if other is not bank:
                    scores[other] = np.minimum(scores[other], _distance(train[bank], train[other], k, metric))
    return scores


def _banks(train_meta: pd.DataFrame, domains: bool) -> dict[Any, list[np.ndarray]]:
    """(machine, unit) -> rows of the training clips in each of its banks."""
    found: dict[Any, list[np.ndarray]] = {}
    for unit, bank in _units(train_meta).items():
        found[unit] = [bank]
        if domains:
            domain = train_meta["domain"].to_numpy()[bank]
            found[unit] = [bank[domain == name] for name in np.unique(domain)]
    return found


def _units(meta: pd.DataFrame) -> dict[Any, np.ndarray]:
    """(machine, unit) -> its rows."""
    rows: dict[Any, np.ndarray] = meta.reset_index(drop=True).groupby(["machine", "unit"]).indices  # type: ignore[assignment]
    return rows


def _distance(bank: np.ndarray, queries: np.ndarray, k: int, metric: str) -> np.ndarray:
    search = NearestNeighbors(n_neighbors=min(k, len(bank)), metric=metric, algorithm="brute").fit(bank)
    mean: np.ndarray = search.kneighbors(queries)[0].mean(axis=1)
    return mean
