"""Which candidate to take: rules on what was measured of each, written down before any was.

*With known faults*: how often a fault scores higher than normal sound that was left out (an AUC, every recording counted
alike). Four faults cannot tell two good candidates apart, so of all that lie within one standard error of the best the first is
taken, which is the default if it is among them (the one-standard-error rule of Breiman et al., "Classification and Regression
Trees", 1984, section 3.4.3). The error is that of the paired difference (DeLong et al., Biometrics 44:837, 1988).

*Without faults* nothing says what a fault will be like, so made-up changes decide only where no opinion on how often each kind
comes is needed: a candidate takes the place of the default if it notices clearly more of one kind and not fewer of any other.

A candidate with more false alarms on left-out recordings than was asked for, beyond chance, is never taken.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import ndtri

from auscult.evaluation.metrics import Floats

WORSE = 0.05
"""Share of the made-up changes of a kind by which a candidate may be behind the default."""


def areas(normal: Floats, fault: Floats, fold: np.ndarray, owner: np.ndarray, fault_owner: np.ndarray) -> Floats:
    """How often each fault's windows score higher than each normal recording's [faults, recordings], ties one half.

    Args:
        normal: [n], score of each window by the model of its fold, which did not hear its recording.
        fault: [folds, m], scores of the faults' windows by every model.
        fold, owner: int [n], of the normal windows: fold, and recording.
        fault_owner: int [m], recording of the faults' windows.
    """
    higher = np.empty((fault.shape[1], len(normal)))
    for number in range(len(fault)):
        mine = fold == number
        higher[:, mine] = (np.sign(fault[number][:, None] - normal[mine]) + 1) / 2
    return means_of(fault_owner) @ higher @ means_of(owner).T


def means_of(owner: np.ndarray) -> Floats:
    """[owners, n], which takes the mean over what each owns."""
    one: Floats = (owner == np.arange(owner.max() + 1)[:, None]).astype(np.float64)
    return one / one.sum(axis=1, keepdims=True)


def error_of_mean(difference: Floats) -> float:
    """Standard error of the mean of [faults, recordings], both of which are samples; of a single one nothing is known.

    >>> error_of_mean(np.array([[0.0, 1.0], [0.0, 1.0]]))
    0.5
    """
    total = 0.0
    for axis in (0, 1):
        means = difference.mean(axis=axis)
        total += means.var(ddof=1) / len(means) if len(means) > 1 else 0.0
    return float(np.sqrt(total))


def pick_by_faults(measured: Floats, usable: np.ndarray) -> int:
    """The first candidate within one standard error of the best.

    Args:
        measured: `areas` of each candidate [candidates, faults, recordings], the simplest candidate first.
        usable: bool [candidates].
    """
    if not usable.any():
        return 0
    best = int(np.argmax(np.where(usable, measured.mean(axis=(1, 2)), -1)))
    for number in np.flatnonzero(usable):
        behind = measured[best] - measured[number]
        if behind.mean() <= error_of_mean(behind):
            return int(number)
    return best


@dataclass(frozen=True)
class Nested:
    """What the choice is worth on what had no part in it.

    Attributes:
        area: how often a fault scores higher than normal sound; found: share of faults that are; alarms: share of normal windows.
    """

    area: float
    found: float
    alarms: float


def nested(
    measured: Floats, usable: np.ndarray, found: np.ndarray, alarms: np.ndarray, fold: np.ndarray
) -> Nested | None:
    """Leave out each fault and each fold of normal recordings, choose by the others, and look at these; None with one fault.

    Args:
        measured, usable: as for `pick_by_faults`.
        found: [candidates, folds, faults], whether the model of a fold finds a fault.
        alarms: [candidates, recordings], share of a recording's windows above the threshold of its fold.
        fold: [recordings].
    """
    faults = measured.shape[1]
    if faults < 2:
        return None
    rows = []
    for part in np.unique(fold):
        mine = fold == part
        for one in range(faults):
            chosen = pick_by_faults(np.delete(measured, one, axis=1)[:, :, ~mine], usable)
            rows += [
                (measured[chosen, one, g], found[chosen, part, one], alarms[chosen, g]) for g in np.flatnonzero(mine)
            ]
    return Nested(*np.mean(rows, axis=0).tolist())


def pick_by_changes(noticed: Floats, normal: np.ndarray, usable: np.ndarray) -> int:
    """The candidate that takes the place of the default, number 0; 0 where none does.

    Args:
        noticed: bool [candidates, kinds, windows], whether a made-up change is above the threshold.
        normal: bool [candidates, windows], whether the window is below it without the change.
        usable: bool [candidates].
    """
    count, kinds, _ = noticed.shape
    level = float(ndtri(1 - 0.025 / max(1, (count - 1) * kinds)))  # as many comparisons are made
    best, most = 0, 0.0
    for number in np.flatnonzero(usable):
        both = normal[number] & normal[0]
        if number == 0 or both.sum() < 2:
            continue
        difference = noticed[number][:, both].astype(float) - noticed[0][:, both]
        mean, error = difference.mean(axis=1), difference.std(axis=1, ddof=1) / np.sqrt(both.sum())
        if (mean >= -WORSE).all() and (mean > level * error).any() and mean.mean() > most:
            best, most = int(number), float(mean.mean())
    return best


def shares(noticed: np.ndarray, normal: np.ndarray) -> Floats:
    """Of the windows that were normal before, the share that is noticed of each kind [kinds]; NaN where there was none."""
    return noticed[:, normal].mean(axis=1) if normal.any() else np.full(len(noticed), np.nan)


def wilson(share: float, count: int) -> tuple[float, float]:
    """95 % interval of a share of `count` independent things (Wilson, JASA 22:209, 1927).

    >>> tuple(round(limit, 3) for limit in wilson(0.1, 60))
    (0.047, 0.201)
    """
    z = float(ndtri(0.975))
    centre, spread = share + z * z / (2 * count), z * np.sqrt(share * (1 - share) / count + (z / (2 * count)) ** 2)
    return float((centre - spread) / (1 + z * z / count)), float((centre + spread) / (1 + z * z / count))


def folds(owner: np.ndarray, unit: Sequence[str], count: int, whole_units: bool, seed: int) -> np.ndarray:
    """A number 0 to `count` - 1 for each window [n]; the windows of a recording share one.

    Args:
        owner: int [n], recording of each window; unit: [n], its mode, over which the folds are spread.
        whole_units: leave out whole units (days) instead.
    """
    if whole_units:
        owner = np.unique(np.asarray(unit), return_inverse=True)[1]
        unit = [""] * len(owner)
    of = dict(zip(owner.tolist(), unit, strict=True))
    shuffled = np.random.default_rng(seed).permutation(sorted(of)).tolist()
    place = {one: number % count for number, one in enumerate(sorted(shuffled, key=lambda one: of[one]))}
    return np.array([place[one] for one in owner.tolist()])
