"""The graph back-end against a plain version, and against its authors' printed numbers where the arrays are at hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from auscult.scoring import graph

REAL = Path(__file__).parents[2] / "../shared/real/dcase2020_modspec"
SETTINGS = graph.GraphSettings(kind="graph")


def plain(train: np.ndarray, test: np.ndarray) -> np.ndarray:
    """Edges one by one, clusters by walking, scores by the equation."""
    count = len(train)
    neighbours: dict[int, set[int]] = {i: set() for i in range(count)}
    for i in range(count):
        distance = [np.abs(train[i] - train[j]).sum() if j != i else np.inf for j in range(count)]
        j = int(np.argmin(distance))
        neighbours[i].add(j)
        neighbours[j].add(i)
    left, clusters = set(range(count)), []
    while left:
        found, todo = set(), [min(left)]
        while todo:
            i = todo.pop()
            if i not in found:
                found.add(i)
                todo += neighbours[i]
        left -= found
        clusters.append(train[sorted(found)])
    scores = [(np.abs(test - c.mean(0)) / (c.std(0) + 1e-6)).sum(1) for c in clusters]
    return np.min(scores, axis=0)


def test_as_a_plain_version() -> None:
    rng = np.random.default_rng(0)
    train = np.concatenate([rng.normal(5 * i, 1, size=(9, 3)) for i in range(3)]).astype(np.float32)
    test = rng.normal(5, 6, size=(20, 3)).astype(np.float32)
    state = graph.fit(train, np.full(len(train), "source"), SETTINGS)
    assert len(state.mean) > 3
    np.testing.assert_allclose(
        graph.score(state, test, SETTINGS), plain(train.astype(float), test.astype(float)), rtol=1e-12
    )


@pytest.mark.skipif(not REAL.is_dir(), reason="the real modulation spectra are not here")
def test_every_printed_number_of_its_authors() -> None:
    """20 units, AUC and pAUC, to 1e-12."""
    printed = pd.read_csv(REAL / "printed.csv", dtype={"unit": str})
    found = 0
    for machine, units in printed.groupby("machine"):
        if not (REAL / f"{machine}.npz").is_file():
            continue
        arrays = np.load(REAL / f"{machine}.npz")
        for row in units.itertuples():
            train = arrays[f"train_{row.unit}"]
            state = graph.fit(train, np.full(len(train), "source"), SETTINGS)
            scores, truth = graph.score(state, arrays[f"test_{row.unit}"], SETTINGS), arrays[f"anomaly_{row.unit}"]
            assert roc_auc_score(truth, scores) == pytest.approx(row.auc, abs=1e-12)
            assert roc_auc_score(truth, scores, max_fpr=0.1) == pytest.approx(row.pauc, abs=1e-12)
            found += 1
    assert found == 20
