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

    `native` stands for the method's own scores: one back-end for each it has (`native`, `native_<name>`), none if it has
    none. A folder without clips (no network could be trained) gives a table without rows.

    Raises:
        AuscultError: unknown back-end, nothing to score with, or a score that is not finite.
    """
    unknown = [name for name in score.backends if name != "native" and name not in BACKENDS]
    if unknown:
        raise AuscultError(f"unknown back-end `{unknown[0]}`", "score.backends", f"use: native, {', '.join(BACKENDS)}")
    train, test = np.load(embeddings / "train.npy"), np.load(embeddings / "test.npy")
    train_meta = pd.read_parquet(embeddings / "train.parquet")
    test_meta = pd.read_parquet(embeddings / "test.parquet")
    own = [name for name in test_meta.columns if name.split("_")[0] == "native"]
    clips = test_meta.drop(columns=own)
    scores: dict[str, np.ndarray] = {}
    for name in score.backends:
        if name == "native":
            scores |= {column: test_meta[column].to_numpy() for column in own}
        else:
            scores[name] = BACKENDS[name](train, train_meta, test, test_meta, score.k, domains)
    if not scores:
        raise AuscultError("no back-end is left to score this arm", "score.backends", "add knn_cosine")
    for name, values in scores.items():
        if not np.isfinite(values).all():
            what = f"back-end `{name}` gives scores that are not finite"
            raise AuscultError(what, str(embeddings), "train the arm again")
    tables = [clips.assign(backend=name, score=values) for name, values in scores.items()]
    return pd.concat(tables, ignore_index=True)[COLUMNS]
