"""Made-up changes are what they are called, at the level that is said, and no louder than the sound they are put into."""

from __future__ import annotations

import numpy as np
import pytest

from auscult.detector.madeup import KINDS, SPAN, clicks, hiss, lost_band, made_up, tone

RATE = 16000


@pytest.fixture(scope="module")
def sound() -> np.ndarray:
    return np.random.default_rng(0).standard_normal((8, 2 * RATE)) * 1000


def power(x: np.ndarray) -> np.ndarray:
    return np.abs(np.fft.rfft(x)) ** 2


@pytest.mark.parametrize("level", [-20.0, 0.0])
def test_tone_and_hiss_have_their_level_in_their_band(sound: np.ndarray, level: float) -> None:
    for change, share in ((tone, 0.99), (hiss, 0.99)):
        added = change(sound, np.full((8, 1), level), RATE, np.random.default_rng(1)) - sound
        np.testing.assert_allclose(20 * np.log10(added.std(axis=1) / sound.std(axis=1)), level, atol=0.05)
        spectrum = power(added)
        wide = 2 if change is tone else None
        for row in spectrum:
            top = int(row.argmax())
            if wide:
                assert row[top - wide : top + wide + 1].sum() > 0.9 * row.sum()
            else:
                cumulated = np.cumsum(row) / row.sum()
                low, high = np.searchsorted(cumulated, [1 - share, share])
                assert high / low < 2.1


def test_clicks_are_short_and_at_their_level(sound: np.ndarray) -> None:
    added = clicks(sound, np.full((8, 1), 20.0), RATE, np.random.default_rng(1)) - sound
    for row, each in zip(added, sound, strict=True):
        assert np.count_nonzero(row) <= 3 * 0.01 * RATE
        energy = (row**2).sum() / (3 * 0.01 * RATE)
        assert 10 * np.log10(energy / each.var()) == pytest.approx(20, abs=1.5)  # overlaps apart


def test_a_lost_band_is_an_octave_softer(sound: np.ndarray) -> None:
    changed = power(lost_band(sound, np.full((8, 1), 12.0), RATE, np.random.default_rng(1))) / power(sound)
    frequency = np.fft.rfftfreq(sound.shape[1], 1 / RATE)
    for row in changed:
        mine = frequency[row < 0.5]
        np.testing.assert_allclose(row[row < 0.5], 10**-1.2, rtol=1e-6)
        np.testing.assert_allclose(row[row >= 0.5], 1, rtol=1e-6)
        assert mine.max() / mine.min() == pytest.approx(2, rel=0.01)


def test_all_levels_are_there_and_the_loudness_stays(sound: np.ndarray) -> None:
    windows = (sound / 5).astype(np.int16)  # the loudest clicks stay below full scale
    made = made_up(windows, RATE)
    assert list(made) == list(KINDS)
    for changed in made.values():
        assert changed.shape == windows.shape
        assert (changed != windows).any(axis=1).all()
        np.testing.assert_allclose(changed.std(axis=1), windows.std(axis=1), rtol=0.01)
    levels: list[float] = []
    kind, (change, lowest) = "tone", KINDS["tone"]

    def spied(x: np.ndarray, level: np.ndarray, rate: int, rng: np.random.Generator) -> np.ndarray:
        levels.extend(level[:, 0])
        return change(x, level, rate, rng)

    again = dict(KINDS)
    again[kind] = (spied, lowest)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("auscult.detector.madeup.KINDS", again)
        np.testing.assert_array_equal(made_up(windows, RATE)["tone"], made["tone"])  # the same by the same seed
    np.testing.assert_allclose(sorted(levels), lowest + SPAN * (np.arange(8) + 0.5) / 8)
    assert (made_up(windows, RATE, seed=1)["tone"] != made["tone"]).any()


def test_windows_of_a_tenth_of_a_second() -> None:
    short = np.random.default_rng(0).integers(-1000, 1000, (3, 800)).astype(np.int16)  # at 8 kHz
    assert all(len(changed) == 3 for changed in made_up(short, 8000).values())
