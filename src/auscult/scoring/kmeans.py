"""A bank of a few centres of the source clips beside all target clips: Wilkinghoff's back-end (code of his DCASE systems).

Sixteen centres stand for a thousand source clips, so that target clips are no longer a hundredth of the bank.
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pandas as pd
from sklearn.cluster import KMeans
from sklearn.exceptions import ConvergenceWarning
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from auscult.evaluation.metrics import Floats
from auscult.scoring.banks import Fit, Scope, Scorer, fit_and_score, unit_length
from auscult.scoring.knn import nearest


def kmeans_scores(
    train: np.ndarray,
    train_meta: pd.DataFrame,
    test: np.ndarray,
    test_meta: pd.DataFrame,
    k: int = 1,
    domains: bool = False,
    *,
    scope: Scope = "unit",
    centres: int = 16,
    seed: int = 0,
) -> Floats:
    """Mean cosine distance to the `k` nearest of the source's centres and the target clips.

    Args:
        domains: does nothing: centres and target clips are one bank. Clips of no known domain count as source.
        centres: of the source clips of a unit (or type), scaled to length one; where there are no more clips than that,
            the clips themselves.
        seed: of the first centres.
        others: as for `banks.fit_and_score`.

    Returns:
        float64 [test clips], 0 to 2.
    """
    return fit_and_score(centres_fit(k, centres, seed), train, train_meta, test, test_meta, scope)


def centres_fit(k: int, centres: int, seed: int) -> Fit:
    def fit(bank: np.ndarray, domain: np.ndarray) -> Scorer:
        target = domain == "target"
        members = np.concatenate([source_centres(bank[~target], centres, seed), unit_length(bank[target])])
        return lambda queries: nearest(members, queries, k, "cosine")

    return fit


def source_centres(source: np.ndarray, centres: int, seed: int) -> np.ndarray:
    """Centres [centres, D] of embeddings [clips, D] scaled to length one."""
    unit = unit_length(source)
    if len(unit) <= centres:
        return unit
    with one_thread(), warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # fewer distinct clips than centres: some coincide
        found: np.ndarray = KMeans(centres, random_state=seed).fit(unit).cluster_centers_
    return found


def one_thread() -> Any:
    """A context without OpenMP: k-means adds up its threads' sums in the order in which they are ready, so that with
    several the last bit is a matter of luck."""
    return threadpool_limits(limits=1, user_api="openmp")
