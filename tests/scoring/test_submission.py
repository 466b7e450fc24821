"""The challenge's files: each year's names and rows, thresholds without a test clip, and the evaluators' reading of them."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.stats import gamma

from auscult.errors import AuscultError
from auscult.evaluation.evaluate import evaluate
from auscult.scoring.knn import left_out
from auscult.scoring.submission import submission, thresholds, write_submission
from auscult.scoring.table import score_table, scored
from auscult.settings.rules import MetricRules
from auscult.settings.schema import Score, Submission
from support import evaluators
from support.scores import knobs

SCHEMES = ("dcase2020", "dcase2021", "dcase2022")
UNITS = [("fan", "03"), ("fan", "04"), ("ToyCar", "03")]


def rules(scheme: str) -> MetricRules:
    return MetricRules(scheme=scheme)  # type: ignore[arg-type]


def _clip(scheme: str, machine: str, unit: str, i: int) -> tuple[str, str, str, str, str, int]:
    """machine, unit, name, partition, domain, anomaly of the i-th clip; the names are those of an evaluation set."""
    domain, partition = "target" if i % 4 == 3 else "source", "train" if i < 40 else "test"
    name = {"dcase2020": f"id_{unit}_{i:08d}.wav", "dcase2021": f"section_{unit}_{domain}_test_{i:04d}.wav",
            "dcase2022": f"section_{unit}_{i:04d}.wav"}[scheme]  # fmt: skip
    anomaly = i // 4 % 2 if partition == "test" else 0
    return machine, unit, name, partition, "unknown" if scheme == "dcase2020" else domain, anomaly


class Challenge:
    """A project's files for three units, in the layout of one year: 40 training and 20 test clips of each."""

    def __init__(self, folder: Path, scheme: str, native: bool = True) -> None:
        self.folder, self.scheme = folder, scheme
        rng = np.random.default_rng(4)
        table = pd.DataFrame(
            [_clip(scheme, machine, unit, i) for machine, unit in UNITS for i in rng.permutation(60)],
            columns=["machine", "unit", "name", "partition", "domain", "anomaly"],
        ).assign(set="eval")
        table["clip_id"] = rng.permutation(len(table))
        table["path"] = "eval/" + table["machine"] + "/" + table["partition"] + "/" + table["name"]
        vectors = (rng.normal(size=(len(table), 6)) + table[["anomaly"]].to_numpy()).astype(np.float32)
        if native:
            table["native"] = (vectors.astype(np.float64) ** 2).sum(axis=1)
        train = (table["partition"] == "train").to_numpy()
        shown = table.assign(domain=table["domain"].where(train, "unknown"))
        folder.mkdir(parents=True, exist_ok=True)
        for partition, here in (("train", train), ("test", ~train)):
            np.save(folder / f"{partition}.npy", vectors[here])
            shown[here].drop(columns=["name", "partition", "anomaly", "path"]).to_parquet(
                folder / f"{partition}.parquet"
            )
        shown.drop(columns=["anomaly", "name"]).to_parquet(folder / "clips.parquet")
        self.train, self.train_meta = vectors[train], shown[train].reset_index(drop=True)
        self.test = table[~train].reset_index(drop=True)
        backends = ["native", "knn_cosine"] if native else ["knn_cosine"]
        self.scores = score_table(folder, Score(backends=backends), rules(scheme).domains).assign(seed=7)
        self.scores.to_parquet(folder / "scores.parquet")

    def write(self, score: Score | None = None, **settings: object) -> Path:
        self.absent = write_submission(
            self.folder, self.folder / "scores.parquet", self.folder / "clips.parquet", self.folder / "out",
            rules(self.scheme), 7, Submission(**settings), score or Score(),  # type: ignore[arg-type]
        )  # fmt: skip
        return self.folder / "out"


FILES = {
    "dcase2020": {f"anomaly_score_{m}_id_{u}.csv" for m, u in UNITS},
    "dcase2021": {f"{k}_{m}_section_{u}_{d}_test.csv" for m, u in UNITS for d in ("source", "target")
                  for k in ("anomaly_score", "decision_result")},
    "dcase2022": {f"{k}_{m}_section_{u}_test.csv" for m, u in UNITS for k in ("anomaly_score", "decision_result")},
}  # fmt: skip


