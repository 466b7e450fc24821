"""The official score of every year against its evaluator's description, and against what the evaluators printed."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import hmean

from auscult.evaluation.aggregation import Number, Numbers, aggregate, official_score
from auscult.evaluation.evaluate import evaluate
from auscult.evaluation.intervals import Spread
from auscult.evaluation.metrics import harmonic_mean
from auscult.settings.rules import MetricRules
from support import evaluators

SCHEMES = ("dcase2020", "dcase2021", "dcase2022")


def rules(scheme: str) -> MetricRules:
    return MetricRules(scheme=scheme)  # type: ignore[arg-type]


def challenge(seed: int, levels: int, machines: int = 3, units: int = 2, clips: int = 24) -> pd.DataFrame:
    """Test clips with random scores on `levels` values, both labels in both domains of every unit; class sizes differ."""
    rng = np.random.default_rng(seed)
    rows = []
    for machine in [f"Machine{i}" for i in range(machines)]:
        for unit in [f"{i:02d}" for i in range(units)]:
            n = clips + int(rng.integers(0, 9))
            anomaly, target = rng.integers(0, 2, n), rng.integers(0, 2, n)
            anomaly[:4], target[:4] = (0, 0, 1, 1), (0, 1, 0, 1)
            for i in rng.permutation(n):
                domain = "target" if target[i] else "source"
                name = f"section_{unit}_{domain}_test_{i:04d}.wav"
                rows.append((machine, unit, name, int(anomaly[i]), domain))
    table = pd.DataFrame(rows, columns=["machine", "unit", "name", "anomaly", "domain"])
    score = rng.normal(size=len(table)) + table["anomaly"]
    table["score"] = np.floor(score * levels / 4) / 7 if levels else score
    return table.assign(clip_id=rng.permutation(len(table)))


def ours(table: pd.DataFrame, scheme: str) -> pd.Series:
    scores = table.drop(columns=["anomaly", "name"]).assign(set="eval", backend="native", domain="unknown")
    summary = evaluate(scores, table[["clip_id", "anomaly", "domain"]], rules(scheme), replicates=0)
    return summary.set_index(["convention", "machine", "metric"])["value"] / 100


def put(table: pd.DataFrame, folder: Path, scheme: str) -> None:
    """The scores as files, one line per clip in whatever order."""
    evaluators.write_answers(table, folder / "answers", scheme)
    (folder / "scores").mkdir()
    for file in (folder / "answers" / "data").iterdir():
        names = [line.split(",")[0] for line in file.read_text().splitlines()]
        machine = file.name.split("_")[0]
        of = table[table["machine"] == machine].set_index("name")["score"]
        lines = [f"{name},{float(of[name])!r}\n" for name in reversed(names)]
        (folder / "scores" / f"anomaly_score_{file.name}").write_text("".join(lines))


@pytest.mark.parametrize("scheme", SCHEMES)
@given(seed=st.integers(0, 2**32 - 1), levels=st.sampled_from([0, 1, 2, 5]))
@settings(max_examples=5, deadline=None)
def test_official_score_is_the_evaluators(
    tmp_path_factory: pytest.TempPathFactory, scheme: str, seed: int, levels: int
) -> None:
    """Random and tied scores (levels 1: many), per machine type and over all."""
    folder = tmp_path_factory.mktemp(scheme)
    table = challenge(seed, levels, machines=2)
    put(table, folder, scheme)
    found = evaluators.numbers(folder / "scores", folder / "answers", scheme)
    of = ours(table, scheme)
    for machine in table["machine"].unique():
        theirs = evaluators.official(found, scheme, machine)
        assert of["per_unit", machine, "official"] == pytest.approx(theirs, abs=1e-9)
    top = "mean" if scheme == "dcase2020" else "hmean"
    assert of["per_unit", top, "official"] == pytest.approx(evaluators.official(found, scheme), abs=1e-9)
    assert len(found) == 2 * 2 * len(rules(scheme).parts)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_pooled_official_score_is_that_of_one_section(scheme: str) -> None:
    """The other convention: the same arithmetic on the sections of a type taken as one."""
    table = challenge(3, 5)
    table["score"] = table["score"] + table["unit"].astype(int)  # sections that do not compare
    of, together = ours(table, scheme), ours(table.assign(unit="00"), scheme)
    for machine in (*table["machine"].unique(), "mean"):
        assert of["pooled", machine, "official"] == together["per_unit", machine, "official"]
    assert abs(of["pooled", "mean", "official"] - of["per_unit", "mean", "official"]) > 1e-3


def test_a_number_of_zero_is_clamped_at_machine_epsilon(tmp_path: Path) -> None:
    """All source normals above every anomaly: AUC_source is 0 and the harmonic mean next to nothing, not an error."""
    table = challenge(1, 0, machines=2)
    worst = (table["anomaly"] == 0) & (table["domain"] == "source")
    table["score"] = table["score"] + 100.0 * worst
    put(table, tmp_path, "dcase2022")
    found = evaluators.numbers(tmp_path / "scores", tmp_path / "answers", "dcase2022")
    assert {value for key, value in found.items() if key[2] == "auc_source"} == {0.0}
    theirs = evaluators.official(found, "dcase2022")
    score = ours(table, "dcase2022")["per_unit", "hmean", "official"]
    assert 0 < score == pytest.approx(theirs, rel=1e-9)
    assert harmonic_mean([0.0, 0.0]) == pytest.approx(sys.float_info.epsilon, rel=1e-12)


# Printed in the evaluators' READMEs of 2023 to 2025: baseline -> metric -> numbers of the machine types; harmonic means of
# the three metrics; official score. The autoencoder's error (MSE) and its Mahalanobis distance.
PRINTED = {
    "2023 MSE": (
        {
            "auc_source": (0.6667348190554078, 0.706837186424004, 0.69428983714698, 0.7968, 0.77, 0.7212, 0.8816),
            "auc_target": (0.48287671232876717, 0.5516569200779727, 0.5604118104118104, 0.561, 0.4716, 0.6468, 0.4532),
            "pauc": (
                0.5091087658743451, 0.5846166760294185, 0.5491654428600755, 0.5368421052631579, 0.5178947368421053,
                0.5826315789473684, 0.5947368421052631,
            ),
        },
        (0.7423494890244248, 0.5253826834789426, 0.5517419647782388),
        0.5925469043549957,
    ),
    "2023 Mahalanobis": (
        {
            "auc_source": (0.836434267021059, 0.7409411378914575, 0.8476602762317048, 0.813, 0.6678, 0.8012, 0.8384),
            "auc_target": (0.5885844748858448, 0.50682261208577, 0.6299533799533801, 0.4622, 0.409, 0.4532, 0.9006),
            "pauc": (
                0.5753594967896497, 0.5955291246149972, 0.6233307541280444, 0.5142105263157895, 0.5089473684210526,
                0.5384210526315789, 0.653157894736842,
            ),
        },
        (0.7871141310430937, 0.53090862919051, 0.5682103280865886),
        0.6105082186925268,
    ),
    "2024 MSE": (
        {
            "auc_source": (0.7912, 0.65, 0.6916, 0.7658, 0.8602, 0.6224, 0.7504, 0.6596, 0.707),
            "auc_target": (0.4796, 0.4824, 0.5374, 0.5266, 0.4388, 0.4598, 0.6948, 0.4152, 0.6352),
            "pauc": (
                0.4942105263157895, 0.5547368421052632, 0.5010526315789474, 0.5, 0.5021052631578947, 0.5163157894736842,
                0.5273684210526316, 0.511578947368421, 0.5557894736842105,
            ),
        },
        (0.7150555228086642, 0.5057977147441246, 0.5172271108149132),
        0.5650830191796572,
    ),
    "2024 Mahalanobis": (
        {
            "auc_source": (0.7544, 0.661, 0.5684, 0.6794, 0.8388, 0.606, 0.6556, 0.5834, 0.8032),
            "auc_target": (0.424, 0.555, 0.555, 0.4464, 0.464, 0.5898, 0.579, 0.425, 0.7338),
            "pauc": (
                0.508421052631579, 0.6078947368421053, 0.4926315789473684, 0.4921052631578947, 0.58, 0.5510526315789473,
                0.48368421052631577, 0.5178947368421053, 0.5905263157894737,
            ),
        },
        (0.6718221907158789, 0.5144113485475758, 0.5324024369331867),
        0.5648933421610234,
    ),
    "2025 MSE": (
        {
            "auc_source": (0.8102, 0.814, 0.677, 0.5284, 0.7198, 0.7304, 0.6686, 0.6486),
            "auc_target": (0.3436, 0.4976, 0.367, 0.6272, 0.3956, 0.4436, 0.443, 0.6592),
            "pauc": (
                0.5421052631578948, 0.5284210526315789, 0.55, 0.5552631578947368, 0.5205263157894737, 0.5342105263157895,
                0.5231578947368422, 0.6210526315789474,
            ),
        },
        (0.6879822239700398, 0.44954916968961445, 0.5452967030441773),
        0.5442827820713174,
    ),
    "2025 Mahalanobis": (
        {
            "auc_source": (0.7726, 0.8616, 0.6982, 0.5586, 0.7638, 0.7498, 0.7042, 0.729),
            "auc_target": (0.526, 0.4264, 0.509, 0.5548, 0.3268, 0.4042, 0.5278, 0.7904),
            "pauc": (
                0.541578947368421, 0.5184210526315789, 0.5684210526315789, 0.54, 0.49105263157894735, 0.5142105263157895,
                0.5378947368421052, 0.7005263157894737,
            ),
        },
        (0.719933864244911, 0.4788331261490967, 0.5459161077739156),
        0.5650558189601554,
    ),
    # Of two systems by the organisers' evaluator of 2026 (f6a94a2), as kasahart/asd-experiments prints them.
    "2026 near channel": (
        {
            "auc_source": (0.7482, 0.7126, 0.6552, 0.6726, 0.6232),
            "auc_target": (0.8776, 0.6262, 0.623, 0.4522, 0.7104),
            "pauc": (0.72, 0.5194736842105263, 0.66, 0.501578947368421, 0.578421052631579),
        },
        (0.6795792662063714, 0.6280925592242097, 0.5846849338286934),
        0.628411282823721,
    ),
    "2026 both channels": (
        {
            "auc_source": (0.798, 0.7798, 0.793, 0.6936, 0.6476),
            "auc_target": (0.9106, 0.6754, 0.6814, 0.4622, 0.7562),
            "pauc": (0.731578947368421, 0.5594736842105263, 0.6710526315789473, 0.5321052631578947, 0.6231578947368421),
        },
        (0.737195299557688, 0.6638065522269401, 0.6151155658009387),
        0.6683499584355611,
    ),
}  # fmt: skip


def numbers(values: dict[str, float]) -> Numbers:
    return {metric: Number(np.array([value]), "", Spread(value, value)) for metric, value in values.items()}


@pytest.mark.parametrize("system", [name for name in PRINTED if name[:4] in ("2024", "2025", "2026")])
def test_normals_of_a_domain_stand_against_the_anomalies_of_both(system: str) -> None:
    """50 x 100 pairs: every AUC is a multiple of 1 / 5000, and not all are of 1 / 2500, as 50 x 50 pairs would make them."""
    of_types, _, _ = PRINTED[system]
    pairs = 5000 * np.array([*of_types["auc_source"], *of_types["auc_target"]])
    np.testing.assert_allclose(pairs, pairs.round(), atol=1e-6)
    assert (pairs.round() % 2).any()


@pytest.mark.parametrize("baseline", PRINTED)
def test_baselines_of_the_challenge(baseline: str) -> None:
    """From the printed numbers of the machine types to every printed mean, through the aggregation itself."""
    of_types, means, official = PRINTED[baseline]
    machines = {
        f"type{i}": [numbers({"auc": 0.5} | {metric: values[i] for metric, values in of_types.items()})]
        for i in range(len(of_types["pauc"]))
    }
    table = aggregate(machines, "per_unit", rules("dcase2022"))
    for metric, mean in zip(of_types, means, strict=True):
        assert table["hmean", metric].values[0] == pytest.approx(mean, abs=1e-12)
    assert table["hmean", "official"].values[0] == pytest.approx(official, abs=1e-12)
    # Every type has the same number of numbers, so that three routes lead to the score.
    of_each = [table[machine, "official"].values[0] for machine in machines]
    assert harmonic_mean(of_each) == pytest.approx(official, abs=1e-12)
    assert official_score(means, rules("dcase2022")) == pytest.approx(official, abs=1e-12)


def test_official_score_of_a_machine_type_of_2021() -> None:
    """The 2021 evaluator's README, fan: three sections of two domains, with their harmonic means of AUC and of pAUC."""
    source = ((0.6669, 0.5273684210526316), (0.7014, 0.52), (0.5834, 0.5352631578947369))
    target = ((0.5229, 0.49315789473684213), (0.5357, 0.5063157894736842), (0.448452380952381, 0.4805764411027569))
    sections = [
        numbers({"auc": 0.5, "pauc": 0.5, "auc_source": s[0], "pauc_source": s[1], "auc_target": t[0], "pauc_target": t[1]})
        for s, t in zip(source, target, strict=True)
    ]  # fmt: skip
    table = aggregate({"fan": sections}, "per_unit", rules("dcase2021"))
    # Twelve numbers, six of each: the harmonic mean of the two printed means.
    assert table["fan", "official"].values[0] == pytest.approx(
        hmean([0.5634700058286667, 0.5097204125946903]), abs=1e-12
    )


