"""Publishing without mlflow, and what goes into runs; tests/pipeline looks at the runs of a real pipeline."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pandas as pd
import pytest

from auscult.settings.project import Project
from auscult.tracking.publish import publish
from auscult.tracking.values import param_text, run_curves, run_metrics

ROOT = Path(__file__).parents[2]


def test_no_stage_fails_for_lack_of_mlflow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.split(".")[0] == "mlflow"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "mlflow", None)  # importing it raises ImportError
    publish(Project.open(ROOT), tmp_path / "receipt.json")
    receipt = json.loads((tmp_path / "receipt.json").read_text())
    assert receipt["published"] is None
    assert "install" in receipt["reason"]


def row(set_: str, backend: str, convention: str, machine: str, value: float, metric: str = "auc") -> dict[str, object]:
    return dict(set=set_, backend=backend, convention=convention, machine=machine, metric=metric, value=value)


def test_short_names_are_the_first_backend_on_the_development_set_per_unit() -> None:
    rows = pd.DataFrame(
        [
            row("dev", "native", "per_unit", "fan", 70.0), row("dev", "native", "per_unit", "mean", 71.0),
            row("dev", "native", "pooled", "fan", 1.0), row("dev", "knn_cosine", "per_unit", "fan", 2.0),
            row("eval", "native", "per_unit", "fan", 3.0), row("eval", "native", "per_unit", "hmean", 72.0, "official"),
            row("dev", "native", "per_unit", "valve", float("nan")),
        ]
    )  # fmt: skip
    found = run_metrics(rows)
    assert next(iter(found)) == "auc/mean", "the pages take the first metric written where they have to choose one"
    assert found == {
        "auc/fan": 70.0,
        "auc/mean": 71.0,
        "dev.native.per_unit/auc.mean": 71.0,
        "eval.native.per_unit/official.hmean": 72.0,
    }


def test_every_number_of_the_history_is_a_curve(tmp_path: Path) -> None:
    rows = ("all (pretrain),1,0.1,9,,x", "all,1,0.1,3,0.25,x", "fan,2,0.05,2,0.5,")
    history = "\n".join(["scope,epoch,lr,train_loss,train_code_usage,note", *rows])
    (tmp_path / "history.csv").write_text(history)
    assert run_curves(tmp_path, ".seed_1") == [
        ("curve/lr.all.pretrain.seed_1", 0.1, 1), ("curve/train_loss.all.pretrain.seed_1", 9.0, 1),
        ("curve/lr.seed_1", 0.1, 1), ("curve/train_loss.seed_1", 3.0, 1), ("curve/train_code_usage.seed_1", 0.25, 1),
        ("curve/lr.fan.seed_1", 0.05, 2), ("curve/train_loss.fan.seed_1", 2.0, 2),
        ("curve/train_code_usage.fan.seed_1", 0.5, 2),
    ]  # fmt: skip
    (tmp_path / "history.csv").write_text("scope,epoch,train_loss\n")
    assert run_curves(tmp_path) == []


@pytest.mark.parametrize("value", [16, 0.0001, 2e-06])
def test_numbers_stay_numbers(value: float) -> None:
    assert float(param_text(value)) == value
    assert float(param_text((value,))) == value
