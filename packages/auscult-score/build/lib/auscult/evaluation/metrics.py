"""Detection metrics on arrays: ROC, AUC, pAUC, their bootstrap replicates, and the mean the challenge aggregates with.

Everything here is a pure function on NumPy arrays. Scores are "higher = more anomalous", labels are 0 (normal) and
1 (anomaly), areas are fractions in [0, 1]. An area that does not exist, because one class is missing, is NaN: it is
never replaced by chance level, which would look like a result.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from auscult.errors import AuscultError

Floats = NDArray[np.float64]
Weights = NDArray[Any]

_BLOCK = 2**18  # weights handled at once: a block of float64 temporaries stays in the processor's cache


def roc(scores: ArrayLike, labels: ArrayLike) -> tuple[Floats, Floats, Floats]:
    """Points of the ROC curve, one per distinct score, from (0, 0) to (1, 1).

    Args:
        scores: [n], higher = more anomalous.
        labels: [n], 0 normal, 1 anomaly.

    Returns:
        (false positive rate, true positive rate, threshold), each [points]; a clip is called anomalous when its score
        is >= the threshold, and the first threshold is +inf. A rate whose class is missing is NaN throughout.

    Raises:
        AuscultError: a score is NaN, a label is neither 0 nor 1, or the lengths differ.

    >>> fpr, tpr, threshold = roc([0.1, 0.4, 0.3, 0.8], [0, 0, 1, 1])
    >>> fpr.tolist(), tpr.tolist()
    ([0.0, 0.0, 0.5, 0.5, 1.0], [0.0, 0.5, 0.5, 1.0, 1.0])
    >>> threshold.tolist()
    [inf, 0.8, 0.4, 0.3, 0.1]
    """
    s, y = _checked(scores, labels)
    levels, inverse = np.unique(-s, return_inverse=True)
    positives = np.bincount(inverse, weights=y, minlength=len(levels))
    negatives = np.bincount(inverse, weights=1 - y, minlength=len(levels))
    fpr, tpr = (_rate(counts) for counts in (negatives, positives))
    return fpr, tpr, np.concatenate([[np.inf], -levels])


def auc(scores: ArrayLike, labels: ArrayLike) -> float:
    """Area under the ROC curve, ties counted one half; NaN when a class is missing.

    Equal to the probability that a random anomaly scores higher than a random normal clip (the rank statistic that
    scikit-learn's `roc_auc_score` computes, which every official evaluator uses). Arguments and errors as for `roc`.

    >>> auc([0.1, 0.4, 0.3, 0.8], [0, 0, 1, 1])
    0.75
    """
    return float(_plain_areas(scores, labels, 1.0))


def pauc(scores: ArrayLike, labels: ArrayLike, max_fpr: float = 0.1) -> float:
    """Partial AUC up to a false positive rate of `max_fpr`, McClish-standardised; NaN when a class is missing.

    With A the area under the ROC for FPR in [0, p], trapezoids and linear interpolation at p, the value is
    0.5 * (1 + (A - p^2 / 2) / (p - p^2 / 2)): 0.5 is chance, 1 is perfect. This is what the official evaluators of the
    challenge compute (`roc_auc_score(max_fpr=0.1)`), not the mean over the top normals that the task papers write down.
    Arguments and errors as for `roc`.

    >>> round(pauc([0.1, 0.4, 0.3, 0.8], [0, 0, 1, 1]), 4)
    0.7368
    """
    return float(_plain_areas(scores, labels, max_fpr))


def bootstrap_auc(scores: ArrayLike, labels: ArrayLike, weights: Weights) -> Floats:
    """AUC of every replicate: [n] scores, [n] labels, [R, n] clip weights >= 0 -> [R]. See `bootstrap_areas`."""
    return bootstrap_areas(scores, labels, weights, (1.0,))[0]


def bootstrap_pauc(scores: ArrayLike, labels: ArrayLike, weights: Weights, max_fpr: float = 0.1) -> Floats:
    """Standardised pAUC of every replicate: [n], [n], [R, n] -> [R]. See `bootstrap_areas`."""
    return bootstrap_areas(scores, labels, weights, (max_fpr,))[0]


def bootstrap_areas(scores: ArrayLike, labels: ArrayLike, weights: Weights, max_fprs: Sequence[float]) -> Floats:
    """Weighted ROC areas of every replicate, for several upper limits of the false positive rate at once.

    The clips are sorted once; a replicate is a row of weights (how often each clip was drawn), so that its ROC is a
    pair of cumulative sums. A normal clip (or a tie of several) with weight w moves the curve w to the right while the
    true positives grow from those that score higher to those that score at least as high: a trapezoid, cut at the limit.

    Args:
        scores: [n], higher = more anomalous.
        labels: [n], 0 or 1.
        weights: [R, n], >= 0. Fastest as the transpose of a contiguous [n, R] array, as from `stratified_weights`.
        max_fprs: upper limits in (0, 1]; 1 gives the AUC, anything lower the McClish-standardised pAUC.

    Returns:
        [len(max_fprs), R]; NaN where a replicate has no weight on one of the classes.

    Raises:
        AuscultError: see `roc`; also a limit outside (0, 1] or weights of another shape.

    >>> weights = np.array([[1, 1, 1, 1], [2, 0, 1, 1]])
    >>> bootstrap_areas([0.1, 0.4, 0.3, 0.8], [0, 0, 1, 1], weights, (1.0,)).tolist()
    [[0.75, 1.0]]
    """
    s, y = _checked(scores, labels)
    if weights.ndim != 2 or weights.shape[1] != len(s):
        raise AuscultError(
            f"weights of shape {weights.shape} for {len(s)} clips", fix="pass one weight per replicate and clip"
        )
    if not all(0 < limit <= 1 for limit in max_fprs):
        raise AuscultError(f"max_fpr must lie in (0, 1], got {list(max_fprs)}")
    replicates = weights.shape[0]
    areas = np.full((len(max_fprs), replicates), np.nan)
    normal, anomalous = np.flatnonzero(y == 0), np.flatnonzero(y == 1)
    if len(normal) == 0 or len(anomalous) == 0:
        return areas

    normal = normal[np.argsort(-s[normal], kind="stable")]
    anomalous = anomalous[np.argsort(-s[anomalous], kind="stable")]
    levels, first = np.unique(-s[normal], return_index=True)  # distinct normal scores, highest first
    above = np.searchsorted(-s[anomalous], levels, side="left")  # anomalies scoring higher than the level
    through = np.searchsorted(-s[anomalous], levels, side="right")  # ... or equal to it
    columns = weights.T  # [n, R]: sums over clips then run along the fast axis
    step = max(1, _BLOCK // len(s))
    for start in range(0, replicates, step):
        block = slice(start, start + step)
        normals = columns[normal, block].astype(np.float64)
        if len(levels) < len(normal):
            normals = np.add.reduceat(normals, first, axis=0)
        positives = np.zeros((len(anomalous) + 1, normals.shape[1]))
        np.cumsum(columns[anomalous, block], axis=0, out=positives[1:])
        areas[:, block] = _block_areas(normals, positives, above, through, max_fprs)
    return areas


def stratified_weights(strata: Sequence[str], clip_ids: ArrayLike, replicates: int, seed: int) -> NDArray[np.uint16]:
    """How often each clip is drawn in each replicate when every stratum is resampled within itself.

    The draws of a stratum depend on nothing but `seed`, its name and its number of clips, and fall on its clips in the
    order of `clip_ids`. Hence every arm and back-end, in this call or in another one, gets the same weights for the
    same clip, which is what makes differences between them paired.

    Args:
        strata: [n] name of each clip's stratum, e.g. "dev/fan/00/source/1".
        clip_ids: [n] sortable, distinct within a stratum.
        replicates: R.
        seed: >= 0.

    Returns:
        [R, n] counts, laid out as the transpose of a contiguous [n, R] array.

    >>> stratified_weights(["a", "a", "b"], [1, 2, 3], 2, seed=0).sum(axis=1).tolist()
    [3, 3]
    """
    names, member = np.unique(np.asarray(strata, dtype=np.str_), return_inverse=True)
    ids = np.asarray(clip_ids)
    counts = np.zeros((len(ids), replicates), dtype=np.uint16)
    for code, name in enumerate(names):
        clips = np.flatnonzero(member == code)
        clips = clips[np.argsort(ids[clips], kind="stable")]
        rng = np.random.default_rng([seed, *str(name).encode()])
        size = len(clips)
        step = max(1, 2**22 // size)
        for start in range(0, replicates, step):
            rows = min(step, replicates - start)
            drawn = rng.integers(0, size, (rows, size))
            flat = np.bincount((drawn * rows + np.arange(rows)[:, None]).ravel(), minlength=size * rows)
            counts[clips, start : start + rows] = flat.reshape(size, rows)
    return counts.T


def harmonic_mean(values: ArrayLike) -> Any:
    """Harmonic mean over the first axis, values clamped from below at machine epsilon as the official evaluators do.

    Args:
        values: [k] or [k, ...] fractions. A NaN makes the mean NaN.

    >>> round(float(harmonic_mean([0.5, 1.0])), 4)
    0.6667
    """
    clamped = np.maximum(np.asarray(values, dtype=np.float64), np.finfo(np.float64).eps)
    return len(clamped) / np.sum(1.0 / clamped, axis=0)


def _block_areas(
    normals: Floats, positives: Floats, above: NDArray[np.intp], through: NDArray[np.intp], max_fprs: Sequence[float]
) -> Floats:
    """Areas [limits, r] from weights of the normal levels [levels, r] and cumulative anomalies [anomalies + 1, r]."""
    tied = bool(np.any(above != through))
    seen = np.cumsum(normals, axis=0)
    all_normals, all_positives = seen[-1], positives[-1]
    result = np.empty((len(max_fprs), normals.shape[1]))
    for row, limit in enumerate(max_fprs):
        if limit == 1.0:
            width, low = normals, positives[above]
            height = (low + positives[through]) / 2 if tied else low
        else:
            room = limit * all_normals - (seen - normals)  # how far each level may still move to the right
            reached = int(np.any(room > 0, axis=1).sum())  # levels further down lie beyond the limit in every replicate
            width = np.clip(room[:reached], 0, normals[:reached])
            low = positives[above[:reached]]
            height = low
            if tied:
                part = np.divide(width, normals[:reached], out=np.zeros_like(width), where=normals[:reached] > 0)
                height = low + (positives[through[:reached]] - low) * part / 2
        with np.errstate(invalid="ignore", divide="ignore"):
            area = np.einsum("lr,lr->r", width, height) / (all_normals * all_positives)
        result[row] = area if limit == 1.0 else _mcclish(area, limit)
    return result


def _mcclish(area: Any, limit: float) -> Any:
    """Scale a raw partial area so that chance is 0.5 and perfect is 1 (McClish 1989)."""
    lowest = limit * limit / 2
    return 0.5 * (1 + (area - lowest) / (limit - lowest))


def _plain_areas(scores: ArrayLike, labels: ArrayLike, limit: float) -> Any:
    s, y = _checked(scores, labels)
    return bootstrap_areas(s, y, np.ones((1, len(s))), (limit,))[0, 0]


def _rate(counts: NDArray[Any]) -> Floats:
    """Cumulative share of `counts`, starting at 0; NaN throughout when there is nothing to count."""
    cumulative = np.concatenate([[0.0], np.cumsum(counts)])
    return cumulative / cumulative[-1] if cumulative[-1] > 0 else np.full_like(cumulative, np.nan)


def _checked(scores: ArrayLike, labels: ArrayLike) -> tuple[Floats, NDArray[np.int64]]:
    s = np.asarray(scores, dtype=np.float64)
    y = np.asarray(labels)
    if s.ndim != 1 or s.shape != y.shape:
        raise AuscultError(f"scores of shape {s.shape} and labels of shape {y.shape}", fix="pass one label per score")
    if np.isnan(s).any():
        raise AuscultError(f"{int(np.isnan(s).sum())} of {len(s)} scores are NaN: they have no rank")
    if not np.isin(y, (0, 1)).all():
        raise AuscultError("a label is neither 0 (normal) nor 1 (anomaly)")
    return s, y.astype(np.int64)
