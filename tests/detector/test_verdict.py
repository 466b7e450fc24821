"""A verdict over many windows: against drawing, and in files."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import scipy.stats

from auscult.detector import bundle, folder, verdict
from auscult.detector.bundle import Bundle, FitSettings
from auscult.detector.score import score_file
from auscult.detector.thresholds import quantile
from auscult.detector.verdict import Known, anomalous, too_many
from auscult.errors import AuscultError
from support.trees import noise, write


def drawn(rng: np.random.Generator, recordings: int, windows: int, rho: float) -> np.ndarray:
    """Scores [recordings, windows] that are alike in a recording."""
    same = rng.standard_normal((recordings, 1))
    scores: np.ndarray = np.sqrt(rho) * same + np.sqrt(1 - rho) * rng.standard_normal((recordings, windows))
    return scores


DRAWS = 30


@pytest.mark.parametrize("rho", [0.0, 0.3, 0.7, 0.95])
@pytest.mark.parametrize("several", [False, True])
def test_false_alarms_per_recording_stay_below_the_rate(rho: float, several: bool) -> None:
    """Threshold and recordings are drawn anew; training recordings have one window, or twelve, by which likeness is measured."""
    rng = np.random.default_rng(int(100 * rho) + several)
    shares: dict[int, list[float]] = {n: [] for n in (1, 3, 12, 80)}
    for _ in range(DRAWS):
        heard = drawn(rng, 40, 12 if several else 1, rho)
        group = np.repeat(np.arange(40), heard.shape[1])
        normal = np.sort(heard.reshape(-1))
        alike = verdict.alikeness(heard.reshape(-1), group)
        known = Known(0.1, len(normal), verdict.effective(len(normal), 40, alike), alike)
        assert bool(alike) == several
        threshold = quantile(normal, 0.1)
        for n in shares:
            called = [anomalous(row[row > threshold], n, n, normal, known) for row in drawn(rng, 20, n, rho)]
            shares[n].append(float(np.mean(called)))
    found = {n: float(np.mean(each)) for n, each in shares.items()}
    error = {n: 2.5 * float(np.std(each)) / np.sqrt(DRAWS) for n, each in shares.items()}
    assert found[1] == pytest.approx(0.1, abs=error[1] + 0.01)  # the rule of one window is the threshold's
    assert all(found[n] <= 0.1 + error[n] for n in shares), found


@pytest.mark.parametrize("rate", [0.04, 0.02, 0.005])
def test_a_rate_that_so_few_independent_windows_do_not_tell_calls_no_long_recording_anomalous(rate: float) -> None:
    """Windows of few recordings: the threshold lies at or below the highest of them, as often exceeded as a quantile is."""
    rng = np.random.default_rng(3)
    normal = np.sort(rng.standard_normal(200))
    known = Known(rate, 200, 22.0, ((2, 0.0, 0.2),))
    threshold = quantile(normal, rate)
    called = [anomalous(row[row > threshold], 719, 360, normal, known) for row in drawn(rng, 40, 719, 0.0)]
    assert sum(called) <= 1
    assert anomalous(np.full(600, threshold + 0.1), 719, 360, normal, known)


def test_a_single_window_is_judged_by_the_threshold_alone() -> None:
    known = Known(0.1, 60, 60.0)
    normal = np.arange(60.0)
    for n in (1, 2, 5):  # and so are windows that are all above
        assert anomalous(np.full(n, 54.5), n, n, normal, known)
        assert not anomalous(np.empty(0), n, n, normal, known)


def test_the_counts_of_windows_that_are_not_alike_are_binomial() -> None:
    """With so many scores that the threshold is exact: the critical count is that of the binomial distribution, within one."""
    known = Known(0.1, 10**7, 1e7, ((2, 0.0, 0.0),))
    for n in (10, 40, 200):
        critical = next(k for k in range(1, n) if too_many(k, 0, n, n, known))
        exact = next(k for k in range(1, n) if scipy.stats.binom.sf(k - 1, n, 0.1) <= 0.09)
        assert critical in (exact, exact + 1)


def test_a_short_fault_does_not_drown_where_enough_normal_sound_was_heard() -> None:
    """Three of 39 windows above everything; of 60 normal windows that says nothing unless they are far above."""
    for count, found in ((60, False), (1000, True)):
        normal = np.sort(np.random.default_rng(0).gamma(4, 2, count))
        known = Known(0.1, count, float(count))
        slightly = np.array([quantile(normal, 0.1), *[normal[-1]] * 3]) + 1e-6
        assert anomalous(slightly, 39, 20, normal, known) == found
        assert anomalous(np.array([20 * normal[-1]]), 39, 20, normal, known)


def test_likeness_is_the_one_that_was_drawn() -> None:
    """The bounds hold it in nine of ten cases, for stretches of every length."""
    rng = np.random.default_rng(0)
    for rho in (0.2, 0.6):
        inside = []
        for _ in range(100):
            scores = drawn(rng, 30, 9, rho)
            for _, low, high in verdict.alikeness(scores.reshape(-1), np.repeat(np.arange(30), 9)):
                inside.append(low <= rho <= high)
        assert np.mean(inside) >= 0.85


# ------------------------------------------------------------------------------------------------------------------ files
@pytest.fixture(scope="module")
def fitted(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    place, rng = tmp_path_factory.mktemp("normal"), np.random.default_rng(0)
    for number in range(30):
        write(place / f"{number}.wav", noise(rng, 4.0, 300.0))
    return bundle.fit(place, tmp_path_factory.mktemp("out") / "b", FitSettings(seconds=0.5))


def test_a_long_recording_knows_how_many_are_expected(fitted: Bundle, tmp_path: Path) -> None:
    assert [length for length, *_ in fitted.known.alike] == [2, 4, 8]
    assert 30 <= fitted.known.effective <= 240
    rng = np.random.default_rng(1)
    found = score_file(fitted, write(tmp_path / "long.wav", noise(rng, 60.0, 300.0)))
    assert (found.verdict, found.windows, found.expected) == ("normal", 239, pytest.approx(23.9))
    assert found.above > 0
    parts = [noise(rng, 2.0, 900.0 if i % 4 == 0 else 300.0) for i in range(30)]
    faulty = score_file(fitted, write(tmp_path / "fault.wav", np.concatenate(parts)))
    assert faulty.verdict == "ANOMALOUS"
    assert faulty.higher >= 8


def test_what_a_bundle_says_of_alikeness_is_checked(fitted: Bundle, tmp_path: Path) -> None:
    import shutil

    odd = tmp_path / "odd"
    shutil.copytree(fitted.folder, odd)
    folder.write_manifest(odd / "bundle.yaml", fitted.facts | {"alike": []})
    assert bundle.load(odd).known == replace(fitted.known, alike=())
    assert bundle.load(odd).digest == fitted.digest
    for bad in ({"alike": [[2, 0.1]]}, {"alike": [[2, 0.1, 7.0]]}, {"effective": -1.0}, {"effective": float("inf")}):
        folder.write_manifest(odd / "bundle.yaml", fitted.facts | bad)
        with pytest.raises(AuscultError):
            bundle.load(odd)
