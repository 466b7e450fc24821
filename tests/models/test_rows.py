"""Poolings of frequency rows against sums written out, token by token, and against each other."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from auscult.models.pooling import POOLINGS
from auscult.models.rows import RowPooling, gem, grid, pool_rows, rdp_weights
from support.fill import v

CLIPS, TIMES, ROWS, WIDTH = 2, 5, 3, 4


def tokens() -> np.ndarray:
    return v("rows", (CLIPS, TIMES, ROWS, WIDTH))


def weights_by_hand(row: np.ndarray, gamma: float) -> np.ndarray:
    """[T] of one row [T, D]."""
    mean = sum(row) / len(row)
    d = [float(np.sqrt(sum((x - m) ** 2 for x, m in zip(token, mean, strict=True)))) for token in row]
    w = [(1 + each / max(d)) ** gamma for each in d]
    return np.array(w) / sum(w)


@pytest.mark.parametrize("gamma", [0.5, 4.0, 16.0])
def test_rdp_and_its_product_with_gem_by_hand(gamma: float) -> None:
    x = tokens()
    rdp = pool_rows(torch.from_numpy(x), RowPooling(how="rdp", gamma=gamma))
    both = pool_rows(torch.from_numpy(x), RowPooling(how="rdp_gem", gamma=gamma, p=3))
    assert rdp.shape == both.shape == (CLIPS, ROWS, WIDTH)
    for clip in range(CLIPS):
        for row in range(ROWS):
            w = weights_by_hand(x[clip, :, row], gamma)
            np.testing.assert_allclose(rdp[clip, row], sum(w[t] * x[clip, t, row] for t in range(TIMES)), rtol=1e-10)
            cubes = sum(w[t] * np.maximum(x[clip, t, row], 0) ** 3 for t in range(TIMES))
            np.testing.assert_allclose(both[clip, row], np.cbrt(cubes), rtol=1e-10)


def test_rdp_at_gamma_0_is_the_mean() -> None:
    x = torch.from_numpy(tokens())
    torch.testing.assert_close(pool_rows(x, RowPooling(how="rdp", gamma=0)), x.mean(1))


def test_rdp_moves_to_the_token_that_is_farthest_from_the_mean() -> None:
    x = torch.zeros(1, 10, 1, 2)
    x[0, 7] = 1.0
    pooled = [pool_rows(x, RowPooling(how="rdp", gamma=gamma)).max().item() for gamma in (0.0, 4.0, 8.0, 200.0)]
    assert pooled == sorted(pooled)
    assert pooled[0] == pytest.approx(0.1)
    assert pooled[-1] == pytest.approx(1.0)


def test_equal_tokens_have_equal_weights() -> None:
    weights = rdp_weights(torch.full((2, 4, 3, 5), 0.1), 8.0)
    torch.testing.assert_close(weights, torch.full((2, 4, 3), 0.25))


def test_gem_lies_between_the_mean_and_the_maximum() -> None:
    x = torch.from_numpy(tokens()).abs()
    torch.testing.assert_close(gem(x, 1.0), x.mean(1))
    torch.testing.assert_close(gem(x, 500.0), x.amax(1), rtol=5e-3, atol=0)
    assert torch.isfinite(gem(1e30 * x.float(), 20.0)).all()
    assert not gem(-x, 3.0).any()  # what is negative counts as nothing


def test_gwrp_lies_between_the_maximum_and_the_mean() -> None:
    x = torch.from_numpy(tokens())
    torch.testing.assert_close(pool_rows(x, RowPooling(how="gwrp", r=0)), x.amax(1))
    torch.testing.assert_close(pool_rows(x, RowPooling(how="gwrp", r=1)), x.mean(1))


@pytest.mark.parametrize("class_token", [False, True])
def test_rows_of_one_row_pool_as_all_tokens_do(class_token: bool) -> None:
    flat = torch.from_numpy(v("flat", (CLIPS, 1 + TIMES, WIDTH)))
    for how in ("mean", "max"):
        pooled = pool_rows(grid(flat, 1, class_token), RowPooling(how=how))
        torch.testing.assert_close(pooled.flatten(1), POOLINGS[how](flat, class_token))
