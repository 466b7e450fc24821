"""Result tables: the numbers of the summary in the right cells, and an explained cell where there is none."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from auscult.errors import AuscultError
from auscult.evaluation.comparison import best, compare, differences
from auscult.evaluation.evaluate import Replicates, evaluate, replicate, summarise, undefined
from auscult.results.cells import Evidence
from auscult.results.names import backend_name
from auscult.results.results import headline, headline_metrics
from auscult.results.tables import write_tables
from auscult.results.text import markdown
from auscult.settings.rules import MetricRules
from auscult.settings.schema import TableSettings

from .conftest import TABLES, Study, build

TABLE5 = {
    "table5": TableSettings(title="Both", metrics=("mean_auc_pauc",), printed="os_scl_table5, anopatch_table1"),
}


def written(
    summary: pd.DataFrame,
    out: Path,
    dataset: str = "folder",
    evidence: Evidence | None = None,
    tables: dict[str, TableSettings] = TABLES,
) -> str:
    """The page of tables; their CSV and LaTeX are in `out`."""
    return markdown(write_tables(summary, tables, out, ("p", dataset), evidence))


def block(text: str, heading: str) -> list[list[str]]:
    """Cells of the Markdown table below a heading, header and rows."""
    lines = text.split(f"### {heading}\n\n")[1].split("\n\n")[0].splitlines()
    return [[cell.strip() for cell in line.strip("|").split("|")] for i, line in enumerate(lines) if i != 1]


def test_numbers_stand_in_their_cells(result: Replicates, tmp_path: Path) -> None:
    summary = summarise(result)
    text = written(summary, tmp_path, "dcase2020")
    assert {path.name for path in tmp_path.iterdir()} == {f"table{n}.{kind}" for n in (2, 4) for kind in ("csv", "tex")}
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
    text, own = written(summary, tmp_path / "paper", "dcase2020"), written(summary, tmp_path / "own", "synthetic")
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
    mauc = block(text, "mAUC, development set")
    assert ["", "*printed: STgram-MFN*", "*81.39*", "*83.48*", "*83.07*", "*84.86*"] in mauc
    assert not any("printed:" in words for words in (own, *(file.read_text() for file in (tmp_path / "own").iterdir())))


def test_missing_and_undefined_cells_are_explained(study: Study, tmp_path: Path) -> None:
    scores, labels = study
    scores = scores[~((scores["arm"] == "stgram_mfn") & (scores["machine"] == "pump"))]
    gone = scores.loc[(scores["machine"] == "fan") & (scores["unit"] == "02"), "clip_id"]
    labels = labels[~(labels["clip_id"].isin(gone) & (labels["anomaly"] == 1))]
    summary = evaluate(scores, labels, MetricRules(), 20)
    arms = ["ae", "stgram_mfn", "tfst_os_scl"]
    text = written(summary, tmp_path, evidence=Evidence(arms=arms))
    rows = block(text, "AUC, development set, per unit, then averaged")
    assert rows[1] == ["`ae`", "native score", "not run", "not run", "not run", "not run"]
    stgram = next(row for row in rows if row[0] == "`stgram_mfn`")
    assert stgram[2].startswith("undefined<sup>")
    assert stgram[3] == "not run"
    assert stgram[5].startswith("undefined<sup>")
    assert "undefined: unit 02 has no anomalies" in text
    assert "undefined: fan: unit 02 has no anomalies; pump: no scores" in text
    # The reasons are not in the CSV of the summary: they travel in a table of their own.
    summary.to_csv(tmp_path / "summary.csv", index=False)
    again = pd.read_csv(tmp_path / "summary.csv", dtype={"unit": str})
    read_back = Evidence(arms=arms, undefined=undefined(summary))
    assert written(again, tmp_path / "again", evidence=read_back) == text
    for name in ("table2.tex", "table4.csv"):
        assert (tmp_path / "again" / name).read_text() == (tmp_path / name).read_text()


def test_nothing_run_at_all(tmp_path: Path) -> None:
    empty = evaluate(*study_of_nothing(), MetricRules(), 0)
    assert not write_tables(empty, TABLES, tmp_path, ("p", "dcase2020"), Evidence(arms=["ae"])).sections
    assert not list(tmp_path.iterdir())


def study_of_nothing() -> Study:
    scores, labels = build()
    return scores.iloc[:0], labels


def test_bold_only_for_more_than_a_tie(study: Study, tmp_path: Path) -> None:
    scores, labels = study
    own = scores[scores["backend"] == "native"]
    result = replicate_of(own, labels)
    text = written(summarise(result), tmp_path, evidence=Evidence(best=best(result)))
    rows = block(text, "AUC, development set, per unit, then averaged")
    assert all(cell.startswith("**") for cell in rows[1][2:])  # tfst_os_scl is far ahead
    assert not any("**" in cell for cell in rows[2])
    copy = own[own["arm"] == "tfst_os_scl"].assign(arm="copy", score=lambda t: 2 * t["score"])
    result = replicate_of(pd.concat([own, copy]), labels)
    for paired in (best(result), None):
        assert "**" not in written(summarise(result), tmp_path, evidence=Evidence(best=paired))


def replicate_of(scores: pd.DataFrame, labels: pd.DataFrame) -> Replicates:
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
    written(summary, tmp_path, scheme, tables=TABLES | TABLE5)
    assert {path.stem for path in tmp_path.iterdir()} == {"table2", "table4"}  # there is no mean of AUC and pAUC
    long = pd.read_csv(tmp_path / "table2.csv")
    assert list(dict.fromkeys(long["metric"])) == metrics
    assert list(dict.fromkeys(long["machine"])) == ["fan", "pump", "ToyCar", "mean", "hmean"]


def test_latex_is_balanced_and_escaped(result: Replicates, tmp_path: Path) -> None:
    write_tables(summarise(result), TABLES, tmp_path, ("dcase_2020", "dcase2020"))
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
        written(summarise(result), tmp_path / name, "dcase2020", Evidence(best=best(result)))
    for file in (tmp_path / "one").iterdir():
        assert file.read_bytes() == (tmp_path / "two" / file.name).read_bytes()


def test_a_failed_write_leaves_the_old_file(
    result: Replicates, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    summary = summarise(result)
    written(summary, tmp_path)
    before = {file.name: file.read_bytes() for file in tmp_path.iterdir()}

    def broken(self: Path, text: str, **_: object) -> None:
        self.write_bytes(text[:100].encode())
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_text", broken)
    with pytest.raises(AuscultError, match="the disk is full"):
        written(summary, tmp_path)
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == before


def test_what_is_committed_of_the_numbers(result: Replicates) -> None:
    """The summary has averages alone; the metrics a handful per arm, in strict JSON."""
    summary = summarise(result)
    kept = headline(summary)
    assert set(kept["machine"]) == {"mean"}
    assert set(kept["metric"]) == {"auc", "pauc", "mauc", "official"}
    assert set(kept["backend"]) == {"native", "knn"}
    pd.testing.assert_frame_equal(kept, summary.loc[kept.index])
    summary.loc[summary["metric"] == "pauc", "value"] = np.nan
    costs = pd.DataFrame({"arm": ["ae", "stgram_mfn", "tfst_os_scl"], "parameters": [np.nan, 12.0, np.nan]})
    few = json.loads(json.dumps(headline_metrics(summary, costs), allow_nan=False))
    assert few["ae"] == {}
    assert few["stgram_mfn"]["parameters"] == 12
    numbers = summary.set_index(["arm", "backend", "convention", "machine", "metric"])["value"]
    for arm in ("stgram_mfn", "tfst_os_scl"):
        assert few[arm]["dev"] == {
            "pauc": None,
            **{m: round(numbers[arm, "native", "per_unit", "mean", m], 4) for m in ("auc", "official")},
        }


def test_with_domains_the_official_score_is_the_challenges() -> None:
    summary = evaluate(*build(domains=True), MetricRules(scheme="dcase2022"), 0)
    few = headline_metrics(summary, pd.DataFrame(columns=["arm", "parameters"]))
    numbers = summary.set_index(["arm", "backend", "convention", "machine", "metric"])["value"]
    found = few["tfst_os_scl"]["dev"]
    assert found["official"] == round(numbers["tfst_os_scl", "native", "per_unit", "hmean", "official"], 4)
    assert found["auc_source"] == round(numbers["tfst_os_scl", "native", "per_unit", "mean", "auc_source"], 4)


def test_differences_to_the_reference_stand_in_every_block(result: Replicates, tmp_path: Path) -> None:
    reference = ("tfst_os_scl", "native")
    evidence = Evidence(differences=differences(result, reference, 0.9), reference=reference, level=0.9)
    text = written(summarise(result, 0.9), tmp_path, evidence=evidence)
    assert "90 %" in text
    assert "`tfst_os_scl` (native score)" in text
    header, *rows = block(text, "pAUC, development set, pooled: one ROC over all units of a machine")
    assert header[-1] == "difference to `tfst_os_scl`"
    of = {tuple(row[:2]): row[-1] for row in rows}
    assert of["`tfst_os_scl`", "native score"] == "reference"
    for arm, backend, label in (("stgram_mfn", "native", "native score"), ("tfst_os_scl", "knn", "kNN")):
        one = compare(result, (arm, backend), reference, "pauc", "pooled", level=0.9)
        expected = f"{one.difference:+.1f} [{one.ci_low:.1f}, {one.ci_high:.1f}] {one.verdict}"
        assert of[f"`{arm}`", label] == expected
    assert of["`stgram_mfn`", "native score"].endswith("worse")
    long = pd.read_csv(tmp_path / "table2.csv").set_index(["arm", "backend", "convention", "machine", "metric"])
    row = long.loc[("stgram_mfn", "knn", "per_unit", "fan", "auc")]
    one = compare(result, ("stgram_mfn", "knn"), reference, "auc", "per_unit", machine="fan", level=0.9)
    numbers = [row[name] for name in ("difference", "difference_low", "difference_high")]
    np.testing.assert_allclose(numbers, one[:3], atol=5e-5)
    assert row["verdict"] == one.verdict


def test_spread_over_seeds_stands_beside_the_mean(study: Study, tmp_path: Path) -> None:
    scores, labels = study
    rng = np.random.default_rng(1)
    runs = [scores.assign(seed=k, score=scores["score"] + rng.normal(size=len(scores))) for k in range(3)]
    summary = evaluate(pd.concat(runs), labels, MetricRules(), 20)
    text = written(summary, tmp_path)
    row = summary.query("arm == 'stgram_mfn' and backend == 'knn' and convention == 'pooled' and metric == 'auc'").iloc[
        0
    ]
    rows = block(text, "AUC, development set, pooled: one ROC over all units of a machine")
    cell = next(cells for cells in rows if cells[:2] == ["`stgram_mfn`", "kNN"])[2]
    assert cell == f"{row['value']:.1f} ± {row['std']:.1f} [{row['ci_low']:.1f}, {row['ci_high']:.1f}]"
    assert "standard deviation" in text
    assert r"$\pm$" in (tmp_path / "table2.tex").read_text()


def test_sizes_stand_once_per_arm_and_seconds_nowhere(result: Replicates, tmp_path: Path) -> None:
    costs = pd.DataFrame(
        [("tfst_os_scl", 1305210.0, 3.104e8, 180.22, np.nan, "H200")],
        columns=["arm", "parameters", "macs_per_clip", "train_seconds", "clips_per_second", "device"],
    )
    text = written(summarise(result), tmp_path, evidence=Evidence(costs=costs))
    header, *rows = block(text, "mAUC, development set")
    assert header[-2:] == ["params (M)", "MACs/clip (M)"]
    dash = "\u2013"
    assert [row[-2:] for row in rows] == [["1.31", "310"], [""] * 2, [dash] * 2, [""] * 2]
    long = pd.read_csv(tmp_path / "table4.csv")
    assert set(long.loc[long["arm"] == "tfst_os_scl", "parameters"]) == {1305210}
    assert long.loc[long["arm"] == "stgram_mfn", "parameters"].isna().all()
    for words in (text, *(file.read_text() for file in tmp_path.iterdir())):
        assert not re.search(r"(?<![\d.])180(?![\d])", words)
        assert "H200" not in words


def test_table_5_has_both_sets_and_the_papers_model_sizes(study: Study, tmp_path: Path) -> None:
    scores, labels = study
    more = scores.assign(set="eval", clip_id=scores["clip_id"] + 10_000)
    both = pd.concat([labels, labels.assign(clip_id=labels["clip_id"] + 10_000)])
    summary = evaluate(pd.concat([scores, more]), both, MetricRules(), 20)
    costs = pd.DataFrame(columns=["arm", "parameters", "macs_per_clip", "train_seconds", "clips_per_second", "device"])
    text = written(summary, tmp_path, "dcase2020", Evidence(costs=costs), TABLE5)
    name = "mean of AUC and pAUC, mean of both sets"
    pooled = block(text, f"{name}, pooled: one ROC over all units of a machine")
    per_unit = block(text, f"{name}, per unit, then averaged")
    assert pooled[0][2:4] == ["average", "params (M)"]
    value = summary.query("set == 'all' and arm == 'tfst_os_scl' and convention == 'pooled'")["value"].iloc[0]
    labels_of = [row[1] for row in pooled]
    at = labels_of.index("*printed: TFSTgram(OS-SCL) (OS-SCL, Table 5)*")
    assert pooled[at][2:4] == ["*93.09*", "*1.38*"]
    assert pooled[at - 2][:2] == ["`tfst_os_scl`", "native score"]
    assert pooled[at - 2][2].startswith(f"{value:.1f} [")
    slipped = next(row for row in per_unit if "AnoPatch(ATST)" in row[1])
    assert slipped[2].startswith("*85.71*<sup>")
    assert "average 86.71" in text
    dev = block(text, "mean of AUC and pAUC, development set, per unit, then averaged")
    mfn = next(row for row in dev if row[1] == "*printed: MFN (AnoPatch, Table 1)*")
    assert mfn[2:6] == ["*83.71*", "*90.82*", "*91.97*", "*88.83*"]


@pytest.mark.parametrize(
    ("name", "arm", "row", "cell"),
    [
        ("os_scl_table3", "stgram_os_scl", "STgram(OS-SCL)", "96.74"),
        ("os_scl_table3", "tfst_arcface", "TFSTgram(ArcFace)", "95.02"),
        ("os_scl_table6", "tfst_fph_0", "TFSTgram(OS-SCL), reduction=none, fph=false", "98.22"),
        ("os_scl_table6", "tfst_fph_8", "TFSTgram(OS-SCL), reduction=8, fph=true", "85.65"),
        ("os_scl_table6", "tfst_os_scl", "TFSTgram(OS-SCL), reduction=64, fph=true", "98.41"),
    ],
)
def test_rows_of_the_ablations_stand_below_their_arms(
    name: str, arm: str, row: str, cell: str, study: Study, tmp_path: Path
) -> None:
    scores, labels = study
    of_arm = scores[scores["arm"] == "tfst_os_scl"].assign(arm=arm)
    summary = evaluate(pd.concat([scores[scores["arm"] == "stgram_mfn"], of_arm]), labels, MetricRules(), 0)
    tables = {"table": TableSettings(title="t", metrics=("auc",), printed=name)}
    text = written(summary, tmp_path, "dcase2020", tables=tables)
    rows = block(text, "AUC, development set, pooled: one ROC over all units of a machine")
    at = [line[1] for line in rows].index(f"*printed: {row}*")
    assert rows[at - 1][:2] == [f"`{arm}`", "kNN"]
    assert rows[at][2] == f"*{cell}*"


def test_two_arms_may_share_a_printed_row(study: Study, tmp_path: Path) -> None:
    scores, labels = study
    twin = scores[scores["arm"] == "stgram_mfn"].assign(arm="stgram_mfn_original")
    text = written(evaluate(pd.concat([scores, twin]), labels, MetricRules(), 0), tmp_path, "dcase2020")
    rows = block(text, "mAUC, development set")
    at = [index for index, row in enumerate(rows) if row[1] == "*printed: STgram-MFN*"]
    assert [rows[index - 1][0] for index in at] == ["`stgram_mfn`", "`stgram_mfn_original`"]


def test_misprints_are_marked_in_their_cells(result: Replicates, tmp_path: Path) -> None:
    text = written(summarise(result), tmp_path, "dcase2020")
    rows = block(text, "AUC, development set, pooled: one ROC over all units of a machine")
    glow = next(row for row in rows if "Glow" in row[1])
    assert "<sup>" not in glow[2]
    number = glow[5].split("<sup>")[1].split("</sup>")[0]
    assert f"<sup>{number}</sup> the average is close to one over the 23 units" in text
    assert "<sup>" in glow[1]  # nor does the paper say how its units were combined


def test_an_unknown_metric_or_printed_table_is_refused(result: Replicates, tmp_path: Path) -> None:
    for settings, message in (
        (TableSettings(title="t", metrics=("acu",)), "no such metric: acu"),
        (TableSettings(title="t", metrics=("auc",), printed="os_scl_table7"), "no printed table 'os_scl_table7'"),
    ):
        with pytest.raises(AuscultError, match=message):
            written(summarise(result), tmp_path, tables={"table": settings})


def test_names_of_variants_of_the_own_score() -> None:
    assert backend_name("native") == "native score"
    assert backend_name("native_cross_entropy") == "native score (cross entropy)"
    assert backend_name("knn_cosine") == "kNN (cosine)"


def test_an_interval_of_few_clips_is_marked(result: Replicates, tmp_path: Path) -> None:
    summary = summarise(result)
    assert "\u2020" not in written(summary.assign(few_clips=False), tmp_path)
    text = written(summary.assign(few_clips=summary["machine"] == "pump"), tmp_path)
    assert "\u2020 So few clips" in text
    header, *rows = block(text, "mAUC, development set")
    assert {tuple(cell.endswith("]\u2020") for cell in row[2:]) for row in rows} == {
        tuple(name == "pump" for name in header[2:])
    }
    assert r"]$^{\dagger}$" in (tmp_path / "table4.tex").read_text()


def test_names_that_markdown_or_latex_would_take_for_marks(tmp_path: Path) -> None:
    """What a file system takes as the name of a machine type."""
    names = ("pump (north)", "pump+motor", "pump's", r"C:\pump_1", "a|b", "50 % {x}^~")
    text = written(evaluate(*build(machines=names), MetricRules(), 0), tmp_path)
    head = text.split("### AUC, development set, per unit, then averaged\n\n")[1].splitlines()
    assert len(set(re.split(r"(?<!\\)\|", line).__len__() for line in head[:4])) == 1
    for shown in ("pump (north)", "pump+motor", "pump's", r"C:\\pump_1", r"a\|b"):
        assert f" {shown} |" in head[0]
    tex = (tmp_path / "table2.tex").read_text()
    assert r"C:\textbackslash{}pump\_1" in tex
    assert r"50 \% \{x\}\textasciicircum{}\textasciitilde{}" in tex