def test_averages_of_2020() -> None:
    """The 2020 evaluator's README: AUC and pAUC of the ids of two types, and its averages."""
    fan = ((0.7939877300613497, 0.6181788827897966), (0.8663687150837989, 0.6768597471331961))
    fan += ((0.869850950290476, 0.7075731309293712),)
    pump = ((0.8455172413793103, 0.7014519056261344), (0.7973451327433627, 0.5891942244993014))
    pump += ((0.8474193548387097, 0.6394312393887945),)
    machines = {name: [numbers({"auc": a, "pauc": p}) for a, p in ids] for name, ids in (("fan", fan), ("pump", pump))}
    table = aggregate(machines, "per_unit", rules("dcase2020"))
    averages = {"fan": (0.8434024651452082, 0.6675372536174548), "pump": (0.8300939096537941, 0.6433591231714101)}
    for machine, (auc, pauc) in averages.items():
        assert table[machine, "auc"].values[0] == pytest.approx(auc, abs=1e-12)
        assert table[machine, "pauc"].values[0] == pytest.approx(pauc, abs=1e-12)
    mean = np.mean([*averages["fan"], *averages["pump"]])
    assert (
        table["mean", "official"].values[0]
        == table["mean", "mean_auc_pauc"].values[0]
        == pytest.approx(mean, abs=1e-12)
    )


