"""The folder of results: complete with every arm run, and honest about those that were not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml

from auscult.errors import AuscultError
from auscult.evaluation.comparison import differences
from auscult.evaluation.evaluate import replicate
from auscult.results import results as module
from auscult.results.arms import COST_COLUMNS, ArmFiles, arm_costs
from auscult.results.readme import short_table
from auscult.results.results import NOT_RUN, Folders, write_results
from auscult.results.text import markdown_table
from auscult.settings.profile import Profile
from auscult.settings.rules import MetricRules
from auscult.settings.schema import Evaluate

from .conftest import TABLES, build

MEAN = "AUC, development set, per unit, then averaged"


def profile(dataset: str = "tiny", **other: Any) -> Profile:
    return Profile(
        name="tiny", dataset=dataset, title="t", licence="MIT", source={}, grammar="dcase2020", sets={"dev": "dev"},
        clip_seconds=1.0, rules=MetricRules(**other),
    )  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two arms: stgram_mfn with seeds 1 and 2, tfst_os_scl with seed 1; costs of all but one. No figures are drawn."""
    monkeypatch.setattr(module, "write_pictures", lambda *_: None)
    scores, labels = build()
    labels.to_parquet(tmp_path / "labels.parquet")
    for arm, seeds in (("stgram_mfn", (1, 2)), ("tfst_os_scl", (1,))):
        of = scores[scores["arm"] == arm].drop(columns="arm")
        runs = [of.assign(seed=seed, score=of["score"] + 0.1 * seed * (of["clip_id"] % 7)) for seed in seeds]
        put_scores(tmp_path, arm, pd.concat(runs))
        for seed in seeds:
            put_model(tmp_path, arm, seed)
    (tmp_path / "embeddings" / "stgram_mfn" / "2" / "embed.json").unlink()
    return tmp_path


def put_scores(folder: Path, arm: str, scores: pd.DataFrame) -> None:
    (folder / "scores").mkdir(exist_ok=True)
    scores.to_parquet(folder / "scores" / f"{arm}.parquet")


def put_model(folder: Path, arm: str, seed: int, skipped: dict[str, str] | None = None) -> None:
    model = folder / "models" / arm / str(seed)
    model.mkdir(parents=True)
    (model / "history.csv").write_text(f"scope,epoch,lr,train_loss\nall,1,0.1,{seed}\nall,2,0.1,{seed / 2}\n")
    (model / "config.yaml").write_text(yaml.safe_dump({"skipped": skipped} if skipped else {"settings": {}}))
    cost = {"train_seconds": 10.0 * seed, "peak_memory_mib": 5.0, "device": "a desk"}
    place = folder / "embeddings" / arm / str(seed)
    place.mkdir(parents=True)
    size = {"parameters": 1_305_210, "macs_per_clip": 3.1e8}
    for name, content in (("network", size), ("train", cost), ("embed", {"clips_per_second": 400.0 / seed})):
        (place / f"{name}.json").write_text(json.dumps(content))


def files(folder: Path, *arms: str) -> dict[str, ArmFiles]:
    found = {}
    for arm in arms:
        models = {int(path.name): path for path in sorted((folder / "models" / arm).glob("[0-9]"))}
        places = {seed: folder / "embeddings" / arm / str(seed) for seed in models}
        costs = {seed: (place / "train.json", place / "embed.json") for seed, place in places.items()}
        found[arm] = ArmFiles(folder / "scores" / f"{arm}.parquet", models, places, costs)
    return found


def results(folder: Path, *arms: str, reference: str = "", of: Profile | None = None) -> Folders:
    evaluate = Evaluate(replicates=30, reference=reference)
    out = Folders(folder / "out", folder / "cached")
    write_results(of or profile(), evaluate, files(folder, *arms), folder / "labels.parquet", out, TABLES)
    return out


