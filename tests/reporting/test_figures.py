"""Figures: the points behind the ROC curves are right, every figure is drawn, and drawn alike twice."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from auscult.errors import AuscultError
from auscult.evaluation import Replicates, summarise
from auscult.reporting import figures
from auscult.reporting.figures import (
    plot_histograms,
    plot_history,
    plot_roc,
    plot_summary,
    roc_points,
    write_roc_csv,
)

from .conftest import Study


def test_thinned_roc_points_keep_the_area(study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    scores, labels = study
    points = roc_points(scores, labels)
    table = scores.merge(labels[["clip_id", "anomaly"]], on="clip_id")
    for (arm, machine), curve in points.groupby(["arm", "machine"]):
        rows = table[(table["arm"] == arm) & (table["machine"] == machine) & (table["backend"] == "native")]
        exact = roc_auc_score(rows["anomaly"], rows["score"])
        assert np.trapezoid(curve["tpr"], curve["fpr"]) == pytest.approx(exact, abs=1e-12)  # 80 clips: nothing to thin
    monkeypatch.setattr(figures, "ROC_POINTS", 30)
    for _, curve in roc_points(scores, labels).groupby(["arm", "machine"]):
        assert len(curve) <= 30
        assert curve[["fpr", "tpr"]].iloc[[0, -1]].to_numpy().tolist() == [[0, 0], [1, 1]]
        assert (curve[["fpr", "tpr"]].diff().dropna() >= 0).all(axis=None)


def test_no_more_than_200_points_of_many_clips() -> None:
    rng = np.random.default_rng(0)
    n = 5000
    scores = pd.DataFrame({"clip_id": range(n), "score": rng.normal(size=n), "arm": "a", "backend": "knn"})
    scores = scores.assign(set="dev", machine="fan", unit="00", domain="unknown")
    labels = pd.DataFrame({"clip_id": range(n), "anomaly": rng.integers(0, 2, n), "domain": "unknown"})
    points = roc_points(scores, labels)  # the arm has no score of its own: its back-end is drawn
    assert set(points["backend"]) == {"knn"}
    assert 150 < len(points) <= 200
    exact = roc_auc_score(labels["anomaly"], scores["score"])
    assert np.trapezoid(points["tpr"], points["fpr"]) == pytest.approx(exact, abs=0.003)


def test_roc_csv(study: Study, tmp_path: Path) -> None:
    points = roc_points(*study)
    write_roc_csv(points, tmp_path / "roc.csv")
    again = pd.read_csv(tmp_path / "roc.csv")
    assert list(again.columns) == ["arm", "backend", "machine", "fpr", "tpr"]
    pd.testing.assert_frame_equal(again, points, atol=1e-6, check_dtype=False)


def history(scopes: int) -> pd.DataFrame:
    epochs = np.arange(1, 6)
    one = pd.DataFrame({"epoch": epochs, "train_loss": 1 / epochs, "valid_loss": 2 / epochs, "lr": 0.1})
    return pd.concat([one.assign(scope=f"m{i}") for i in range(scopes)]) if scopes else one


DRAW: dict[str, Callable[[Study, Replicates, Path], None]] = {
    "roc": lambda study, _, path: plot_roc(roc_points(*study), path),
    "roc of nothing": lambda study, _, path: plot_roc(roc_points(study[0], study[1].iloc[:0]), path),
    "histograms": lambda study, _, path: plot_histograms(*study, "stgram_mfn", path),
    "histograms of nothing": lambda study, _, path: plot_histograms(study[0], study[1].iloc[:0], "stgram_mfn", path),
    "history": lambda *_: plot_history(history(0), _[-1], "tfst_os_scl"),
    "history of 3": lambda *_: plot_history(history(3), _[-1]),
    "history of 23": lambda *_: plot_history(history(23), _[-1]),
    "history of nothing": lambda *_: plot_history(history(0).iloc[:0], _[-1]),
    "summary": lambda _, result, path: plot_summary(summarise(result), path),
    "summary of nothing": lambda _, result, path: plot_summary(summarise(result), path, machine="hmean"),
}


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("name", DRAW)
def test_every_figure_is_drawn_and_twice_the_same(name: str, study: Study, result: Replicates, tmp_path: Path) -> None:
    for folder in ("one", "two"):
        DRAW[name](study, result, tmp_path / folder / "figure.png")
    one, two = ((tmp_path / folder / "figure.png").read_bytes() for folder in ("one", "two"))
    assert one == two
    assert one.startswith(b"\x89PNG")
    assert b"tEXt" not in one  # neither a date nor the version of the software
    assert not plt.get_fignums()
    assert [path.name for path in (tmp_path / "one").iterdir()] == ["figure.png"]


def test_legends_lie_inside_the_figure(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Long arm names in a narrow figure take more rows, not more width."""
    seen = []
    monkeypatch.setattr(plt, "close", seen.append)
    arms = [f"tfst_os_scl_with_a_long_name_{i}" for i in range(9)]
    points = pd.DataFrame([(arm, "native", "fan", x, x) for arm in arms for x in (0.0, 1.0)])
    points.columns = pd.Index(["arm", "backend", "machine", "fpr", "tpr"])
    plot_roc(points, tmp_path / "roc.png")
    monkeypatch.undo()
    (figure,) = seen
    box = figure.legends[0].get_window_extent()
    plt.close(figure)
    assert len(figure.legends[0].get_texts()) == 9
    assert figure.bbox.x0 <= box.x0 < box.x1 <= figure.bbox.x1
    assert figure.bbox.y0 <= box.y0 < box.y1 <= figure.bbox.y1


def test_an_arm_without_scores_is_named(study: Study, tmp_path: Path) -> None:
    with pytest.raises(AuscultError, match="no scores of ae"):
        plot_histograms(*study, "ae", tmp_path / "x.png")
