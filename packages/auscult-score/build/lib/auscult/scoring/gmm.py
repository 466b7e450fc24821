"""Gaussian mixture: the negative log-likelihood of a clip's embedding under a mixture fitted to training clips.

Embeddings are scaled to length one, and covariances are diagonal in all dimensions: a full one would first need the
embeddings projected to a few dimensions, and a clip that leaves the plane of ten target clips would not be noticed.
"""

from __future__ import annotations

import warnings
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field

from auscult.evaluation.metrics import Floats
from auscult.scoring.banks import DomainSettings, Seed, per_bank, unit_length
from auscult.scoring.kmeans import one_thread
from auscult.settings.section import Positive

CLIPS = 8
"""A bank has at most one component for so many clips."""


class GmmSettings(DomainSettings):
    """Negative log-likelihood in nats, of either sign. Where a domain has one clip, there is one mixture for all."""

    kind: Literal["gmm"]
    components: Positive = 4
    """Of a mixture; fewer where a bank has fewer than `CLIPS` clips for each."""
    floor: Annotated[float, Field(gt=0)] = 0.1
    """Added to every variance, as a share of the bank's mean variance: of few clips some dimensions hardly vary."""
    seed: Seed = 0
    """Of the first means."""


def fit(bank: np.ndarray, domain: np.ndarray, settings: GmmSettings) -> Any:
    """A fitted `sklearn.mixture.GaussianMixture`."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.mixture import GaussianMixture

    clips = unit_length(bank.astype(np.float64))
    if len(clips) == 1:  # scikit-learn asks for two; equal ones have the same mean and no variance either
        clips = np.repeat(clips, 2, axis=0)
    mixture = GaussianMixture(
        min(settings.components, max(1, len(bank) // CLIPS)), covariance_type="diag",
        reg_covar=max(settings.floor * float(clips.var(axis=0).mean()), 1e-9), random_state=settings.seed,
    )  # fmt: skip
    with one_thread(), warnings.catch_warnings():  # k-means finds the first means
        warnings.simplefilter("ignore", ConvergenceWarning)
        return mixture.fit(clips)


def score(mixture: Any, queries: np.ndarray, settings: GmmSettings) -> Floats:
    likelihood: Floats = mixture.score_samples(unit_length(queries.astype(np.float64)))
    return -likelihood


BACKEND = per_bank(GmmSettings, fit, score, least=2)
