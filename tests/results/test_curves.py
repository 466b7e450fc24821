"""Points of ROC curves against scikit-learn, of training curves against sums by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from auscult.results import curves
from auscult.results.curves import (
    COLUMNS,
    EPOCHS,
    curve_points,
    labelled,
    roc_points,
    write_curve_points,
    write_roc_csv,
)

from .conftest import Study


def test_mean_over_networks_of_the_last_phase() -> None:
    history = pd.DataFrame(
        {
            "scope": ["all (pretrain)", "fan", "fan", "valve", "valve"],
            "epoch": [1, 1, 2, 1, 2],
            "train_loss": [100.0, 4.0, 2.0, 6.0, 4.0],
            "valid_loss": [None, 1.0, None, 3.0, None],
        }
    )
    points = curve_points({"ae": history, "spectral_knn": pd.DataFrame()})
    assert [tuple(row) for row in points.to_numpy()] == [
        ("ae", "train_loss", 1, 5.0), ("ae", "train_loss", 2, 3.0), ("ae", "valid_loss", 1, 2.0),
    ]  # fmt: skip


def test_a_machine_type_may_have_brackets_in_its_name() -> None:
    scopes = ["pump (north) (pretrain)", "pump (north)", "pump (south)", "all (pretrain), seed 1", "seed 1"]
    history = pd.DataFrame({"scope": scopes, "epoch": 1, "train_loss": [100.0, 1.0, 3.0, 100.0, 5.0]})
    assert curve_points({"a": history})["value"].tolist() == [3.0]


def test_long_trainings_are_thinned_and_nothing_is_a_table(tmp_path: Path) -> None:
    history = pd.DataFrame({"epoch": range(1, 301), "train_loss": range(300)})
    points = curve_points({"a": history})
    assert len(points) == EPOCHS
    assert points["epoch"].iloc[[0, -1]].tolist() == [1, 300]
    assert (points["value"] == points["epoch"] - 1).all()
    write_curve_points({"a": pd.DataFrame()}, tmp_path / "curves.csv")
    assert list(pd.read_csv(tmp_path / "curves.csv").columns) == COLUMNS


def test_thinned_roc_points_keep_the_area(study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    scores, labels = study
    points = roc_points(labelled(scores, labels))
    table = scores.merge(labels[["clip_id", "anomaly"]], on="clip_id")
    for (arm, machine), curve in points.groupby(["arm", "machine"]):
        rows = table[(table["arm"] == arm) & (table["machine"] == machine) & (table["backend"] == "native")]
        exact = roc_auc_score(rows["anomaly"], rows["score"])
        assert np.trapezoid(curve["tpr"], curve["fpr"]) == pytest.approx(exact, abs=1e-12)  # 80 clips: nothing to thin
    monkeypatch.setattr(curves, "ROC_POINTS", 30)
    for _, curve in roc_points(labelled(scores, labels)).groupby(["arm", "machine"]):
        assert len(curve) <= 30
        assert curve[["fpr", "tpr"]].iloc[[0, -1]].to_numpy().tolist() == [[0, 0], [1, 1]]
        assert (curve[["fpr", "tpr"]].diff().dropna() >= 0).all(axis=None)


def test_no_more_than_200_points_of_many_clips() -> None:
    rng = np.random.default_rng(0)
    n = 5000
    scores = pd.DataFrame({"clip_id": range(n), "score": rng.normal(size=n), "arm": "a", "backend": "knn"})
    scores = scores.assign(set="dev", machine="fan", unit="00", domain="unknown")
    labels = pd.DataFrame({"clip_id": range(n), "anomaly": rng.integers(0, 2, n), "domain": "unknown"})
    points = roc_points(labelled(scores, labels))  # the arm has no score of its own: its back-end is drawn
    assert set(points["backend"]) == {"knn"}
    assert 150 < len(points) <= 200
    exact = roc_auc_score(labels["anomaly"], scores["score"])
    assert np.trapezoid(points["tpr"], points["fpr"]) == pytest.approx(exact, abs=0.003)


def test_roc_csv(study: Study, tmp_path: Path) -> None:
    points = roc_points(labelled(*study))
    write_roc_csv(points, tmp_path / "roc.csv")
    again = pd.read_csv(tmp_path / "roc.csv")
    assert list(again.columns) == ["arm", "backend", "machine", "fpr", "tpr"]
    pd.testing.assert_frame_equal(again, points, atol=1e-6, check_dtype=False)


def test_scores_are_those_of_the_first_seed(study: Study) -> None:
    scores, labels = study
    again = scores.assign(seed=2, score=-scores["score"])
    first = labelled(scores.assign(seed=1), labels)
    pd.testing.assert_frame_equal(labelled(pd.concat([scores.assign(seed=1), again]), labels), first)
