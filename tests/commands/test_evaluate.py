"""`auscult evaluate`: score files give the numbers of the evaluators and of our own tables, or one clear message."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import precision_recall_fscore_support

from auscult import cli
from auscult.data.labels import shipped
from auscult.errors import AuscultError
from auscult.evaluation.evaluate import evaluate
from auscult.results.evaluated import Evaluation, evaluate_systems
from auscult.scoring.submission import submission
from auscult.settings.rules import MetricRules
from auscult.settings.schema import Evaluate
from support import evaluators

SCHEMES = ("dcase2020", "dcase2021", "dcase2022")
FEW = Evaluate(replicates=20)


def rules(scheme: str) -> MetricRules:
    return MetricRules(scheme=scheme)  # type: ignore[arg-type]


def published(scheme: str, machines: tuple[str, ...] = ()) -> pd.DataFrame:
    """The evaluation clips of a year with random scores, of which some are tied."""
    labels = [label for label in shipped(scheme) if not machines or label.machine in machines]
    table = pd.DataFrame(labels, columns=["machine", "name", "anomaly", "domain"])
    rng = np.random.default_rng(5)
    table["score"] = np.round(rng.normal(size=len(table)) + table["anomaly"], 1) / 3
    table["unit"] = table["name"].str.extract(r"(?:id|section)_(\d+)_")[0]
    return table.assign(path="eval/" + table["name"], set="eval", backend="native", clip_id=rng.permutation(len(table)))


def put(table: pd.DataFrame, folder: Path, scheme: str) -> Path:
    """The table as our own submission files."""
    folder.mkdir(parents=True)
    limits = {
        (str(machine), str(unit)): 0.2 for machine, unit in table[["machine", "unit"]].drop_duplicates().to_numpy()
    }
    for name, text in submission(table, limits, rules(scheme)).items():
        (folder / name).write_text(text)
    return folder


def write(folder: Path, files: dict[str, str]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name).write_text(text)
    return folder


def clips(unit: str = "00", count: int = 12, shift: float = 0.0) -> list[str]:
    """Rows of a unit of 2020, half of them anomalies."""
    rows = [f"normal_id_{unit}_{i:08d}.wav,{i % 5}" for i in range(count // 2)]
    return rows + [f"anomaly_id_{unit}_{i:08d}.wav,{i % 7 + shift}" for i in range(count // 2)]


def system(folder: Path, machines: dict[str, tuple[str, ...]], shift: float = 0.0) -> Path:
    files = {
        f"anomaly_score_{machine}_id_{unit}.csv": "\n".join(clips(unit, shift=shift)) + "\n"
        for machine, units in machines.items()
        for unit in units
    }
    return write(folder, files)


def numbers(found: Evaluation) -> pd.Series:
    return found.summary.set_index(["arm", "convention", "machine", "metric"])["value"]


@pytest.mark.parametrize("scheme", SCHEMES)
def test_our_submission_gives_the_numbers_of_our_tables(tmp_path: Path, scheme: str) -> None:
    table = published(scheme)
    found = evaluate_systems({"ours": put(table, tmp_path / "ours", scheme)}, settings=FEW, out=tmp_path / "out")
    scores = table.assign(arm="ours").drop(columns=["anomaly", "name", "path"])
    expected = evaluate(scores, table[["clip_id", "anomaly", "domain"]], rules(scheme), replicates=20)
    columns = ["arm", "convention", "set", "machine", "metric", "value"]
    pd.testing.assert_frame_equal(found.summary[columns], expected[columns], check_exact=True)
    assert not found.summary["value"].isna().any()
    assert found.labels == f"this package's table of {scheme[5:]}"
    assert (
        f"Published official scores of {scheme[5:]}, AUC per unit. Evaluation set"
        in (tmp_path / "out/table.md").read_text()
    )


@pytest.mark.parametrize("scheme", SCHEMES)
def test_units_are_those_of_the_evaluators(tmp_path: Path, scheme: str) -> None:
    """Against scikit-learn on the same files, and the decisions as well."""
    table = published(scheme)
    evaluators.write_answers(table, tmp_path / "answers", scheme)
    folder = put(table, tmp_path / "ours", scheme)
    theirs = evaluators.numbers(folder, tmp_path / "answers", scheme)
    found = evaluate_systems({"ours": folder}, settings=FEW)
    units = found.units.set_index(["machine", "unit", "metric"])["value"] / 100
    for key, value in theirs.items():
        assert units[key] == pytest.approx(value, abs=1e-12)
    official = evaluators.official(theirs, scheme)
    top = "mean" if scheme == "dcase2020" else "hmean"
    assert numbers(found)["ours", "per_unit", top, "official"] / 100 == pytest.approx(official, abs=1e-12)
    assert len(found.decisions) == (0 if scheme == "dcase2020" else 42)
    for row in found.decisions.itertuples():
        of = table[(table["machine"] == row.machine) & (table["unit"] == row.unit) & (table["domain"] == row.domain)]
        expected = precision_recall_fscore_support(of["anomaly"], of["score"] > 0.2, average="binary")[:3]
        assert (row.precision, row.recall, row.f1) == pytest.approx(expected, abs=1e-12)
        assert row.false_alarms == pytest.approx((of["score"] > 0.2)[of["anomaly"] == 0].mean(), abs=1e-12)


def test_two_systems_are_compared_clip_by_clip(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    units = {"fan": ("00", "02"), "ToyCar": ("01",)}
    good, bad = system(tmp_path / "a" / "result", units, shift=3.0), system(tmp_path / "b" / "result", units)
    arguments = ["evaluate", f"good={good}", f"bad={bad}"]
    assert cli.main([*arguments, "--json", "--out", str(tmp_path / "out")]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert (facts["rules"], facts["labels"], facts["reference"], facts["clips"]) == (
        "dcase2020", "the names of the clips", "bad", 36,
    )  # fmt: skip
    value = {
        tuple(row[k] for k in ("arm", "convention", "machine", "metric")): row["value"] for row in facts["numbers"]
    }
    gap = value["good", "per_unit", "mean", "auc"] - value["bad", "per_unit", "mean", "auc"]
    (apart,) = [
        row for row in facts["differences"]
        if (row["convention"], row["machine"], row["metric"]) == ("per_unit", "mean", "auc")
    ]  # fmt: skip
    assert apart["difference"] == pytest.approx(gap, abs=1e-4)
    assert (apart["arm"], apart["verdict"]) == ("good", "better")
    assert json.loads((tmp_path / "out" / "evaluation.json").read_text()) == facts
    table = (tmp_path / "out" / "table.md").read_text()
    assert "| `good` | submitted |" in table
    assert "Published" not in table  # of the whole development set, which this is not
    assert pd.read_csv(tmp_path / "out" / "summary.csv")["value"].tolist() == pytest.approx(
        [row["value"] for row in facts["numbers"]], abs=1e-4
    )

    assert cli.main([*arguments, "--reference", "good"]) == 0
    text = capsys.readouterr().out
    assert "per unit, then averaged" in text
    assert "pooled: one ROC over all units" in text
    assert [line.split()[-1] for line in text.splitlines() if line.startswith("average  bad")] == ["worse", "worse"]
    assert cli.main(["evaluate", str(good), str(bad)]) == 2
    assert "two systems are called `result`" in capsys.readouterr().err


def test_a_missing_unit_or_machine_type_is_named_and_never_averaged_away(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = published("dcase2021", ("fan", "gearbox"))
    for_sure = table[~((table["machine"] == "fan") & (table["unit"] == "04"))]
    folder = put(for_sure, tmp_path / "ours", "dcase2021")
    found = evaluate_systems({"ours": folder}, settings=FEW)
    value = numbers(found)
    assert np.isnan(value["ours", "per_unit", "fan", "official"])
    assert np.isnan(value["ours", "pooled", "fan", "auc"])
    assert np.isnan(value["ours", "per_unit", "hmean", "official"])
    assert value["ours", "per_unit", "gearbox", "official"] > 50
    assert cli.main(["evaluate", str(folder)]) == 0
    text = capsys.readouterr().out
    assert "undefined: ours, eval, fan: unit 04: no scores" in text
    assert "undefined: ours, eval, pump: no scores" in text

    both = {"fan": ("00", "02")}
    found = evaluate_systems(
        {"a": system(tmp_path / "a", both), "b": system(tmp_path / "b", {"fan": ("00",)})}, settings=FEW
    )
    assert np.isnan(numbers(found)["b", "per_unit", "fan", "auc"])
    assert numbers(found)["a", "per_unit", "fan", "auc"] > 0


ROWS = clips()
BAD = {
    "header": (["name,score", *ROWS], "anomaly_score_fan_id_00.csv:1: `score` is not a finite number (a heading?)"),
    "comma": ([*ROWS[:3], "normal_id_00_00000003.wav,0,53"], ":4: `0,53`: the decimal mark is a comma"),
    "semicolon": (["normal_id_00_00000003.wav;0.53"], ":1: not `<file name>,<number>`: normal_id_00_00000003.wav;0.53"),
    "nan": ([*ROWS, "normal_id_00_00000077.wav,nan"], ":13: `nan` is not a finite number"),
    "infinite": ([*ROWS, "normal_id_00_00000077.wav,1e999"], ":13: `1e999` is not a finite number"),
    "doubled": ([*ROWS, ROWS[2]], "stand more than once:\n    anomaly_score_fan_id_00.csv:3: normal_id_00_00000002.wav"),
    "unit": ([*ROWS, "normal_id_02_00000000.wav,1"], ":13: normal_id_02_00000000.wav is of unit 02, the file of unit 00"),
    "empty": ([], "anomaly_score_fan_id_00.csv: the file is empty"),
    "unlabelled": ([*ROWS, "clip.wav,1"], "no label in this package's table of 2020:\n    anomaly_score_fan_id_00.csv:13: clip"),
    "one class": (ROWS[:6], "not one anomaly among the 6 clips of the development set"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_bad_rows_are_refused_with_file_and_line(tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    lines, message = BAD[name]
    folder = write(tmp_path / "s", {"anomaly_score_fan_id_00.csv": "".join(f"{line}\n" for line in lines)})
    out, page = tmp_path / "out", tmp_path / "page"
    assert cli.main(["evaluate", str(folder), "--out", str(out), "--html", str(page)]) == 2
    text = capsys.readouterr()
    assert message in text.err
    assert text.err.count("error:") == 1
    assert not text.out
    assert list(tmp_path.iterdir()) == [folder]


def refused(systems: dict[str, Path], **arguments: object) -> str:
    with pytest.raises(AuscultError) as caught:
        evaluate_systems(systems, settings=FEW, **arguments)  # type: ignore[arg-type]
    return str(caught.value)


def test_files_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    table = published("dcase2022", ("fan",))
    right = put(table, tmp_path / "right", "dcase2022")
    text = (right / "anomaly_score_fan_section_03_test.csv").read_text()
    typo = write(tmp_path / "typo", {"anomaly_score_fam_section_03_test.csv": text})
    assert "no labels of machine `fam` (did you mean `fan`?)" in refused({"typo": typo})
    section = write(tmp_path / "section", {"anomaly_score_fan_section_04_test.csv": text})
    assert "anomaly_score_fan_section_04_test.csv:1: section_03_0000.wav is of unit 03" in refused({"s": section})
    more = write(tmp_path / "more", {"anomaly_score_fan_section_03_test.csv": text + "section_03_0900.wav,1\n"})
    assert "anomaly_score_fan_section_03_test.csv:201: section_03_0900" in refused({"more": more})
    fewer = write(tmp_path / "fewer", {"anomaly_score_fan_section_03_test.csv": text[text.index("\n") + 1 :]})
    message = refused({"right": right, "fewer": fewer})
    assert "`fewer` has no score of 1 clip(s) of units that it scored:" in message
    assert "anomaly_score_fan_section_03_test.csv: section_03_0000" in message
    assert "not named as the challenge's" in refused({"x": write(tmp_path / "x", {"anomaly_score_fan.csv": text})})
    assert "there are no score files" in refused({"y": write(tmp_path / "y", {"result.csv": "1"})})
    assert "no such folder" in refused({"z": tmp_path / "z"})
    mixed = system(tmp_path / "mixed", {"fan": ("00",)})
    assert "named as those of several years" in refused({"mixed": mixed, "right": right})
    decisions = write(tmp_path / "d", {"anomaly_score_fan_section_03_test.csv": text})
    write(decisions, {"decision_result_fan_section_03_test.csv": "section_03_0000.wav,2\n"})
    assert "decision_result_fan_section_03_test.csv:1: `2` is no decision" in refused({"d": decisions})
    write(decisions, {"decision_result_fan_section_03_test.csv": "section_03_0000.wav,1\n"})
    assert "scores and decisions are about different clips:\n    fan: section_03_0001 has no decision" in refused(
        {"d": decisions}
    )
    with pytest.raises(AuscultError, match=r"there is no system `rihgt`.*did you mean `right`"):
        evaluate_systems({"right": right}, settings=Evaluate(reference="rihgt"))


def test_labels_come_from_a_list(tmp_path: Path) -> None:
    """With a heading, and as an evaluator's folder has them; names of 2023 do not tell them."""
    rng = np.random.default_rng(1)
    names = [f"section_00_{i:04d}.wav" for i in range(40)]
    anomaly, target = rng.permutation(40) % 2, rng.permutation(40) // 2 % 2
    scores = rng.normal(size=40)
    text = "".join(f"{name},{float(score)!r}\n" for name, score in zip(names, scores, strict=True))
    folder = write(tmp_path / "s", {"anomaly_score_DCASE2023T2ToyTank_section_00_test_seed13711_id(0_)_Eval.csv": text})
    assert "this package has none of 2023" in refused({"s": folder}, year="2023")
    domains = ["target" if mark else "source" for mark in target]
    table = pd.DataFrame({"machine": "ToyTank", "file": names, "anomaly": anomaly, "domain": domains})
    table.to_csv(tmp_path / "labels.csv", index=False)
    truth = table.assign(name=names, unit="00")
    evaluators.write_answers(truth, tmp_path / "answers", "dcase2022")
    write(tmp_path / "scores", {"anomaly_score_ToyTank_section_00_test.csv": text})
    theirs = evaluators.numbers(tmp_path / "scores", tmp_path / "answers", "dcase2022")
    for kind in ("data", "domain"):  # as the official repositories call them
        there = tmp_path / "evaluator" / f"ground_truth_{kind}"
        there.mkdir(parents=True)
        answers = (tmp_path / "answers" / kind / "ToyTank_section_00_test.csv").read_text()
        (there / "ground_truth_ToyTank_section_00_test.csv").write_text(answers)
    for labels in (tmp_path / "labels.csv", tmp_path / "evaluator"):
        found = evaluate_systems({"s": folder}, "2023", str(labels), FEW)
        units = found.units.set_index(["machine", "unit", "metric"])["value"] / 100
        for key, value in theirs.items():
            assert units[key] == pytest.approx(value, abs=1e-12)
        assert set(found.truth["set"]) == {"eval"}
    table.iloc[1:].to_csv(tmp_path / "labels.csv", index=False)
    assert "1 clip(s) have no label in" in refused({"s": folder}, year="2023", labels=str(tmp_path / "labels.csv"))
    table.assign(anomaly="yes").to_csv(tmp_path / "labels.csv", index=False)
    assert "line 2: `yes` is no label" in refused({"s": folder}, year="2023", labels=str(tmp_path / "labels.csv"))
    table.drop(columns="domain").to_csv(tmp_path / "labels.csv", index=False)
    assert "the domain of 40 clip(s) is not known" in refused({"s": folder}, labels=str(tmp_path / "labels.csv"))


