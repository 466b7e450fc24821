"""Local density normalisation: a distance counts for less where training clips lie far apart.

Wilkinghoff et al. (arXiv 2509.10951): the distance of a test clip x to a training clip y is divided by the mean of y's
distances to its K nearest other training clips, and the smallest ratio counts,

    score(x) = min over y of d(x, y) / mean of the K smallest d(y, y'), y' another training clip.

Target clips, of which there are few, lie farther apart than source clips: the ratio makes up for that in one bank, without
a look at domains. GenRep's form for DCASE 2025 has a bank per domain, each with its own K, and divides by the *sum* of the K
distances: `domain_banks: true`, `density: 16`, `density_target: 9`, `aggregate: sum`, `metric: euclidean`. With sums and two K
the banks do not weigh alike: a source ratio is divided by 16 means, a target ratio by 9. `exits`: each training clip's own
number of neighbours (exits.py), of at most `density`, for which the paper has 64.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from auscult.evaluation.metrics import Floats
from auscult.scoring.banks import DomainSettings, Metric, NearestSettings, per_bank
from auscult.scoring.exits import surroundings
from auscult.scoring.knn import distances, smallest_mean
from auscult.settings.section import Positive

FLOOR = 1e-6
"""Least mean distance that is divided by: what float32 tells from zero. It keeps equal training clips from giving 0 / 0."""


class LdnSettings(NearestSettings, DomainSettings):
    """Mean of the `k` smallest distances to training clips, each divided by that clip's own to its neighbours
    (`k` = 1: the equation above).

    Scores are finite and not negative. A bank of one clip has no density: the distance itself.
    """

    kind: Literal["ldn"]
    domain_banks: bool | None = False
    """false = one bank of both domains (Wilkinghoff et al.)."""
    metric: Metric = "cosine"
    density: Positive = 4
    """Neighbours K of a training clip that its density is taken from (all other clips, if fewer)."""
    density_target: Positive | None = None
    """K in a bank of target clips alone; null = `density`."""
    aggregate: Literal["mean", "sum"] = "mean"
    """Of the distances to these K."""
    exits: bool = False
    """Fewer than K for a clip whose cluster ends before (exits.py)."""


@dataclass(frozen=True)
class Bank:
    """Training clips [clips, D], and what distances to each are divided by, [clips]."""

    references: np.ndarray
    spread: np.ndarray


def fit(bank: np.ndarray, domain: np.ndarray, settings: LdnSettings) -> Bank:
    count = settings.density
    if settings.density_target is not None and (domain == "target").all():
        count = settings.density_target
    if len(bank) == 1:
        return Bank(bank, np.ones(1, bank.dtype))
    mean, size = surroundings(bank, count, settings.metric, settings.exits)
    spread = np.maximum(mean, FLOOR) * (size if settings.aggregate == "sum" else 1)
    return Bank(bank, spread.astype(bank.dtype))


def score(bank: Bank, queries: np.ndarray, settings: LdnSettings) -> Floats:
    ratios = np.empty(len(queries))
    for rows, distance in distances(queries, bank.references, settings.metric):
        distance /= bank.spread
        ratios[rows] = smallest_mean(distance, settings.k)
    return ratios


BACKEND = per_bank(LdnSettings, fit, score)
