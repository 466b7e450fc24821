"""Publishing without mlflow, and what goes into runs and views; tests/test_pipeline.py looks at the runs themselves."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

import pandas as pd
import pytest

from auscult.settings.project import Project
from auscult.tracking.publish import publish
from auscult.tracking.values import param_text, run_curves, run_metrics
from auscult.tracking.views import TAG, Run, compare_link, differing, overview, readable, rows_of, view_link, views

ROOT = Path(__file__).parents[2]
METRICS = {"auc/mean": 80.0, "pauc/mean": 60.0, "curve/train_loss": 1.0, "curve/lr": 0.1, "cost/train_seconds": 3.0}
SWEEP: list[Run] = [
    (
        {"fph.reduction": str(width), "lr": "0.1", "arm": f"tfst_fph_{width}", "train.seeds": str(width)},
        {**METRICS, "auc/mean": 80.0 + width},
    )
    for width in (4, 16, 64)
]


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


def test_axes_are_what_tells_runs_apart() -> None:
    assert differing(SWEEP) == ["fph.reduction"]
    other: Run = ({"lr": "0.2", "window": "64", "arm": "ae"}, {})
    assert differing([*SWEEP, other]) == [
        "lr",
        "fph.reduction",
    ]  # what every run has comes first; one value is no difference
    assert differing(SWEEP[:1]) == []
    long: Run = ({"fph.reduction": "8", "method": "spectral_knn", "lr": "0.2"}, {})
    short: Run = ({"fph.reduction": "8", "method": "ae", "lr": "0.3"}, {})
    assert differing([long, short]) == ["lr", "method"]
    assert readable([long, short], 8) == ["lr"], "a name that the page would cut is a column, no axis"


def test_a_view_has_parallel_coordinates_over_what_differs() -> None:
    found = views("fph_reduction", SWEEP)
    assert list(found) == ["fph_reduction-compare", "fph_reduction-curves"]
    title, tag = found["fph_reduction-compare"]
    envelope = json.loads(tag)
    assert envelope["name"] == title
    state = json.loads(envelope["state"])
    parallel = [chart for chart in state["compareRunCharts"] if chart["type"] == "PARALLEL"]
    assert [(p["selectedParams"], p["selectedMetrics"]) for p in parallel] == [
        (["fph.reduction"], ["auc/mean", "pauc/mean"])
    ]
    assert state["searchFilter"] == rows_of("fph_reduction") == "tags.`auscult.rows` LIKE '%,fph_reduction,%'"
    assert "start_time" not in state["orderByKey"], "the page hides children where runs are sorted by time"
    for _, text in found.values():
        state = json.loads(json.loads(text)["state"])
        charts, sections = state["compareRunCharts"], state["compareRunSections"]
        assert {chart["metricSectionId"] for chart in charts} == {section["uuid"] for section in sections}
        assert len({chart["uuid"] for chart in charts}) == len(charts)
        assert len(text) < 20000, "what MLflow keeps of an experiment's tag"
    assert views("fph_reduction", SWEEP) == found
    assert views("", []) == {"project-compare": views("", [])["project-compare"]}


def test_links_name_the_view_and_the_runs() -> None:
    path, _, query = view_link("3", "a-compare")[2:].partition("?")
    assert path == "experiments/3/runs"
    side = {"workflowType": ["machine_learning"]}
    assert parse_qs(query) == {"compareRunsMode": ["CHART"], "viewStateShareKey": ["a-compare"], **side}
    asked = parse_qs(urlsplit(compare_link("3", ["r1", "r2"])[1:]).query)
    assert asked.pop("workflowType") == side["workflowType"]
    assert {key: json.loads(unquote(value[0])) for key, value in asked.items()} == {
        "runs": ["r1", "r2"],
        "experiments": ["3"],
    }
    links = {"noise: training curves": "#/x", "project: results": "#/y", "noise: results": "#/z"}
    assert overview(links) == "project: [results](#/y)\n\nnoise: [training curves](#/x), [results](#/z)"
    assert TAG.endswith(".")
