"""Evaluation against scikit-learn in plain loops, against golden vectors, and for what its intervals promise."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.stats import hmean
from sklearn.metrics import roc_auc_score

from auscult.errors import AuscultError
from auscult.evaluation.comparison import DIFFERENCE_COLUMNS, best, compare, differences
from auscult.evaluation.evaluate import (
    SUMMARY_COLUMNS,
    Replicates,
    evaluate,
    machine_order,
    replicate,
    summarise,
    undefined,
)
from auscult.settings.rules import MetricRules

GOLDEN = Path(__file__).parents[1] / "golden" / "metrics.npz"
RULES = MetricRules(scheme="dcase2020")


def make(
    machines: tuple[str, ...] = ("fan", "ToyCar"),
    units: int = 2,
    per_unit: int = 40,
    domains: bool = False,
    seed: int = 0,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Scores (one arm, back-end "native") and labels of a small test set; every unit has its own score offset."""
    rng = np.random.default_rng(seed)
    rows = [(machine, f"{unit:02d}", i) for machine in machines for unit in range(units) for i in range(per_unit)]
    frame = pd.DataFrame(rows, columns=["machine", "unit", "i"])
    frame["clip_id"] = np.arange(len(frame)) + 1000
    frame["set"], frame["backend"] = "dev", "native"
    anomaly = (frame["i"] % 2).to_numpy()
    frame["domain"] = np.where(frame["i"] % 4 < 2, "source", "target") if domains else "unknown"
    frame["score"] = np.round(rng.normal(size=len(frame)) + anomaly + frame["unit"].astype(int), 2)
    labels = pd.DataFrame({"clip_id": frame["clip_id"], "anomaly": anomaly, "domain": frame["domain"]})
    return frame.drop(columns="i"), labels


def value(summary: pd.DataFrame, **where: str) -> float:
    rows = summary
    for column, wanted in where.items():
        rows = rows[rows[column] == wanted]
    assert len(rows) == 1
    return float(rows["value"].iloc[0])


def test_golden_conventions() -> None:
    """One machine of four units: pooled 0.684, mean over units 0.741, lowest 0.399."""
    with np.load(GOLDEN) as golden:
        n = len(golden["scores"])
        scores = pd.DataFrame({"clip_id": range(n), "unit": golden["ids"], "score": golden["scores"]})
        scores = scores.assign(set="dev", machine="fan", domain="unknown", backend="native")
        labels = pd.DataFrame({"clip_id": range(n), "anomaly": golden["y_true"], "domain": "unknown"})
        summary = evaluate(scores, labels, RULES, replicates=0)
        for convention, expected in (("pooled", "pooled_auc_pauc_rawpartial"), ("per_unit", "mean_over_ids")):
            for metric, index in (("auc", 0), ("pauc", 1)):
                ours = value(summary, convention=convention, metric=metric, machine="fan")
                assert ours == pytest.approx(100 * golden[expected][index], abs=1e-9)
        assert value(summary, metric="mauc", machine="fan") == pytest.approx(100 * golden["min_auc"], abs=1e-9)
    assert summary["ci_low"].isna().all()


def official(scores: pd.DataFrame, labels: pd.DataFrame, scheme: str) -> list[float]:
    """Every number that enters the official score of a set, as the evaluators loop over machines and sections."""
    table = scores.drop(columns="domain").merge(labels, on="clip_id")
    numbers = []
    for _, rows in table.groupby(["machine", "unit"]):
        if scheme == "dcase2022":
            for domain in ("source", "target"):
                part = rows[(rows["domain"] == domain) | (rows["anomaly"] == 1)]
                numbers.append(roc_auc_score(part["anomaly"], part["score"]))
            numbers.append(roc_auc_score(rows["anomaly"], rows["score"], max_fpr=0.1))
        else:
            for _, part in rows.groupby("domain"):
                numbers.append(roc_auc_score(part["anomaly"], part["score"]))
                numbers.append(roc_auc_score(part["anomaly"], part["score"], max_fpr=0.1))
    return numbers


