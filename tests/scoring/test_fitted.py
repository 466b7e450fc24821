"""Centres, covariances, mixtures and outlier factors against scikit-learn and SciPy, called on one unit at a time."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.distance import cdist
from scipy.stats import norm
from sklearn.cluster import KMeans
from sklearn.covariance import LedoitWolf
from sklearn.mixture import GaussianMixture
from sklearn.neighbors import NearestNeighbors

from auscult.scoring import mahalanobis
from auscult.scoring.kmeans import source_centres
from auscult.scoring.mahalanobis import LEAST, MahalanobisSettings
from support.clouds import UNITS, clouds, of_unit
from support.scores import scores


def units(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


# ----------------------------------------------------------------------------------------------------------------- k-means
@pytest.mark.parametrize("k", [1, 3])
def test_kmeans(k: int) -> None:
    parts = clouds(source=40, target=4)
    found = scores("kmeans", parts, k, True, centres=5, seed=1)
    for unit in UNITS:
        bank, domain, queries, rows = of_unit(parts, *unit)
        centres = KMeans(5, random_state=1).fit(units(bank[domain == "source"])).cluster_centers_
        members = np.concatenate([centres, bank[domain == "target"]])
        distance = np.sort(cdist(queries, members, "cosine"), axis=1)[:, :k].mean(axis=1)
        np.testing.assert_allclose(found[rows], distance, atol=1e-5)


def test_fewer_source_clips_than_centres_are_the_centres() -> None:
    clips = np.random.default_rng(0).standard_normal((7, 4)).astype(np.float32)
    np.testing.assert_allclose(source_centres(clips, 7, 0), units(clips), rtol=1e-6)
    parts = clouds(source=10, target=4)
    nearest = np.full(len(parts.test), np.nan)
    for unit in UNITS:
        bank, _, queries, rows = of_unit(parts, *unit)
        nearest[rows] = cdist(queries, bank, "cosine").min(axis=1)
    np.testing.assert_allclose(scores("kmeans", parts), nearest, atol=1e-5)


def test_fewer_distinct_clips_than_centres() -> None:
    clips = np.repeat(np.eye(3, 4, dtype=np.float32), 10, axis=0)
    centres = source_centres(clips, 16, 0)
    assert np.isfinite(centres).all()
    assert cdist(np.eye(3, 4), centres).min(axis=1).max() < 1e-6


def test_clips_of_no_known_domain_count_as_source() -> None:
    """2020: nothing there is target, so the bank has centres alone."""
    parts = clouds(source=40, target=0)
    unknown = parts._replace(train_meta=parts.train_meta.assign(domain="unknown"))
    np.testing.assert_array_equal(scores("kmeans", parts), scores("kmeans", unknown))


# ------------------------------------------------------------------------------------------------------------- Mahalanobis
def by_mahalanobis(bank: np.ndarray, queries: np.ndarray) -> np.ndarray:
    settings = MahalanobisSettings(kind="mahalanobis")
    return mahalanobis.score(mahalanobis.fit(bank, np.full(len(bank), "source"), settings), queries, settings)


@pytest.mark.parametrize("dims", [3, 6, 40])
@pytest.mark.parametrize("domains", [False, True])
def test_mahalanobis(domains: bool, dims: int) -> None:
    """With more clips than dimensions and with fewer."""
    parts = clouds(source=30, target=5, dims=dims)
    found = scores("mahalanobis", parts, 1, domains)
    for unit in UNITS:
        bank, domain, queries, rows = of_unit(parts, *unit)
        banks = [bank[domain == name] for name in ("source", "target")] if domains else [bank]
        squares = [LedoitWolf().fit(b.astype(np.float64)).mahalanobis(queries) for b in banks]
        np.testing.assert_allclose(found[rows], np.sqrt(np.min(squares, axis=0)), rtol=1e-6)


def test_a_domain_of_two_clips_shares_the_units_covariance() -> None:
    """Of two clips Ledoit and Wolf's estimate shrinks nothing: all other directions would have no variance."""
    assert LedoitWolf().fit(np.random.default_rng(0).standard_normal((LEAST - 1, 6))).shrinkage_ < 1e-6
    parts = clouds(source=30, target=LEAST - 1)
    np.testing.assert_array_equal(scores("mahalanobis", parts, 1, True), scores("mahalanobis", parts, 1, False))
    more = clouds(source=30, target=LEAST)
    assert not np.allclose(scores("mahalanobis", more, 1, True), scores("mahalanobis", more, 1, False))


