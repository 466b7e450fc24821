"""Scores made comparable between domains: by each domain's own scores of training clips (DACo).

Mkrtchian (arXiv 2607.04526; code read, MIT). A clip's score is turned into the quantile that it has among the left-out scores
of the training clips of a domain, so that one threshold means one false-alarm rate in every domain, and the domains count by
how near the clip is to each:

    c_d(a) = (n_d q_d(a) + m q(a)) / (n_d + m)        q_d, q: quantile among the domain's n_d scores, among all
    w_d    = softmax over d of -(distance to the nearest training clip of d) / T, T the median left-out score
    score  = sum over d of w_d c_d(a)

m = 0: each domain by itself; the larger m, the nearer to the order of the plain scores. `hard`: the nearest domain alone.
`ratio` and `zscore` put a / median_d or (a - mean_d) / deviation_d in the place of c_d. A test clip's domain is not looked at.
T is on the scale of the (cosine) distances where `of` is nearest neighbours by them, as in the source's code; with scores on a
larger scale, such as local density's, the weights are nearly equal.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

import numpy as np
from pydantic import Field

from auscult.errors import AuscultError
from auscult.evaluation.metrics import Floats
from auscult.scoring.banks import BackendSettings, Scope, groups
from auscult.scoring.knn import nearest

if TYPE_CHECKING:
    import pandas as pd

LEAST = 1e-9
"""Least distance or score that is divided by."""


class CalibratedSettings(BackendSettings):
    """An entry of a sweep: the scores of another, calibrated by domain. In [0, 1) with `quantile`."""

    kind: Literal["calibrated"]
    of: str
    """A back-end of the same sweep."""
    how: Literal["quantile", "ratio", "zscore"] = "quantile"
    assign: Literal["soft", "hard"] = "soft"
    m: Annotated[float, Field(ge=0)] = 0.0
    """Weight of the map of all domains together, in clips; of `quantile` alone."""


@dataclass(frozen=True)
class Side:
    """Training or test clips: embeddings [clips, D], their table, and their scores [clips] (training clips: left out)."""

    embeddings: np.ndarray
    meta: pd.DataFrame
    scores: Floats


def quantile_map(normal: Floats) -> Callable[[Floats], Floats]:
    """Score -> its place among `normal` scores, in [0, 1): i / (n + 1) at the i-th smallest, straight between them.

    Above the largest it is no measurement but keeps the order: it goes on towards 1 as x / (x + s), x beyond the largest, s
    from the median to there.

    >>> quantile_map(np.array([1.0, 3.0, 2.0]))(np.array([0.5, 1.0, 2.5, 4.0])).tolist()
    [0.125, 0.25, 0.625, 0.875]
    """
    known = np.sort(normal)
    place = np.arange(len(known) + 1) / (len(known) + 1)
    scale = max(float(known[-1] - np.median(known)), LEAST)
    at = np.concatenate([[min(0.0, float(known[0]))], known])

    def of(scores: Floats) -> Floats:
        beyond = np.maximum(scores - known[-1], 0.0)
        found: Floats = np.interp(scores, at, place) + (1 - place[-1]) * beyond / (beyond + scale)
        return found

    return of


def calibrated(train: Side, test: Side, settings: CalibratedSettings, scope: Scope) -> Floats:
    """Calibrated scores [test clips], each unit's (or type's) by its own training clips.

    A unit of one training clip has no left-out score: those of all training clips count, so that its scores are on the others'
    scale. Where no clip has one, the scores themselves.

    Raises:
        AuscultError: `soft` or `ratio`, and the scores are no distances: their median is negative.
    """
    found = np.array(test.scores, dtype=np.float64)
    of_train = groups(train.meta, scope)
    domains, known = train.meta["domain"].to_numpy(), np.isfinite(train.scores)
    for group, rows in groups(test.meta, scope).items():
        of = of_train[group][known[of_train[group]]]
        if not len(of):
            of = np.flatnonzero(known)
        if not len(of):
            continue
        normal = train.scores[of]
        _refuse_negative(normal, settings)
        maps, distance = [], []
        for name in np.unique(domains[of]):
            own = domains[of] == name
            maps.append(_map(normal[own], normal, settings)(test.scores[rows]))
            distance.append(nearest(train.embeddings[of[own]], test.embeddings[rows], 1, "cosine"))
        near = np.stack(distance)  # [domains, clips]
        weight = _soft(near, max(float(np.median(normal)), LEAST))
        if settings.assign == "hard":
            weight = np.arange(len(near))[:, None] == near.argmin(axis=0)
        found[rows] = (weight * np.stack(maps)).sum(axis=0)
    return found


def _refuse_negative(normal: Floats, settings: CalibratedSettings) -> None:
    divides = settings.how == "ratio" or settings.assign == "soft"
    if divides and np.median(normal) < 0:
        what = f"scores by `{settings.of}` are no distances (median {np.median(normal):.3g}), and are divided by"
        raise AuscultError(what, "backends.sweep", "say `assign: hard` and `how: quantile`, or calibrate another entry")


def _map(own: Floats, every: Floats, settings: CalibratedSettings) -> Callable[[Floats], Floats]:
    if settings.how == "ratio":
        return lambda a: a / max(float(np.median(own)), LEAST)
    if settings.how == "zscore":
        return lambda a: (a - own.mean()) / (own.std() + LEAST)
    one, all_ = quantile_map(own), quantile_map(every)
    return lambda a: (len(own) * one(a) + settings.m * all_(a)) / (len(own) + settings.m)


def _soft(distance: Floats, temperature: float) -> Floats:
    """Weights [domains, clips] that add up to 1 for each clip."""
    weight = np.exp((distance.min(axis=0) - distance) / temperature)
    share: Floats = weight / weight.sum(axis=0)
    return share
