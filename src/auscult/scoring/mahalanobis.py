"""Mahalanobis distance to the mean of the training clips, with one covariance per domain and the smaller distance.

So the "selective Mahalanobis" mode of the DCASE 2023 to 2025 baseline, there on the errors of an autoencoder. An embedding
has more dimensions than a domain has clips: the covariance is shrunk after Ledoit and Wolf (2004).
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy.linalg import cholesky, solve_triangular
from sklearn.covariance import ledoit_wolf

from auscult.metrics import Floats
from auscult.scoring.banks import Scope, Scorer, fit_and_score, per_domain

LEAST = 3
"""Clips of a covariance: of two the estimate shrinks nothing, and all directions but one would have no variance."""


def mahalanobis_scores(
    train: np.ndarray,
    train_meta: pd.DataFrame,
    test: np.ndarray,
    test_meta: pd.DataFrame,
    k: int = 1,
    domains: bool = False,
    *,
    scope: Scope = "unit",
) -> Floats:
    """Distance in standard deviations.

    Args:
        k: does nothing: there are no neighbours.
        domains: one mean and covariance per domain and the minimum; where a domain has fewer than `LEAST` clips, one for
            all clips of the unit (or type), and of fewer in all the same variance in every direction.
        others: as for `banks.fit_and_score`.

    Returns:
        float64 [test clips], >= 0.
    """
    fit = per_domain(mahalanobis_fit, domains, LEAST)
    return fit_and_score(fit, train, train_meta, test, test_meta, scope)


def mahalanobis_fit(bank: np.ndarray, domain: np.ndarray) -> Scorer:
    """On one bank, in float64."""
    clips = bank.astype(np.float64)
    mean = clips.mean(axis=0)
    variance = float(clips.var(axis=0).mean()) or 1.0  # clips that are all alike: plain distance
    if len(clips) < LEAST:
        covariance = variance * np.eye(clips.shape[1])
    else:
        covariance, shrinkage = ledoit_wolf(clips)
        if shrinkage < 1e-6 or not covariance.any():  # Cholesky's algorithm needs some variance in every direction
            covariance = covariance + (1e-6 if covariance.any() else 1) * variance * np.eye(clips.shape[1])
    factor = cholesky(covariance, lower=True)

    def score(queries: np.ndarray) -> Floats:
        white = solve_triangular(factor, (queries - mean).T, lower=True)
        distance: Floats = np.sqrt(np.einsum("dq,dq->q", white, white))
        return distance

    return score
