"""A bank of a few centres of the source clips beside all target clips: Wilkinghoff's back-end (code of his DCASE systems).

Sixteen centres stand for a thousand source clips, so that target clips are no longer a hundredth of the bank.
"""

from __future__ import annotations

import warnings
from typing import Any, Literal

import numpy as np

from auscult.evaluation.metrics import Floats
from auscult.scoring.banks import NearestSettings, Seed, per_bank, unit_length
from auscult.scoring.knn import nearest
from auscult.settings.section import Positive


class KMeansSettings(NearestSettings):
    """Mean cosine distance (0 to 2) to the `k` nearest of the source's centres and the target clips, in one bank.

    Clips of no known domain count as source.
    """

    kind: Literal["kmeans"]
    centres: Positive = 16
    """Of the source clips of a unit (or type), scaled to length one; where there are no more clips than that, the clips."""
    seed: Seed = 0
    """Of the first centres."""


def fit(bank: np.ndarray, domain: np.ndarray, settings: KMeansSettings) -> np.ndarray:
    """Centres and target clips, [members, D]."""
    target = domain == "target"
    centres = source_centres(bank[~target], settings.centres, settings.seed)
    return np.concatenate([centres, unit_length(bank[target])])


def score(members: np.ndarray, queries: np.ndarray, settings: KMeansSettings) -> Floats:
    return nearest(members, queries, settings.k, "cosine")


def source_centres(source: np.ndarray, centres: int, seed: int) -> np.ndarray:
    """Centres [centres, D] of embeddings [clips, D] scaled to length one."""
    from sklearn.cluster import KMeans
    from sklearn.exceptions import ConvergenceWarning

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
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

    return threadpool_limits(limits=1, user_api="openmp")


BACKEND = per_bank(KMeansSettings, fit, score)
