"""Alignment, difference and patch: what was put in must be found."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from auscult.features import LOG_MELS, spectrogram
from auscult.pages.differences import band_edges, best_shift, difference, in_words, patch_of, strongest_patch

RATE = 16000


def mel(wave: np.ndarray) -> np.ndarray:
    values: np.ndarray = spectrogram(torch.from_numpy(wave), "osscl").numpy()
    return values


def test_the_shift_of_a_moved_clip_is_found_with_its_sign() -> None:
    rng = np.random.default_rng(0)
    long = rng.standard_normal((16, 80))
    # one[t] = long[t + 10]; other[t] = long[t + 13]: what happens in `other` happens 3 frames later in `one`.
    one, other = long[:, 10:60], long[:, 13:63]
    assert best_shift(one, other, 8) == 3
    assert best_shift(other, one, 8) == -3
    assert best_shift(one, one, 8) == 0
    moved = difference(one, other, 3)
    assert np.isnan(moved[:, :3]).all()
    np.testing.assert_array_equal(moved[:, 3:], 0)
    moved = difference(other, one, -3)
    assert np.isnan(moved[:, -3:]).all()
    np.testing.assert_array_equal(moved[:, :-3], 0)


def test_steady_noise_is_not_moved() -> None:
    rng = np.random.default_rng(1)
    for _ in range(5):
        assert best_shift(rng.standard_normal((64, 60)), rng.standard_normal((64, 60)), 15) == 0


@pytest.mark.parametrize("overall", [0.0, -20.0])
def test_the_strongest_patch_is_that_of_a_search_over_all_rectangles(overall: float) -> None:
    rng = np.random.default_rng(2)
    diff = rng.standard_normal((9, 12)) + overall
    diff[3:6, 5:9] += 2
    diff[:, :2] = np.nan
    patch = strongest_patch(diff, (1, 2, 4, 99), (1, 3, 99))
    rest = diff - np.median(diff[:, 2:])
    best = max(
        (
            (abs(rest[low : low + h, start : start + w].sum()) / np.sqrt(w * h), low, low + h, start, start + w)
            for w in (1, 2, 4, 10)
            for h in (1, 3, 9)
            for low in range(9 - h + 1)
            for start in range(2, 12 - w + 1)
        ),
        key=lambda found: found[0],
    )
    assert (patch.low, patch.high, patch.start, patch.stop) == best[1:]
    assert patch.strength == pytest.approx(best[0])
    assert patch.level == pytest.approx(rest[patch.low : patch.high, patch.start : patch.stop].mean())
    assert patch.overall == pytest.approx(np.median(diff[:, 2:]))


def test_an_added_tone_is_found_in_time_frequency_and_level() -> None:
    rng = np.random.default_rng(3)
    time = np.arange(4 * RATE) / RATE
    one, other = 0.05 * rng.standard_normal((2, len(time)))
    one += 0.1 * np.sin(2 * np.pi * 3000 * time) * ((time > 2.9) & (time < 3.3))
    diff, patch, shift = patch_of(mel(one), mel(other), 15)
    assert shift == 0
    edges = band_edges(LOG_MELS["osscl"])
    frames = diff.shape[1]
    # The window is 128 ms long, so the tone begins up to half of it early in the picture.
    assert 2.7 < patch.start * 4 / frames < patch.stop * 4 / frames < 3.5
    assert edges[patch.low] <= 3000 <= edges[patch.high]
    assert edges[patch.high] - edges[patch.low] < 600
    assert patch.level > 6
    words = in_words(patch, frames, 4.0, edges)
    assert words.startswith("around 3.1 s, ")
    assert "kHz, +" in words
    quieter = in_words(patch_of(mel(other), mel(one), 15)[1], frames, 4.0, edges)
    assert quieter == words.replace("+", "\N{MINUS SIGN}")


def test_a_louder_clip_is_said_to_be_louder_as_a_whole() -> None:
    rng = np.random.default_rng(4)
    wave = 0.05 * rng.standard_normal(2 * RATE)
    diff, patch, _ = patch_of(mel(2 * wave), mel(wave), 15)
    assert patch.overall == pytest.approx(20 * np.log10(2), abs=1e-6)
    assert "+6 dB of the clip as a whole" in in_words(patch, diff.shape[1], 2.0, band_edges(LOG_MELS["osscl"]))


def test_a_pure_tone_lies_in_the_band_that_its_edges_say() -> None:
    edges = band_edges(LOG_MELS["osscl"])
    assert len(edges) == 129
    assert (np.diff(edges) > 0).all()
    for hz in (300.0, 1000.0, 5000.0):
        band = int(mel(np.sin(2 * np.pi * hz * np.arange(RATE) / RATE)).mean(1).argmax())
        assert edges[max(0, band - 1)] <= hz <= edges[band + 2 if band < 127 else 128]
        assert abs(np.searchsorted(edges, hz) - 1 - band) <= 1
