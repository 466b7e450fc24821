"""Intervals that cover the true AUC, pAUC and mAUC, of few clips too; how often they do: docs/scores.md.

Replicates of a bootstrap alone give intervals that are too short or in the wrong place where clips are few, for four
reasons. Each is mended by a number that is carried beside the replicates (`Spread`) through every average:

* The pAUC of n normal clips hangs on the 0.1 n highest of them and is too high on average, of 8 clips by up to 9 points.
  The interval lies round an estimate without that error (`debiased_pauc`).
* The lowest of several AUCs is too low on average where the units are about alike, and right where one stands apart. Nobody
  can tell which: the interval reaches from the lowest as it is to the lowest with the error of equal units taken off.
* Resampling n clips shows (n - 1) / n of the variance (of two domains, each by itself, (n - 2) / n), and less of a pAUC's:
  `factor`.
* Where anomalies and normals are (all but) told apart, resampling shows no variance at all: `floor`, from Newcombe's interval
  for an AUC (Statistics in Medicine 25:559, 2006, method 5), which has a width at 1 as well.

The limits are symmetric on the logit scale, so that they stay between 0 and 1, and never leave out the number itself.
Differences between systems need none of this: both err alike. They have plain percentiles (`percentiles`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import astuple, dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, gammaln, logit, ndtr, ndtri, xlog1py, xlogy

from auscult.evaluation.metrics import Floats, harmonic_mean

FEW = 8
"""Normal clips, and anomalies, of a ROC group from which on the simulation vouches for its interval."""
_NEAR = 2.0  # standard deviations from the lowest within which a unit may truly be the lowest
_LARGE = 1000  # normal clips from which on the error of the pAUC is below 0.1 points


@dataclass(frozen=True)
class Spread:
    """What the interval of a number needs beside its bootstrap replicates; fractions.

    Attributes:
        low, high: estimates that the lower and the upper limit are taken from.
        factor: by which the variance of the replicates is multiplied.
        floor: least variance, of what no replicate shows.
        few: whether a ROC group behind the number has fewer than `FEW` normal clips or anomalies.
    """

    low: float
    high: float
    factor: float = 1.0
    floor: float = 0.0
    few: bool = False


# ----------------------------------------------------------------------------------------------------------- one ROC group
def spread_of_auc(auc: float, normals: int, anomalies: int, strata: tuple[int, int] = (1, 1)) -> Spread:
    """Of the AUC of one ROC group, from the numbers of its clips, and of the domains that each class is resampled within.

    >>> spread_of_auc(0.8, 50, 50)
    Spread(low=0.8, high=0.8, factor=1.0204081632653061, floor=0.0, few=False)
    >>> round(spread_of_auc(1.0, 50, 50).floor ** 0.5, 3)
    0.02
    """
    fewest = min(normals, anomalies)
    floor = 0.0
    if _at_an_end(auc, fewest):
        floor = ((max(auc, 1 - auc) - auc_limit(max(auc, 1 - auc), normals, anomalies)) / _Z) ** 2
    factor = max(n / max(n - count, 1) for n, count in zip((normals, anomalies), strata, strict=True))
    return Spread(auc, auc, factor, floor, fewest < FEW)


def spread_of_pauc(
    pauc: float,
    auc: float,
    debiased: float,
    normals: int,
    anomalies: int,
    max_fpr: float,
    strata: tuple[int, int] = (1, 1),
) -> Spread:
    """Of the pAUC of one ROC group.

    Args:
        pauc, auc: of its clips.
        debiased: `debiased_pauc` of them.
        normals, anomalies, strata: as for `spread_of_auc`.
        max_fpr: upper limit of the false positive rate.
    """
    floor = 0.0
    if _at_an_end(auc, min(normals, anomalies)) and auc > 0.5:
        lowest = np.interp(auc_limit(auc, normals, anomalies), *_binormal_paucs(max_fpr))
        floor = (max(0.0, pauc - float(lowest)) / _Z) ** 2
    factor = spread_of_auc(auc, normals, anomalies, strata).factor + 2 / (max_fpr * normals)
    return Spread(debiased, debiased, factor, floor, min(normals, anomalies) < FEW)


def auc_limit(auc: float, normals: int, anomalies: int, level: float = 0.95) -> float:
    """Lower limit of an AUC by Newcombe's method 5: where it is z standard deviations, of Hanley and McNeil, below `auc`.

    >>> round(auc_limit(1.0, 50, 50), 3), round(auc_limit(1.0, 8, 8), 3)
    (0.96, 0.756)
    >>> round(auc_limit(0.8, 50, 50), 2)
    0.7
    """
    z, pairs, more = float(ndtri((1 + level) / 2)), normals * anomalies, (normals + anomalies) / 2 - 1
    low, high = 0.0, auc
    for _ in range(60):
        middle = (low + high) / 2
        variance = middle * (1 - middle) / pairs
        variance *= 1 + more * ((1 - middle) / (2 - middle) + middle / (1 + middle))
        if auc - middle > z * variance**0.5:
            low = middle
        else:
            high = middle
    return low


def debiased_pauc(scores: Floats, labels: NDArray[np.int64], max_fpr: float) -> float:
    """Standardised pAUC whose mean over samples is that of the population (but for some tenths of a point); may exceed 1.

    The area is the mean over anomalies of (p - u)+, u being the share of normals that score higher. Of n normals k do, and
    k / n in place of u errs at the corner of that function. `pauc_coefficients` are values c(k) whose means do not.

    Args:
        scores: [n], higher = more anomalous.
        labels: [n], 0 or 1, both present.

    >>> rng = np.random.default_rng(0)
    >>> labels = np.repeat([0, 1], 8)
    >>> from auscult.evaluation.metrics import pauc
    >>> samples = [rng.standard_normal(16) + 1.19 * labels for _ in range(2000)]  # AUC 0.8, pAUC 0.633
    >>> round(float(np.mean([pauc(scores, labels) for scores in samples])), 2)
    0.7
    >>> round(float(np.mean([debiased_pauc(scores, labels, 0.1) for scores in samples])), 2)
    0.64
    """
    normals, anomalies = np.sort(-scores[labels == 0]), -scores[labels == 1]
    c = pauc_coefficients(len(normals), max_fpr)
    above, through = (np.searchsorted(normals, anomalies, side=side) for side in ("left", "right"))
    area = float((c[above] + c[through]).mean()) / 2  # ties count one half
    lowest = max_fpr * max_fpr / 2
    return 0.5 * (1 + (area - lowest) / (max_fpr - lowest))


@cache
def pauc_coefficients(normals: int, max_fpr: float) -> Floats:
    """c(k) [normals + 1], to be averaged over anomalies that k of the normal clips score higher than.

    With u the share of the population, k is binomial, and the mean of c(k) is to be the mean of (p - u)+ whatever u's
    distribution, that is, the ROC curve. Least squares over 51 curves (normal distributions of AUC 0.5 to 0.995 and several
    slopes; anomalies of which a part is like normals), drawn a little to (p - k / n)+.
    """
    plain = np.maximum(max_fpr - np.arange(normals + 1) / normals, 0)
    if normals >= _LARGE:
        return plain
    used = min(normals, int(4 * max_fpr * normals) + 10) + 1  # further down c is zero in any case
    u, curves = _curves()
    k = np.arange(used)
    ways = gammaln(normals + 1) - gammaln(k + 1) - gammaln(normals - k + 1)
    counts = curves @ np.exp(ways + xlogy(k, u[:, None]) + xlog1py(normals - k, -u[:, None]))  # [curves, k]
    rest = curves @ np.maximum(max_fpr - u, 0) - counts @ plain[:used]
    ridge = 1e-3 * np.diag(counts.mean(axis=0) + 1e-12)
    change = np.linalg.solve(counts.T @ counts / len(curves) + ridge, counts.T @ rest / len(curves))
    c: Floats = plain.copy()
    c[:used] += change
    return c


@cache
def _curves() -> tuple[Floats, Floats]:
    """Shares u [points] and how much of the anomalies lies at each, [curves, points]."""
    edges = np.linspace(0, 1, 1501) ** 2
    ends = np.clip(edges[1:-1], 1e-12, 1)
    rates = []
    for auc in (0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.95, 0.98, 0.995):
        for slope in (0.5, 0.75, 1.0, 1.5, 2.5):
            distance = ndtri(auc) * np.sqrt(1 + slope**2)
            rates.append(ndtr((distance + ndtri(ends)) / slope))
    for distance in (2.0, 4.0):
        for share in (0.25, 0.5, 0.75):
            rates.append(share * ndtr(ndtri(ends) + distance) + (1 - share) * ends)
    steps = np.diff(np.pad(np.array(rates), ((0, 0), (1, 1)), constant_values=((0, 0), (0, 1))), axis=1)
    return (edges[1:] + edges[:-1]) / 2, steps


@cache
def _binormal_paucs(max_fpr: float) -> tuple[Floats, Floats]:
    """AUCs from 0.5 up, and the pAUC of two normal distributions of one variance with that AUC."""
    aucs = 1 - np.geomspace(0.5, 1e-6, 200)
    rates = (np.arange(2000) + 0.5) / 2000 * max_fpr
    areas = max_fpr * ndtr(ndtri(rates) + np.sqrt(2) * ndtri(aucs)[:, None]).mean(axis=1)
    lowest = max_fpr**2 / 2
    return aucs, 0.5 * (1 + (areas - lowest) / (max_fpr - lowest))


_Z = float(ndtri(0.975))


def _at_an_end(auc: float, fewest: int) -> bool:
    """Whether less than one clip's worth of pairs is in the wrong (or in the right) order."""
    return min(auc, 1 - auc) < 1 / fewest - 1e-12


