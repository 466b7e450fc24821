"""The sweep's results: every arm and back-end has its number or says why it has none."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from auscult.errors import AuscultError
from auscult.evaluation.evaluate import evaluate
from auscult.results.arms import ArmFiles
from auscult.results.backends import headline, write_backends
from auscult.results.names import UNKNOWN
from auscult.settings.profile import Profile
from auscult.settings.rules import MetricRules
from auscult.settings.schema import BackendSweep, Evaluate
from auscult.settings.section import validated

SWEEP = {
    "sweep": {
        "native": {"kind": "native"},
        "knn_cosine": {"kind": "knn_cosine"},
        "ldn": {"kind": "ldn"},
        "seen": {"kind": "knn_cosine_transductive"},
    },
    "ensembles": {"both": {"arms": ["ae", "mfn"], "backend": "ldn"}},
    "replicates": 20,
}
FILES = {"summary.csv", "table.csv", "table.md", "table.tex", "heatmap.png", "made_from.json"}


def profile(scheme: str = "dcase2020") -> Profile:
    return Profile(
        name="tiny", dataset="tiny", title="t", licence="MIT", source={}, grammar="dcase2020", sets={"dev": "dev"},
        clip_seconds=1.0, rules=MetricRules(scheme=scheme),  # type: ignore[arg-type]
    )  # fmt: skip


def labels(domains: bool) -> pd.DataFrame:
    table = pd.DataFrame({"clip_id": range(160)})
    table["anomaly"] = table["clip_id"] % 2
    table["domain"] = np.where(table["clip_id"] % 4 < 2, "source", "target") if domains else "unknown"
    return table


def scores(seed: int, backends: tuple[str, ...], domains: bool) -> pd.DataFrame:
    """Two sets, two types, each of two units; `standardised` for ldn."""
    rng = np.random.default_rng(seed)
    clips = labels(domains)
    clips["set"] = np.where(clips["clip_id"] < 80, "dev", "eval")
    clips["machine"] = np.where(clips["clip_id"] % 80 < 40, "fan", "valve")
    clips["unit"] = np.where(clips["clip_id"] % 40 < 20, "00", "02")
    parts = [clips.assign(backend=name, score=rng.normal(size=160) + clips["anomaly"]) for name in backends]
    table = pd.concat(parts, ignore_index=True).assign(seed=2024).drop(columns="anomaly")
    own = table["score"].where(table["backend"] == "ldn")
    return table.assign(standardised=own, rank=own)


@pytest.fixture(params=["dcase2020", "dcase2022"])
def written(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Path, str]:
    """Three arms in the rows: one without native score, one of all back-ends, and two more: not run, and not trainable."""
    domains = request.param != "dcase2020"
    labels(domains).to_parquet(tmp_path / "labels.parquet")
    (tmp_path / "scores").mkdir()
    for number, (arm, names) in enumerate({"ae": ("knn_cosine", "ldn", "seen"), "mfn": tuple(SWEEP["sweep"])}.items()):  # type: ignore[arg-type]
        scores(number, names, domains).to_parquet(tmp_path / "scores" / f"{arm}.parquet")
    scores(2, ("ldn",), domains).iloc[:0].to_parquet(tmp_path / "scores" / "small.parquet")
    model = tmp_path / "models" / "small" / "2024"
    model.mkdir(parents=True)
    (model / "config.yaml").write_text(yaml.safe_dump({"skipped": {"all": "two clips only"}}))
    write(tmp_path, request.param)
    return tmp_path, request.param


def write(folder: Path, scheme: str, name: str = "out") -> None:
    arms = {
        arm: ArmFiles(folder / "scores" / f"{arm}.parquet", {2024: folder / "models" / arm / "2024"})
        for arm in ("ae", "mfn", "idnn", "small")
    }
    sweep = validated(BackendSweep, SWEEP, "backends")
    out = folder / name
    write_backends(profile(scheme), Evaluate(), sweep, arms, folder / "labels.parquet", out)


def test_everything_is_written_twice_the_same(written: tuple[Path, str]) -> None:
    folder, scheme = written
    assert {path.name for path in (folder / "out").iterdir()} == FILES
    write(folder, scheme, "again")
    for name in FILES:
        assert (folder / "out" / name).read_bytes() == (folder / "again" / name).read_bytes(), name


def test_numbers_are_those_of_the_evaluation(written: tuple[Path, str]) -> None:
    folder, scheme = written
    parts = [pd.read_parquet(folder / "scores" / f"{arm}.parquet").assign(arm=arm) for arm in ("ae", "mfn")]
    expected = evaluate(pd.concat(parts), labels(scheme != "dcase2020"), MetricRules(scheme=scheme), 20)  # type: ignore[arg-type]
    keys = ["arm", "backend", "convention", "set", "machine", "metric"]
    found = pd.read_csv(folder / "out" / "summary.csv")
    both = found.merge(expected, on=keys, suffixes=("", "_expected"))
    assert len(both) == (found["arm"] != "both").sum() > 100
    for column in ("value", "ci_low", "ci_high"):
        np.testing.assert_allclose(both[column], both[f"{column}_expected"], atol=0.0051)
    metric, machine = ("official", "hmean") if scheme == "dcase2022" else ("mean_auc_pauc", "mean")
    table = pd.read_csv(folder / "out" / "table.csv")
    assert set(zip(table["metric"], table["machine"], strict=True)) == {(metric, machine)}
    assert len(table) == len(headline(expected, MetricRules(scheme=scheme))) + 6  # type: ignore[arg-type]


def lines(folder: Path, heading: str) -> dict[str, list[str]]:
    """First cell -> the others, of the block under `heading`."""
    text = (folder / "out" / "table.md").read_text().split(f"## {heading}")[1].split("\n\n")[1]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines()]
    return {row[0].split("<")[0].strip("`"): row[1:] for row in cells}


def test_a_row_per_arm_a_column_per_back_end(written: tuple[Path, str]) -> None:
    folder, scheme = written
    metric = "official score" if scheme == "dcase2022" else "mean of AUC and pAUC"
    rows = lines(folder, f"{metric}, development set, per unit, then averaged")
    assert list(rows) == ["arm", "---", "ae", "mfn", "idnn", "small", "both", "mean over 2 arms"]
    assert rows["arm"][1:3] == ["native score", "kNN (cosine)"]
    assert rows["ae"][1] == UNKNOWN
    assert rows["idnn"] == ["", *[UNKNOWN] * 4]
    table = pd.read_csv(folder / "out" / "table.csv").query("set == 'dev' and convention == 'per_unit'")
    values = table.set_index(["arm", "backend"])["value"]
    for place, name in enumerate(SWEEP["sweep"], 1):  # type: ignore[arg-type]
        assert rows["mfn"][place].split(" ")[0] == f"{values['mfn', name]:.1f}"
    of_arm = [values["mfn", name] for name in SWEEP["sweep"]]  # type: ignore[attr-defined]
    assert float(rows["mfn"][0]) == pytest.approx(np.ptp(of_arm), abs=0.051)
    assert rows["mean over 2 arms"][1] == UNKNOWN  # ae has no native score
    mean = (values["ae", "knn_cosine"] + values["mfn", "knn_cosine"]) / 2
    assert float(rows["mean over 2 arms"][2]) == pytest.approx(mean, abs=0.051)


def test_an_arm_without_scores_says_why_and_a_transductive_score_what_it_is(written: tuple[Path, str]) -> None:
    text = (written[0] / "out" / "table.md").read_text()
    for words in ("no scores yet", "not trained: two clips only", "mean of the standardised scores of ae, mfn"):
        assert words in text, words
    assert "not an official score" in text
    assert "not trained: two clips only" in (written[0] / "out" / "table.tex").read_text()


def test_an_ensemble_of_an_arm_without_scores_says_so(tmp_path: Path) -> None:
    labels(False).to_parquet(tmp_path / "labels.parquet")
    (tmp_path / "scores").mkdir()
    scores(0, ("ldn",), False).to_parquet(tmp_path / "scores" / "ae.parquet")
    write(tmp_path, "dcase2020")
    assert "not formed: no scores of mfn" in (tmp_path / "out" / "table.md").read_text()


def test_without_labels_the_table_says_so(tmp_path: Path) -> None:
    labels(False).assign(anomaly=np.nan).to_parquet(tmp_path / "labels.parquet")
    (tmp_path / "scores").mkdir()
    scores(0, ("ldn",), False).to_parquet(tmp_path / "scores" / "ae.parquet")
    write(tmp_path, "dcase2020")
    assert "No test clip has a label" in (tmp_path / "out" / "table.md").read_text()
    assert {path.name for path in (tmp_path / "out").iterdir()} == FILES


def test_without_any_scores_it_is_refused(tmp_path: Path) -> None:
    labels(False).to_parquet(tmp_path / "labels.parquet")
    with pytest.raises(AuscultError, match="no arm has any scores"):
        write(tmp_path, "dcase2020")
