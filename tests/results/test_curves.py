"""Training curves for `dvc plots` against sums by hand."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from auscult.results.curves import COLUMNS, EPOCHS, curve_points, write_curves


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
    write_curves({"a": pd.DataFrame()}, tmp_path / "curves.csv")
    assert list(pd.read_csv(tmp_path / "curves.csv").columns) == COLUMNS
