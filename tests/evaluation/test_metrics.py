"""ROC areas against golden vectors, scikit-learn, counting pairs, and literal resampling."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import hmean
from sklearn.metrics import roc_auc_score, roc_curve

from auscult.errors import AuscultError
from auscult.evaluation.metrics import (
    auc,
    bootstrap_areas,
    bootstrap_auc,
    bootstrap_pauc,
    harmonic_mean,
    pauc,
    roc,
    stratified_weights,
)

GOLDEN = Path(__file__).parents[1] / "golden" / "metrics.npz"


@st.composite
def scored(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Scores on a coarse grid (many ties), labels with both classes, positive weights."""
    n = draw(st.integers(4, 60))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    levels = draw(st.sampled_from([1, 2, 5, 1000]))
    y = rng.integers(0, 2, n)
    y[:2] = 0, 1
    return rng.integers(0, levels, n) / 7.0, y, rng.integers(1, 5, (3, n)).astype(float)


def test_golden_values() -> None:
    with np.load(GOLDEN) as golden:
        s, y, ids = golden["scores"], golden["y_true"], golden["ids"]
        for unit, expected in zip(golden["per_id_order"], golden["per_id_auc_pauc_rawpartial"], strict=True):
            here = ids == unit
            assert auc(s[here], y[here]) == pytest.approx(expected[0], abs=1e-12)
            assert pauc(s[here], y[here]) == pytest.approx(expected[1], abs=1e-12)
        assert auc(s, y) == pytest.approx(golden["pooled_auc_pauc_rawpartial"][0], abs=1e-12)
        assert pauc(s, y) == pytest.approx(golden["pooled_auc_pauc_rawpartial"][1], abs=1e-12)


@given(scored())
@settings(max_examples=60, deadline=None)
def test_auc_is_the_share_of_ordered_pairs(case: tuple[np.ndarray, np.ndarray, np.ndarray]) -> None:
    s, y, _ = case
    difference = s[y == 1][:, None] - s[y == 0][None, :]
    assert auc(s, y) == pytest.approx(np.mean((difference > 0) + 0.5 * (difference == 0)), abs=1e-12)


@given(scored(), st.sampled_from([0.05, 0.1, 0.25, 0.9]))
@settings(max_examples=60, deadline=None)
def test_weighted_areas_equal_scikit_learn(case: tuple[np.ndarray, np.ndarray, np.ndarray], limit: float) -> None:
    s, y, weights = case
    assert pauc(s, y, limit) == pytest.approx(roc_auc_score(y, s, max_fpr=limit), abs=1e-12)
    areas = bootstrap_areas(s, y, weights, (1.0, limit))
    for row, weight in enumerate(weights):
        assert areas[0, row] == pytest.approx(roc_auc_score(y, s, sample_weight=weight), abs=1e-12)
        assert areas[1, row] == pytest.approx(roc_auc_score(y, s, sample_weight=weight, max_fpr=limit), abs=1e-12)


def test_replicates_equal_literal_resampling() -> None:
    rng = np.random.default_rng(3)
    y = rng.integers(0, 2, 90)
    s = np.round(rng.normal(size=90) + y, 1)
    strata = [f"{unit}/{label}" for unit, label in zip(rng.integers(0, 3, 90), y, strict=True)]
    weights = stratified_weights(strata, np.arange(90), 40, seed=5)
    areas, partial = bootstrap_auc(s, y, weights), bootstrap_pauc(s, y, weights)
    for row, counts in enumerate(weights):
        drawn = np.repeat(np.arange(90), counts)
        assert areas[row] == pytest.approx(roc_auc_score(y[drawn], s[drawn]), abs=1e-12)
        assert partial[row] == pytest.approx(roc_auc_score(y[drawn], s[drawn], max_fpr=0.1), abs=1e-12)


def test_many_replicates_equal_one_by_one() -> None:
    """The result does not depend on how the replicates are cut into blocks, nor on the memory layout of the weights."""
    rng = np.random.default_rng(8)
    n, replicates = 3000, 200  # several blocks
    y, s = rng.integers(0, 2, n), rng.normal(size=n)
    weights = stratified_weights([str(label) for label in y], np.arange(n), replicates, seed=0)
    together = bootstrap_areas(s, y, weights, (1.0, 0.1))
    one_by_one = [bootstrap_areas(s, y, np.ascontiguousarray(row[None]), (1.0, 0.1))[:, 0] for row in weights]
    np.testing.assert_allclose(together, np.transpose(one_by_one), rtol=0, atol=1e-13)


