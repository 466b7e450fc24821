"""Intervals hold the truth, also for few clips; equal systems tie; docs/scores.md has the whole table."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from scipy.stats import binom

from auscult.evaluation.evaluate import evaluate
from auscult.evaluation.intervals import (
    Spread,
    auc_limit,
    debiased_pauc,
    intervals,
    pauc_coefficients,
    percentiles,
    spread_of_auc,
    spread_of_mean,
    spread_of_minimum,
)
from auscult.evaluation.metrics import pauc
from auscult.settings.rules import MetricRules

from .test_evaluation import make

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def simulation() -> ModuleType:
    spec = importlib.util.spec_from_file_location("coverage_simulation", ROOT / "benchmarks" / "coverage.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def test_they_cover_the_truth(simulation: ModuleType) -> None:
    """24 units x (8 + 8): plain percentiles of the pAUC and mAUC hold the truth hardly ever."""
    found = simulation.coverage("normal, AUC 0.9", (6, 4, 8, 40), 100)
    assert set(found) == set(simulation.METRICS)
    for metric, (ours, plain) in found.items():
        assert ours >= 0.87, metric  # of 40 at 95 %, fewer than 35 have a probability of 1 %
        if metric in ("pauc", "mauc"):
            assert plain < 0.3, metric


def test_equal_systems_are_told_apart_one_time_in_twenty(simulation: ModuleType) -> None:
    found = simulation.false_alarms("normal, AUC 0.8", (6, 4, 8, 100), 200)
    for metric, share in found.items():
        assert share <= 0.12, metric  # of 100 at 5 %, more than 12 have a probability of 0.1 %
    assert found["pauc"] > 0, "nothing is ever called better"


def test_the_table_of_the_page_is_written_by_the_simulation(simulation: ModuleType, tmp_path: Path) -> None:
    page = (ROOT / "docs" / "scores.md").read_text()
    copy = tmp_path / "scores.md"
    copy.write_text(page)
    simulation.write(copy, "| new |")
    before, after = page.split("<!-- coverage")[0], page.split("<!-- end of coverage -->")[1]
    assert copy.read_text() == (
        f"{before}<!-- coverage: benchmarks/coverage.py -->\n\n| new |\n\n<!-- end of coverage -->{after}"
    )
    for design in simulation.DESIGNS:
        assert f"| {design} | of the tables |" in page


# --------------------------------------------------------------------------------------------------------------------- pAUC
@pytest.mark.parametrize("normals", [8, 20, 100])
@pytest.mark.parametrize("name", ["normal, AUC 0.6", "normal, AUC 0.9", "normal, slope 2.0", "heavy tails"])
def test_the_coefficients_of_the_pauc_err_by_tenths_of_a_point(simulation: ModuleType, name: str, normals: int) -> None:
    """The exact mean over samples of n normal clips, by the binomial distribution; heavy tails are none of the curves fitted."""
    rate = simulation.distributions(1)[name][0].rate
    edges = np.linspace(0, 1, 20001) ** 2
    u, steps = (edges[1:] + edges[:-1]) / 2, np.diff(rate(edges))
    counts = steps @ binom.pmf(np.arange(normals + 1), normals, u[:, None])
    true = steps @ np.maximum(0.1 - u, 0)
    plain = np.maximum(0.1 - np.arange(normals + 1) / normals, 0)
    off, off_plain = (50 * (counts @ c - true) / 0.095 for c in (pauc_coefficients(normals, 0.1), plain))
    assert abs(off) < 0.6
    assert off_plain > 0.25 * 8 / normals
    assert abs(off) < off_plain / 4


def test_many_clips_need_no_correction() -> None:
    np.testing.assert_array_equal(pauc_coefficients(1000, 0.1), np.maximum(0.1 - np.arange(1001) / 1000, 0))
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1], 1000)
    scores = np.round(rng.normal(size=2000) + labels, 1)
    assert debiased_pauc(scores, labels, 0.1) == pytest.approx(pauc(scores, labels), abs=1e-3)  # ties too


# ------------------------------------------------------------------------------------------------------------------- limits
def test_a_perfect_sample_has_a_lower_limit() -> None:
    scores, labels = make(units=2, per_unit=16)
    perfect = scores.assign(score=labels["anomaly"] * 10.0 + scores["clip_id"] % 7 / 10)
    summary = evaluate(perfect, labels, MetricRules(), 50).set_index(["convention", "machine", "metric"])
    for key in (
        ("per_unit", "fan", "auc"),
        ("per_unit", "fan", "pauc"),
        ("per_unit", "mean", "mauc"),
        ("pooled", "mean", "auc"),
    ):
        row = summary.loc[key]
        assert row["value"] == row["ci_high"] == 100
        assert row["ci_low"] < 95, key
    # Two types of two perfect units are half as far from 100 as one unit.
    assert 100 - summary.loc[("per_unit", "mean", "auc"), "ci_low"] == pytest.approx(50 * (1 - auc_limit(1.0, 8, 8)))
    worst = evaluate(perfect.assign(score=-perfect["score"]), labels, MetricRules(), 50)
    row = worst.set_index(["convention", "machine", "metric"]).loc[("per_unit", "fan", "auc")]
    assert row["value"] == row["ci_low"] == 0
    assert row["ci_high"] > 5


def test_newcombes_limit_solves_his_equation() -> None:
    for auc, m, n in ((1.0, 8, 8), (0.9, 50, 20), (0.6, 400, 100)):
        low = auc_limit(auc, m, n)
        more = (m + n) / 2 - 1
        variance = low * (1 - low) * (1 + more * ((1 - low) / (2 - low) + low / (1 + low))) / (m * n)
        assert auc - low == pytest.approx(1.959964 * np.sqrt(variance), abs=1e-6)


def test_the_number_lies_in_its_interval_and_the_interval_in_0_to_1() -> None:
    scores, labels = make(units=3, per_unit=16)
    summary = evaluate(scores, labels, MetricRules(), 100)
    assert (summary["ci_low"] <= summary["value"]).all()
    assert (summary["value"] <= summary["ci_high"]).all()
    assert summary["ci_low"].min() > 0
    assert summary["ci_high"].max() <= 100


def test_intervals_of_few_clips_are_marked() -> None:
    scores, labels = make(per_unit=16)
    assert not evaluate(scores, labels, MetricRules(), 10)["few_clips"].any()
    gone = labels["clip_id"].isin(scores.query("machine == 'fan' and unit == '00'")["clip_id"].iloc[:2])
    marked = evaluate(scores[~gone.to_numpy()], labels[~gone], MetricRules(), 10)
    rows = marked[marked["few_clips"]]
    assert set(rows["machine"]) == {"fan", "mean"}
    assert set(rows["convention"]) == {"per_unit"}  # all units together are enough


def test_the_lowest_of_equal_units_may_be_as_high_as_they_are() -> None:
    rng = np.random.default_rng(0)
    equal = np.c_[[0.8, 0.78, 0.82, 0.79], 0.8 + 0.1 * rng.standard_normal((4, 1000))]
    apart = np.c_[[0.5, 0.98, 0.97, 0.99], equal[:, 1:]]
    spreads = [spread_of_auc(float(auc), 50, 50) for auc in equal[:, 0]]
    wide, narrow = spread_of_minimum(equal, spreads), spread_of_minimum(apart, spreads)
    assert wide.low == 0.78
    assert wide.high == pytest.approx(0.78 + 0.1 * 1.03, abs=0.01)  # the lowest of four normal numbers
    assert narrow.low == narrow.high == pytest.approx(0.5, abs=1e-3)


def test_a_harmonic_mean_of_noisy_numbers_is_put_right() -> None:
    rng = np.random.default_rng(0)
    values = np.c_[np.full(50, 0.7), 0.7 + 0.1 * rng.standard_normal((50, 2000))]
    centre = spread_of_mean(values, [Spread(0.7, 0.7)] * 50, harmonic=True).low
    assert centre - 0.7 == pytest.approx(0.1**2 / 0.7, rel=0.1)  # second order: variance / mean
    assert spread_of_mean(values, [Spread(0.7, 0.7)] * 50).low == pytest.approx(0.7)


def test_without_replicates_there_are_none() -> None:
    assert np.isnan(intervals([np.array([0.5])], [Spread(0.5, 0.5)], 0.95)).all()
    assert np.isnan(percentiles([np.array([0.5])], 0.95)).all()
    assert intervals([], [], 0.95).shape == (0, 2)
