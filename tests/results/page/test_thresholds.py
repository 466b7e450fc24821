"""Thresholds: those of the result files, and a reason where there are none."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from auscult.errors import AuscultError
from auscult.results.page.gather import thresholds_of, thresholds_or_none
from auscult.scoring.submission import thresholds
from auscult.scoring.table import read_embeddings
from support.evidence import SEED, evidence


def test_they_are_those_of_the_result_files(packed: Path, tmp_path: Path) -> None:
    context = evidence(packed, tmp_path, {"one": np.arange(16.0), "two": np.arange(16.0)})
    context = replace(context, backends={"one": "native", "two": "knn_cosine"})
    found = {arm: thresholds_of(context, arm) for arm in ("one", "two")}
    for arm, backend in context.backends.items():
        of = read_embeddings(context.paths.embeddings(arm, SEED))
        assert found[arm] == thresholds(of.train, of.train_meta, backend, 0.1)
    assert found["one"] != found["two"]


def test_without_embeddings_or_scores_of_training_clips(
    packed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    context = evidence(packed, tmp_path, {"one": np.arange(16.0), "two": np.arange(16.0)})
    context = replace(context, backends={"one": "native", "two": "gmm"})
    for path in context.paths.embeddings("one", SEED).iterdir():
        path.unlink()
    assert [thresholds_or_none(context, arm) for arm in ("one", "two")] == [{}, {}]
    said = capsys.readouterr().err
    assert "two: no thresholds: back-end `gmm` gives training clips no score" in said
    assert "one" not in said
    with pytest.raises(AuscultError, match="no score"):
        thresholds_of(context, "two")
