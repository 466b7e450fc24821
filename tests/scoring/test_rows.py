"""BEAM and VarMin against the formulas, one row, one clip and one pair at a time; and their simplest cases."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.distance import cosine, euclidean

from auscult.errors import AuscultError
from auscult.scoring import knn
from support.clouds import UNITS, clouds, of_unit
from support.scores import scores

ROWS = 3
DISTANCE = {"cosine": cosine, "euclidean": euclidean}


def rows_of(vector: np.ndarray) -> np.ndarray:
    return vector.astype(np.float64).reshape(ROWS, -1)


def beam(bank: np.ndarray, query: np.ndarray, metric: str) -> float:
    distance = DISTANCE[metric]
    return float(np.mean([min(distance(rows_of(query)[f], rows_of(y)[f]) for y in bank) for f in range(ROWS)]))


def varmin(bank: np.ndarray, query: np.ndarray, metric: str, density: int, log: bool) -> float:
    def space(value: float) -> float:
        return float(np.log(value)) if log else float(value)

    found = []
    for f in range(ROWS):
        clips = [rows_of(y)[f] for y in bank]
        between = [[DISTANCE[metric](one, other) for other in clips] for one in clips]
        b, d, nearest = [], [], []
        for i, line in enumerate(between):
            others = sorted((value, j) for j, value in enumerate(line) if j != i)
            b.append(space(np.mean([value for value, _ in others[:density]])))
            d.append(space(others[0][0]))
            nearest.append(others[0][1])
        alpha = np.cov(d, [b[j] for j in nearest], bias=True)[0, 1] / np.var([b[j] for j in nearest])
        x = rows_of(query)[f]
        found.append(min(space(DISTANCE[metric](x, y)) - alpha * b[i] for i, y in enumerate(clips)))
    return float(np.mean(found))


@pytest.mark.parametrize("block", [2**24, 5])
@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_beam_by_hand(metric: str, block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(knn, "_BLOCK", block)
    parts = clouds()
    found = scores("beam", parts, 1, rows=ROWS, metric=metric)
    for unit in UNITS:
        bank, _, queries, places = of_unit(parts, *unit)
        np.testing.assert_allclose(found[places], [beam(bank, x, metric) for x in queries], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("block", [2**24, 5])
@pytest.mark.parametrize(
    ("metric", "density", "log"), [("cosine", 4, False), ("cosine", 100, False), ("euclidean", 1, True)]
)
def test_varmin_by_hand(metric: str, density: int, log: bool, block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(knn, "_BLOCK", block)
    parts = clouds()
    found = scores("varmin", parts, 1, rows=ROWS, metric=metric, density=density, log=log)
    for unit in UNITS:
        bank, _, queries, places = of_unit(parts, *unit)
        expected = [varmin(bank, x, metric, density, log) for x in queries]
        np.testing.assert_allclose(found[places], expected, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize(("k", "metric"), [(1, "cosine"), (3, "euclidean")])
def test_beam_with_one_row_is_knn(k: int, metric: str) -> None:
    parts = clouds()
    for rows in (None, 1):
        np.testing.assert_allclose(
            scores("beam", parts, k, rows=rows, metric=metric), scores(f"knn_{metric}", parts, k)
        )


@pytest.mark.parametrize("rows", [1, ROWS])
def test_varmin_with_alpha_0_is_beam(rows: int) -> None:
    parts = clouds()
    zero = scores("varmin", parts, 2, rows=rows, alpha=0.0)
    np.testing.assert_allclose(zero, scores("beam", parts, 2, rows=rows), rtol=1e-6)


def test_each_row_has_a_neighbour_of_its_own() -> None:
    """Low band of one training clip, high band of another: nothing is far away, though no clip is near."""
    parts = clouds(dims=4)
    bank, _, _, places = of_unit(parts, "fan", "00")
    test = parts.test.copy()
    test[places[0]] = np.concatenate([bank[0][:2], bank[1][2:]])
    mixed = parts._replace(test=test)
    assert scores("beam", mixed, rows=2)[places[0]] == pytest.approx(0, abs=1e-6)
    assert scores("knn_cosine", mixed)[places[0]] > 1e-3


def test_clips_that_are_all_equal_give_alpha_0() -> None:
    parts = clouds()
    train = np.ones_like(parts.train)
    equal = parts._replace(train=train)
    np.testing.assert_allclose(scores("varmin", equal, rows=ROWS), scores("beam", equal, rows=ROWS), atol=1e-6)


def test_domains_share_one_bank() -> None:
    parts = clouds()
    for kind in ("beam", "varmin"):
        np.testing.assert_array_equal(scores(kind, parts, 1, True, rows=2), scores(kind, parts, 1, False, rows=2))


def test_rows_that_the_embedding_does_not_have() -> None:
    with pytest.raises(AuscultError, match="6 numbers do not fall into 4 rows"):
        scores("beam", clouds(), rows=4)
