"""Nearest-neighbour score normalised over the test set: a separate back-end, because it is no official score.

With one bank per domain, distances to a dense source bank are smaller than to a target bank of ten clips, so that the
minimum hardly ever looks at the target. Public code (RMIS of the authors of AnoPatch; GenRep) therefore subtracts, from the
distances to each bank, their mean over the test clips and divides by their deviation, which the papers' formulas do not
show. A clip's score then depends on the other test clips: the challenge's rules demand that each be judged alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np

from auscult.evaluation.metrics import Floats
from auscult.scoring.banks import DomainSettings, NearestSettings, per_bank, smallest
from auscult.scoring.knn import fit, nearest


class TransductiveSettings(NearestSettings, DomainSettings):
    """Minimum over the banks of a unit (or type) of the distances, each bank's z-normalised over the unit's test clips.

    Without domains there is one bank: within a unit the order of the clips is that of `knn_cosine`. In standard deviations.
    """

    kind: Literal["knn_cosine_transductive"]


def score(bank: np.ndarray, queries: np.ndarray, settings: TransductiveSettings) -> Floats:
    return nearest(bank, queries, settings.k, "cosine")


def smallest_normalised(distances: Sequence[Floats]) -> Floats:
    return smallest([normalised(of_bank) for of_bank in distances])


def normalised(distances: Floats) -> Floats:
    """Distances [queries] minus their mean, in standard deviations; 0 where all are equal.

    >>> normalised(np.array([1.0, 2.0, 3.0])).round(3).tolist()
    [-1.225, 0.0, 1.225]
    >>> normalised(np.array([2.0, 2.0])).tolist()
    [0.0, 0.0]
    """
    away = distances - distances.mean()
    deviation = away.std()
    equal = deviation <= 1e-12 * np.abs(distances).max(initial=0.0)  # but for rounding
    return np.zeros_like(away) if equal else away / deviation


BACKEND = per_bank(TransductiveSettings, fit, score, combine=smallest_normalised, transductive=True)
