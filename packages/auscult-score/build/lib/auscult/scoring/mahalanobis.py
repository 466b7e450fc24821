"""Mahalanobis distance to the mean of the training clips, with one covariance per domain and the smaller distance.

So the "selective Mahalanobis" mode of the DCASE 2023 to 2025 baseline, there on the errors of an autoencoder. An embedding
has more dimensions than a domain has clips: the covariance is shrunk after Ledoit and Wolf (2004).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from auscult.evaluation.metrics import Floats
from auscult.scoring.banks import DomainSettings, per_bank

LEAST = 3
"""Clips of a covariance: of two the estimate shrinks nothing, and all directions but one would have no variance."""


class MahalanobisSettings(DomainSettings):
    """Distance in standard deviations.

    Where a domain has fewer than `LEAST` clips, there is one covariance for all clips of the unit (or type), and of fewer in
    all the same variance in every direction.
    """

    kind: Literal["mahalanobis"]


@dataclass(frozen=True)
class Full:
    """A bank of no fewer clips than dimensions: mean [D] and Cholesky factor [D, D] of the covariance."""

    mean: Floats
    factor: Floats


@dataclass(frozen=True)
class Low:
    """A bank of fewer clips than dimensions: mean [D]; 1 / variance in every direction is 1 / `least`, and along each of
    the `axes` [D, axes] `gain` [axes] more."""

    mean: Floats
    least: float
    axes: Floats
    gain: Floats


def fit(bank: np.ndarray, domain: np.ndarray, settings: MahalanobisSettings) -> Full | Low:
    """In float64."""
    from scipy.linalg import cholesky

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
        return Full(mean, cholesky(covariance, lower=True, overwrite_a=True, check_finite=False))
    found, vectors = np.linalg.eigh(product)
    real = found > 1e-12 * variance * dims
    axes = away.T @ vectors[:, real] / np.sqrt(count * found[real])  # of length one
    return Low(mean, least, axes, 1 / ((1 - share) * found[real] + least) - 1 / least)


def score(bank: Full | Low, queries: np.ndarray, settings: MahalanobisSettings) -> Floats:
    from scipy.linalg import solve_triangular

    off = queries - bank.mean
    if isinstance(bank, Full):
        return _length(solve_triangular(bank.factor, off.T, lower=True, check_finite=False).T)
    square = np.einsum("qd,qd->q", off, off) / bank.least + np.square(off @ bank.axes) @ bank.gain
    distance: Floats = np.sqrt(np.maximum(square, 0))
    return distance


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


BACKEND = per_bank(MahalanobisSettings, fit, score, least=LEAST)
