"""Agreement: correlations against scipy, mistakes counted by hand."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.stats import spearmanr

from auscult.results.page.agreement import both_wrong, correlations, score_matrix, section, wrong
from support.evidence import evidence


def random_table(clips: int = 60) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    table = pd.DataFrame(
        {
            "clip_id": range(clips),
            "machine": rng.choice(["fan", "valve"], clips),
            "unit": rng.choice(["00", "02"], clips),
        }
    )
    truth = rng.integers(0, 2, clips).astype(float)
    noise = rng.standard_normal((clips, 3)).round(1)  # with ties
    return table.assign(anomaly=truth, **{f"arm{i}": truth + noise[:, i] for i in range(3)})


def test_correlations_are_scipys_of_each_unit() -> None:
    table = random_table()
    table.loc[::7, "arm1"] = np.nan
    arms = ["arm0", "arm1", "arm2"]
    found = correlations(table, arms)
    assert list(found) == ["fan", "valve"]
    for machine, rho in found.items():
        for i, one in enumerate(arms):
            for j, other in enumerate(arms):
                units = []
                for unit in ("00", "02"):
                    of = table[(table["machine"] == machine) & (table["unit"] == unit)].dropna(subset=[one, other])
                    units.append(spearmanr(of[one], of[other]).statistic)
                assert rho[i, j] == pytest.approx(np.mean(units))


def test_a_correlation_that_does_not_exist_is_empty() -> None:
    table = random_table().assign(arm2=1.0)
    for rho in correlations(table, ["arm0", "arm2"]).values():
        assert np.isnan(rho[0, 1])
        assert np.isnan(rho[1, 1])
        assert rho[0, 0] == pytest.approx(1)


def test_wrong_clips_are_those_on_the_other_side_of_as_many_as_there_are() -> None:
    table = random_table()
    table.loc[3, "anomaly"] = np.nan
    table.loc[5, "arm1"] = np.nan
    arms = ["arm0", "arm1"]
    mistakes = wrong(table, arms)
    assert set(table.index) - set(mistakes.index) == {3, 5}
    for (machine, unit), of in table.drop(index=[3, 5]).groupby(["machine", "unit"]):
        count = int(of["anomaly"].sum())
        for arm in arms:
            for row in of.index:
                higher = int((of[arm] > of[arm][row]).sum())
                called = higher < count
                assert mistakes.loc[row, arm] == (called != bool(of["anomaly"][row])), (machine, unit, row)
    share = both_wrong(mistakes.to_numpy())
    for i in range(2):
        for j in range(2):
            expected = np.mean([mistakes.iloc[n, i] and mistakes.iloc[n, j] for n in range(len(mistakes))])
            assert share[i, j] == pytest.approx(expected)


def test_a_perfect_arm_has_no_mistakes_and_one_kind_of_clips_none_either() -> None:
    table = random_table()
    assert not wrong(table.assign(arm0=table["anomaly"]), ["arm0"]).to_numpy().any()
    assert not wrong(table.assign(anomaly=0.0), ["arm0"]).to_numpy().any()
    assert not wrong(table.assign(anomaly=1.0), ["arm0"]).to_numpy().any()


def test_section_lists_the_clips_that_every_arm_gets_wrong(packed: Path, tmp_path: Path) -> None:
    context = evidence(packed, tmp_path, {"one": np.zeros(16), "two": np.zeros(16)})
    truth = context.headline("one")["anomaly"].to_numpy()
    rng = np.random.default_rng(0)
    for arm in ("one", "two"):
        values = truth + 0.1 * rng.random(16)
        for clip in (np.flatnonzero(truth == 1)[0], np.flatnonzero(truth == 0)[0]):
            values[clip] = 0.5 - 2 * (truth[clip] - 0.5)  # on the other side of all clips of its unit
        context.scores[arm]["score"] = values
    table = score_matrix(context, ["one", "two"])
    every = table.index[wrong(table, ["one", "two"]).all(axis=1)]
    html = section(context).html
    assert f"{len(every)} of 16 clips" in html
    assert len(every) >= 2
    files = pd.read_parquet(context.paths.clips).set_index("clip_id")["path"]
    for clip in table["clip_id"][every]:
        assert Path(files[clip]).name in html
    assert "&lt;one&gt;" in html
    assert "<one>" not in html
    assert len(re.findall(r"<table", html)) == 5  # mean, two machines, mistakes, list


def test_section_without_a_second_arm_or_without_labels_says_so(packed: Path, tmp_path: Path) -> None:
    context = evidence(packed, tmp_path, {"one": np.arange(16.0), "two": np.arange(16.0)})
    assert "not two arms" in section(replace(context, arms=("one",))).html
    html = section(replace(context, labels=context.labels.iloc[:0])).html
    assert "common mistakes are not known" in html
    assert ">1.00<" in html
