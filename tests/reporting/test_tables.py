"""Result tables: the numbers of the summary in the right cells, and an explained cell where there is none."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from auscult.errors import AuscultError
from auscult.evaluation import Replicates, best, evaluate, summarise, undefined
from auscult.reporting.tables import write_arm_json, write_tables
from auscult.rules import MetricRules

from .conftest import Study, build


def block(markdown: str, heading: str) -> list[list[str]]:
    """Cells of the Markdown table below a heading, header and rows."""
    lines = markdown.split(f"## {heading}\n\n")[1].split("\n\n")[0].splitlines()
    return [[cell.strip() for cell in line.strip("|").split("|")] for i, line in enumerate(lines) if i != 1]


def test_numbers_stand_in_their_cells(result: Replicates, tmp_path: Path) -> None:
    summary = summarise(result)
    files = write_tables(summary, "dcase2020", "dcase2020", tmp_path)
    assert sorted(file.name for file in files) == sorted(path.name for path in tmp_path.iterdir())
    text = (tmp_path / "table2.md").read_text()
    header, *rows = block(text, "AUC, development set, pooled: one ROC over all units of a machine")
    assert header == ["arm", "score", "fan", "pump", "ToyCar", "average"]
    numbers = summary.set_index(["arm", "backend", "convention", "machine", "metric"])
    row = numbers.loc[("stgram_mfn", "knn", "pooled", "ToyCar", "auc")]
    cell = next(cells for cells in rows if cells[:2] == ["`stgram_mfn`", "kNN"])[4]
    assert cell == f"{row['value']:.1f} [{row['ci_low']:.1f}, {row['ci_high']:.1f}]"
    long = pd.read_csv(tmp_path / "table2.csv")
    ours = long[long["printed_row"].isna()].set_index(["arm", "backend", "convention", "machine", "metric"])
    for key in ours.index:
        assert ours.loc[key, "value"] == pytest.approx(numbers.loc[key, "value"], abs=5e-5)


def test_printed_values_only_beside_the_papers_own_data(result: Replicates, tmp_path: Path) -> None:
    summary = summarise(result)
    write_tables(summary, "dcase2020", "dcase2020", tmp_path / "paper")
    write_tables(summary, "synthetic", "synthetic", tmp_path / "own")
    text = (tmp_path / "paper" / "table2.md").read_text()
    pooled = block(text, "AUC, development set, pooled: one ROC over all units of a machine")
    per_unit = block(text, "AUC, development set, per unit, then averaged")
    labels = [row[1] for row in pooled]
    # The authors' code pools, so the row of the paper stands below ours in the pooled block, and only there.
    position = labels.index("*printed: TFSTgram(OS-SCL)*")
    assert pooled[position - 1][0] == "`tfst_os_scl`"
    assert pooled[position][2:] == ["*98.41*", "*96.25*", "*96.55*", "*95.71*"]
    assert not any("TFSTgram" in row[1] for row in per_unit)
    assert any("CLP-SCF" in row[1] for row in per_unit)
    assert not any("CLP-SCF" in label for label in labels)
    mauc = block((tmp_path / "paper" / "table4.md").read_text(), "mAUC, development set")
    assert ["", "*printed: STgram-MFN*", "*81.39*", "*83.48*", "*83.07*", "*84.86*"] in mauc
    for file in (tmp_path / "own").iterdir():
        assert "printed:" not in file.read_text()


def test_missing_and_undefined_cells_are_explained(study: Study, tmp_path: Path) -> None:
    scores, labels = study
    scores = scores[~((scores["arm"] == "stgram_mfn") & (scores["machine"] == "pump"))]
    gone = scores.loc[(scores["machine"] == "fan") & (scores["unit"] == "02"), "clip_id"]
    labels = labels[~(labels["clip_id"].isin(gone) & (labels["anomaly"] == 1))]
    summary = evaluate(scores, labels, MetricRules(), 20)
    arms = ["ae", "stgram_mfn", "tfst_os_scl"]
    write_tables(summary, "p", "folder", tmp_path, arms=arms)
    text = (tmp_path / "table2.md").read_text()
    rows = block(text, "AUC, development set, per unit, then averaged")
    assert rows[1] == ["`ae`", "own score", "not run", "not run", "not run", "not run"]
    stgram = next(row for row in rows if row[0] == "`stgram_mfn`")
    assert stgram[2].startswith("undefined<sup>")
    assert stgram[3] == "not run"
    assert stgram[5].startswith("undefined<sup>")
    assert "undefined: unit 02 has no anomalies" in text
    assert "undefined: fan: unit 02 has no anomalies; pump: no scores" in text
    # The reasons are not in the CSV of the summary: they travel in a table of their own.
    summary.to_csv(tmp_path / "summary.csv", index=False)
    again = pd.read_csv(tmp_path / "summary.csv", dtype={"unit": str})
    write_tables(again, "p", "folder", tmp_path / "again", arms=arms, undefined=undefined(summary))
    for name in ("table2.md", "table2.tex", "table4.csv"):
        assert (tmp_path / "again" / name).read_text() == (tmp_path / name).read_text()


def test_nothing_run_at_all(tmp_path: Path) -> None:
    empty = evaluate(*study_of_nothing(), MetricRules(), 0)
    write_tables(empty, "p", "dcase2020", tmp_path, arms=["ae"])
    assert "Percent" in (tmp_path / "table2.md").read_text()


def study_of_nothing() -> Study:
    scores, labels = build()
    return scores.iloc[:0], labels


def test_bold_only_for_more_than_a_tie(study: Study, tmp_path: Path) -> None:
    scores, labels = study
    own = scores[scores["backend"] == "native"]
    result = replicate_of(own, labels)
    write_tables(summarise(result), "p", "folder", tmp_path / "clear", best=best(result))
    rows = block((tmp_path / "clear" / "table2.md").read_text(), "AUC, development set, per unit, then averaged")
    assert all(cell.startswith("**") for cell in rows[1][2:])  # tfst_os_scl is far ahead
    assert not any("**" in cell for cell in rows[2])
    copy = own[own["arm"] == "tfst_os_scl"].assign(arm="copy", score=lambda t: 2 * t["score"])
    result = replicate_of(pd.concat([own, copy]), labels)
    for name, paired in (("paired", best(result)), ("apart", None)):
        write_tables(summarise(result), "p", "folder", tmp_path / name, best=paired)
        assert "**" not in (tmp_path / name / "table2.md").read_text()


def replicate_of(scores: pd.DataFrame, labels: pd.DataFrame) -> Replicates:
    from auscult.evaluation import replicate

    return replicate(scores, labels, MetricRules(), 100)


@pytest.mark.parametrize(
    ("scheme", "metrics"),
    [
        ("dcase2021", ["auc_source", "auc_target", "pauc_source", "pauc_target", "official"]),
        ("dcase2022", ["auc_source", "auc_target", "pauc", "official"]),
    ],
)
def test_domain_profiles_show_the_challenge_numbers(scheme: str, metrics: list[str], tmp_path: Path) -> None:
    summary = evaluate(*build(domains=True), MetricRules(scheme=scheme), 10)  # type: ignore[arg-type]
    write_tables(summary, scheme, scheme, tmp_path)
    long = pd.read_csv(tmp_path / "table2.csv")
    assert list(dict.fromkeys(long["metric"])) == metrics
    assert list(dict.fromkeys(long["machine"])) == ["fan", "pump", "ToyCar", "mean", "hmean"]


def test_latex_is_balanced_and_escaped(result: Replicates, tmp_path: Path) -> None:
    write_tables(summarise(result), "dcase_2020", "dcase2020", tmp_path)
    lines = [line for line in (tmp_path / "table2.tex").read_text().splitlines() if not line.startswith("%")]
    text = "\n".join(lines)
    assert text.count(r"\begin{tabular}") == text.count(r"\end{tabular}") == 4
    assert r"tfst\_os\_scl" in text
    for line in lines:
        assert line.count("{") == line.count("}")
        assert "_" not in line.replace(r"\_", "")
    columns = text.split(r"\begin{tabular}{ll")[1].split("}")[0]
    body = text.split(r"\midrule")[1].split(r"\bottomrule")[0].strip().splitlines()
    assert {line.count(" & ") for line in body} == {len(columns) + 1}


def test_tables_are_the_same_bytes_every_time(result: Replicates, tmp_path: Path) -> None:
    for name in ("one", "two"):
        write_tables(summarise(result), "p", "dcase2020", tmp_path / name, best=best(result))
    for file in (tmp_path / "one").iterdir():
        assert file.read_bytes() == (tmp_path / "two" / file.name).read_bytes()


def test_a_failed_write_leaves_the_old_file(
    result: Replicates, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    summary = summarise(result)
    write_tables(summary, "old", "p", tmp_path)
    before = {file.name: file.read_bytes() for file in tmp_path.iterdir()}

    def broken(self: Path, text: str, **_: object) -> None:
        self.write_bytes(text[:100].encode())
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_text", broken)
    with pytest.raises(AuscultError, match="the disk is full"):
        write_tables(summary, "new", "p", tmp_path)
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == before


def test_arm_json(result: Replicates, tmp_path: Path) -> None:
    summary = summarise(result)
    summary.loc[summary["machine"] == "fan", "value"] = np.nan
    path = tmp_path / "metrics" / "stgram_mfn.json"
    write_arm_json(summary, "stgram_mfn", path)
    tree = json.loads(path.read_text())  # strict JSON: NaN would be read, but must not be written
    assert "NaN" not in path.read_text()
    assert tree["dev"]["native"]["pooled"]["auc"]["fan"] is None
    numbers = summary.set_index(["arm", "backend", "convention", "machine", "metric"])["value"]
    expected = numbers["stgram_mfn", "knn", "per_unit", "ToyCar", "mauc"]
    assert tree["dev"]["knn"]["per_unit"]["mauc"]["ToyCar"] == round(expected, 4)