@pytest.mark.parametrize("scheme", ["dcase2021", "dcase2022"])
def test_official_score_equals_the_evaluators_loop(scheme: str) -> None:
    scores, labels = make(domains=True)
    summary = evaluate(scores, labels, MetricRules(scheme=scheme), replicates=20)  # type: ignore[arg-type]
    numbers = official(scores, labels, scheme)
    ours = value(summary, metric="official", machine="hmean", convention="per_unit")
    assert ours == pytest.approx(100 * hmean(numbers), abs=1e-9)
    parts = numbers[: len(numbers) // 2]  # machines come sorted: ToyCar first
    ours = value(summary, metric="official", machine="ToyCar", convention="per_unit")
    assert ours == pytest.approx(100 * hmean(parts), abs=1e-9)
    assert set(summary["machine"]) == {"fan", "ToyCar", "mean", "hmean"}
    assert ("pauc_source" in set(summary["metric"])) == (scheme == "dcase2021")


def test_source_and_target_auc_of_2022_are_not_per_domain() -> None:
    """AUC_source ranks the source normals against the anomalies of both domains."""
    scores, labels = make(machines=("fan",), units=1, domains=True)
    table = scores.drop(columns="domain").merge(labels, on="clip_id")
    joint = table[(table["domain"] == "source") | (table["anomaly"] == 1)]
    alone = table[table["domain"] == "source"]
    of = {
        scheme: value(
            evaluate(scores, labels, MetricRules(scheme=scheme), 0),  # type: ignore[arg-type]
            metric="auc_source", machine="fan", convention="per_unit",
        )
        for scheme in ("dcase2021", "dcase2022")
    }  # fmt: skip
    assert of["dcase2022"] == pytest.approx(100 * roc_auc_score(joint["anomaly"], joint["score"]), abs=1e-9)
    assert of["dcase2021"] == pytest.approx(100 * roc_auc_score(alone["anomaly"], alone["score"]), abs=1e-9)
    assert of["dcase2021"] != of["dcase2022"]


def test_2020_averages() -> None:
    scores, labels = make(units=3)
    summary = evaluate(scores, labels, RULES, replicates=0)
    assert list(summary.columns) == SUMMARY_COLUMNS
    assert set(summary["machine"]) == {"fan", "ToyCar", "mean"}
    for convention in ("pooled", "per_unit"):
        of = summary[summary["convention"] == convention].set_index(["machine", "metric"])["value"]
        for metric in ("auc", "pauc", "official") + (("mauc",) if convention == "per_unit" else ()):
            assert of["mean", metric] == pytest.approx((of["fan", metric] + of["ToyCar", metric]) / 2)
        assert of["fan", "official"] == pytest.approx((of["fan", "auc"] + of["fan", "pauc"]) / 2)
    assert "mauc" not in set(summary.loc[summary["convention"] == "pooled", "metric"])


def test_labels_come_from_the_labels_table() -> None:
    scores, labels = make(domains=True)
    rules = MetricRules(scheme="dcase2022")
    hidden = scores.assign(domain="unknown")
    shuffled = labels.sample(frac=1, random_state=0)
    pd.testing.assert_frame_equal(evaluate(hidden, shuffled, rules, 30), evaluate(scores, labels, rules, 30))


def test_undefined_is_empty_and_says_why(caplog: pytest.LogCaptureFixture) -> None:
    scores, labels = make()
    bad = scores.loc[(scores["machine"] == "fan") & (scores["unit"] == "01"), "clip_id"]
    labels = labels[~(labels["clip_id"].isin(bad) & (labels["anomaly"] == 1))]
    with caplog.at_level(logging.WARNING):
        summary = evaluate(scores, labels, RULES, replicates=10)
    assert "fan: unit 01 has no anomalies" in caplog.text
    empty = summary[summary["value"].isna()]
    assert set(empty["machine"]) == {"fan", "mean"}
    assert set(empty["convention"]) == {"per_unit"}  # pooled still has both classes
    assert empty[["ci_low", "ci_high"]].isna().all(axis=None)
    reasons = undefined(summary)
    assert len(reasons) == len(empty)
    assert set(reasons.loc[reasons["machine"] == "fan", "reason"]) == {"unit 01 has no anomalies"}
    assert set(reasons.loc[reasons["machine"] == "mean", "reason"]) == {"fan: unit 01 has no anomalies"}


def test_no_labels_at_all() -> None:
    scores, labels = make()
    summary = evaluate(scores, labels.iloc[:0], RULES, replicates=10)
    assert len(summary) == 0
    assert list(summary.columns) == SUMMARY_COLUMNS
    result = replicate(scores.assign(arm="a"), labels.assign(anomaly=np.nan), RULES, 10)
    assert list(differences(result, ("a", "native")).columns) == DIFFERENCE_COLUMNS
    assert len(best(result)) == 0


@pytest.mark.parametrize("scheme", ["dcase2020", "dcase2022"])
def test_a_set_without_labels_says_so_beside_one_with(scheme: str) -> None:
    rules = MetricRules(scheme=scheme)  # type: ignore[arg-type]
    scores, labels = make(domains=scheme != "dcase2020")
    both = pd.concat([scores, scores.assign(set="eval", clip_id=scores["clip_id"] + 10_000)])
    summary = evaluate(both, labels, rules, replicates=10)
    open_rows = summary["set"] != "dev"
    assert summary.loc[open_rows, "value"].isna().all()
    pd.testing.assert_frame_equal(summary[~open_rows].reset_index(drop=True), evaluate(scores, labels, rules, 10))
    reasons = undefined(summary)
    assert set(reasons.loc[reasons["set"] == "eval", "reason"]) == {"no labels"}
    assert set(reasons.loc[reasons["set"] == "all", "reason"]) == {"eval: no labels"}
    of = {name: set(summary.loc[summary["set"] == name, "machine"]) for name in ("dev", "eval")}
    assert of["eval"] == of["dev"]


def test_a_machine_without_labels_is_named_in_the_averages() -> None:
    scores, labels = make()
    of_fan = scores.loc[scores["machine"] == "fan", "clip_id"]
    summary = evaluate(scores, labels[~labels["clip_id"].isin(of_fan)], RULES, replicates=10)
    reasons = undefined(summary).set_index(["machine", "convention", "metric"])["reason"]
    assert reasons["fan", "pooled", "auc"] == "no labels"
    assert reasons["mean", "per_unit", "auc"] == "fan: no labels"
    assert value(summary, machine="ToyCar", metric="auc", convention="pooled") > 50


def test_an_arm_without_a_machine_has_no_mean() -> None:
    scores, labels = make()
    both = pd.concat([scores.assign(arm="a"), scores[scores["machine"] == "fan"].assign(arm="b")])
    summary = evaluate(both, labels, RULES, replicates=10)
    assert value(summary, arm="b", metric="mauc", machine="fan") == value(
        summary, arm="a", metric="mauc", machine="fan"
    )
    assert np.isnan(value(summary, arm="b", metric="mauc", machine="mean"))
    reasons = undefined(summary).set_index(["arm", "machine", "convention", "metric"])["reason"]
    assert reasons["b", "ToyCar", "per_unit", "auc"] == "no scores"
    assert reasons["b", "mean", "per_unit", "auc"] == "ToyCar: no scores"


def test_arms_are_resampled_alike_in_one_call_or_two() -> None:
    scores, labels = make()
    other = scores.assign(score=scores["score"] + np.random.default_rng(1).normal(size=len(scores)))
    both = pd.concat([scores.assign(arm="a"), other.sample(frac=1, random_state=0).assign(arm="b")])
    together = evaluate(both, labels, RULES, 50)
    apart = pd.concat([evaluate(part, labels, RULES, 50) for _, part in both.groupby("arm")], ignore_index=True)
    pd.testing.assert_frame_equal(together, apart)


def test_a_constant_shift_is_a_tie_and_pairing_sees_a_small_gain() -> None:
    scores, labels = make(per_unit=200)
    rng = np.random.default_rng(0)
    anomaly = labels["anomaly"].to_numpy()
    better = scores.assign(score=scores["score"] + 0.25 * anomaly + 0.02 * rng.normal(size=len(scores)))
    tables = [scores.assign(arm="a"), scores.assign(arm="same", score=2 * scores["score"] + 5), better.assign(arm="b")]
    result = replicate(pd.concat(tables), labels, RULES, 300)
    same = compare(result, ("same", "native"), ("a", "native"))
    assert same == (0.0, 0.0, 0.0, "tie")
    gain = compare(result, ("b", "native"), ("a", "native"))
    assert gain.verdict == "better"
    assert gain.ci_low < gain.difference < gain.ci_high
    loss = compare(result, ("a", "native"), ("b", "native"))
    assert loss.verdict == "worse"
    assert loss.difference == -gain.difference
    # The intervals of the two numbers overlap: only the paired difference tells them apart.
    summary = summarise(result)
    rows = summary[
        (summary["metric"] == "auc") & (summary["convention"] == "per_unit") & (summary["machine"] == "mean")
    ]
    of = rows.set_index("arm")
    assert of.loc["a", "ci_high"] > of.loc["b", "ci_low"]
    tops = best(result).set_index(["convention", "machine", "metric"])
    assert tuple(tops.loc[("per_unit", "mean", "auc"), ["arm", "clear"]]) == ("b", True)
    ab = replicate(pd.concat(tables[:2]), labels, RULES, 300)
    assert not best(ab)["clear"].any()
    with pytest.raises(AuscultError, match="nothing evaluated"):
        compare(result, ("c", "native"), ("a", "native"))


def test_seeds_are_averaged_and_widen_the_interval() -> None:
    scores, labels = make(per_unit=100)
    anomaly = labels["anomaly"].to_numpy()
    runs = [scores.assign(seed=k, score=scores["score"] + shift * anomaly) for k, shift in enumerate((0.0, 0.5, 1.0))]
    single = [evaluate(run, labels, RULES, 200) for run in runs]
    summary = evaluate(pd.concat(runs), labels, RULES, 200)
    np.testing.assert_allclose(summary["value"], np.mean([one["value"] for one in single], axis=0))
    assert (summary["seeds"] == 3).all()
    spread = np.std([one["value"] for one in single], axis=0, ddof=1)
    np.testing.assert_allclose(summary["std"], spread, rtol=1e-9, atol=1e-9)
    assert spread.max() > 1
    assert single[0]["std"].isna().all()
    row = summary[(summary["metric"] == "auc") & (summary["machine"] == "mean")]
    width = (row["ci_high"] - row["ci_low"]).to_numpy()
    for one in single:
        alone = one.loc[row.index]
        assert (width > (alone["ci_high"] - alone["ci_low"]).to_numpy()).all()


def three_arms() -> Replicates:
    """Arms of one, two and three training seeds; `b` has a second back-end, `c` lacks ToyCar."""
    scores, labels = make(per_unit=60)
    anomaly = labels["anomaly"].to_numpy()
    rng = np.random.default_rng(3)
    tables = []
    for arm, backend, seeds, gain in (
        ("a", "native", (1,), 0.0),
        ("b", "native", (1, 2), 1.5),
        ("b", "knn", (1, 2), 0.0),
        ("c", "native", (4, 5, 6), 0.3),
    ):
        for seed in seeds:
            score = scores["score"] + (gain + 0.2 * seed) * anomaly + 0.3 * rng.normal(size=len(scores))
            part = scores.assign(arm=arm, backend=backend, seed=seed, score=score)
            tables.append(part[part["machine"] == "fan"] if arm == "c" else part)
    return replicate(pd.concat(tables), labels, RULES, 200)


def test_differences_are_those_of_compare_whatever_the_number_of_seeds() -> None:
    result = three_arms()
    table = differences(result, ("b", "native"), 0.9)
    assert list(table.columns) == DIFFERENCE_COLUMNS
    assert set(zip(table["arm"], table["backend"], strict=True)) == {("a", "native"), ("b", "knn"), ("c", "native")}
    assert {"better", "worse", "tie", "undefined"} >= set(table["verdict"]) >= {"worse", "undefined"}
    for row in table.itertuples(index=False):
        one = compare(
            result, (row.arm, row.backend), ("b", "native"), row.metric, row.convention, row.set, row.machine, 0.9
        )
        assert row.verdict == one.verdict
        np.testing.assert_equal((row.difference, row.ci_low, row.ci_high), one[:3])
        # Defined exactly where both numbers are: `c` has no ToyCar, hence no average.
        assert (row.verdict == "undefined") == (row.arm == "c" and row.machine != "fan")
    # A difference is one of the summary's values, also between one seed and two.
    values = summarise(result).set_index(["arm", "backend", "convention", "machine", "metric"])["value"]
    of = table.set_index(["arm", "backend", "convention", "machine", "metric"])["difference"]
    expected = values["a", "native", "pooled", "fan", "auc"] - values["b", "native", "pooled", "fan", "auc"]
    assert of["a", "native", "pooled", "fan", "auc"] == pytest.approx(expected, abs=1e-9)


def test_an_unknown_reference_leaves_every_difference_undefined() -> None:
    table = differences(three_arms(), ("nobody", "native"))
    assert len(table) > 0
    assert set(table["verdict"]) == {"undefined"}
    assert table[["difference", "ci_low", "ci_high"]].isna().all(axis=None)


def test_seed_draws_are_paired_only_between_arms_of_the_same_seeds() -> None:
    """What a seed does to two arms alike cancels, when both were trained with these seeds."""
    scores, labels = make(per_unit=60)
    anomaly = labels["anomaly"].to_numpy()
    runs = [scores.assign(seed=k, score=scores["score"] + 0.5 * k * anomaly) for k in range(4)]
    same = [run.assign(arm="same", score=run["score"] * 2) for run in runs]
    moved = [run.assign(arm="moved", score=run["score"] * 2, seed=run["seed"] + 10) for run in runs]
    result = replicate(pd.concat([*(run.assign(arm="a") for run in runs), *same, *moved]), labels, RULES, 200)
    assert compare(result, ("same", "native"), ("a", "native")) == (0.0, 0.0, 0.0, "tie")
    apart = compare(result, ("moved", "native"), ("a", "native"))
    assert apart.difference == pytest.approx(0, abs=1e-9)
    assert apart.ci_high - apart.ci_low > 1


def test_mean_of_auc_and_pauc() -> None:
    """Half their sum in every cell and replicate; `all` is the mean of the two sets' averages, with its interval."""
    dev, labels = make(units=3)
    other, more = make(units=2, seed=5)
    evaluation = other.assign(set="eval", clip_id=other["clip_id"] + 10_000)
    more = more.assign(clip_id=more["clip_id"] + 10_000)
    result = replicate(pd.concat([dev, evaluation]), pd.concat([labels, more]), RULES, 50)
    checked = 0
    for key, values in result.values.items():
        if key.metric == "mean_auc_pauc" and key.set != "all":
            parts = [result.values[key._replace(metric=metric)] for metric in ("auc", "pauc")]
            np.testing.assert_allclose(values, (parts[0] + parts[1]) / 2, rtol=0, atol=1e-12)
            checked += 1
    assert checked == 2 * 2 * 3  # sets, conventions, two machines and their mean
    both = [key for key in result.values if key.set == "all"]
    assert {(key.machine, key.metric, key.convention) for key in both} == {
        ("mean", "mean_auc_pauc", "pooled"),
        ("mean", "mean_auc_pauc", "per_unit"),
    }
    for key in both:
        sets = [result.values[key._replace(set=name)] for name in ("dev", "eval")]
        np.testing.assert_array_equal(result.values[key], (sets[0] + sets[1]) / 2)
    domains = evaluate(*make(domains=True), MetricRules(scheme="dcase2022"), 0)
    assert "mean_auc_pauc" not in set(domains["metric"])  # there the challenge has a harmonic mean instead


def test_the_reason_of_a_missing_machine_reaches_the_averages() -> None:
    scores, labels = make()
    evaluation = scores.assign(set="eval", clip_id=scores["clip_id"] + 10_000)
    both = pd.concat([scores, evaluation])
    more = pd.concat([labels, labels.assign(clip_id=labels["clip_id"] + 10_000)])
    lacking = both[(both["machine"] == "fan") | (both["set"] == "eval")]
    table = pd.concat([both.assign(arm="a"), lacking.assign(arm="b")])
    result = replicate(table, more, RULES, 10, absent={("b", "ToyCar"): "one class only"})
    reasons = undefined(summarise(result)).set_index(["arm", "set", "machine", "convention", "metric"])["reason"]
    assert reasons["b", "dev", "ToyCar", "per_unit", "auc"] == "one class only"
    assert reasons["b", "dev", "mean", "pooled", "auc"] == "ToyCar: one class only"
    assert reasons["b", "all", "mean", "pooled", "mean_auc_pauc"] == "dev: ToyCar: one class only"
    assert not any(arm == "a" for arm, *_ in reasons.index)


def test_a_machine_that_one_seed_lacks_is_undefined_and_names_the_seed() -> None:
    scores, labels = make()
    second = scores[scores["machine"] == "fan"].assign(seed=2)
    summary = evaluate(pd.concat([scores.assign(seed=1), second]), labels, RULES, 10)
    assert np.isnan(value(summary, metric="auc", machine="ToyCar", convention="pooled"))
    assert np.isnan(value(summary, metric="auc", machine="mean", convention="pooled"))
    assert not np.isnan(value(summary, metric="auc", machine="fan", convention="pooled"))
    reasons = undefined(summary).set_index(["machine", "convention", "metric"])["reason"]
    assert reasons["ToyCar", "pooled", "auc"] == "seed 2: no scores"


def test_a_unit_that_one_arm_lacks_is_undefined_and_named(caplog: pytest.LogCaptureFixture) -> None:
    scores, labels = make()
    gone = (scores["machine"] == "fan") & (scores["unit"] == "01")
    both = pd.concat([scores.assign(arm="a"), scores[~gone].assign(arm="b")])
    with caplog.at_level(logging.WARNING):
        summary = evaluate(both, labels, RULES, 10)
    assert "fan: unit 01: no scores" in caplog.text
    for convention in ("per_unit", "pooled"):
        assert np.isnan(value(summary, arm="b", metric="auc", machine="fan", convention=convention))
        assert np.isnan(value(summary, arm="b", metric="auc", machine="mean", convention=convention))
    reasons = undefined(summary).set_index(["arm", "machine", "convention", "metric"])["reason"]
    assert reasons["b", "fan", "per_unit", "auc"] == "unit 01: no scores"
    assert reasons["b", "mean", "per_unit", "pauc"] == "fan: unit 01: no scores"
    alone = evaluate(scores.assign(arm="a"), labels, RULES, 10)
    pd.testing.assert_frame_equal(summary[summary["arm"] == "a"].reset_index(drop=True), alone)


def test_a_unit_that_nothing_scored_is_not_averaged_away(caplog: pytest.LogCaptureFixture) -> None:
    scores, labels = make()
    fewer = scores[~((scores["machine"] == "fan") & (scores["unit"] == "01"))]
    told = labels.merge(scores[["clip_id", "machine", "unit"]], on="clip_id")
    with caplog.at_level(logging.WARNING):
        summary = evaluate(fewer, told, RULES, 10)
    assert "40 labelled clips have no score" in caplog.text
    assert "fan 01" in caplog.text
    assert summary.attrs["unscored"] == 40
    assert np.isnan(value(summary, metric="auc", machine="mean", convention="per_unit"))
    assert set(undefined(summary).query("machine == 'fan'")["reason"]) == {"unit 01: no scores"}
    assert value(summary, metric="auc", machine="ToyCar", convention="per_unit") > 50
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        silent = evaluate(fewer, labels, RULES, 10)  # labels that do not say of which unit: counted
    assert "40 labelled clips have no score" in caplog.text
    assert silent.attrs["unscored"] == 40
    assert evaluate(scores, told, RULES, 10).attrs["unscored"] == 0


def test_mistakes_are_refused() -> None:
    scores, labels = make()
    with pytest.raises(AuscultError, match="NaN"):
        evaluate(scores.assign(score=np.where(scores["clip_id"] == 1003, np.nan, scores["score"])), labels, RULES)
    with pytest.raises(AuscultError, match="two scores"):
        evaluate(pd.concat([scores, scores.iloc[:1]]), labels, RULES)
    with pytest.raises(AuscultError, match="no column score"):
        evaluate(scores.drop(columns="score"), labels, RULES)
    with pytest.raises(AuscultError, match="neither 0 nor 1"):
        evaluate(scores, labels.assign(anomaly=labels["anomaly"] * 2), RULES)
    with pytest.raises(AuscultError, match="names a clip twice"):
        evaluate(scores, pd.concat([labels, labels.iloc[:1]]), RULES)
    fewer = pd.concat([scores.assign(arm="a"), scores.iloc[1:].assign(arm="b")])
    with pytest.raises(AuscultError, match=r"b / native scored 79 of the 80|b / native scored 39 of the 40"):
        evaluate(fewer, labels, RULES)


def test_machine_order() -> None:
    names = ["hmean", "ToyConveyor", "mean", "valve", "ToyCar", "fan"]
    assert sorted(names, key=machine_order) == ["fan", "valve", "ToyCar", "ToyConveyor", "mean", "hmean"]
