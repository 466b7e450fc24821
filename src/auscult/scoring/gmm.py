"""Gaussian mixture: the negative log-likelihood of a clip's embedding under a mixture fitted to training clips.

Embeddings are scaled to length one, and covariances are diagonal in all dimensions: a full one would first need the
embeddings projected to a few dimensions, and a clip that leaves the plane of ten target clips would not be noticed.
"""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import GaussianMixture

from auscult.evaluation.metrics import Floats
from auscult.scoring.banks import Fit, Scope, Scorer, fit_and_score, per_domain, unit_length
from auscult.scoring.kmeans import one_thread

CLIPS = 8
"""A bank has at most one component for so many clips."""


def gmm_scores(
    train: np.ndarray,
    train_meta: pd.DataFrame,
    test: np.ndarray,
    test_meta: pd.DataFrame,
    k: int = 1,
    domains: bool = False,
    *,
    scope: Scope = "unit",
    components: int = 4,
    floor: float = 0.1,
    seed: int = 0,
) -> Floats:
    """Negative log-likelihood in nats.

    Args:
        k: does nothing: there are no neighbours.
        domains: one mixture per domain and the minimum; where a domain has one clip, one mixture for all.
        components: of a mixture; fewer where a bank has fewer than `CLIPS` clips for each.
        floor: added to every variance, as a share of the bank's mean variance: of few clips some dimensions hardly vary.
        seed: of the first means.
        others: as for `banks.fit_and_score`.

    Returns:
        float64 [test clips], of either sign.
    """
    fit = per_domain(mixture_fit(components, floor, seed), domains, least=2)
    return fit_and_score(fit, train, train_meta, test, test_meta, scope)


def mixture_fit(components: int, floor: float, seed: int) -> Fit:
    def fit(bank: np.ndarray, domain: np.ndarray) -> Scorer:
        clips = unit_length(bank.astype(np.float64))
        if len(clips) == 1:  # scikit-learn asks for two; equal ones have the same mean and no variance either
            clips = np.repeat(clips, 2, axis=0)
        mixture = GaussianMixture(
            min(components, max(1, len(bank) // CLIPS)), covariance_type="diag",
            reg_covar=max(floor * float(clips.var(axis=0).mean()), 1e-9), random_state=seed,
        )  # fmt: skip
        with one_thread(), warnings.catch_warnings():  # k-means finds the first means
            warnings.simplefilter("ignore", ConvergenceWarning)
            mixture.fit(clips)
        return lambda queries: -mixture.score_samples(unit_length(queries.astype(np.float64)))

    return fit