def rows(markdown: str, heading: str = MEAN) -> list[list[str]]:
    lines = markdown.split(f"### {heading}\n\n")[1].split("\n\n")[0].splitlines()
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def test_everything_is_written(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()  # with its figures, this once; `ae` was not run and has none
    out = results(folder, "ae", "stgram_mfn", "tfst_os_scl")
    assert {path.name for path in out.committed.iterdir()} == {
        "summary.csv",
        "table.md",
        "auc.png",
        "metrics.json",
        "made_from.json",
    }
    assert {str(path.relative_to(out.cached)) for path in out.cached.rglob("*") if path.is_file()} == {
        "summary.csv", "differences.csv", *(f"table{number}.{kind}" for number in (2, 4) for kind in ("csv", "tex")),
        "made_from.json", "plots/roc.csv", "plots/curves.csv",
        *(f"plots/training_{arm}.csv" for arm in ("stgram_mfn", "tfst_os_scl")),
    }  # fmt: skip
    summary = pd.read_csv(out.cached / "summary.csv")
    assert set(summary.loc[summary["arm"] == "stgram_mfn", "seeds"]) == {2}
    assert summary.loc[summary["arm"] == "tfst_os_scl", "std"].isna().all()
    history = pd.read_csv(out.cached / "plots" / "training_stgram_mfn.csv")
    assert dict(zip(history["scope"], history["train_loss"], strict=True)) == {"seed 1": 0.5, "seed 2": 1.0}


def test_differences_are_written_for_the_reference_that_was_asked_for(folder: Path) -> None:
    for reference, expected in (("", "tfst_os_scl"), ("stgram_mfn", "stgram_mfn")):
        out = results(folder, "stgram_mfn", "tfst_os_scl", reference=reference)
        written = pd.read_csv(out.cached / "differences.csv")
        assert set(written["reference"]) == {expected}
        assert set(written["reference_backend"]) == {"native"}
        scores = pd.concat(
            [pd.read_parquet(f.scores).assign(arm=arm) for arm, f in files(folder, "stgram_mfn", "tfst_os_scl").items()]
        )
        result = replicate(scores, pd.read_parquet(folder / "labels.parquet"), MetricRules(), 30)
        again = differences(result, (expected, "native"))
        pd.testing.assert_frame_equal(written, again, atol=1e-3, rtol=0, check_dtype=False)
    with pytest.raises(AuscultError, match="`ae` is not among the arms"):
        results(folder, "stgram_mfn", reference="ae")


def test_without_a_native_score_the_reference_is_its_first_back_end(folder: Path) -> None:
    scores = pd.read_parquet(folder / "scores" / "tfst_os_scl.parquet")
    put_scores(folder, "spectral_knn", scores[scores["backend"] == "knn"])
    out = results(folder, "stgram_mfn", "spectral_knn")
    assert set(pd.read_csv(out.cached / "differences.csv")["reference_backend"]) == {"knn"}
    assert "`spectral_knn` (kNN)" in (out.committed / "table.md").read_text()


def test_costs_are_means_over_what_was_measured(folder: Path) -> None:
    costs = arm_costs(files(folder, "stgram_mfn", "tfst_os_scl", "ae"))
    assert list(costs.columns) == COST_COLUMNS
    of = costs.set_index("arm")
    assert of.loc["stgram_mfn", "train_seconds"] == pytest.approx((10 + 20) / 2)
    assert of.loc["stgram_mfn", "clips_per_second"] == pytest.approx(400)  # of seed 2 there is no measurement
    assert of.loc["tfst_os_scl", "parameters"] == 1_305_210
    assert of.loc["ae"].drop(["device", "seeds"]).isna().all()
    assert of["seeds"].to_dict() == {"stgram_mfn": 2, "tfst_os_scl": 1, "ae": 0}
    out = results(folder, "stgram_mfn", "tfst_os_scl")
    assert rows((out.committed / "table.md").read_text())[0][-2:] == ["1.31", "310"]


def test_results_are_the_same_bytes_whatever_a_run_took(folder: Path) -> None:
    def written() -> dict[str, bytes]:
        out = results(folder, "stgram_mfn", "tfst_os_scl")
        return {
            str(p): p.read_bytes() for place in (out.committed, out.cached) for p in place.rglob("*") if p.is_file()
        }

    before = written()
    for path in (folder / "embeddings").rglob("train.json"):
        path.write_text(json.dumps({"train_seconds": 987.6, "peak_memory_mib": 5.5, "device": "another desk"}))
    for path in (folder / "embeddings").rglob("embed.json"):
        path.unlink()
    assert written() == before


def test_an_arm_without_a_score_file_keeps_its_row(folder: Path) -> None:
    out = results(folder, "ae", "stgram_mfn", "tfst_os_scl")
    text = (out.committed / "table.md").read_text()
    ae = rows(text)[0]
    assert ae[:2] == ["`ae`", "native score<sup>1</sup>"]
    assert ae[2:6] == ["not run"] * 4
    assert f"<sup>1</sup> {NOT_RUN}" in text
    assert "ae" not in set(pd.read_csv(out.cached / "summary.csv")["arm"])
    few = json.loads((out.committed / "metrics.json").read_text())
    assert few["ae"] == {}
    sizes = {arm: numbers.get("parameters", float("nan")) for arm, numbers in few.items()}
    readme = markdown_table(short_table(pd.read_csv(out.committed / "summary.csv"), [("auc", "mean")], sizes))
    assert [line.split(" | ")[2] for line in readme if "`ae`" in line] == ["not run"]
    assert len(readme) == 2 + 3  # one row per arm: its native score


def test_the_reference_is_the_last_arm_that_has_scores(folder: Path) -> None:
    differences = pd.read_csv(
        results(folder, "stgram_mfn", "tfst_os_scl", "ae").cached / "differences.csv"
    )  # `ae` was not run
    assert set(differences["reference"]) == {"tfst_os_scl"}


def test_a_reference_that_was_not_run_leaves_differences_empty(folder: Path) -> None:
    out = results(folder, "stgram_mfn", "ae", reference="ae")
    assert set(pd.read_csv(out.cached / "differences.csv")["verdict"]) == {"undefined"}
    assert {row[6] for row in rows((out.committed / "table.md").read_text())} == {"\u2013", "reference"}


def test_a_skipped_network_says_why(folder: Path) -> None:
    scores = pd.read_parquet(folder / "scores" / "tfst_os_scl.parquet")
    put_scores(folder, "mfn", scores[scores["machine"] != "fan"])
    put_model(folder, "mfn", 1, {"fan": "one class only"})
    put_scores(folder, "clp_scf", scores.iloc[:0])
    put_model(folder, "clp_scf", 1, {"all": "no other machine to contrast"})
    out = results(folder, "mfn", "clp_scf", "tfst_os_scl")
    text = (out.committed / "table.md").read_text()
    of = {tuple(row[:2]): row[2:6] for row in rows(text)}
    mfn = of["`mfn`", "native score"]
    note = {
        line.split("</sup> ")[0]: line.split("</sup> ")[1].strip() for line in text.splitlines() if "</sup> " in line
    }
    assert note[mfn[0].removeprefix("not trained").removesuffix("</sup>")] == "not trained: one class only"
    assert mfn[1][0].isdigit()
    assert (
        note[mfn[3].removeprefix("undefined").removesuffix("</sup>")] == "undefined: fan: not trained: one class only"
    )
    none = of["`clp_scf`", "native score"]
    assert len(set(none)) == 1
    assert (
        note[none[0].removeprefix("not trained").removesuffix("</sup>")] == "not trained: no other machine to contrast"
    )
    summary = pd.read_csv(out.cached / "summary.csv").set_index(["arm", "backend", "convention", "machine", "metric"])[
        "value"
    ]
    assert pd.isna(summary["mfn", "native", "per_unit", "mean", "auc"])
    assert (
        summary["mfn", "native", "per_unit", "pump", "auc"]
        == summary["tfst_os_scl", "native", "per_unit", "pump", "auc"]
    )


def test_a_seed_without_scores_is_said(folder: Path) -> None:
    scores = pd.read_parquet(folder / "scores" / "stgram_mfn.parquet")
    put_scores(folder, "stgram_mfn", scores[scores["seed"] == 1])
    text = (results(folder, "stgram_mfn", "tfst_os_scl").committed / "table.md").read_text()
    assert "1 of 2 training seeds; 2: no scores" in text
    assert rows(text)[0][1] == "native score<sup>1</sup>"


def test_a_machine_that_no_arm_could_learn_is_said(folder: Path) -> None:
    """It has no column, so an average over the others must not pass for one over all."""
    put_model(folder, "stgram_mfn", 3, {"valve": "one class only"})
    text = (results(folder, "stgram_mfn", "tfst_os_scl").committed / "table.md").read_text()
    assert "valve: not trained: one class only; no arm has scores of it, and no average holds it" in text


def test_no_scores_at_all_is_an_error(folder: Path) -> None:
    with pytest.raises(AuscultError, match="no arm has any scores"):
        results(folder, "ae", "mfn")
    assert not (folder / "out").exists()


def test_where_every_arm_was_left_out_the_reasons_are_the_result(folder: Path) -> None:
    """A study that waits for a checkpoint must not stop the others."""
    scores = pd.read_parquet(folder / "scores" / "tfst_os_scl.parquet")
    for arm, reason in (("mfn", "one class only"), ("ae", "a checkpoint is missing")):
        put_scores(folder, arm, scores.iloc[:0])
        put_model(folder, arm, 1, {"all": reason})
    out = results(folder, "mfn", "ae")
    assert {path.name for path in out.committed.iterdir()} == {
        "summary.csv",
        "metrics.json",
        "table.md",
        "made_from.json",
    }
    assert {path.name for path in out.cached.iterdir()} == {"summary.csv", "made_from.json"}
    assert len(pd.read_csv(out.committed / "summary.csv")) == 0
    text = (out.committed / "table.md").read_text()
    assert "* `mfn`: not trained: one class only\n* `ae`: not trained: a checkpoint is missing" in text
    (folder / "models" / "ae" / "1" / "config.yaml").write_text("skipped: {valve: one class only}")
    with pytest.raises(AuscultError, match="no arm has any scores"):
        results(folder, "mfn", "ae")


def test_a_profile_with_domains(folder: Path) -> None:
    scores, labels = build(domains=True)
    labels.to_parquet(folder / "labels.parquet")
    for arm in ("stgram_mfn", "tfst_os_scl"):
        put_scores(folder, arm, scores[scores["arm"] == arm].drop(columns="arm").assign(seed=1))
    out = results(folder, "stgram_mfn", "tfst_os_scl", of=profile("dcase2023", scheme="dcase2022"))
    assert "AUC (source), development set" in (out.committed / "table.md").read_text()
    assert "difference to `tfst_os_scl`" in (out.committed / "table.md").read_text()


def test_printed_values_stand_beside_the_papers_own_data(folder: Path) -> None:
    out = results(folder, "stgram_mfn", "tfst_os_scl", of=profile("dcase2020"))
    assert "printed: TFSTgram(OS-SCL)" in (out.committed / "table.md").read_text()
    assert "printed:" not in (results(folder, "stgram_mfn", "tfst_os_scl").committed / "table.md").read_text()


def put_both_sets(folder: Path) -> None:
    """The scores of the development set again as an evaluation set, whose clips no label knows."""
    for arm in ("stgram_mfn", "tfst_os_scl"):
        scores = pd.read_parquet(folder / "scores" / f"{arm}.parquet")
        put_scores(folder, arm, pd.concat([scores, scores.assign(set="eval", clip_id=scores["clip_id"] + 10_000)]))


def test_a_set_without_labels_says_so(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a challenge is until its end: the development set is complete, the evaluation set has scores only."""
    before = (results(folder, "stgram_mfn", "tfst_os_scl").committed / "table.md").read_text()
    monkeypatch.undo()
    put_both_sets(folder)
    out = results(folder, "stgram_mfn", "tfst_os_scl")
    text = (out.committed / "table.md").read_text()
    of_eval = rows(text, "AUC, evaluation set, per unit, then averaged")
    assert [row[2:6] for row in of_eval] == [["no labels"] * 4] * 4
    assert rows(text) == rows(before)
    assert (out.committed / "auc.png").is_file()
    assert not list((out.cached / "plots").glob("*.png"))  # none of the evaluation set
    summary = pd.read_csv(out.cached / "summary.csv")
    assert set(summary["set"]) == {"dev", "eval", "all"}
    assert summary.loc[summary["set"] != "dev", "value"].isna().all()
    assert summary.loc[summary["set"] == "dev", "value"].notna().all()


@pytest.mark.parametrize("scheme", ["dcase2020", "dcase2022"])
def test_without_a_single_label_the_tables_say_so(folder: Path, monkeypatch: pytest.MonkeyPatch, scheme: str) -> None:
    monkeypatch.undo()
    put_both_sets(folder)
    labels = pd.read_parquet(folder / "labels.parquet")
    labels.iloc[:0].to_parquet(folder / "labels.parquet")
    out = results(folder, "ae", "stgram_mfn", "tfst_os_scl", of=profile(scheme=scheme))
    assert len(pd.read_csv(out.cached / "summary.csv")) == 0
    assert len(pd.read_csv(out.cached / "differences.csv")) == 0
    assert "No test clip has a label" in (out.committed / "table.md").read_text()
    for number in (2, 4):
        assert "No test clip has a label" in (out.cached / f"table{number}.tex").read_text()
        assert len(pd.read_csv(out.cached / f"table{number}.csv")) == 0
    assert json.loads((out.committed / "metrics.json").read_text())["stgram_mfn"] == {"parameters": 1_305_210}
    assert (out.committed / "auc.png").is_file()  # that dvc.yaml names, and these tables
    assert {path.name for path in (out.cached / "plots").glob("[cr]*.csv")} == {"roc.csv", "curves.csv"}


def test_what_a_transductive_score_is_stands_below_the_table(folder: Path) -> None:
    scores = pd.read_parquet(folder / "scores" / "tfst_os_scl.parquet")
    renamed = scores[scores["backend"] == "knn"].assign(backend="knn_cosine_transductive")
    put_scores(folder, "tfst_os_scl", pd.concat([scores, renamed]))
    out = results(folder, "stgram_mfn", "tfst_os_scl")
    text = (out.committed / "table.md").read_text()
    names = [row[1] for row in rows(text)]
    assert names == ["native score", "kNN", "native score", "kNN", "kNN (cosine, transductive)<sup>1</sup>"]
    assert (
        "<sup>1</sup> not an official score: normalised with the mean and deviation of the test clips themselves"
        in text
    )
    cells = pd.read_csv(out.cached / "table2.csv")
    marked = cells["row_note"].notna()
    assert (marked == (cells["backend"] == "knn_cosine_transductive")).all()


def test_the_official_score_of_both_sets_is_captioned(folder: Path) -> None:
    scores, labels = build(domains=True)
    for arm in ("stgram_mfn", "tfst_os_scl"):
        put_scores(folder, arm, scores[scores["arm"] == arm].drop(columns="arm").assign(seed=1))
    put_both_sets(folder)
    more = labels.assign(clip_id=labels["clip_id"] + 10_000)
    pd.concat([labels, more]).to_parquet(folder / "labels.parquet")
    out = results(folder, "stgram_mfn", "tfst_os_scl", of=profile("dcase2023", scheme="dcase2022"))
    text = (out.committed / "table.md").read_text()
    both = rows(text, "official score, harmonic mean of both sets, per unit, then averaged")
    dev = rows(text, "official score, development set, per unit, then averaged")
    assert len(both) == 4
    assert [row[2].split(" ")[0] for row in both] == [row[6].split(" ")[0] for row in dev]  # equal sets: their own mean
