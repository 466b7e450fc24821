"""Rank-weighted pooling against its definition, its two ends, and the choice of r against a brute-force count."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from auscult.models.gwrp import ALONE, GRID, choose, gwrp, told_apart
from support.fill import v


@pytest.mark.parametrize("r", [0.0, 0.3, 0.88, 0.99, 1.0])
def test_definition(r: float) -> None:
    x = v("x", (3, 4, 50))
    found = gwrp(torch.from_numpy(x), [r]).squeeze(-1).numpy()
    for row, column in np.ndindex(3, 4):
        falling = sorted(x[row, column], reverse=True)
        weights = [r**rank for rank in range(50)]
        expected = sum(w * value for w, value in zip(weights, falling, strict=True)) / sum(weights)
        assert found[row, column] == pytest.approx(expected, rel=1e-9)


def test_its_ends_are_the_mean_and_the_maximum() -> None:
    x = torch.from_numpy(v("x", (3, 4, 313))).float()
    pooled = gwrp(x, GRID)
    assert pooled.shape == (3, 4, len(GRID))
    torch.testing.assert_close(pooled[..., GRID.index(1.0)], x.mean(2))
    torch.testing.assert_close(pooled[..., GRID.index(0.0)], x.amax(2), rtol=0, atol=0)
    assert (pooled.diff(dim=2) <= 1e-6).all(), "the more frames count, the lower"


def test_order_of_frames_does_not_matter() -> None:
    x = torch.from_numpy(v("x", (2, 3, 40)))
    torch.testing.assert_close(gwrp(x[..., torch.randperm(40)], GRID), gwrp(x, GRID))


def brute_force(pooled: np.ndarray, labels: np.ndarray) -> float:
    x = (pooled - pooled.mean(0)) / pooled.std(0)
    areas = []
    for label in np.unique(labels):
        nearest = [
            min(np.linalg.norm(x[i] - x[j]) for j in range(len(x)) if labels[j] == label and j != i)
            for i in range(len(x))
        ]
        areas.append(roc_auc_score(labels != label, nearest))
    return float(np.mean(areas))


def test_how_well_classes_are_told_apart_equals_brute_force() -> None:
    pooled, labels = v("pooled", (24, 5, 3)), np.arange(24) % 3
    pooled[:, 0] += labels[:, None] * np.array([0.2, 1.0, 3.0])
    found = told_apart(torch.from_numpy(pooled), torch.from_numpy(labels))
    assert found == pytest.approx([brute_force(pooled[:, :, k], labels) for k in range(3)], abs=1e-9)
    assert found == sorted(found)


def sounds(clicks: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """Log-mel of 40 clips of two units under noise of its own level in every clip: they differ in how loud two clicks are, or
    in how loud a hum is that lasts."""
    rng = np.random.default_rng(0)
    labels = np.arange(40) % 2
    mel = rng.normal(-60, 2, (40, 8, 300))
    if clicks:
        mel += rng.normal(0, 3, (40, 8, 1))
        for clip in range(40):
            mel[clip, :, rng.integers(0, 300, 2)] = -20 + 3 * labels[clip] + rng.normal(0, 0.5, (2, 8))
    else:
        mel += labels[:, None, None] * 0.5
        for clip in range(40):
            mel[clip, :, rng.integers(0, 300, 2)] = rng.normal(-20, 5, (2, 8))
    return torch.from_numpy(mel).float(), torch.from_numpy(labels)


def test_clicks_ask_for_a_small_r_and_a_hum_for_a_large_one() -> None:
    chosen = {}
    for clicks in (True, False):
        mel, labels = sounds(clicks)
        place, words = choose(gwrp(mel, GRID), labels)
        chosen[clicks] = GRID[place]
        assert f"r = {GRID[place]:g};" in words
    assert chosen[True] <= 0.7
    assert chosen[False] >= 0.98


@pytest.mark.parametrize("labels", [[0] * 6, [0, 1, 2, 3, 4, 5]])
def test_where_nothing_can_be_told_apart(labels: list[int]) -> None:
    pooled = torch.from_numpy(v("pooled", (6, 4, len(GRID))))
    assert all(math.isnan(area) for area in told_apart(pooled, torch.tensor(labels)))
    assert GRID[choose(pooled, torch.tensor(labels))[0]] == ALONE


def test_of_equal_ones_the_most_frames_count() -> None:
    pooled = torch.arange(4.0)[:, None, None].expand(4, 2, len(GRID)).clone()
    pooled[2:] += 100
    assert GRID[choose(pooled, torch.tensor([0, 0, 1, 1]))[0]] == 1.0
