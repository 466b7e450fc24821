"""Whether a recording of many windows is anomalous: whether more of them are above the threshold than normal sound of that length
would have.

A recording of one window is anomalous if that window is above. Of n windows some n * rate are, however well the machine runs.
How far normal recordings stray from that has three reasons, and a binomial of n knows the first alone:

* chance;
* the threshold is a quantile of N scores, so that the share of normal sound above it is not `rate` but a draw of
  Beta(rate (N + 1), (1 - rate) (N + 1)), the same for all recordings (order statistics);
* windows of one recording are alike. The normal score of a window is sqrt(rho) U + sqrt(1 - rho) E, with U of the recording
  and E of the window (Vasicek, "Probability of loss on loan portfolio", 1987, is this for defaults). rho, the intraclass
  correlation, is measured on the left-out scores where recordings have several windows (`alikeness`).

Two counts are looked at: of windows above the threshold, and of windows above every normal one, of which n / (N + 1) are
expected, for a short fault must not drown in an hour. The smaller of their two probabilities decides; the probability that
either comes out so small by chance is at most the rate if the recording is called anomalous. Counts know no distances, and the
highest of few normal scores is passed often. So a tenth of the rate is kept for a single window that is very much higher than
anything normal (`far`), under the one assumption made here: that the tail falls as fast as an exponential one.

What is not known is taken as it is least favourable: whether windows that overlap by half, or that follow each other, say one
thing or several, and rho within what the measurement leaves open. Beyond `UNKNOWN` rho need not go: where half of the windows
must be above, no larger one makes more false alarms.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from auscult.detector.chances import beta_quantile, binomial_tail, normal_cdf, normal_quantile
from auscult.evaluation.metrics import Floats

UNKNOWN = 0.5
"""Largest intraclass correlation reckoned with, and the one where nothing was measured."""
FOR_ONE = 0.1
"""Part of the rate for one window alone."""
Alike = tuple[int, float, float]
"""(windows in a row, lowest, highest intraclass correlation of so many)."""
_POINTS = 1024


@dataclass(frozen=True)
class Known:
    """What a bundle knows of normal sound.

    Attributes:
        rate: of windows above the threshold.
        scores: how many left-out scores there are; effective: how many independent ones tell as much.
        alike: see `alikeness`.
    """

    rate: float
    scores: int
    effective: float
    alike: tuple[Alike, ...] = ()


def anomalous(above: Floats, windows: int, apart: int, normal: Floats, known: Known) -> bool:
    """Whether at most `known.rate` of normal recordings of this length have windows like these.

    Args:
        above: scores of the windows above the threshold.
        windows: how many the recording has; apart: how many can be had without overlap.
        normal: left-out scores, ascending.
    """
    if len(above) in (0, windows):  # all above is no more likely than that the first one is
        return len(above) > 0
    higher = int((above > normal[-1]).sum())
    return too_many(len(above), higher, windows, apart, known) or bool(
        above.max() > far(normal, FOR_ONE * known.rate / windows, known.effective)
    )


def far(normal: Floats, chance: float, effective: float) -> float:
    """The score that a normal window exceeds with a probability of `chance` if the upper half of the scores is exponential:
    the excess over the median, given k others of mean m, is above x with a probability of (1 + x / (k m))^-k.

    >>> normal = np.arange(1.0, 101.0)
    >>> [round(far(normal, chance, 100.0)) for chance in (0.5, 0.1, 1e-3, 1e-6)]
    [50, 91, 216, 426]
    """
    middle = float(np.median(normal))
    excess = normal[normal > middle] - middle
    k = max(1.0, effective / 2)
    if not len(excess):
        return math.inf
    return middle + k * float(excess.mean()) * ((0.5 / min(chance, 0.5)) ** (1 / k) - 1)


def too_many(above: int, higher: int, windows: int, apart: int, known: Known) -> bool:
    """Whether so many windows above the threshold, or above every normal window, are in at most 1 - `FOR_ONE` of the rate of
    normal recordings.

    Args:
        above: windows above the threshold; higher: those of them that are above every normal window.
        windows, apart: as of `anomalous`.

    >>> known = Known(0.1, 60, 60.0, ((2, 0.0, 0.1),))
    >>> [too_many(above, 0, 719, 360, known) for above in (1, 100, 200)]  # 72 are expected
    [False, False, True]
    >>> [too_many(higher, higher, 719, 360, known) for higher in (13, 60)]  # 12 are expected
    [False, True]
    """
    stretch, low, high = _alike(known, apart)
    clumps = max(1, round(apart / (1 + (stretch - 1) * high)))
    for rho in np.linspace(min(low, UNKNOWN), min(high, UNKNOWN), 3):
        shares = _shares(known, float(rho))
        for size in {windows, apart, clumps} - {1}:  # a single one is above in `rate` of cases, and so are all of them
            counts = [max(1, round(count * size / windows)) if count else 0 for count in (above, higher)]
            if _chance(counts[0], counts[1], size, *shares) > (1 - FOR_ONE) * known.rate:
                return False
    return True


def alikeness(normal: Floats, group: np.ndarray) -> tuple[Alike, ...]:
    """How alike the scores of neighbouring windows are, for 2, 4, 8, ... in a row: bounds (5 % either side) of the intraclass
    correlation of their normal scores, from a one-way analysis of variance. Empty where nothing can be measured: recordings
    of one window each, or a single one.

    Args:
        normal: left-out scores [n], the windows of a recording in order of time.
        group: recording of each [n].

    >>> rng = np.random.default_rng(0)
    >>> group = np.repeat(np.arange(50), 8)
    >>> same = rng.standard_normal(50)[group]
    >>> alikeness(same + rng.standard_normal(400), np.arange(400)), alikeness(same, np.zeros(400))
    ((), ())
    >>> alikeness(0.3 * same + rng.standard_normal(400), group)[-1]
    (8, 0.0273, 0.1583)
    """
    from scipy.stats import rankdata  # half a second, which a verdict does not take

    names, number, counts = np.unique(group, return_inverse=True, return_counts=True)
    order = np.argsort(number, kind="stable")
    place = np.empty(len(normal), int)
    place[order] = np.arange(len(normal)) - np.repeat(np.cumsum(counts) - counts, counts)
    z = normal_quantile((rankdata(normal) - 0.5) / len(normal))
    found, length = [], 2
    while len(names) > 1 and length <= np.median(counts):
        block = number * (len(normal) // length + 1) + place // length
        found.append((length, *_correlation(z, block, len(names))))
        length *= 2
    return tuple(found)


def effective(scores: int, recordings: int, alike: Sequence[Alike]) -> float:
    """How many independent scores tell as much as these do; recordings count once where it is not known how alike windows are.

    >>> effective(60, 60, ()), effective(200, 5, ()), effective(200, 5, [(32, 0.0, 0.2)])
    (60.0, 5.0, 22.727272727272727)
    """
    if not alike:
        return float(recordings)
    return max(recordings, scores / (1 + (scores / recordings - 1) * alike[-1][2]))


def _alike(known: Known, apart: int) -> Alike:
    """Of the longest stretch that was measured and is no longer than the recording; its length is 1 if none was."""
    if not known.alike:
        return 1, 0.0, UNKNOWN
    return max((each for each in known.alike if each[0] <= apart), default=known.alike[0])


def _correlation(z: Floats, block: np.ndarray, recordings: int) -> tuple[float, float]:
    """Bounds of the intraclass correlation of values [n] in blocks [n]; blocks of one recording are not independent."""
    from scipy.special import fdtri

    _, number, counts = np.unique(block, return_inverse=True, return_counts=True)
    n, k = len(z), len(counts)
    means = np.bincount(number, z) / counts
    between = (counts * (means - z.mean()) ** 2).sum() / (k - 1)
    within = ((z - means[number]) ** 2).sum() / (n - k)
    size = (n - (counts**2).sum() / n) / (k - 1)
    ratio = between / max(within, 1e-12)
    bounds = []
    for quantile in (0.95, 0.05):
        seen = ratio / fdtri(min(k, recordings) - 1, n - k, quantile)
        bounds.append(round(float(np.clip((seen - 1) / (seen + size - 1), 0, 1)), 4))
    return bounds[0], bounds[1]


@lru_cache(maxsize=64)
def _shares(known: Known, rho: float) -> tuple[Floats, Floats]:
    """Shares of windows above the threshold and above every normal window, in `_POINTS` equally likely normal recordings.

    The two are the same where the rate is smaller than what so few independent scores can tell.
    """
    # Points that fill the cube evenly (Roberts, "The unreasonable effectiveness of quasirandom sequences", 2018).
    step = 1.2207440846057596 ** -np.arange(1, 4)
    first, second, third = ((0.5 + np.outer(step, np.arange(_POINTS))) % 1).clip(1e-9, 1 - 1e-9)
    weight, top = known.effective + 1, 1 / (known.effective + 1)
    share = beta_quantile(known.rate * weight, (1 - known.rate) * weight, first)
    highest = share
    if top < known.rate:
        highest = share * beta_quantile(top * weight, (known.rate - top) * weight, second)

    def of_recording(p: Floats) -> Floats:
        shifted: Floats = normal_cdf((normal_quantile(p) + np.sqrt(rho) * normal_quantile(third)) / np.sqrt(1 - rho))
        return shifted

    return of_recording(share), of_recording(highest)


def _chance(above: int, higher: int, size: int, share: Floats, highest: Floats) -> float:
    """Probability that one of the two counts is as unlikely in a normal recording as the less likely one of these is."""
    least = min(binomial_tail(above, size, share).mean(), binomial_tail(higher, size, highest).mean())
    first, second = _smallest(size, share, least), _smallest(size, highest, least)
    if second >= first:  # then the first count is that high, too
        return float(binomial_tail(first, size, share).mean())
    # Given the recording, the counts rise together: together they are at least as likely as if they were independent.
    either = 1 - (1 - binomial_tail(first, size, share)) * (1 - binomial_tail(second, size, highest))
    return float(either.mean())


def _smallest(size: int, share: Floats, chance: float) -> int:
    """The smallest count that is reached with a probability of at most `chance`; size + 1 = none."""
    low, high = 0, size + 1
    while high - low > 1:
        middle = (low + high) // 2
        if binomial_tail(middle, size, share).mean() <= chance:
            high = middle
        else:
            low = middle
    return high
