"""The score table of an arm: every test clip under every back-end. Labels are not an input."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from auscult.config import Score
from auscult.errors import AuscultError
from auscult.scoring import BACKENDS

COLUMNS = ["clip_id", "set", "machine", "unit", "domain", "backend", "score"]


def score_table(embeddings: Path, score: Score, domains: bool) -> pd.DataFrame:
    """Score the embeddings in a folder with each of `score.backends`; long form, columns `COLUMNS`.

    `native` is the method's own score; an arm without one has no such rows.

    Raises:
        AuscultError: unknown back-end, nothing to score with, or a score that is not finite.
    """
    unknown = [name for name in score.backends if name != "native" and name not in BACKENDS]
    if unknown:
        raise AuscultError(f"unknown back-end `{unknown[0]}`", "score.backends", f"use: native, {', '.join(BACKENDS)}")
    train, test = np.load(embeddings / "train.npy"), np.load(embeddings / "test.npy")
    train_meta = pd.read_parquet(embeddings / "train.parquet")
    test_meta = pd.read_parquet(embeddings / "test.parquet")
    tables = []
    for name in score.backends:
        if name == "native":
            values = test_meta["native"].to_numpy()
            if np.isnan(values).all():
                continue
        else:
            values = BACKENDS[name](train, train_meta, test, test_meta, score.k, domains)
        if not np.isfinite(values).all():
            raise AuscultError(
                f"back-end `{name}` gives scores that are not finite", str(embeddings), "train the arm again"
            )
        tables.append(test_meta.drop(columns="native").assign(backend=name, score=values))
    if not tables:
        raise AuscultError("no back-end is left to score this arm", "score.backends", "add knn_cosine")
    return pd.concat(tables, ignore_index=True)[COLUMNS]
