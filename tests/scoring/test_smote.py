"""SMOTE: how many clips, where they lie, and what happens when there are too few."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import numpy as np
import pytest

from auscult.scoring import smote as module
from auscult.scoring.smote import synthetic
from support.clouds import UNITS, clouds, of_unit
from support.scores import scores


@pytest.fixture(autouse=True)
def _nothing_said_yet() -> Iterator[None]:
    module._say_once.cache_clear()
    yield
    module._say_once.cache_clear()


def target(clips: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((clips, 5)).astype(np.float32)


@pytest.mark.parametrize(("clips", "wanted", "more"), [(4, 20, 16), (3, 4, 1), (10, 8, 0), (10, 10, 0), (0, 9, 0)])
def test_counts(clips: int, wanted: int, more: int) -> None:
    found = synthetic(target(clips), wanted)
    assert found.shape == (more, 5)
    assert found.dtype == np.float32


@pytest.mark.parametrize("neighbours", [1, 2])
def test_new_clips_lie_between_a_clip_and_one_of_its_nearest(neighbours: int) -> None:
    real = target(6).astype(np.float64)
    for clip in synthetic(real, 40, neighbours):
        fits = []
        for start in real:
            near = np.argsort(np.linalg.norm(real - start, axis=1))[1 : 1 + neighbours]
            for end in real[near]:
                share = (clip - start) @ (end - start) / ((end - start) @ (end - start))
                fits.append(-1e-9 <= share <= 1 + 1e-9 and np.allclose(start + share * (end - start), clip, atol=1e-9))
        assert any(fits)


def test_the_seed_draws() -> None:
    first, again, other = (synthetic(target(5), 12, seed=seed) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


def test_scores_are_those_of_the_filled_bank() -> None:
    parts = clouds(source=100, target=3)
    found = scores("smote", parts, 2, True)
    for unit in UNITS:
        bank, domain, queries, rows = of_unit(parts, *unit)
        more = synthetic(bank[domain == "target"], 20)
        assert len(more) == 17
        for part in ("source", "target"):
            assert (domain == part).any()
        banks = [bank[domain == "source"], np.concatenate([bank[domain == "target"], more])]
        unit_of = [b / np.linalg.norm(b, axis=1, keepdims=True) for b in banks]
        wanted = queries / np.linalg.norm(queries, axis=1, keepdims=True)
        expected = np.min([np.sort(1 - wanted @ b.T, axis=1)[:, :2].mean(axis=1) for b in unit_of], axis=0)
        np.testing.assert_allclose(found[rows], expected, atol=1e-6)
    assert not np.allclose(found, scores("knn_cosine", parts, 2, True))


def test_as_many_as_a_fifth_already() -> None:
    """A ratio that is reached before anything is added is no error."""
    parts = clouds(source=20, target=4)
    np.testing.assert_array_equal(scores("smote", parts, 1, True), scores("knn_cosine", parts, 1, True))


@pytest.mark.parametrize("clips", [1, 2, 3])
def test_few_target_clips_are_said_once(clips: int, caplog: pytest.LogCaptureFixture) -> None:
    parts = clouds(source=50, target=clips)
    with caplog.at_level(logging.WARNING):
        for seed in (0, 1):
            found = scores("smote", parts, 1, True, seed=seed)
    messages = [record.message for record in caplog.records]
    if clips == 3:
        assert messages == []
    elif clips == 2:
        assert len(messages) == 1
        assert "fewer than 2 neighbours" in messages[0]
    else:
        assert len(messages) == 1
        assert "plain kNN" in messages[0]
    assert np.array_equal(found, scores("knn_cosine", parts, 1, True)) == (clips == 1)


def test_without_target_clips_it_is_plain_knn() -> None:
    parts = clouds(source=30, target=0)
    np.testing.assert_array_equal(scores("smote", parts, 1, True), scores("knn_cosine", parts, 1, True))
