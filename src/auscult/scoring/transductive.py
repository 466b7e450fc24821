"""Nearest-neighbour score normalised over the test set: a separate back-end, because it is no official score.

With one bank per domain, distances to a dense source bank are smaller than to a target bank of ten clips, so that the
minimum hardly ever looks at the target. Public code (RMIS of the authors of AnoPatch; GenRep) therefore subtracts, from the
distances to each bank, their mean over the test clips and divides by their deviation, which the papers' formulas do not
show. A clip's score then depends on the other test clips: the challenge's rules demand that each be judged alone.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from auscult.scoring.banks import Metric, Scope
from auscult.scoring.knn import bank_distances


def transductive_scores(
    train: np.ndarray,
    train_meta: pd.DataFrame,
    test: np.ndarray,
    test_meta: pd.DataFrame,
    k: int = 1,
    domains: bool = False,
    *,
    scope: Scope = "unit",
    metric: Metric = "cosine",
) -> np.ndarray:
    """Minimum over the banks of a unit (or type) of the distances, each bank's z-normalised over the unit's test clips.

    Without domains there is one bank: within a unit the order of the clips is that of `knn_scores`.

    Args:
        As for `knn.knn_scores`.

    Returns:
        float64 [test clips], in standard deviations. Where all test clips are equally far from a bank, 0.
    """
    scores = np.full(len(test), np.nan)
    for rows, distances in bank_distances(train, train_meta, test, test_meta, k, domains, metric, scope):
        scores[rows] = np.min([_normalised(of_bank) for of_bank in distances], axis=0)
    return scores


def _normalised(distances: np.ndarray) -> np.ndarray:
    away = distances - distances.mean()
    deviation = away.std()
    equal = deviation <= 1e-12 * np.abs(distances).max(initial=0.0)  # but for rounding
    return np.zeros_like(away) if equal else away / deviation
