"""SMOTE: target clips are multiplied by interpolation before nearest neighbours are looked for.

Chawla et al. (JAIR 2002), as the leaders of DCASE 2024 use it: between a target clip and one of its nearest target clips
new embeddings are drawn, until there are a fifth as many as source clips. imbalanced-learn draws them.
"""

from __future__ import annotations

import logging
from functools import cache

import numpy as np
import pandas as pd

from auscult.evaluation.metrics import Floats
from auscult.scoring.banks import Fit, Metric, Scope, Scorer, fit_and_score, per_domain
from auscult.scoring.knn import nearest_fit

log = logging.getLogger(__name__)


def smote_scores(
    train: np.ndarray,
    train_meta: pd.DataFrame,
    test: np.ndarray,
    test_meta: pd.DataFrame,
    k: int = 1,
    domains: bool = False,
    *,
    scope: Scope = "unit",
    metric: Metric = "cosine",
    ratio: float = 0.2,
    neighbours: int = 2,
    seed: int = 0,
) -> Floats:
    """`knn.knn_scores` with more target clips.

    Args:
        ratio: target clips are filled up to this share of the source clips of their unit (or type); where there are as
            many already, and where there is no target clip, nothing is added.
        neighbours: of a target clip, among which the other end is drawn: fewer where there are fewer other target clips
            (said once), and of a single target clip nothing is made (said once).
        seed: of the drawing.
        others: as for `knn.knn_scores`.
    """
    nearest = per_domain(nearest_fit(k, metric), domains)
    return fit_and_score(_with_more(nearest, ratio, neighbours, seed), train, train_meta, test, test_meta, scope)


def _with_more(nearest: Fit, ratio: float, neighbours: int, seed: int) -> Fit:
    def fit(bank: np.ndarray, domain: np.ndarray) -> Scorer:
        more = synthetic(bank[domain == "target"], int(ratio * (domain != "target").sum()), neighbours, seed)
        return nearest(np.concatenate([bank, more]), np.concatenate([domain, np.full(len(more), "target")]))

    return fit


def synthetic(target: np.ndarray, wanted: int, neighbours: int = 2, seed: int = 0) -> np.ndarray:
    """New embeddings [max(0, wanted - clips), D] on the lines between target clips [clips, D]; none of fewer than two."""
    from imblearn.over_sampling import SMOTE

    nothing = target[:0]
    if not len(target) or wanted <= len(target):
        return nothing
    if len(target) == 1:
        _say_once(
            "a single target clip has none to draw a line to: SMOTE adds nothing, and its unit has plain kNN scores"
        )
        return nothing
    if len(target) <= neighbours:
        _say_once(
            f"SMOTE takes fewer than {neighbours} neighbours where there are no more than {neighbours} target clips"
        )
    # The other class only has to exist: new clips are made of target clips alone.
    clips = np.concatenate([target, np.zeros((1, target.shape[1]), target.dtype)])
    of_class = np.r_[np.ones(len(target), dtype=int), 0]
    sampler = SMOTE(
        sampling_strategy={1: wanted}, k_neighbors=min(neighbours, len(target) - 1), random_state=seed
    )  # fmt: skip
    filled: np.ndarray = sampler.fit_resample(clips, of_class)[0]
    return filled[len(clips) :].astype(target.dtype)


@cache
def _say_once(text: str) -> None:
    log.warning(text)
