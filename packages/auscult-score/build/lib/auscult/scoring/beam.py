"""BEAM: each frequency row finds its nearest training clip by itself, and the mean over rows counts.

arXiv 2603.13749: one bank per row, source and target clips together,

    s_f(x) = min over training clips y of D(x_f, y_f),    score(x) = mean over f of s_f(x),

so that the low band may resemble one clip and the high band another; a distance of whole clips would ask for one that
resembles in all. With one row it is the nearest neighbour. Their D is (1 - cos) / 2, here 1 - cos: the same order.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import numpy as np

from auscult.errors import AuscultError
from auscult.evaluation.metrics import Floats
from auscult.scoring.banks import Metric, NearestSettings, per_bank
from auscult.scoring.knn import nearest
from auscult.settings.section import Positive


class RowSettings(NearestSettings):
    """Of a back-end that takes an embedding for `rows` vectors of equal length, lowest frequency first."""

    rows: Positive | None = None
    """Rows of the embedding; null = as many as the arm says (1 where it keeps none apart)."""
    metric: Metric = "cosine"


class BeamSettings(RowSettings):
    """Mean over rows of the mean distance to the `k` nearest training clips; at most 2 for cosine distances."""

    kind: Literal["beam"]


def by_row(embeddings: np.ndarray, rows: int | None) -> np.ndarray:
    """Embeddings [clips, rows * D] as [rows, clips, D].

    >>> by_row(np.array([[1, 2, 3, 4]]), 2).tolist()
    [[[1, 2]], [[3, 4]]]

    Raises:
        AuscultError: their length is no multiple of `rows`.
    """
    count, width = rows or 1, embeddings.shape[1]
    if width % count:
        raise AuscultError(f"embeddings of {width} numbers do not fall into {count} rows", "rows", "leave it at null")
    return np.moveaxis(embeddings.reshape(len(embeddings), count, width // count), 1, 0)


def each_row(bank: np.ndarray, queries: np.ndarray, rows: int | None) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """(bank [clips, D], queries [queries, D]) of each row, in memory of their own."""
    for of, to in zip(by_row(bank, rows), by_row(queries, rows), strict=True):
        yield np.ascontiguousarray(of), np.ascontiguousarray(to)


def fit(bank: np.ndarray, domain: np.ndarray, settings: BeamSettings) -> np.ndarray:
    return bank


def score(bank: np.ndarray, queries: np.ndarray, settings: BeamSettings) -> Floats:
    total = np.zeros(len(queries))
    for of, to in each_row(bank, queries, settings.rows):
        total += nearest(of, to, settings.k, settings.metric)
    return total / (settings.rows or 1)


BACKEND = per_bank(BeamSettings, fit, score)
