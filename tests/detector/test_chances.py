"""Distributions in NumPy against scipy's."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.special
import scipy.stats

from auscult.detector import chances
from auscult.detector.chances import beta_cdf, beta_quantile, binomial_tail, normal_cdf, normal_quantile


@pytest.fixture(autouse=True)
def without_scipy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chances, "_special", lambda: None)


P = np.concatenate([[0.0, 1.0, 1e-12, 1 - 1e-12], np.random.default_rng(0).uniform(0, 1, 200)])


@pytest.mark.parametrize(
    ("a", "b"), [(1.5, 13.5), (1.0, 0.5), (1.0, 1e-3), (0.3, 2.0), (100.0, 900.0), (1.0, 5000.0), (700.0, 2.0)]
)
def test_beta(a: float, b: float) -> None:
    np.testing.assert_allclose(beta_cdf(a, b, P), scipy.special.betainc(a, b, P), rtol=1e-9, atol=1e-11)
    np.testing.assert_allclose(beta_quantile(a, b, P[4:]), scipy.special.betaincinv(a, b, P[4:]), rtol=1e-9, atol=1e-11)


def test_normal() -> None:
    x = np.concatenate([[-np.inf, np.inf], np.linspace(-12, 8, 300)])
    np.testing.assert_allclose(normal_cdf(x), scipy.special.ndtr(x), rtol=1e-12)
    np.testing.assert_allclose(normal_quantile(P), scipy.special.ndtri(P), rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize(("count", "size"), [(0, 5), (1, 2), (6, 5), (5, 5), (13, 719), (100, 719), (3000, 20000)])
def test_binomial_tail(count: int, size: int) -> None:
    p = np.random.default_rng(1).beta(2, 18, 100)
    np.testing.assert_allclose(
        binomial_tail(count, size, p), scipy.stats.binom.sf(count - 1, size, p), rtol=1e-8, atol=1e-12
    )
