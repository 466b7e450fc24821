"""Nearest-neighbour scores against brute force, and the score table's rules."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.spatial.distance import cdist

from auscult.config import Score
from auscult.errors import AuscultError
from auscult.scoring.knn import knn_scores
from auscult.scoring.table import score_table


def embeddings(seed: int = 0) -> tuple[np.ndarray, pd.DataFrame, np.ndarray, pd.DataFrame]:
    """30 training and 20 test clips of two units in mixed order, 5 dimensions; one source-heavy and one target bank."""
    rng = np.random.default_rng(seed)

    def table(clips: int) -> pd.DataFrame:
        return pd.DataFrame(
            {"clip_id": range(clips), "set": "dev", "machine": "fan", "unit": rng.choice(["00", "02"], clips),
             "domain": rng.choice(["source", "target"], clips, p=[0.8, 0.2])}
        )  # fmt: skip

    train_meta, test_meta = table(30), table(20).assign(domain="unknown")
    return (
        rng.standard_normal((30, 5)).astype(np.float32),
        train_meta,
        rng.standard_normal((20, 5)).astype(np.float32),
        test_meta,
    )


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
@pytest.mark.parametrize("k", [1, 3, 100])
@pytest.mark.parametrize("domains", [False, True])
def test_brute_force(metric: str, k: int, domains: bool) -> None:
    train, train_meta, test, test_meta = embeddings()
    found = knn_scores(train, train_meta, test, test_meta, k, domains, metric=metric)  # type: ignore[arg-type]
    for row in range(len(test)):
        scores = []
        for domain in ["source", "target"] if domains else [None]:
            bank = (train_meta["unit"] == test_meta["unit"][row]).to_numpy()
            if domain:
                bank = bank & (train_meta["domain"] == domain).to_numpy()
            distances = np.sort(cdist(test[row : row + 1].astype(float), train[bank].astype(float), metric)[0])
            scores.append(distances[:k].mean())
        assert found[row] == pytest.approx(min(scores), rel=1e-4, abs=1e-6)


def test_the_domain_of_a_test_clip_is_not_looked_at() -> None:
    train, train_meta, test, test_meta = embeddings()
    known = test_meta.assign(domain="source")
    np.testing.assert_array_equal(
        knn_scores(train, train_meta, test, test_meta, 1, True), knn_scores(train, train_meta, test, known, 1, True)
    )


def write(folder: Path, native: float | None = None) -> Path:
    train, train_meta, test, test_meta = embeddings()
    for name, array, meta in (("train", train, train_meta), ("test", test, test_meta)):
        np.save(folder / f"{name}.npy", array)
        own = {} if native is None else {"native": np.full(len(meta), native), "native_other": np.ones(len(meta))}
        meta.assign(**own).to_parquet(folder / f"{name}.parquet")
    return folder


def test_an_arm_without_own_score_has_no_native_rows(tmp_path: Path) -> None:
    table = score_table(write(tmp_path), Score(backends=["native", "knn_cosine"]), domains=False)
    assert set(table["backend"]) == {"knn_cosine"}
    assert list(table.columns) == ["clip_id", "set", "machine", "unit", "domain", "backend", "score"]


def test_each_of_a_methods_own_scores_is_a_back_end(tmp_path: Path) -> None:
    table = score_table(write(tmp_path, 0.5), Score(backends=["native", "knn_cosine"]), domains=False)
    assert list(dict.fromkeys(table["backend"])) == ["native", "native_other", "knn_cosine"]
    assert (table.loc[table["backend"] == "native", "score"] == 0.5).all()
    assert (table.loc[table["backend"] == "native_other", "score"] == 1.0).all()


@pytest.mark.parametrize(
    ("score", "native", "words"),
    [
        (Score(backends=["knn_cosin"]), 1.0, "knn_cosin"),
        (Score(backends=["native"]), None, "no back-end"),
        (Score(backends=["native"]), np.inf, "not finite"),
    ],
)
def test_what_cannot_be_scored_is_said(tmp_path: Path, score: Score, native: float | None, words: str) -> None:
    with pytest.raises(AuscultError, match=words):
        score_table(write(tmp_path, native), score, domains=False)
