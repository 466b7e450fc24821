"""A small study: two arms, two back-ends, three machines of two units."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from auscult.evaluation.evaluate import Replicates, replicate
from auscult.settings.rules import MetricRules
from auscult.settings.schema import TableSettings

Study = tuple[pd.DataFrame, pd.DataFrame]

TABLES = {
    "table2": TableSettings(title="Detection of anomalies", metrics=("auc", "pauc"), printed="os_scl_table2"),
    "table4": TableSettings(title="Lowest AUC", metrics=("mauc",), printed="os_scl_table4"),
}


def build(domains: bool = False, machines: tuple[str, ...] = ("fan", "pump", "ToyCar")) -> Study:
    rng = np.random.default_rng(0)
    rows = [(machine, unit, i) for machine in machines for unit in ("00", "02") for i in range(40)]
    base = pd.DataFrame(rows, columns=["machine", "unit", "i"])
    base["clip_id"], base["set"] = np.arange(len(base)), "dev"
    anomaly = (base["i"] % 2).to_numpy()
    base["domain"] = np.where(base["i"] < 20, "source", "target") if domains else "unknown"
    labels = pd.DataFrame({"clip_id": base["clip_id"], "anomaly": anomaly, "domain": base["domain"]})
    parts = [
        base.assign(arm=arm, backend=backend, score=rng.normal(size=len(base)) + gain * anomaly)
        for arm, gain in (("tfst_os_scl", 4.0), ("stgram_mfn", 0.5))
        for backend in ("native", "knn")
    ]
    return pd.concat(parts, ignore_index=True).drop(columns="i"), labels


@pytest.fixture(scope="session")
def study() -> Study:
    return build()


@pytest.fixture(scope="session")
def result(study: Study) -> Replicates:
    return replicate(*study, MetricRules(scheme="dcase2020"), 100)


@pytest.fixture
def figures(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """Every figure that a test has written, in order."""
    seen: list[Figure] = []
    save = Figure.savefig

    def keep(self: Figure, path: Path, **how: Any) -> None:
        seen.append(self)
        save(self, path, **how)

    monkeypatch.setattr(Figure, "savefig", keep)
    return seen