# ---------------------------------------------------------------------------------------------------------------- averages
def spread_of_mean(values: Floats, spreads: Sequence[Spread], harmonic: bool = False) -> Spread:
    """Of an average of independent numbers: of ROC groups, machine types or sets.

    The harmonic mean of numbers that err is too low on average; how much, their replicates show.

    Args:
        values: [numbers, 1 + R], plain values and replicates.
        spreads: of each number.
        harmonic: whether the average is harmonic.

    >>> spread_of_mean(np.array([[0.6], [0.8]]), [Spread(0.5, 0.6), Spread(0.75, 1.0, 1.2, 0.01)]).low
    0.625
    """
    plain, count = values[:, 0], len(spreads)
    low, high = (np.array([getattr(one, side) for one in spreads]) - plain for side in ("low", "high"))
    centre, weights = plain.mean(), np.full(count, 1 / count)
    if harmonic:
        centre = harmonic_mean(plain)
        weights = centre**2 / np.maximum(plain, np.finfo(np.float64).eps) ** 2 / count
        if values.shape[1] > 1:
            replicates = values[:, 1:]
            centre -= harmonic_mean(replicates).mean() - harmonic_mean(replicates.mean(axis=1))
    return Spread(
        float(centre + weights @ low),
        float(centre + weights @ high),
        sum(one.factor for one in spreads) / count,
        sum(one.floor for one in spreads) / count**2,
        any(one.few for one in spreads),
    )


