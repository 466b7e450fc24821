"""From which score on a sound is called anomalous, given the scores of normal sound alone: the left-out scores of windows, the
threshold, and p-values."""

from __future__ import annotations

import math
import re
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np

from auscult.detector.chances import beta_quantile
from auscult.errors import AuscultError
from auscult.evaluation.metrics import Floats

By = Literal["quantile", "gamma"]
Metric = Literal["cosine", "euclidean"]
MANY = 200
"""Recordings from which on one more or less changes no deviation by a percent."""
LEAST = 0.01
"""Of a deviation that is divided by, where 1 is that of all windows: what varies in one recording alone is strange only."""


@dataclass(frozen=True)
class Threshold:
    """A sound is anomalous if its score is higher than `value`, which normal sound is in `rate` of all cases.

    `by` says how it was found.
    """

    value: float
    rate: float
    by: By


def quantile(normal: np.ndarray, rate: float) -> float:
    """The smallest of the scores `normal` that new normal sound exceeds with a probability of at most `rate`.

    That is number k = ceil((n + 1) (1 - rate)) of n scores in ascending order: another score of the same distribution is
    equally likely to fall into each of the n + 1 gaps (split conformal prediction: Vovk, Gammerman, Shafer, "Algorithmic
    Learning in a Random World", 2005). A score is higher exactly when its p-value is at most `rate`.

    Returns:
        Infinity if n + 1 < 1 / rate: so few scores say nothing about so small a rate.
    """
    place = math.ceil((len(normal) + 1) * (1 - rate) - 1e-9)  # 61 * 0.9 is not quite 54.9
    return float(np.sort(normal)[max(place, 1) - 1]) if place <= len(normal) else math.inf


def gamma_quantile(normal: np.ndarray, rate: float) -> float:
    """Quantile 1 - `rate` of a gamma distribution with shape, location and scale fitted to `normal` (the DCASE baselines').

    Returns:
        NaN if no distribution can be fitted.
    """
    if np.ptp(normal) == 0:
        return math.nan
    from scipy.stats import FitError, gamma  # half a second, which nothing else here takes

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # on the way to a fit, or to none
        try:
            return float(gamma.ppf(1 - rate, *gamma.fit(normal)))
        except (FitError, ValueError, FloatingPointError):
            return math.nan


def check_rate(rate: float) -> None:
    """Refuse what is no rate."""
    if not 0 < rate < 1:
        raise AuscultError(f"a false-alarm rate lies between 0 and 1, not at {rate:g}", fix="0.05 means 5 %")


def needed(rate: float) -> int:
    """How many normal scores a quantile takes.

    >>> [needed(rate) for rate in (0.3, 0.1, 0.05, 0.001)]
    [3, 9, 19, 999]
    """
    return math.ceil(1 / rate - 1e-9) - 1


def require_supported(rate: float, windows: int, recordings: int) -> None:
    """Refuse a rate that is none, or that so many normal windows, of so many recordings, say nothing about."""
    check_rate(rate)
    if needed(rate) > windows:
        more = math.ceil(needed(rate) * recordings / windows) - recordings
        what = f"{windows} windows of normal sound support a false-alarm rate of {1 / (windows + 1):.2g} at least, not {rate:g}"
        fix = f"{needed(rate)} are needed: record {more} more like the {recordings} there are, or choose a higher rate"
        raise AuscultError(what, fix=fix)


def choose(normal: np.ndarray, rate: float, by: By | None = None) -> Threshold:
    """The threshold for a false-alarm rate: a quantile, unless the gamma distribution is asked for, which extrapolates.

    Raises:
        AuscultError: a rate outside (0, 1); too few scores, or no distribution that fits them.
    """
    check_rate(rate)
    if by != "gamma":
        require_supported(rate, len(normal), len(normal))
        return Threshold(quantile(normal, rate), rate, "quantile")
    value = gamma_quantile(normal, rate)
    if not math.isfinite(value):
        what = "no gamma distribution fits the scores of the normal sound"
        raise AuscultError(what, fix="use a rate that the quantile supports, or fit on more recordings")
    return Threshold(value, rate, "gamma")


def rate_bounds(rate: float, effective: float) -> tuple[float, float]:
    """Between which shares of normal sound above the quantile lie in nine of ten cases, given so many independent scores.

    Of N scores the share above number k in ascending order is a draw of Beta(N + 1 - k, k), whatever their distribution.

    >>> [tuple(round(bound, 3) for bound in rate_bounds(0.1, n)) for n in (9, 60, 1000)]
    [(0.006, 0.283), (0.046, 0.169), (0.085, 0.116)]
    """
    low, high = beta_quantile(rate * (effective + 1), (1 - rate) * (effective + 1), (0.05, 0.95))
    return float(low), float(high)


