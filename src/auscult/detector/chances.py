"""The distributions that verdicts over many windows rest on: of `scipy.special`, imported when the first such recording is
judged, or in NumPy, ten times slower, on a device that has no room for it. tests/detector/test_chances.py holds the two together.
"""

from __future__ import annotations

import math
from functools import cache
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from auscult.evaluation.metrics import Floats

_TINY = 1e-300
_STEPS = 200
_ERFC = np.vectorize(math.erfc, otypes=[np.float64])
_QUANTILE = np.vectorize(NormalDist().inv_cdf, otypes=[np.float64])


@cache
def _special() -> Any:
    """`scipy.special`; None = not installed."""
    try:
        from scipy import special
    except ModuleNotFoundError:
        return None
    return special


def normal_cdf(x: ArrayLike) -> Floats:
    """Of the standard normal distribution.

    >>> normal_cdf([-np.inf, 0.0, 1.0]).round(4).tolist()
    [0.0, 0.5, 0.8413]
    """
    found: Floats = 0.5 * _ERFC(-np.asarray(x, np.float64) / math.sqrt(2))
    return found


def normal_quantile(p: ArrayLike) -> Floats:
    """The inverse of `normal_cdf`; infinite at 0 and 1.

    >>> normal_quantile([0.0, 0.5, 0.975]).round(4).tolist()
    [-inf, 0.0, 1.96]
    """
    p = np.asarray(p, np.float64)
    inside = (p > 0) & (p < 1)
    found = np.where(p <= 0, -np.inf, np.inf)
    found[inside] = _QUANTILE(p[inside]) if inside.any() else 0
    return found


def beta_cdf(a: float, b: float, x: ArrayLike) -> Floats:
    """I_x(a, b) of x in [0, 1]: the continued fraction DLMF 8.17.22 by Lentz's method, on the side where it converges fast.

    >>> beta_cdf(2.0, 3.0, [0.0, 0.5, 1.0]).round(12).tolist()
    [0.0, 0.6875, 1.0]
    """
    x = np.asarray(x, np.float64)
    far = x > (a + 1) / (a + b + 2)
    found = np.empty(x.shape)
    for part, p, q, at in ((~far, a, b, x), (far, b, a, 1 - x)):
        if part.any():
            found[part] = _fraction(p, q, at[part])
    return np.where(far, 1 - found, found)


def _fraction(a: float, b: float, x: Floats) -> Floats:
    """I_x(a, b) for x at most about a / (a + b)."""
    with np.errstate(divide="ignore"):
        front = a * np.log(x) + b * np.log1p(-x) + math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b)
    c, d = np.ones_like(x), 1 / _away(1 - (a + b) * x / (a + 1))
    value = d.copy()
    most = _STEPS + 20 * int(math.sqrt(max(a, b)))
    for m in range(1, most):
        even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        d, c = 1 / _away(1 + even * d), _away(1 + even / c)
        value *= d * c
        odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        d, c = 1 / _away(1 + odd * d), _away(1 + odd / c)
        step = d * c
        value *= step
        if np.all(np.abs(step - 1) < 1e-15):
            break
    found: Floats = np.exp(front) * value / a
    return found


def _away(x: Floats) -> Floats:
    """From zero."""
    return np.where(np.abs(x) < _TINY, _TINY, x)


def beta_quantile(a: float, b: float, p: ArrayLike) -> Floats:
    """x with I_x(a, b) = p, by bisection and, where it stays between the bounds, Newton's method.

    >>> beta_quantile(1.0, 1.0, [0.25, 0.5]).round(12).tolist()
    [0.25, 0.5]
    """
    p = np.asarray(p, np.float64)
    if (special := _special()) is not None:
        return np.asarray(special.betaincinv(a, b, p))
    low, high, x = np.zeros(p.shape), np.ones(p.shape), np.full(p.shape, a / (a + b))
    scale = math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b)
    for _ in range(_STEPS):
        value = beta_cdf(a, b, x)
        low, high = np.where(value < p, x, low), np.where(value < p, high, x)
        with np.errstate(all="ignore"):
            density = np.exp(scale + (a - 1) * np.log(x) + (b - 1) * np.log1p(-x))
            newton = x - (value - p) / density
        inside = (newton > low) & (newton < high)
        following = np.where(inside, newton, (low + high) / 2)
        if np.all(np.abs(following - x) <= 1e-12 * following):
            return following
        x = following
    return x


def binomial_tail(count: int, size: int, p: Floats) -> Floats:
    """Probability of at least `count` of `size`, each with probability `p` [n].

    >>> binomial_tail(1, 2, np.array([0.5])).tolist()
    [0.75]
    """
    if count <= 0:
        return np.ones(len(p))
    if count > size:
        return np.zeros(len(p))
    if (special := _special()) is not None:
        return np.asarray(special.bdtrc(count - 1, size, p))
    return beta_cdf(count, size - count + 1, p)