def test_both_sets_of_the_papers() -> None:
    """Han et al.: 2020 arithmetic, 2024 (seven and nine types) harmonic of the two sets and not over the sixteen types."""
    assert official_score([91.08, 95.01], rules("dcase2020")) == pytest.approx(93.05, abs=0.006)
    assert official_score([64.11, 66.95], rules("dcase2022")) == pytest.approx(65.50, abs=0.006)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_the_set_all(scheme: str) -> None:
    dev, other = challenge(5, 0), challenge(6, 0, machines=4)
    other = other.assign(clip_id=other["clip_id"] + 10_000)
    both = pd.concat([dev.assign(set="dev"), other.assign(set="eval")]).assign(backend="native")
    summary = evaluate(both.drop(columns="anomaly"), both[["clip_id", "anomaly", "domain"]], rules(scheme), 20)
    of = summary.set_index(["convention", "set", "machine", "metric"])["value"]
    which = ("mean", "mean_auc_pauc") if scheme == "dcase2020" else ("hmean", "official")
    for convention in ("pooled", "per_unit"):
        parts = [of[(convention, name, *which)] for name in ("dev", "eval")]
        expected = np.mean(parts) if scheme == "dcase2020" else hmean(parts)
        assert of[(convention, "all", *which)] == pytest.approx(expected, rel=1e-12)
    rows = summary[summary["set"] == "all"]
    assert len(rows) == 2
    assert ((rows["ci_low"] < rows["value"]) & (rows["value"] < rows["ci_high"])).all()