def p_values(normal: np.ndarray, scores: np.ndarray) -> Floats:
    """(1 + number of `normal` at least as high) / (n + 1) for each score: how often normal sound would score so high.

    At least 1 / (n + 1), so that a p-value never claims more than n normal scores can tell.
    """
    ordered = np.sort(normal)
    at_least = len(ordered) - np.searchsorted(ordered, scores, side="left")
    p: Floats = (1.0 + at_least) / (len(ordered) + 1)
    return p


def left_out_scores(
    vectors: np.ndarray, group: np.ndarray, start: np.ndarray, samples: int, k: int, metric: Metric, scaled: int = 0
) -> Floats:
    """The score [n] of each normal window if its recording, and whatever holds the same sound, had not been there.

    Where all windows are of one recording, only those are left out that share samples with the window.

    Args:
        vectors: embeddings float32 [n, D], n >= 2.
        group, start: of each window [n], see `copies.Place`.
        samples: of a window.
        k: neighbours.
        scaled: the method z-scores each dimension by the first `scaled` windows: then it does so without those that are left
            out, too. 0 = it does not.
    """
    alone = len(np.unique(group)) == 1
    owner = np.arange(len(vectors)) if alone else group
    scores = np.empty(len(vectors))
    for mine, distance in _distances(vectors, owner, metric, scaled):
        if alone:
            hidden = np.abs(start[mine, None] - start) < samples
        else:
            hidden = group[mine, None] == group
        distance[hidden] = np.inf
        nearest = np.sort(
            np.partition(distance.astype(np.float64), min(k, len(vectors) - 1) - 1, axis=1)[:, :k], axis=1
        )
        there = np.isfinite(nearest)
        scores[mine] = np.where(there, nearest, 0).sum(axis=1) / np.maximum(there.sum(axis=1), 1)
    return scores


def _distances(
    vectors: np.ndarray, owner: np.ndarray, metric: Metric, scaled: int
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """(which windows, their distances to all [those, n]), after every dimension was z-scored anew without their owner."""
    from auscult.scoring.knn import distances

    rows = np.arange(len(vectors))
    owners = np.unique(owner[:scaled])
    if not 2 < len(owners) <= MANY:
        yield from ((rows[part], distance) for part, distance in distances(vectors, vectors, metric))
        return
    untouched = rows[~np.isin(owner, owners)]
    if len(untouched):
        yield from ((untouched[part], distance) for part, distance in distances(vectors[untouched], vectors, metric))
    for one in owners:
        mine = owner == one
        others = vectors[:scaled][~mine[:scaled]]
        again = (vectors - others.mean(axis=0)) / np.maximum(others.std(axis=0), LEAST)
        yield from ((rows[mine][part], distance) for part, distance in distances(again[mine], again, metric))


def require_different(normal: np.ndarray, where: str, backend: str) -> None:
    """Refuse normal scores [n] by which nothing can be told apart.

    Args:
        backend: whose they are; those of nearest neighbours are distances, of which most are above zero.

    Raises:
        AuscultError: they are all alike.
    """
    alike = np.ptp(normal) <= 1e-9 * np.abs(normal).max()
    if alike or (backend.startswith("knn_") and np.median(normal) <= 0):
        what = f"the normal windows are all alike (left-out scores from {normal.min():.3g} to {normal.max():.3g})"
        fix = "record the machine at different times, or listen to another channel (--channel)"
        raise AuscultError(f"{what}: there is nothing to tell apart", where, fix)


OF_RATE = re.compile(
    r"the rate of false alarms is |the threshold comes from |\d+ (recordings|windows) are .*few for a rate "
)
"""How notes begin that hold for one rate: these, and that of `enough.default_rate`."""


def notes_on(rule: Threshold, recordings: int, windows: int) -> list[str]:
    """What is to be known of a threshold from few recordings or few windows, with how many more are needed."""
    more = max(needed(rule.rate), 2) - recordings
    reason = "windows of one recording are more alike than those of two"
    notes = []
    if recordings == 1:
        notes.append(
            f"the threshold comes from a single recording and is too low, for {reason}: more false alarms will come than "
            f"{rule.rate:g} of windows; {more} more recording(s), of other days, are needed"
        )
    elif more > 0:
        notes.append(
            f"{recordings} recordings are few for a rate of {rule.rate:g}, for {reason}: {more} more are needed"
        )
    if rule.by == "gamma" and needed(rule.rate) > windows:
        notes.append(
            f"{windows} windows are too few for a rate of {rule.rate:g}, to which a gamma distribution extrapolates: "
            f"{needed(rule.rate) - windows} more are needed for a quantile"
        )
    return notes