def test_two_clips_in_all_have_the_same_variance_everywhere() -> None:
    bank = np.array([[0, 0, 0], [2, 0, 0]], np.float32)
    found = by_mahalanobis(bank, np.array([[1, 1, 0], [2, 0, 0], [1, 0, 3]], np.float32))
    np.testing.assert_allclose(found, np.array([1, 1, 3]) / np.sqrt(1 / 3), rtol=1e-6)


def test_a_dimension_without_variance_is_no_singular_matrix() -> None:
    rng = np.random.default_rng(0)
    bank = np.c_[rng.standard_normal((4000, 2)), np.zeros(4000)].astype(np.float32)
    found = by_mahalanobis(bank, np.array([[0, 0, 1]], np.float32))
    assert np.isfinite(found).all()
    assert found[0] > 10


# --------------------------------------------------------------------------------------------------------------------- LOF
def lof_by_hand(bank: np.ndarray, queries: np.ndarray, count: int, metric: str) -> np.ndarray:
    """Breunig et al., definitions 3 to 7."""
    count = min(count, len(bank) - 1)
    search = NearestNeighbors(n_neighbors=count, metric=metric, algorithm="brute").fit(bank)
    distance, near = search.kneighbors()  # each among the others
    reach = distance[:, -1]

    def density(distance: np.ndarray, near: np.ndarray) -> np.ndarray:
        out: np.ndarray = 1 / np.maximum(distance, reach[near]).mean(axis=1)
        return out

    of_bank = density(distance, near)
    to, to_near = search.kneighbors(queries)
    out: np.ndarray = of_bank[to_near].mean(axis=1) / density(to, to_near)
    return out


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
@pytest.mark.parametrize(("domains", "neighbours"), [(False, 5), (True, 20)])
def test_lof(metric: str, domains: bool, neighbours: int) -> None:
    parts = clouds(source=30, target=5)
    found = scores("lof", parts, 1, domains, metric=metric, neighbours=neighbours)
    for unit in UNITS:
        bank, domain, queries, rows = of_unit(parts, *unit)
        banks = [bank[domain == name] for name in ("source", "target")] if domains else [bank]
        expected = np.min([lof_by_hand(b, queries, neighbours, metric) for b in banks], axis=0)
        np.testing.assert_allclose(found[rows], expected, rtol=1e-4)


def test_one_target_clip_has_no_density_of_its_own() -> None:
    parts = clouds(source=20, target=1)
    np.testing.assert_array_equal(scores("lof", parts, 1, True), scores("lof", parts, 1, False))


# ----------------------------------------------------------------------------------------------------------------- mixture
def test_one_component_is_a_diagonal_gaussian() -> None:
    parts = clouds(source=20, target=0)
    found = scores("gmm", parts, components=1, floor=0.1)
    for unit in UNITS:
        bank, _, queries, rows = of_unit(parts, *unit)
        clips, wanted = units(bank.astype(np.float64)), units(queries.astype(np.float64))
        variance = clips.var(axis=0) + 0.1 * clips.var(axis=0).mean()
        expected = -norm(clips.mean(axis=0), np.sqrt(variance)).logpdf(wanted).sum(axis=1)
        np.testing.assert_allclose(found[rows], expected, rtol=1e-6)


def test_mixtures_of_two_domains() -> None:
    parts = clouds(source=40, target=9)
    found = scores("gmm", parts, 1, True, components=3, seed=2)
    for unit in UNITS:
        bank, domain, queries, rows = of_unit(parts, *unit)
        of_domains = []
        for name, components in (("source", 3), ("target", 1)):  # one component for eight clips
            clips = units(bank[domain == name].astype(np.float64))
            floor = 0.1 * clips.var(axis=0).mean()
            mixture = GaussianMixture(components, covariance_type="diag", reg_covar=floor, random_state=2).fit(clips)
            of_domains.append(-mixture.score_samples(units(queries.astype(np.float64))))
        np.testing.assert_allclose(found[rows], np.min(of_domains, axis=0), rtol=1e-6)
