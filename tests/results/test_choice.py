"""The choice without labels in the table of back-ends: whose labels may veto what."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from auscult.results.arms import ArmFiles
from auscult.results.choice import choice_table, choices, vetoed
from auscult.settings.schema import BackendSweep
from auscult.settings.section import validated

SWEEP = {
    "sweep": {name: {"kind": "knn_cosine"} for name in ("a", "b", "c", "d")},
    "choice": {"of": ["a", "b", "c"]},
}


@pytest.fixture
def arms(tmp_path: Path) -> dict[str, ArmFiles]:
    """`b` is the most balanced in both sets, and the worst of the development set; nothing is registered for `other`."""
    folder = tmp_path / "choice"
    folder.mkdir()
    balance = {"a": (0.5, 0.7), "b": (0.1, 0.3), "c": (0.4, 0.4)}
    rows = [
        ("ae", name, f"m{seed}", "00", backend, seed, value)
        for name in ("dev", "eval")
        for backend, values in balance.items()
        for seed, value in enumerate(values)
    ]
    columns = ["arm", "set", "machine", "unit", "backend", "seed", "balance"]
    pd.DataFrame(rows, columns=columns).to_csv(folder / "criteria.csv", index=False)
    (folder / "choice.json").write_text("{}")
    files = ArmFiles(tmp_path / "ae.parquet", {})
    return {"ae": files, "other": ArmFiles(tmp_path / "elsewhere" / "other.parquet", {})}


def table(dev: dict[str, float], test: dict[str, float]) -> pd.DataFrame:
    rows = [
        ("ae", backend, name, value) for name, of in (("dev", dev), ("eval", test)) for backend, value in of.items()
    ]
    return pd.DataFrame(rows, columns=["arm", "backend", "set", "value"]).assign(convention="per_unit")


def test_labels_of_the_development_set_veto_for_the_evaluation_set_alone(arms: dict[str, ArmFiles]) -> None:
    sweep = validated(BackendSweep, SWEEP, "backends")
    numbers = table({"a": 60.0, "b": 50.0, "c": 55.0, "d": 10.0}, {"a": 58.0, "b": 70.0, "c": 57.0, "d": 99.0})
    dev, test = choices(arms, numbers, sweep)
    assert (dev.set, dev.chosen, dev.vetoed, dev.value, dev.best) == ("dev", "b", "", 50.0, "a")
    assert (test.set, test.chosen, test.vetoed, test.value, test.best) == ("eval", "c", "b", 57.0, "b")
    assert dev.balance == pytest.approx(0.2)
    assert dev.registered == hashlib.sha256(b"{}").hexdigest()
    # The labels of the evaluation set choose nothing.
    turned = table({"a": 60.0, "b": 50.0, "c": 55.0}, {"a": 99.0, "b": 1.0, "c": 2.0})
    assert [row.chosen for row in choices(arms, turned, sweep)] == ["b", "c"]


def test_without_development_scores_nothing_is_left_out(arms: dict[str, ArmFiles]) -> None:
    sweep = validated(BackendSweep, SWEEP, "backends")
    found = choices(arms, table({}, {}), sweep)
    assert [(row.chosen, row.vetoed) for row in found] == [("b", ""), ("b", "")]
    assert all(np.isnan(row.value) and row.best == "" for row in found)
    assert [row.arm for row in choice_table(found).rows] == ["ae", "ae"]


def test_the_worst_tenth_is_one_of_a_few_and_none_where_all_are_alike() -> None:
    assert vetoed(pd.Series({"a": 60.0, "b": 50.0, "c": 55.0}), 0.1) == ["b"]
    assert vetoed(pd.Series(np.arange(51.0)), 0.1) == list(range(6))
    assert vetoed(pd.Series({"a": 60.0, "b": 60.0}), 0.1) == []
    assert vetoed(pd.Series({"a": 60.0, "b": 50.0}), 0.0) == []
