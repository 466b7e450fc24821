"""Local density normalisation: a distance counts for less where training clips lie far apart.

Wilkinghoff et al. (arXiv 2509.10951): the distance of a test clip x to a training clip y is divided by the mean of y's
distances to its K nearest other training clips, and the smallest ratio counts,

    score(x) = min over y of d(x, y) / mean of the K smallest d(y, y'), y' another training clip.

Target clips, of which there are few, lie farther apart than source clips: the ratio makes up for that in one bank, without
a look at domains.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np

from auscult.evaluation.metrics import Floats
from auscult.scoring.banks import NearestSettings, per_bank, unit_length
from auscult.settings.section import Positive

FLOOR = 1e-6
"""Least mean distance that is divided by: what float32 tells from zero. It keeps equal training clips from giving 0 / 0."""
_BLOCK = 2**24  # distances held at once: 64 MiB


class LdnSettings(NearestSettings):
    """Mean of the `k` smallest cosine distances to training clips, each divided by that clip's own to its neighbours
    (`k` = 1: the equation above).

    Scores are finite and not negative. There is one bank of both domains. A bank of one clip has no density: the distance
    itself.
    """

    kind: Literal["ldn"]
    density: Positive = 4
    """Neighbours K of a training clip that its density is taken from (all other clips, if fewer)."""


@dataclass(frozen=True)
class Bank:
    """Training clips of length one, [clips, D], and what distances to each are divided by, [clips]."""

    references: np.ndarray
    spread: np.ndarray


def fit(bank: np.ndarray, domain: np.ndarray, settings: LdnSettings) -> Bank:
    references = unit_length(bank)
    return Bank(references, local_density(references, settings.density).astype(references.dtype))


def score(bank: Bank, queries: np.ndarray, settings: LdnSettings) -> Floats:
    ratios = np.empty(len(queries))
    for rows, distance in _distances(unit_length(queries), bank.references):
        distance /= bank.spread
        ratios[rows] = _smallest(distance, settings.k)
    return ratios


def local_density(references: np.ndarray, density: int) -> Floats:
    """Mean cosine distance [clips] of each of `references` (of length one, [clips, D]) to its nearest others, >= `FLOOR`."""
    if len(references) == 1:
        return np.ones(1)
    means = np.empty(len(references))
    for rows, distance in _distances(references, references):
        distance[np.arange(len(distance)), np.arange(rows.start, rows.stop)] = np.inf  # itself
        means[rows] = _smallest(distance, min(density, len(references) - 1))
    return np.maximum(means, FLOOR)


def _distances(queries: np.ndarray, references: np.ndarray) -> Iterator[tuple[slice, np.ndarray]]:
    """(rows of the queries, their cosine distances [rows, references]) in blocks; both of length one."""
    step = max(1, _BLOCK // len(references))
    for start in range(0, len(queries), step):
        rows = slice(start, min(start + step, len(queries)))
        distance = queries[rows] @ references.T
        np.subtract(1, distance, out=distance)
        yield rows, np.maximum(distance, 0, out=distance)  # rounding


def _smallest(values: np.ndarray, count: int) -> Floats:
    """Mean of the `count` smallest of each row, of all if there are fewer."""
    count = min(count, values.shape[1])
    if count == 1:
        return values.min(axis=1).astype(np.float64)
    mean: Floats = np.partition(values, count - 1, axis=1)[:, :count].mean(axis=1, dtype=np.float64)
    return mean


BACKEND = per_bank(LdnSettings, fit, score)