def test_a_list_that_contradicts_the_names_is_refused(tmp_path: Path) -> None:
    folder = system(tmp_path / "s", {"fan": ("00",)})
    rows = [row.split(",")[0] for row in clips()]
    text = "machine,file,anomaly\n" + "".join(f"fan,{name},{int(i > 6)}\n" for i, name in enumerate(rows))
    labels = write(tmp_path / "l", {"labels.csv": text}) / "labels.csv"
    assert (
        "labels.csv contradicts the names of 1 clip(s):\n    anomaly_score_fan_id_00.csv:7: anomaly_id_00_00000000"
        in refused({"s": folder}, labels=str(labels))
    )


def test_a_list_knows_a_unit_that_nobody_scored(tmp_path: Path) -> None:
    folder = system(tmp_path / "s", {"fan": ("00",)})
    rows = [row.split(",")[0] for unit in ("00", "02") for row in clips(unit)]
    text = "machine,file,anomaly\n" + "".join(f"fan,{name},{int(name.startswith('anomaly'))}\n" for name in rows)
    found = evaluate_systems({"s": folder}, labels=str(write(tmp_path / "l", {"l.csv": text}) / "l.csv"), settings=FEW)
    assert set(found.truth["set"]) == {"dev"}
    assert np.isnan(numbers(found)["s", "per_unit", "fan", "auc"])
    assert "unit 02: no scores" in str(found.facts())


