"""MemMixup's bank, mixture by mixture, and where there is nothing to mix."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.distance import cosine, euclidean

from auscult.scoring import memmixup
from support.clouds import UNITS, clouds, of_unit
from support.scores import scores


@pytest.mark.parametrize("block", [2**21, 5])
@pytest.mark.parametrize("neighbours", [None, 3])
@pytest.mark.parametrize(
    ("metric", "k", "domains"), [("euclidean", 1, True), ("cosine", 3, True), ("euclidean", 4, False)]
)
def test_every_mixture_by_hand(
    metric: str, k: int, domains: bool, neighbours: int | None, block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memmixup, "BLOCK", block)
    parts, distance = clouds(), {"euclidean": euclidean, "cosine": cosine}[metric]
    found = scores("memmixup", parts, k, domains, share=0.3, neighbours=neighbours, metric=metric)
    for unit in UNITS:
        bank, domain, queries, rows = of_unit(parts, *unit)
        source, target = bank[domain == "source"].astype(np.float64), bank[domain == "target"].astype(np.float64)
        mixed = [*target]
        for t in target:
            near = sorted(source, key=lambda s: float(distance(s, t)))[: neighbours or len(source)]
            mixed += [0.3 * s + 0.7 * t for s in near]
        banks = [[*source], mixed] if domains else [[*source, *mixed]]
        expected = [
            min(np.mean(sorted(distance(x, y) for y in bank)[:k]) for bank in banks) for x in queries.astype(np.float64)
        ]
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
