"""Which candidate is taken: against brute force, and on candidates of which none is better."""

from __future__ import annotations

import numpy as np
import pytest

from auscult.detector.picking import (
    areas,
    error_of_mean,
    folds,
    means_of,
    nested,
    pick_by_changes,
    pick_by_faults,
    shares,
    wilson,
)


def test_areas_are_those_of_a_double_loop() -> None:
    rng = np.random.default_rng(0)
    fold, owner = np.array([0, 0, 0, 1, 1, 1]), np.array([0, 0, 1, 2, 2, 3])
    normal, fault = rng.integers(0, 4, 6).astype(float), rng.integers(0, 4, (2, 3)).astype(float)
    fault_owner = np.array([0, 1, 1])
    found = areas(normal, fault, fold, owner, fault_owner)
    for one in range(2):
        for recording in range(4):
            pairs = [
                (fault[fold[j], i] > normal[j]) + 0.5 * (fault[fold[j], i] == normal[j])
                for i in np.flatnonzero(fault_owner == one)
                for j in np.flatnonzero(owner == recording)
            ]
            assert found[one, recording] == pytest.approx(np.mean(pairs))


def test_the_error_is_that_of_drawing_both_anew() -> None:
    """Of the area under a curve of normal scores, against the deviation over many draws."""
    rng = np.random.default_rng(1)
    means, errors = [], []
    for _ in range(2000):
        pairs = (rng.standard_normal((8, 1)) + 1 > rng.standard_normal((1, 40))).astype(float)
        means.append(pairs.mean())
        errors.append(error_of_mean(pairs) ** 2)
    assert np.sqrt(np.mean(errors)) == pytest.approx(np.std(means), rel=0.1)
    assert error_of_mean(np.full((1, 5), 0.3)) == 0


def test_the_first_within_one_error_of_the_best_is_taken() -> None:
    rng = np.random.default_rng(2)
    same = (rng.random((4, 60)) < 0.9).astype(float)
    better, best = np.ones((4, 60)), np.ones((4, 60))
    every = np.ones(4, bool)
    assert pick_by_faults(np.array([same, same, same]), every[:3]) == 0  # a tie is the default
    assert pick_by_faults(np.array([same * 0, better, best]), every[:3]) == 1
    assert pick_by_faults(np.array([better, same, best]), np.array([False, True, True])) == 2
    assert pick_by_faults(np.array([same, better]), np.zeros(2, bool)) == 0
    slightly = same.copy()
    slightly[0, np.flatnonzero(same[0] == 0)[:1]] = 1  # one pair in 240 more
    assert pick_by_faults(np.array([same, slightly]), every[:2]) == 0


def test_what_the_choice_is_worth_is_a_loop_over_what_is_left_out() -> None:
    rng = np.random.default_rng(3)
    measured, usable = rng.random((3, 4, 10)), np.array([True, True, False])
    found, alarms, fold = rng.random((3, 2, 4)) < 0.5, rng.random((3, 10)), np.repeat([0, 1], 5)
    rows = []
    for part in (0, 1):
        for fault in range(4):
            others = [i for i in range(4) if i != fault]
            seen = measured[:, others][:, :, fold != part]
            take = pick_by_faults(seen, usable)
            for recording in np.flatnonzero(fold == part):
                rows.append((measured[take, fault, recording], found[take, part, fault], alarms[take, recording]))
    worth = nested(measured, usable, found, alarms, fold)
    assert worth is not None
    np.testing.assert_allclose((worth.area, worth.found, worth.alarms), np.mean(rows, axis=0))
    assert nested(measured[:, :1], usable, found[:, :, :1], alarms, fold) is None


def test_choosing_among_many_by_chance_is_seen_through() -> None:
    """Of 20 candidates without any skill one looks good on four faults; the faults left out know better."""
    rng = np.random.default_rng(4)
    best, honest = [], []
    for _ in range(40):
        scores = rng.standard_normal((20, 4 + 50))
        measured = (scores[:, :4, None] > scores[:, None, 4:]).astype(float)
        fold, found = np.arange(50) % 5, np.zeros((20, 5, 4), bool)
        worth = nested(measured, np.ones(20, bool), found, np.zeros((20, 50)), fold)
        assert worth is not None
        best.append(measured[pick_by_faults(measured, np.ones(20, bool))].mean())
        honest.append(worth.area)
    assert np.mean(best) > 0.65
    assert np.mean(honest) == pytest.approx(0.5, abs=0.06)


def test_changes_alone_rarely_take_what_is_no_better() -> None:
    rng = np.random.default_rng(5)
    normal, every = np.ones((6, 60), bool), np.ones(6, bool)
    taken = [pick_by_changes(rng.random((6, 4, 60)) < 0.5, normal, every) != 0 for _ in range(300)]
    assert np.mean(taken) < 0.05


def test_a_candidate_that_is_deaf_to_one_kind_takes_no_place() -> None:
    noticed, normal = np.zeros((3, 2, 60), bool), np.ones((3, 60), bool)
    noticed[0, 1, :30] = True  # the default hears half of the second kind
    noticed[1, 0] = True  # all of the first, none of the second
    assert pick_by_changes(noticed, normal, np.ones(3, bool)) == 0
    noticed[2] = [[True] * 60, noticed[0, 1]]
    assert pick_by_changes(noticed, normal, np.ones(3, bool)) == 2
    assert pick_by_changes(noticed, normal, np.array([True, True, False])) == 0


def test_what_was_an_alarm_before_is_not_counted_as_noticed() -> None:
    noticed, normal = np.array([[True, True, False, True]]), np.array([False, True, True, False])
    assert shares(noticed, normal).tolist() == [0.5]
    assert np.isnan(shares(noticed, np.zeros(4, bool))).all()


def test_recordings_stay_whole_and_modes_are_spread() -> None:
    owner = np.repeat(np.arange(20), 3)
    unit = ["idle"] * 30 + ["load"] * 30
    fold = folds(owner, unit, 5, whole_units=False, seed=0)
    for one in range(20):
        assert len(set(fold[owner == one])) == 1
    for part in range(5):
        assert [len(set(owner[(fold == part) & (np.array(unit) == mode)])) for mode in ("idle", "load")] == [2, 2]
    days = [f"day {number // 4}" for number in owner]
    fold = folds(owner, days, 5, whole_units=True, seed=0)
    assert sorted(len(set(np.array(days)[fold == part])) for part in range(5)) == [1] * 5


def test_means_and_intervals() -> None:
    np.testing.assert_allclose(means_of(np.array([0, 1, 1])) @ np.array([1.0, 2.0, 4.0]), [1, 3])
    low, high = wilson(0.0, 60)
    assert (round(low, 6), round(high, 3)) == (0, 0.06)  # 1 - 0.025^(1 / 60) = 0.0596 by the exact one
