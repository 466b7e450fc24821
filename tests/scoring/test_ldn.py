"""Local density normalisation against the formula, one pair at a time."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.distance import cosine

from auscult.scoring import knn
from auscult.scoring import ldn as module
from auscult.scoring.ldn import FLOOR, LdnSettings
from support.clouds import UNITS, clouds, of_unit
from support.scores import scores


def by_ldn(bank: np.ndarray, queries: np.ndarray, density: int) -> np.ndarray:
    settings = LdnSettings(kind="ldn", density=density)
    return module.score(module.fit(bank, np.full(len(bank), "source"), settings), queries, settings)


def brute_force(bank: np.ndarray, query: np.ndarray, k: int, density: int) -> float:
    bank, query = bank.astype(np.float64), query.astype(np.float64)
    ratios = []
    for place, reference in enumerate(bank):
        others = sorted(cosine(reference, other) for at, other in enumerate(bank) if at != place)
        ratios.append(cosine(query, reference) / np.mean(others[:density]))
    return float(np.mean(sorted(ratios)[:k]))


@pytest.mark.parametrize("block", [2**24, 5])
@pytest.mark.parametrize(("k", "density"), [(1, 4), (1, 1), (3, 16), (100, 100)])
def test_brute_force(k: int, density: int, block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also when fewer than one row of distances fits a block."""
    monkeypatch.setattr(knn, "_BLOCK", block)
    parts = clouds()
    found = scores("ldn", parts, k, True, density=density)
    for unit in UNITS:
        bank, _, queries, rows = of_unit(parts, *unit)
        expected = [brute_force(bank, query, k, density) for query in queries]
        np.testing.assert_allclose(found[rows], expected, rtol=1e-4)


def test_domains_share_one_bank() -> None:
    parts = clouds()
    np.testing.assert_array_equal(scores("ldn", parts, 1, True), scores("ldn", parts, 1, False))


def test_equal_training_clips_divide_by_no_zero() -> None:
    """Two equal clips and a third: the third's ratio is d / its own spread, the equal ones' are d / FLOOR."""
    bank = np.array([[1, 0], [1, 0], [0, 1]], np.float32)
    spread = module.fit(bank, np.full(3, "source"), LdnSettings(kind="ldn", density=1)).spread
    np.testing.assert_allclose(spread, [FLOOR, FLOOR, 1])
    found = by_ldn(bank, np.array([[0, 2], [1, 1], [3, 0]], np.float32), 1)
    np.testing.assert_allclose(found, [0, 1 - np.sqrt(0.5), 0], atol=1e-6)


def test_a_bank_of_one_clip_has_the_distance_itself() -> None:
    found = by_ldn(np.array([[1, 0]], np.float32), np.array([[0, 1], [-1, 0]], np.float32), 4)
    np.testing.assert_allclose(found, [1, 2])


def test_a_sparse_cloud_is_forgiven_what_a_dense_one_is_not() -> None:
    """What the normalisation is for: equally far from a dense source cloud and from a sparse target cloud."""
    angles = np.radians([0, 0.1, 0.2, 0.3, 60, 70, 80])
    bank = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
    at_source, at_target = (np.array([[np.cos(a), np.sin(a)]], np.float32) for a in np.radians([-5, 85]))
    assert by_ldn(bank, at_source, 2)[0] > 100 * by_ldn(bank, at_target, 2)[0]


@pytest.mark.parametrize("aggregate", ["mean", "sum"])
def test_a_bank_per_domain_by_hand(aggregate: str) -> None:
    """Each with its own K; with sums a ratio is K times smaller."""
    parts = clouds()
    found = scores(
        "ldn", parts, 1, domain_banks=True, density=5, density_target=2, metric="euclidean", aggregate=aggregate
    )
    for unit in UNITS:
        bank, domain, queries, rows = of_unit(parts, *unit)
        each = []
        for name, density in (("source", 5), ("target", 2)):
            of = bank[domain == name].astype(np.float64)
            between = np.linalg.norm(of[:, None] - of[None], axis=2)
            nearest = np.sort(between, axis=1)[:, 1 : density + 1]  # without the clip itself
            spread = nearest.mean(axis=1) if aggregate == "mean" else nearest.sum(axis=1)
            each.append((np.linalg.norm(queries[:, None].astype(np.float64) - of[None], axis=2) / spread).min(axis=1))
        np.testing.assert_allclose(found[rows], np.minimum(*each), rtol=1e-4)


def test_with_one_bank_the_form_for_domains_is_the_form_without() -> None:
    parts = clouds(target=0)
    by_domain = scores("ldn", parts, 1, domain_banks=True, density_target=9)
    np.testing.assert_array_equal(by_domain, scores("ldn", parts, 1, domain_banks=False))