@pytest.mark.parametrize("backend", ["native", "knn_cosine"])
@pytest.mark.parametrize("scheme", SCHEMES)
def test_the_evaluators_read_the_scores_that_the_summary_is_made_of(tmp_path: Path, scheme: str, backend: str) -> None:
    challenge = Challenge(tmp_path / "a", scheme)
    out = challenge.write(backend=backend)
    assert {path.name for path in out.iterdir()} == FILES[scheme]
    evaluators.write_answers(challenge.test, tmp_path / "answers", scheme)
    theirs = evaluators.numbers(out, tmp_path / "answers", scheme)
    labels = challenge.test[["clip_id", "anomaly", "domain"]]
    summary = evaluate(challenge.scores, labels, rules(scheme), replicates=0)
    of = summary.set_index(["backend", "convention", "machine", "metric"])["value"] / 100
    top = "mean" if scheme == "dcase2020" else "hmean"
    assert of[backend, "per_unit", top, "official"] == pytest.approx(evaluators.official(theirs, scheme), abs=1e-9)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_rows_are_names_and_full_digits(tmp_path: Path, scheme: str) -> None:
    challenge = Challenge(tmp_path, scheme)
    out = challenge.write()
    score = challenge.test.set_index(["machine", "name"])["native"]
    seen = 0
    for path in out.glob("anomaly_score_*"):
        machine = path.name.split("_")[2]
        lines = path.read_text().splitlines()
        assert lines == sorted(lines)
        for line in lines:
            name, value = line.split(",")
            assert float(value) == score[machine, name]
            assert "/" not in name
        seen += len(lines)
    assert seen == len(challenge.test)
    for path in out.glob("decision_result_*"):
        assert {line.split(",")[1] for line in path.read_text().splitlines()} <= {"0", "1"}


def test_decisions_are_scores_above_the_threshold(tmp_path: Path) -> None:
    challenge = Challenge(tmp_path, "dcase2022")
    limits = thresholds(challenge.train, challenge.train_meta, "native", 0.1)
    out = challenge.write()
    made = 0
    for machine, unit in UNITS:
        scores, decisions = (
            evaluators.read(out / f"{kind}_{machine}_section_{unit}_test.csv")
            for kind in ("anomaly_score", "decision_result")
        )
        np.testing.assert_array_equal(decisions, scores > limits[machine, unit])
        made += int(decisions.sum())
    assert 0 < made < len(challenge.test)


def test_a_threshold_of_own_scores_is_the_gamma_quantile() -> None:
    rng = np.random.default_rng(0)
    values = rng.gamma(3.0, 2.0, 2000) + 1.0
    meta = pd.DataFrame({"machine": "fan", "unit": "00", "domain": "source", "native": values})
    for rate in (0.1, 0.05):
        limit = thresholds(np.empty((2000, 1)), meta, "native", rate)["fan", "00"]
        assert limit == gamma.ppf(1 - rate, *gamma.fit(values))
        assert limit == pytest.approx(
            gamma.ppf(1 - rate, 3.0, 1.0, 2.0), rel=0.05
        )  # the distribution they are drawn from


@pytest.mark.parametrize("kind", ["two heaps", "constant"])
def test_where_no_gamma_distribution_fits_it_is_the_empirical_quantile(kind: str) -> None:
    rng = np.random.default_rng(0)
    values = np.concatenate([rng.normal(0, 1e-9, 70), rng.normal(1e6, 1, 30)]) if kind == "two heaps" else np.ones(100)
    meta = pd.DataFrame({"machine": "fan", "unit": "00", "domain": "source", "native": values})
    limit = thresholds(np.empty((100, 1)), meta, "native", 0.1)["fan", "00"]
    assert limit == np.quantile(values, 0.9)


@pytest.mark.parametrize("domains", [False, True])
def test_a_threshold_of_knn_is_a_quantile_of_left_out_distances(tmp_path: Path, domains: bool) -> None:
    challenge = Challenge(tmp_path, "dcase2022")
    limits = thresholds(challenge.train, challenge.train_meta, "knn_cosine", 0.1, 1, domains)
    nearest = knobs("knn_cosine", 1, domains)
    for machine, unit in UNITS[::2]:
        mine = ((challenge.train_meta["machine"] == machine) & (challenge.train_meta["unit"] == unit)).to_numpy()
        rows = np.flatnonzero(mine)
        train, meta = challenge.train, challenge.train_meta
        distances = []
        for row in rows:
            others = rows[rows != row]
            distances += scored(nearest, train[others], meta.iloc[others], train[[row]], meta.iloc[[row]]).tolist()
        assert limits[machine, unit] == pytest.approx(np.quantile(distances, 0.9), rel=1e-5)
        assert np.mean(np.array(distances) > limits[machine, unit]) == pytest.approx(0.1, abs=0.03)


