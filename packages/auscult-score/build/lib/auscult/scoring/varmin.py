"""VarMin: BEAM with each training clip's distance lowered by what its own surroundings explain.

Matsumoto et al., DCASE 2025 workshop, row by row as the band stack of 2026 has it (kasahart/asd-experiments). For each row f:

    b_i   mean distance of training clip i to its K nearest other training clips
    d_z   distance of training clip z to its nearest other one, and b_z that one's b
    alpha = Cov(d, b) / Var(b) over all z, which makes the variance of d - alpha b least
    s_f(x) = min over i of (D(x_f, y_i,f) - alpha b_i),    score(x) = mean over f of s_f(x)

alpha is not cut off, and may be negative; it is 0 where all b are equal. The clip that is nearest to x may be another one than
without the correction, and scores may be below zero. One bank of both domains: clips of the target, which are few, have large b.
With alpha = 0 it is BEAM, with one row and alpha = 0 the nearest neighbour. `log`: arXiv 2603.04605, of logarithms of
distances, as far as that paper can be read: min over i of (log D - alpha log b_i).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from auscult.evaluation.metrics import Floats
from auscult.scoring.banks import per_bank
from auscult.scoring.beam import RowSettings, by_row, each_row
from auscult.scoring.exits import surroundings
from auscult.scoring.knn import distances, smallest_mean
from auscult.settings.section import Positive

FLOOR = 1e-6
"""Least distance of which a logarithm is taken: what float32 tells from zero."""
EQUAL = 1e-12
"""Variance of b, relative to its mean square, from which on all b count as equal."""


class VarMinSettings(RowSettings):
    """Mean over rows of the smallest distance, each lowered by `alpha` times the density of its training clip."""

    kind: Literal["varmin"]
    density: Positive = 4
    """K; 1 in arXiv 2603.04605, with `log`."""
    alpha: Literal["auto"] | float = "auto"
    log: bool = False
    exits: bool = False
    """Fewer than K for a clip whose cluster ends before (exits.py); K is then an upper limit, 64 in arXiv 2602.18777."""


@dataclass(frozen=True)
class Bank:
    """Training clips [clips, rows * D], and what is taken from distances to each, float64 [rows, clips]."""

    references: np.ndarray
    discount: Floats


def fit(bank: np.ndarray, domain: np.ndarray, settings: VarMinSettings) -> Bank:
    discount = np.zeros((settings.rows or 1, len(bank)))
    if len(bank) > 1:
        for f, of in enumerate(by_row(bank, settings.rows)):
            row = np.ascontiguousarray(of)
            b = _space(surroundings(row, settings.density, settings.metric, settings.exits)[0], settings)
            discount[f] = _alpha(row, b, settings) * b
    return Bank(bank, discount)


def score(bank: Bank, queries: np.ndarray, settings: VarMinSettings) -> Floats:
    total = np.zeros(len(queries))
    for (of, to), discount in zip(each_row(bank.references, queries, settings.rows), bank.discount, strict=True):
        for clips, distance in distances(to, of, settings.metric):
            total[clips] += smallest_mean(_space(distance, settings) - discount, settings.k)
    return total / len(bank.discount)


def _space(distance: np.ndarray, settings: VarMinSettings) -> Floats:
    found: Floats = distance.astype(np.float64)
    return np.log(np.maximum(found, FLOOR)) if settings.log else found


def _alpha(row: np.ndarray, b: Floats, settings: VarMinSettings) -> float:
    """Of a row [clips, D] of two training clips or more, each left out in its turn."""
    if settings.alpha != "auto":
        return settings.alpha
    d, place = np.empty(len(row)), np.empty(len(row), np.int64)
    for clips, distance in distances(row, row, settings.metric):
        distance[np.arange(len(distance)), np.arange(clips.start, clips.stop)] = np.inf  # itself
        place[clips] = distance.argmin(axis=1)
        d[clips] = distance[np.arange(len(distance)), place[clips]]
    return slope(_space(d, settings), b[place])


def slope(d: Floats, b: Floats) -> float:
    """Cov(d, b) / Var(b) of float64 [clips] each; 0 where all of b are equal.

    >>> slope(np.array([1.0, 3.0, 5.0]), np.array([0.0, 1.0, 2.0])), slope(np.array([1.0, 2.0]), np.array([3.0, 3.0]))
    (2.0, 0.0)
    """
    deviation = b - b.mean()
    variance = float(np.mean(deviation**2))
    if variance <= EQUAL * float(np.mean(b**2)):
        return 0.0
    return float(np.mean((d - d.mean()) * deviation)) / variance


BACKEND = per_bank(VarMinSettings, fit, score)