def test_development_and_evaluation_sets_are_told_apart(tmp_path: Path) -> None:
    """2020: names of one set tell the labels, the package's table those of the other."""
    table = published("dcase2020", ("fan",))
    folder = put(table, tmp_path / "s", "dcase2020")
    system(folder, {"fan": ("00", "02")})
    found = evaluate_systems({"s": folder}, settings=FEW)
    assert found.truth.groupby("set")["unit"].unique().map(sorted).to_dict()["dev"] == ["00", "02"]
    dev = found.summary[(found.summary["set"] == "dev") & (found.summary["machine"] == "fan")]
    assert not dev["value"].isna().any()


def test_only_an_evaluation_is_replaced(tmp_path: Path) -> None:
    folder, out = system(tmp_path / "s", {"fan": ("00",)}), write(tmp_path / "out", {"mine.txt": "x"})
    assert "holds something other than an evaluation" in refused({"s": folder}, out=out)
    assert [path.name for path in out.iterdir()] == ["mine.txt"]
    for _ in range(2):
        evaluate_systems({"s": folder}, settings=FEW, out=tmp_path / "new")
    assert (tmp_path / "new" / "table.md").is_file()


def test_the_page_has_the_systems_as_arms(tmp_path: Path) -> None:
    pytest.importorskip("plotly")
    systems = {name: system(tmp_path / name, {"fan": ("00", "02")}, shift) for name, shift in (("a", 2.0), ("b", 0.0))}
    evaluate_systems(systems, settings=FEW, page=tmp_path / "page")
    text = (tmp_path / "page" / "index.html").read_text()
    assert '<option value="a">a</option><option value="b">b</option>' in text
    assert "Agreement between arms" in text
    assert "scores are as they were handed in" in text
    assert "Worst clips" not in text
    assert str(tmp_path) not in text
    assert json.loads((tmp_path / "page" / "report.json").read_text())["arms"] == ["a", "b"]
