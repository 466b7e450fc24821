"""MemMixup's bank, mixture by mixture, and where there is nothing to mix."""

from __future__ import annotations

import numpy as np
import pytest

from support.clouds import UNITS, clouds, of_unit
from support.scores import scores


@pytest.mark.parametrize("neighbours", [None, 3])
def test_every_mixture_by_hand(neighbours: int | None) -> None:
    parts = clouds()
    found = scores("memmixup", parts, 1, True, share=0.3, neighbours=neighbours)
    for unit in UNITS:
        bank, domain, queries, rows = of_unit(parts, *unit)
        source, target = bank[domain == "source"].astype(np.float64), bank[domain == "target"].astype(np.float64)
        every = [*source, *target]
        for t in target:
            near = sorted(source, key=lambda s: float(np.linalg.norm(s - t)))[: neighbours or len(source)]
            every += [0.3 * s + 0.7 * t for s in near]
        expected = [min(np.linalg.norm(x - y) for y in every) for x in queries.astype(np.float64)]
        np.testing.assert_allclose(found[rows], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("source", "target"), [(6, 0), (0, 4)])
def test_without_two_domains_it_is_knn(source: int, target: int) -> None:
    parts = clouds(source=source, target=target)
    np.testing.assert_array_equal(scores("memmixup", parts, 1, True), scores("knn_euclidean", parts, 1, True))


def test_a_share_of_nothing_is_knn() -> None:
    parts = clouds()
    np.testing.assert_allclose(
        scores("memmixup", parts, 1, True, share=0.0), scores("knn_euclidean", parts, 1, True), rtol=1e-6
    )
