"""Figures: the points behind the ROC curves are right, every figure is drawn, and drawn alike twice."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from sklearn.metrics import roc_auc_score

from auscult.evaluation.evaluate import Replicates, summarise
from auscult.results import curves
from auscult.results.curves import ROC_ARMS, plot_history, plot_roc, roc_points, write_roc_csv
from auscult.results.figures import labelled, plot_histograms, plot_summary

from .conftest import Study


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


def history(scopes: int) -> pd.DataFrame:
    epochs = np.arange(1, 6)
    one = pd.DataFrame({"epoch": epochs, "train_loss": 1 / epochs, "valid_loss": 2 / epochs, "lr": 0.1})
    return pd.concat([one.assign(scope=f"m{i}") for i in range(scopes)]) if scopes else one


DRAW: dict[str, Callable[[Study, Replicates, Path], None]] = {
    "roc": lambda study, _, path: plot_roc(roc_points(labelled(*study)), path),
    "roc of nothing": lambda study, _, path: plot_roc(roc_points(labelled(study[0], study[1].iloc[:0])), path),
    "histograms": lambda study, _, path: plot_histograms(labelled(*study), "stgram_mfn", path),
    "histograms of nothing": lambda study, _, path: plot_histograms(
        labelled(study[0], study[1].iloc[:0]), "stgram_mfn", path
    ),
    "histograms of no arm": lambda study, _, path: plot_histograms(labelled(*study), "ae", path),
    "history": lambda *_: plot_history(history(0), _[-1], "tfst_os_scl"),
    "history of 3": lambda *_: plot_history(history(3), _[-1]),
    "history of 23": lambda *_: plot_history(history(23), _[-1]),
    "history of nothing": lambda *_: plot_history(history(0).iloc[:0], _[-1]),
    "summary": lambda _, result, path: plot_summary(summarise(result), path),
    "summary with an arm not run": lambda _, result, path: plot_summary(
        summarise(result), path, arms=["ae", "stgram_mfn"]
    ),
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


def drawn(points: pd.DataFrame, path: Path, monkeypatch: pytest.MonkeyPatch, reference: str = "") -> Figure:
    """The figure of `plot_roc`, kept open."""
    seen: list[Figure] = []
    with monkeypatch.context() as patch:
        patch.setattr(plt, "close", seen.append)
        plot_roc(points, path, reference=reference)
    (figure,) = seen
    return figure


def test_legends_lie_inside_the_figure(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Long arm names in a narrow figure take more rows, not more width."""
    arms = [f"tfst_os_scl_with_a_long_name_{i}" for i in range(9)]
    points = pd.DataFrame([(arm, "native", "fan", x, x) for arm in arms for x in (0.0, 1.0)])
    points.columns = pd.Index(["arm", "backend", "machine", "fpr", "tpr"])
    figure = drawn(points, tmp_path / "roc.png", monkeypatch)
    box = figure.legends[0].get_window_extent()
    plt.close(figure)
    assert len(figure.legends[0].get_texts()) == ROC_ARMS + 1
    assert figure.bbox.x0 <= box.x0 < box.x1 <= figure.bbox.x1
    assert figure.bbox.y0 <= box.y0 < box.y1 <= figure.bbox.y1


def test_of_many_arms_the_best_and_the_reference_are_told_apart(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Arm i has the area 0.5 + 0.04 i on two machines; the best by area lacks one machine."""
    rows = [
        (f"arm{i}", "native", machine, x, y)
        for i in range(10)
        for machine in (("fan", "pump") if i < 9 else ("fan",))
        for x, y in ((0.0, 0.0), (0.0, 0.08 * i), (1.0, 1.0))
    ]
    points = pd.DataFrame(rows, columns=["arm", "backend", "machine", "fpr", "tpr"])
    figure = drawn(points, tmp_path / "roc.png", monkeypatch, reference="arm0")
    texts = [text.get_text() for text in figure.legends[0].get_texts()]
    colours = [line.get_color() for line in figure.axes[0].lines]
    plt.close(figure)
    assert texts == ["arm0", "arm4", "arm5", "arm6", "arm7", "arm8", "4 other arms"]
    assert len(colours) == 1 + 10  # the diagonal, and every arm
    assert len(set(colours)) == 1 + ROC_ARMS + 1


def test_scores_are_those_of_the_first_seed(study: Study) -> None:
    scores, labels = study
    again = scores.assign(seed=2, score=-scores["score"])
    first = labelled(scores.assign(seed=1), labels)
    pd.testing.assert_frame_equal(labelled(pd.concat([scores.assign(seed=1), again]), labels), first)
