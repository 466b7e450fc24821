"""Masks against a loop over clips with the same draws, and the widths they come in."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from auscult.models.specaug import draw_masks, masked


def spec_augment(x: torch.Tensor, frequency: int, time: int, rng: np.random.Generator) -> torch.Tensor:
    return masked(x, draw_masks(len(x), x.shape[1:], frequency, time, rng))


def ones(clips: int, frames: int, bins: int) -> torch.Tensor:
    return torch.ones(clips, frames, bins)


@pytest.mark.parametrize(("frequency", "time"), [(5, 8), (5, 0), (0, 8), (1, 1), (40, 60), (0, 0)])
def test_equals_a_loop_with_the_same_draws(frequency: int, time: int) -> None:
    clips, frames, bins = 50, 20, 12
    x = torch.from_numpy(np.random.default_rng(0).normal(size=(clips, frames, bins)))
    found = spec_augment(x, frequency, time, np.random.default_rng(3))
    rng, expected = np.random.default_rng(3), x.numpy().copy()
    for limit, size, axis in ((frequency, bins, 1), (time, frames, 0)):
        if limit:
            widths = [min(width, size) for width in rng.integers(0, limit, clips)]
            starts = rng.integers(0, [size - width + 1 for width in widths])
            for clip, start, width in zip(expected, starts, widths, strict=True):
                np.moveaxis(clip, axis, 0)[start : start + width] = 0
    np.testing.assert_array_equal(found, expected)
    assert (x != 0).all(), "the input is left alone"


def test_widths_and_places_are_uniform() -> None:
    """One mask in each clip: 40,000 draws, so a share of 1/10 has a standard error of 0.0015."""
    clips, frames, bins = 40_000, 16, 12
    kept = spec_augment(ones(clips, frames, bins), 10, 4, np.random.default_rng(0)).bool()
    for hidden, limit in ((~kept.any(1), 10), (~kept.any(2), 4)):
        width = hidden.sum(1)
        np.testing.assert_allclose(width.bincount().numpy() / clips, np.full(limit, 1 / limit), atol=0.008)
        edges = hidden.int().diff(dim=1).abs().sum(1) + hidden[:, 0].int() + hidden[:, -1].int()
        assert edges[width > 0].eq(2).all(), "in one piece"
        for one in range(1, limit):
            starts = hidden[width == one].int().argmax(1).bincount().numpy()
            places = hidden.shape[1] - one + 1
            assert len(starts) == places, "every place, and none beyond"
            np.testing.assert_allclose(starts / starts.sum(), np.full(places, 1 / places), atol=0.035)


def test_wider_than_the_spectrogram() -> None:
    kept = spec_augment(ones(2000, 3, 4), 400, 0, np.random.default_rng(0)).bool()
    hidden = (~kept.any(1)).sum(1)
    assert (hidden == 4).float().mean().item() == pytest.approx(396 / 400, abs=0.01)


def test_same_draws_whatever_the_values_and_the_type() -> None:
    x = ones(4, 30, 20)
    first, again = (spec_augment(kind, 10, 10, np.random.default_rng(1)) for kind in (x, 7 * x.bfloat16()))
    assert again.dtype == torch.bfloat16
    assert torch.equal(first.bool(), again.bool())
    assert not torch.equal(first, spec_augment(x, 10, 10, np.random.default_rng(2)))
