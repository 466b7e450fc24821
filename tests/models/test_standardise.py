"""Logarithms and z-scores against NumPy's."""

from __future__ import annotations

import numpy as np
import torch

from auscult.models.standardise import LEAST, Standardise


def test_as_numpy_of_all_clips_at_once() -> None:
    rng = np.random.default_rng(0)
    x = rng.lognormal(size=(30, 5)).astype(np.float32)
    x[:, 3] = 7.0  # never changes
    layer = Standardise(5, floor=1e-8)
    layer.fit((torch.from_numpy(part), torch.zeros(len(part), dtype=torch.int64)) for part in np.split(x, [7, 16]))
    logs = np.log(x.astype(np.float64) + 1e-8)
    expected = (logs - logs.mean(0)) / np.maximum(logs.std(0), LEAST)
    found = layer(torch.from_numpy(x)).numpy()
    varying = [0, 1, 2, 4]
    np.testing.assert_allclose(found[:, varying], expected[:, varying], rtol=1e-4, atol=1e-5)
    assert np.abs(found[:, 3]).max() < 1, "what never changes stays near zero"


def test_each_group_by_its_own_clips() -> None:
    rng = np.random.default_rng(1)
    x, group = torch.from_numpy(rng.normal(3, 2, size=(40, 4)).astype(np.float32)), torch.arange(40) % 3
    grouped = Standardise(4, groups=3)
    grouped.fit([(x[:15], group[:15]), (x[15:], group[15:])])
    for one in range(3):
        alone = Standardise(4)
        mine = x[group == one]
        alone.fit([(mine, torch.zeros(len(mine), dtype=torch.int64))])
        torch.testing.assert_close(grouped(mine, group[group == one]), alone(mine))


def test_numbers_without_a_logarithm_stay_finite() -> None:
    assert Standardise(3, floor=1e-8)(torch.tensor([[0.0, -1.0, 1.0]])).isfinite().all()
