"""The folder as a program sees it: what is in it, and that its numbers are those of the tables and scores."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score, roc_curve

from auscult.errors import AuscultError
from auscult.pages.rendering import marked
from auscult.results.curves import thinned
from auscult.results.page.build import MARKER, write_report
from auscult.results.page.gather import gather, groups, thresholds_of
from auscult.results.page.plots import ROC_POINTS, arm_data
from auscult.results.page.provenance import data_digests
from auscult.settings.project import Project


def loaded(file: Path) -> object:
    """What a data file hands to the page."""
    text = re.fullmatch(r"auscult\.put\(\"[^\"]+\",(.*)\);\n", file.read_text(), re.S)
    assert text
    return json.loads(text[1])


def test_everything_lies_in_the_folder(page: Path) -> None:
    text = (page / "index.html").read_text()
    for address in re.findall(r'(?:src|href)="([^"#]+)"', text):
        assert address.startswith("data:") or (page / address).is_file(), address
    assert not re.search(r"""(?:src|href|url\()\s*=?\s*["']?(?:https?:)?//""", text)
    assert (page / "assets" / "plotly.min.js").stat().st_size > 1e6
    assert "<of>" not in text
    assert "Noise &lt;of&gt; a fan &amp; a valve" in text
    assert sum(path.stat().st_size for path in page.rglob("*") if path.is_file()) < 30e6


def test_an_arm_that_was_not_run_says_so(page: Path) -> None:
    left = (page / "index.html").read_text().split('id="left-out"')[1].split("</section>")[0]
    assert "<code>logmel_os_scl</code>" in left
    assert "no scores yet" in left


def test_the_tables_hold_the_numbers_of_the_csv(project: Project, page: Path) -> None:
    catalogue = re.findall(r'id="catalogue">(.*?)</script>', (page / "index.html").read_text(), re.S)
    tables = json.loads(catalogue[0])["tables"]
    summary = pd.read_csv(project.paths.results() / "summary.csv")
    checked = 0
    for table in tables:
        _, which, convention, metric = table["key"].split(".")
        html = str(loaded(page / table["file"]))
        rows = summary[
            (summary["set"] == which) & (summary["convention"] == convention) & (summary["metric"] == metric)
        ]
        shown = {
            m[1]: m[0]
            for m in re.findall(
                r"(<tr(?:(?!</tr>).)*<code>(\w+)</code>(?:(?!</tr>).)*native score.*?</tr>)", html, re.S
            )
        }
        for row in rows[(rows["backend"] == "native") & (rows["machine"] == "mean")].itertuples():
            assert f"{row.value:.1f}" in shown[str(row.arm)], (table["key"], row.arm)
            checked += 1
    assert checked == 2 * (3 * 2 + 1)  # two arms; auc, pauc and their mean under both conventions, mauc under one


@pytest.mark.parametrize("arm", ["spectral_knn", "stgram_mfn"])
def test_curves_are_those_of_scikit_learn(project: Project, arm: str) -> None:
    context = gather(project)
    table = context.headline(arm)
    data = arm_data(context, arm, thresholds_of(context, arm))["groups"]["dev"]
    for machine, found in data.items():
        assert [group["unit"] for group in found] == ["", "00", "02"]
        for group in found:
            rows = table[(table["machine"] == machine) & ((table["unit"] == group["unit"]) | (group["unit"] == ""))]
            assert group["auc"] == pytest.approx(100 * roc_auc_score(rows["anomaly"], rows["score"]), abs=0.006)
            fpr, tpr, _ = roc_curve(rows["anomaly"], rows["score"])
            assert np.trapezoid(group["roc"][1], group["roc"][0]) == pytest.approx(np.trapezoid(tpr, fpr), abs=1e-3)
            for mark, name in ((0, "normal"), (1, "anomaly")):  # few clips: each a point
                assert group["points"]
                assert group[name] == pytest.approx(np.sort(rows.loc[rows["anomaly"] == mark, "score"]), rel=1e-4)
            assert group["clips"] == [int((rows["anomaly"] == 0).sum()), int((rows["anomaly"] == 1).sum())]
            if group["unit"]:
                normal = rows.loc[rows["anomaly"] == 0, "score"]
                assert group["alarms"] == pytest.approx(100 * (normal > group["threshold"]).mean(), abs=0.06)


def test_a_thinned_curve_keeps_its_area() -> None:
    rng = np.random.default_rng(0)
    marks = rng.integers(0, 2, 5000)
    fpr, tpr, _ = roc_curve(marks, rng.normal(size=5000) + marks, drop_intermediate=False)
    keep = thinned(fpr, tpr, ROC_POINTS)
    assert len(keep) <= 80
    assert np.trapezoid(tpr[keep], fpr[keep]) == pytest.approx(np.trapezoid(tpr, fpr), abs=2e-3)
    stairs = np.array([0.0, 0.0, 0.0, 0.5, 1.0]), np.array([0.0, 0.5, 1.0, 1.0, 1.0])
    assert thinned(*stairs).tolist() == [0, 2, 4]


def test_chosen_arms_alone(project: Project, tmp_path: Path) -> None:
    write_report(project, tmp_path / "out", ["ae", "stgram_mfn"])
    assert json.loads((tmp_path / "out" / MARKER).read_text())["arms"] == ["ae", "stgram_mfn"]
    with pytest.raises(AuscultError, match="did you mean `ae`"):
        write_report(project, tmp_path / "out", ["aes"])
    assert (tmp_path / "out" / "index.html").is_file(), "a failed run must leave the old page"
    assert {arm for group in groups(project, ["ae"]) for arm in group.cells["arm"]} == set()  # one row compares nothing


def test_another_folder_is_not_overwritten(project: Project, tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(AuscultError, match="something other than a report"):
        write_report(project, tmp_path)
    assert (tmp_path / "thesis.tex").read_text() == "years of work"


def test_a_folder_that_cannot_be_written_is_named(project: Project, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for out in (tmp_path / "file", tmp_path / "file" / "page", Path("/proc/page")):
        with pytest.raises(AuscultError, match="written") as error:
            write_report(project, out)
        assert error.value.where == str(out)


@pytest.mark.parametrize("package", ["plotly", "jinja2"])
def test_a_missing_package_is_named(project: Project, tmp_path: Path, package: str, monkeypatch: Any) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(AuscultError, match=rf"needs (.*`)?{package}`?.* is not installed"):
        write_report(project, tmp_path / "page")


def test_messages_are_escaped_and_their_code_marked() -> None:
    assert marked("put `a<b` into <x>") == "put <code>a&lt;b</code> into &lt;x&gt;"


def test_without_any_scores_it_says_what_to_do(project: Project) -> None:
    with pytest.raises(AuscultError, match="no arm has any scores"):
        gather(project, ["logmel_os_scl"])


def test_data_are_those_of_the_profile(tmp_path: Path) -> None:
    lock = "stages:\n  manifest:\n    outs:\n    - {path: data/a/manifest/clips.parquet, hash: md5, md5: abc, size: 2000000}\n"
    (tmp_path / "dvc.lock").write_text(lock)
    assert data_digests(tmp_path, "a") == [("manifest", "data/a/manifest/clips.parquet: md5 abc, 2.0 MB")]
    assert data_digests(tmp_path, "b") == []