def spread_of_seeds(spreads: Sequence[Spread]) -> Spread:
    """Of the mean over training seeds, whose numbers rest on the same clips."""
    low, high, factor, floor, few = np.mean([astuple(one) for one in spreads], axis=0).tolist()
    return Spread(low, high, factor, floor, few > 0)


def spread_of_minimum(values: Floats, spreads: Sequence[Spread]) -> Spread:
    """Of the lowest number of several ROC groups.

    Args:
        values: [groups, 1 + R], plain value and replicates.
        spreads: of each group.
    """
    if np.isnan(values).any():
        return Spread(np.nan, np.nan)
    plain, replicates = values[:, 0], values[:, 1:]
    low = float(plain.min())
    high = low
    if len(plain) > 1 and replicates.shape[1]:
        away = replicates - replicates.mean(axis=1, keepdims=True)
        deviation = away.std(axis=1)
        near = plain - low <= _NEAR * np.hypot(deviation, deviation[plain.argmin()])
        high = min(1.0, low - float(away[near].min(axis=0).mean()))
    factor = sum(one.factor for one in spreads) / len(spreads)
    return Spread(low, high, factor, max(one.floor for one in spreads), any(one.few for one in spreads))


# --------------------------------------------------------------------------------------------------------------- intervals
def intervals(values: Sequence[Floats], spreads: Sequence[Spread], level: float) -> Floats:
    """Limits [K, 2] of K numbers, fractions; NaN without replicates or where a number or replicate is undefined.

    Args:
        values: K arrays [1 + R], plain value and replicates.
        spreads: one for each.
        level: coverage.

    >>> rng = np.random.default_rng(0)
    >>> values = np.r_[0.8, 0.8 + 0.05 * rng.standard_normal(1000)]
    >>> intervals([values], [Spread(0.8, 0.8)], 0.95).round(2).tolist()
    [[0.69, 0.88]]
    >>> intervals([np.ones(1001)], [spread_of_auc(1.0, 50, 50)], 0.95).round(2).tolist()
    [[0.96, 1.0]]
    """
    if not values or len(values[0]) == 1:
        return np.full((len(values), 2), np.nan)
    variance = np.array([one[1:].var() for one in values])
    plain = np.array([one[0] for one in values])
    z, edge = float(ndtri((1 + level) / 2)), 1e-4
    floor = np.array([one.floor for one in spreads])
    deviation = np.sqrt(np.array([one.factor for one in spreads]) * variance)
    limits = []
    for side, centres in ((-1, [one.low for one in spreads]), (1, [one.high for one in spreads])):
        inner = np.clip(centres, edge, 1 - edge)
        limit = expit(logit(inner) + side * z * deviation / (inner * (1 - inner)))
        limits.append([limit, np.clip(centres + side * z * np.sqrt(floor), 0, 1), plain])
    bounds: Floats = np.stack([np.min(limits[0], axis=0), np.max(limits[1], axis=0)], axis=1)
    bounds[np.isnan(variance) | np.isnan(plain)] = np.nan
    return bounds


def percentiles(values: Sequence[Floats], level: float) -> Floats:
    """Percentiles [K, 2] of the replicates of K numbers, [1 + R] each; NaN without replicates or with an undefined one.

    For paired differences: of two equal systems about one in twenty is called better or worse at a level of 0.95.

    >>> percentiles([np.r_[0.5, np.arange(101) / 100]], 0.9).round(3).tolist()
    [[0.05, 0.95]]
    """
    bounds = np.full((len(values), 2), np.nan)
    for start in range(0, len(values), 256):  # all replicates of a large study at once would not fit the cache
        block = np.stack(values[start : start + 256])
        if block.shape[1] == 1:
            return bounds
        defined = ~np.isnan(block).any(axis=1)
        quantiles = np.quantile(block[defined, 1:], [(1 - level) / 2, (1 + level) / 2], axis=1)
        bounds[start : start + 256][defined] = quantiles.T
    return bounds
