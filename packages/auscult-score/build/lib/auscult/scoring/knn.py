"""Nearest-neighbour score: distance from a test clip to the training clips of its own unit or machine type.

With domains, each domain has its own bank and the smaller of the two scores counts (AnoPatch, section 3.3): a target bank
of ten clips would otherwise drown among a thousand source clips.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Literal

import numpy as np

from auscult.evaluation.metrics import Floats
from auscult.scoring.banks import DomainSettings, Metric, NearestSettings, by_domain, groups, per_bank, unit_length

if TYPE_CHECKING:
    import pandas as pd

_BLOCK = 2**23
"""Distances held at once: 32 MiB, or 64 of float64."""


class KnnSettings(NearestSettings, DomainSettings):
    """Mean distance to the `k` nearest training clips (all there are, if fewer); cosine distances are at most 2."""

    kind: Literal["knn_cosine", "knn_euclidean"]

    @property
    def metric(self) -> Metric:
        return "cosine" if self.kind == "knn_cosine" else "euclidean"


def fit(bank: np.ndarray, domain: np.ndarray, settings: NearestSettings) -> np.ndarray:
    """The bank itself is what neighbours are looked for in."""
    return bank


def score(bank: np.ndarray, queries: np.ndarray, settings: KnnSettings) -> Floats:
    return nearest(bank, queries, settings.k, settings.metric)


def left_out(train: np.ndarray, meta: pd.DataFrame, settings: KnnSettings) -> Floats:
    """The score each training clip would get if it were no training clip.

    What a threshold may be taken from without a look at a test clip. A network has seen these clips in training and may put
    them nearer to each other than it puts new ones; then the threshold is too low.

    Returns:
        float64 [training clips]; infinity for the only clip of its unit.
    """
    scores = np.full(len(train), np.inf)
    for rows in groups(meta, settings.scope or "unit").values():
        parts = by_domain(meta["domain"].to_numpy()[rows]) if settings.one_per_domain else [np.arange(len(rows))]
        banks = [rows[part] for part in parts]
        for bank in banks:
            if len(bank) > 1:
                scores[bank] = np.minimum(scores[bank], nearest_others(train[bank], settings.k, settings.metric))
            for other in banks:
                if other is not bank:
                    distance = nearest(train[bank], train[other], settings.k, settings.metric)
                    scores[other] = np.minimum(scores[other], distance)
    return scores


def nearest(bank: np.ndarray, queries: np.ndarray, k: int, metric: Metric) -> Floats:
    """Mean distance [queries] to the `k` nearest clips of the bank (all there are, if fewer).

    >>> bank, queries = np.array([[0.0], [1.0], [5.0]]), np.array([[4.0], [0.5]])
    >>> nearest(bank, queries, 1, "euclidean").tolist()
    [1.0, 0.5]
    >>> nearest(bank, queries, 2, "euclidean").tolist()
    [2.0, 0.5]
    """
    means = np.empty(len(queries))
    for rows, distance in distances(queries, bank, metric):
        means[rows] = smallest_mean(distance, k)
    return means


def nearest_others(bank: np.ndarray, k: int, metric: Metric) -> Floats:
    """Mean distance [clips] of each clip of a bank of two or more to the `k` nearest others.

    >>> nearest_others(np.array([[0.0], [1.0], [5.0]]), 1, "euclidean").tolist()
    [1.0, 1.0, 4.0]
    """
    means = np.empty(len(bank))
    for rows, distance in distances(bank, bank, metric):
        distance[np.arange(len(distance)), np.arange(rows.start, rows.stop)] = np.inf  # itself
        means[rows] = smallest_mean(distance, min(k, len(bank) - 1))
    return means


def distances(queries: np.ndarray, bank: np.ndarray, metric: Metric) -> Iterator[tuple[slice, np.ndarray]]:
    """(rows of the queries, their distances [rows, clips of the bank]) in blocks that memory holds.

    Cosine distances have the precision of the embeddings, Euclidean ones float64: they are differences of large squares.
    """
    if metric == "cosine":
        queries, bank = unit_length(queries), unit_length(bank)
    else:
        queries, bank = queries.astype(np.float64), bank.astype(np.float64)
    squares = _squares(bank) if metric == "euclidean" else np.zeros(0)
    step = max(1, _BLOCK // len(bank))
    for start in range(0, len(queries), step):
        rows = slice(start, min(start + step, len(queries)))
        distance: np.ndarray = queries[rows] @ bank.T
        if metric == "cosine":
            np.subtract(1, distance, out=distance)
            np.clip(distance, 0, 2, out=distance)  # rounding
        else:
            distance *= -2
            distance += _squares(queries[rows])[:, None]
            distance += squares
            np.sqrt(np.maximum(distance, 0, out=distance), out=distance)
        yield rows, distance


def _squares(vectors: np.ndarray) -> Floats:
    """Squared lengths [clips], a part of the vectors at a time: all their squares would be another copy of the bank."""
    step = max(1, _BLOCK // max(1, vectors.shape[1]))
    parts = [(vectors[start : start + step] ** 2).sum(axis=1) for start in range(0, len(vectors), step)]
    return np.concatenate(parts) if parts else np.zeros(0)


def smallest_mean(values: np.ndarray, count: int) -> Floats:
    """Mean [rows] of the `count` smallest of each row, of all if there are fewer."""
    count = min(count, values.shape[1])
    if count == 1:
        return values.min(axis=1).astype(np.float64)
    mean: Floats = np.partition(values, count - 1, axis=1)[:, :count].mean(axis=1, dtype=np.float64)
    return mean


BACKEND = per_bank(KnnSettings, fit, score, left_out=left_out)
