"""Mahalanobis distance to the mean of the training clips, with one covariance per domain and the smaller distance.

So the "selective Mahalanobis" mode of the DCASE 2023 to 2025 baseline, there on the errors of an autoencoder. An embedding
has more dimensions than a domain has clips: the covariance is shrunk after Ledoit and Wolf (2004).
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy.linalg import cholesky, solve_triangular

from auscult.evaluation.metrics import Floats
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
    mean = bank.mean(axis=0, dtype=np.float64)
    away = bank - mean
    count, dims = away.shape
    few = count < dims
    # Of fewer clips than dimensions the products of clips say all that those of dimensions do, and are smaller.
    product = (away @ away.T if few else away.T @ away) / count
    variance = float(np.trace(product)) / dims or 1.0  # clips that are all alike: plain distance
    share = _shrinkage(away, product, variance) if count >= LEAST else 1.0
    least = share * variance  # in every direction, those without a training clip too
    if not few:
        covariance = (1 - share) * product + least * np.eye(dims)
        factor = cholesky(covariance, lower=True, overwrite_a=True, check_finite=False)
        return lambda queries: _length(solve_triangular(factor, (queries - mean).T, lower=True, check_finite=False).T)

    found, vectors = np.linalg.eigh(product)
    real = found > 1e-12 * variance * dims
    axes = away.T @ vectors[:, real] / np.sqrt(count * found[real])  # [dims, axes], of length one
    gain = 1 / ((1 - share) * found[real] + least) - 1 / least

    def score(queries: np.ndarray) -> Floats:
        off = queries - mean
        square = np.einsum("qd,qd->q", off, off) / least + np.square(off @ axes) @ gain
        distance: Floats = np.sqrt(np.maximum(square, 0))
        return distance

    return score


def _shrinkage(away: np.ndarray, product: np.ndarray, variance: float) -> float:
    """Weight of the mean variance in Ledoit and Wolf's estimate, as `sklearn.covariance.LedoitWolf`, from sums that are
    there anyway; at least 1e-6, so that every direction has some variance.

    Args:
        away: clips minus their mean, [clips, D].
        product: their products over the number of clips, of dimensions or of clips.
        variance: mean of the variances.
    """
    count, dims = away.shape
    squares = float(np.square(product).sum())  # the same for both kinds of product
    distance = squares - dims * variance**2
    error = (float(np.square(np.einsum("nd,nd->n", away, away)).sum()) / count - squares) / count
    return min(1.0, max(error / distance if distance > 0 else 1.0, 1e-6))


def _length(vectors: np.ndarray) -> Floats:
    length: Floats = np.sqrt(np.einsum("qd,qd->q", vectors, vectors))
    return length
