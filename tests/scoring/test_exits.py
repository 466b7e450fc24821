"""Cluster exit detection: sizes by the formula, one clip and one neighbour at a time, and the scores that follow."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from scipy.spatial.distance import cosine, euclidean

from auscult.scoring import knn
from auscult.scoring.exits import QUANTILE, SPARSE, own_size, surroundings
from support.clouds import UNITS, clouds, of_unit
from support.scores import scores

DISTANCE = {"cosine": cosine, "euclidean": euclidean}


def size_by_hand(near: list[float]) -> int:
    if len(near) < 3:
        return len(near)
    r = [a / b if b else 1.0 for a, b in pairwise(near)]
    if min(r) < SPARSE:
        return 2
    s = [(a + b) / 2 for a, b in pairwise(r)]
    limit = np.percentile(s, 100 * QUANTILE)
    return next((k for k, value in enumerate(s, start=1) if value < limit), len(near) - 2)


def density_by_hand(bank: np.ndarray, place: int, count: int, metric: str) -> tuple[float, int]:
    near = sorted(DISTANCE[metric](bank[place], other) for at, other in enumerate(bank) if at != place)[:count]
    size = size_by_hand([float(value) for value in near])
    return float(np.mean(near[:size])), size


@pytest.mark.parametrize("block", [2**24, 5])
@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
@pytest.mark.parametrize("count", [1, 2, 3, 7, 64])
def test_sizes_and_densities_by_hand(count: int, metric: str, block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(knn, "_BLOCK", block)
    rng = np.random.default_rng(0)
    bank = np.concatenate([centre + 0.1 * rng.standard_normal((12, 5)) for centre in rng.standard_normal((4, 5))])
    mean, size = surroundings(bank, count, metric, True)  # type: ignore[arg-type]
    expected = [density_by_hand(bank, place, count, metric) for place in range(len(bank))]
    np.testing.assert_array_equal(size, [one for _, one in expected])
    np.testing.assert_allclose(mean, [one for one, _ in expected], rtol=1e-6)
    if (
        count == 64 and metric == "euclidean"
    ):  # 11 others in the clip's own cluster; the jump behind them lowers s_10 too
        assert set(size) <= {2, 10}


def test_a_large_k_does_not_leave_the_cluster() -> None:
    """Six clips close together, and forty far away: without exits a K of 30 takes the density from there."""
    rng = np.random.default_rng(1)
    bank = np.concatenate([0.1 * rng.standard_normal((6, 8)), 3 + rng.standard_normal((40, 8))])
    inside, size = surroundings(bank, 30, "euclidean", True)
    beyond, _ = surroundings(bank, 30, "euclidean", False)
    assert (size[:6] <= 5).all()
    assert (inside[:6] < 1).all()
    assert (beyond[:6] > 5).all()


def test_equal_clips_and_equal_distances_have_no_exit() -> None:
    np.testing.assert_array_equal(own_size(np.zeros((2, 6))), [4, 4])
    np.testing.assert_array_equal(own_size(np.ones((1, 6))), [4])
    np.testing.assert_array_equal(own_size(np.array([[0.0, 0.0, 1.0, 1.0, 1.0]])), [2])  # 0 / 1 is extremely small


@pytest.mark.parametrize("aggregate", ["mean", "sum"])
def test_ldn_with_exits(aggregate: str) -> None:
    parts = clouds(source=20)
    found = scores("ldn", parts, density=64, exits=True, aggregate=aggregate)
    for unit in UNITS:
        bank, _, queries, places = of_unit(parts, *unit)
        spread = [density_by_hand(bank, at, 64, "cosine") for at in range(len(bank))]
        by = [mean * (size if aggregate == "sum" else 1) for mean, size in spread]
        expected = [min(cosine(x, y) / by[at] for at, y in enumerate(bank)) for x in queries]
        np.testing.assert_allclose(found[places], expected, rtol=1e-4)
    assert not np.allclose(found, scores("ldn", parts, density=64, aggregate=aggregate))


def test_varmin_with_exits() -> None:
    """One row: the smallest of distance less alpha times density, alpha from each clip's nearest other one."""
    parts = clouds(source=20)
    found = scores("varmin", parts, density=64, exits=True, metric="euclidean", rows=1)
    for unit in UNITS:
        bank, _, queries, places = of_unit(parts, *unit)
        bank, queries = bank.astype(np.float64), queries.astype(np.float64)
        b = np.array([density_by_hand(bank, at, 64, "euclidean")[0] for at in range(len(bank))])
        between = np.array([[euclidean(x, y) for y in bank] for x in bank]) + np.diag(np.full(len(bank), np.inf))
        d, near = between.min(axis=1), b[between.argmin(axis=1)]
        alpha = np.cov(d, near, bias=True)[0, 1] / np.var(near)
        expected = [min(euclidean(x, y) - alpha * b[at] for at, y in enumerate(bank)) for x in queries]
        np.testing.assert_allclose(found[places], expected, rtol=1e-4)