def test_no_test_clip_has_a_say_in_a_decision(tmp_path: Path) -> None:
    """Half of the test clips removed: the rows of the others are the same."""
    challenge = Challenge(tmp_path, "dcase2022")
    whole = {path.name: path.read_text().splitlines() for path in challenge.write(backend="knn_cosine").iterdir()}
    gone = challenge.test["clip_id"].iloc[::2]
    for name in ("scores", "clips"):
        table = pd.read_parquet(tmp_path / f"{name}.parquet")
        table[~table["clip_id"].isin(gone)].to_parquet(tmp_path / f"{name}.parquet")
    half = {path.name: path.read_text().splitlines() for path in challenge.write(backend="knn_cosine").iterdir()}
    assert half.keys() == whole.keys()
    assert sum(map(len, half.values())) < sum(map(len, whole.values()))
    assert all(set(half[name]) < set(whole[name]) for name in whole)


def test_a_unit_of_one_training_clip_has_no_alarm() -> None:
    meta = pd.DataFrame({"machine": ["fan"], "unit": ["00"], "domain": ["source"], "native": [1.0]})
    assert thresholds(np.ones((1, 2)), meta, "knn_cosine", 0.1) == {("fan", "00"): np.inf}
    assert thresholds(np.ones((1, 2)), meta, "native", 0.1) == {("fan", "00"): np.inf}


def test_an_arm_without_an_own_score_is_submitted_with_its_first_back_end(tmp_path: Path) -> None:
    challenge = Challenge(tmp_path, "dcase2022", native=False)
    first = {path.name: path.read_text() for path in challenge.write().iterdir()}
    assert first == {path.name: path.read_text() for path in challenge.write(backend="knn_cosine").iterdir()}


def test_a_machine_type_without_scores_is_left_out_and_named(tmp_path: Path) -> None:
    challenge = Challenge(tmp_path, "dcase2022")
    challenge.scores[challenge.scores["machine"] == "fan"].to_parquet(tmp_path / "scores.parquet")
    names = {path.name for path in challenge.write().iterdir()}
    assert challenge.absent == ["ToyCar"]
    assert names == {name for name in FILES["dcase2022"] if "_fan_" in name}


def test_what_cannot_be_submitted_is_refused(tmp_path: Path) -> None:
    challenge = Challenge(tmp_path, "dcase2022")
    with pytest.raises(AuscultError, match=r"no scores of the dev set(.|\n)*submission.set"):
        challenge.write(set="dev")
    with pytest.raises(AuscultError, match=r"by the back-end `gmm`(.|\n)*native, knn_cosine"):
        challenge.write(backend="gmm")
    moved = challenge.scores.assign(
        backend=challenge.scores["backend"].replace("knn_cosine", "knn_cosine_transductive")
    )
    moved.to_parquet(tmp_path / "scores.parquet")
    with pytest.raises(AuscultError, match="by the back-end `knn_cosine_transductive`"):
        challenge.write(backend="knn_cosine_transductive")
    challenge.scores.iloc[1:].to_parquet(tmp_path / "scores.parquet")
    with pytest.raises(AuscultError, match="1 clips have no score"):
        challenge.write(backend=str(challenge.scores["backend"].iloc[0]))
    assert not (tmp_path / "out").exists()
    scored = pd.DataFrame({"path": ["a/x.wav", "b/x.wav"], "machine": "fan", "unit": "00", "score": 1.0})
    with pytest.raises(AuscultError, match="share a name"):
        submission(scored, {("fan", "00"): 1.0}, rules("dcase2022"))
    with pytest.raises(AuscultError, match="does not tell the domain"):
        submission(scored.iloc[:1], {("fan", "00"): 1.0}, rules("dcase2021"))


def test_the_threshold_is_taken_from_the_banks_that_gave_the_scores(tmp_path: Path) -> None:
    """With one bank for a machine type, or for both domains, decisions follow other thresholds."""
    rng = np.random.default_rng(0)
    meta = pd.DataFrame({"machine": "fan", "unit": np.repeat(["00", "02"], 30)})
    meta["domain"] = np.where(np.arange(60) % 5 == 0, "target", "source")
    train = rng.standard_normal((60, 4)).astype(np.float32)
    for scope, domains in product(("unit", "machine"), (False, True)):
        found = thresholds(train, meta, "knn_cosine", 0.1, 3, domains, scope)  # type: ignore[arg-type]
        scores = left_out(train, meta, knobs("knn_cosine", 3, domains, scope))  # type: ignore[arg-type]
        expected = {("fan", unit): np.quantile(scores[meta["unit"] == unit], 0.9) for unit in ("00", "02")}
        assert found == pytest.approx(expected)
    challenge = Challenge(tmp_path, "dcase2022")
    texts = []
    for score in (Score(), Score(domain_banks=True), Score(scope="machine")):
        files = challenge.write(score, backend="knn_cosine").iterdir()
        texts.append({path.name: path.read_text() for path in files})
    assert texts[0] == texts[1] != texts[2]