@pytest.mark.parametrize("labels", [[0, 0, 0], [1, 1, 1], []])
def test_a_missing_class_gives_nan(labels: list[int]) -> None:
    scores = np.arange(len(labels), dtype=float)
    assert np.isnan(auc(scores, labels))
    assert np.isnan(pauc(scores, labels))
    fpr, tpr, _ = roc(scores, labels)
    assert np.isnan(fpr).all() or np.isnan(tpr).all()


def test_a_replicate_without_one_class_is_nan_alone() -> None:
    weights = np.array([[1, 1, 1, 1], [0, 0, 1, 1]])
    areas = bootstrap_areas([0.1, 0.4, 0.3, 0.8], [0, 0, 1, 1], weights, (1.0, 0.1))
    assert np.isfinite(areas[:, 0]).all()
    assert np.isnan(areas[:, 1]).all()


def test_roc_points_equal_scikit_learn() -> None:
    rng = np.random.default_rng(1)
    y = rng.integers(0, 2, 80)
    s = np.round(rng.normal(size=80), 1)
    expected = roc_curve(y, s, drop_intermediate=False)
    for ours, theirs in zip(roc(s, y), expected, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-15)


def test_weights_keep_the_size_of_every_stratum() -> None:
    strata = ["a"] * 7 + ["b"] * 20 + ["c"]
    weights = stratified_weights(strata, np.arange(28), 300, seed=0)
    assert weights.shape == (300, 28)
    for name, size in (("a", 7), ("b", 20), ("c", 1)):
        assert (weights[:, np.array(strata) == name].sum(axis=1) == size).all()
    # A count is binomial(20, 1 / 20): mean 1, variance 0.95.
    assert weights[:, 7:27].var() == pytest.approx(0.95, abs=0.05)


def test_weights_of_a_clip_do_not_depend_on_row_order_or_other_strata() -> None:
    strata, ids = np.array(["a"] * 9 + ["b"] * 5), np.arange(14)
    weights = stratified_weights(strata, ids, 50, seed=2)
    order = np.random.default_rng(0).permutation(14)
    np.testing.assert_array_equal(stratified_weights(strata[order], ids[order], 50, seed=2), weights[:, order])
    np.testing.assert_array_equal(stratified_weights(strata[9:], ids[9:], 50, seed=2), weights[:, 9:])
    assert (stratified_weights(strata, ids, 50, seed=3) != weights).any()


def test_harmonic_mean() -> None:
    values = np.array([[0.9, 0.4], [0.5, 0.7], [0.6, 0.6]])
    np.testing.assert_allclose(harmonic_mean(values), hmean(values, axis=0), rtol=1e-14)
    assert 0 < harmonic_mean([0.0, 0.9]) < 1e-14  # clamped, not a division by zero
    assert np.isnan(harmonic_mean([np.nan, 0.9]))


def test_official_score_of_the_2024_baseline() -> None:
    """The evaluator's README: MSE baseline, harmonic means of AUC_source, AUC_target, pAUC, and the official score."""
    assert harmonic_mean([0.7150555228, 0.5057977147, 0.5172271108]) == pytest.approx(0.5650830191796572, abs=1e-10)


def test_mistakes_are_refused() -> None:
    with pytest.raises(AuscultError, match="NaN"):
        auc([0.1, np.nan], [0, 1])
    with pytest.raises(AuscultError, match="neither 0"):
        auc([0.1, 0.2], [0, 2])
    with pytest.raises(AuscultError, match="shape"):
        auc([0.1, 0.2], [0])
    with pytest.raises(AuscultError, match="max_fpr"):
        pauc([0.1, 0.2], [0, 1], max_fpr=0)
    with pytest.raises(AuscultError, match="weights"):
        bootstrap_auc([0.1, 0.2], [0, 1], np.ones((5, 3)))
