"""Level, digital silence and gain against a plain way of finding them."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from auscult.detector.signal import SignalRange, clipped, constant_stretch, gain_for, levels


@settings(deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(2, 300), st.integers(1, 2000), st.integers(0, 600))
def test_the_longest_stretch_of_one_value(seed: int, least: int, length: int, stretch: int) -> None:
    rng = np.random.default_rng(seed)
    windows = rng.integers(0, 3, (2, length))
    place = rng.integers(0, length)
    windows[1, place : place + stretch] = 1
    longest = [max(len(part) for part in np.split(row, np.flatnonzero(np.diff(row)) + 1)) for row in windows]
    assert constant_stretch(windows, least).tolist() == [each if each >= least else 0 for each in longest]


def test_levels_leave_out_the_offset() -> None:
    sine = np.sin(2 * np.pi * np.arange(1600) / 16).astype(np.float32)
    np.testing.assert_allclose(levels(np.stack([sine, 0.1 * sine + 0.5])), [-3.0103, -23.0103], atol=1e-3)
    assert clipped(np.array([[1.0, 0.99, -1.0, 0.0]], np.float32)).tolist() == [0.5]


def test_a_gain_is_a_power_of_two_and_leaves_ordinary_recordings_alone() -> None:
    assert gain_for([1.0, 0.1], [0.2, 0.001]) == 1
    for peak, rms in ((1.01, 0.1), (20.0, 1.0), (32768.0, 1000.0), (1e-5, 1e-6), (2e-3, 3e-4)):
        gain = gain_for([peak], [rms])
        assert np.log2(gain) % 1 == 0
        assert 0.125 < gain * peak <= 0.25
    assert gain_for([0.9], [1e-4]) == 1, "a loud click in a quiet recording must not be cut off"


def test_what_is_unknown_is_not_judged() -> None:
    """Of no window at all."""
    unknown = SignalRange()
    assert unknown.outside(np.array([-390.0, 0.0])).tolist() == [0, 0]
    assert not unknown.faint(np.array([-390.0])).any()
