"""The sweep of an arm: its settings, its table, and that fusion never looks at a test clip."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml

from auscult.errors import AuscultError
from auscult.evaluation.evaluate import evaluate
from auscult.scoring import backends
from auscult.scoring.fusion import fold_scores, standardised
from auscult.scoring.knn import left_out
from auscult.scoring.sweep import COLUMNS, sweep_table
from auscult.scoring.table import score_table, scored
from auscult.settings.rules import MetricRules
from auscult.settings.schema import BackendSweep, Score
from auscult.settings.section import validated
from support.clouds import Clouds, clouds
from support.scores import knobs, scores

SHIPPED = yaml.safe_load((Path(__file__).parents[2] / "params.yaml").read_text())["backends"]


def settings(**sweep: dict[str, Any]) -> BackendSweep:
    return validated(BackendSweep, {"sweep": sweep}, "backends")


def write(folder: Path, parts: Clouds, native: bool = True) -> Path:
    folder.mkdir(exist_ok=True)
    for name, array, meta in (("train", *parts[:2]), ("test", *parts[2:])):
        np.save(folder / f"{name}.npy", array)
        own = {"native": np.arange(len(meta)) / 2, "native_other": np.ones(len(meta))} if native else {}
        meta.assign(**own).to_parquet(folder / f"{name}.parquet")
    return folder


def of(table: pd.DataFrame, backend: str, column: str = "score") -> np.ndarray:
    values: np.ndarray = table.loc[table["backend"] == backend, column].to_numpy()
    return values


# ---------------------------------------------------------------------------------------------------------------- settings
def test_the_shipped_sweep_shows_every_kind_but_the_transductive_with_all_its_knobs() -> None:
    """A knob left to the code could change there without DVC noticing; null says where else the value stands."""
    sweep = validated(BackendSweep, SHIPPED, "backends")
    kinds = {one.kind for one in sweep.sweep.values()}
    assert kinds == {*backends(), "native", "fusion", "calibrated", "blind"} - {"knn_cosine_transductive"}
    for name, one in sweep.sweep.items():
        silent = {key for key, value in one.model_dump().items() if value is None}
        assert silent <= {"scope", "domain_banks", "rows", "density_target", "neighbours"}  # null says something there
        assert set(one.model_dump()) == set(SHIPPED["sweep"][name]) | silent, name


@pytest.mark.parametrize("kind", sorted(backends()))
def test_every_back_end_is_a_kind_and_takes_its_knobs(kind: str, tmp_path: Path) -> None:
    table = sweep_table(write(tmp_path, clouds()), settings(x={"kind": kind}), Score(), True)
    parts = clouds()
    np.testing.assert_array_equal(of(table, "x"), scores(kind, parts, 1, True))


@pytest.mark.parametrize(
    ("sweep", "words"),
    [
        ({"a": {"kind": "knnn"}}, r"backends.sweep.a: .*'knnn'.*'knn_cosine', .*'ldn'"),
        ({"a": {"kind": "knn_cosine", "k": 0}}, r"backends.sweep.a.*\.k: .*greater than 0"),
        ({"a": {"k": 1}}, r"backends.sweep.a: .*kind"),
        ({"a": {"kind": "ldn", "denisty": 4}}, r"backends.sweep.a.*denisty: unknown key"),
        ({"a": {"kind": "smote", "ratio": 1.5}}, r"backends.sweep.a.*ratio: .*less than or equal to 1"),
        ({"a": {"kind": "gmm", "floor": 0}}, r"backends.sweep.a.*floor: .*greater than 0"),
        ({"a": {"kind": "lof", "scope": "unitt"}}, r"backends.sweep.a.*scope: .*'unit', 'machine' or 'all'"),
        ({"f": {"kind": "fusion", "of": ["a", "b"]}}, "sweep.f: there is no back-end `a`"),
        ({"f": {"kind": "fusion", "of": ["native"]}}, "at least 2"),
        ({"a": {"kind": "native"}}, "`native` is the name of the kind"),
        ({"native_x": {"kind": "ldn"}}, "`native` is the name of the kind"),
    ],
)
def test_what_cannot_be_meant_is_refused(sweep: dict[str, Any], words: str) -> None:
    with pytest.raises(AuscultError, match=words):
        settings(**sweep)


@pytest.mark.parametrize("member", ["native", "other", "fusion"])
def test_what_has_no_left_out_scores_is_not_fused(member: str) -> None:
    sweep = {
        "native": {"kind": "native"},
        "ldn": {"kind": "ldn"},
        "lof": {"kind": "lof"},
        "other": {"kind": "knn_cosine_transductive"},
        "fusion": {"kind": "fusion", "of": ["ldn", "lof"]},
    }
    settings(**sweep)
    with pytest.raises(AuscultError, match=f"`{member}` cannot be fused"):
        settings(**sweep, more={"kind": "fusion", "of": ["ldn", member]})
    if member != "fusion":
        with pytest.raises(AuscultError, match=f"`{member}` cannot be fused"):
            validated(BackendSweep, {"sweep": sweep, "ensembles": {"e": {"arms": ["a", "b"], "backend": member}}}, "b")


# ------------------------------------------------------------------------------------------------------------------- table
def test_the_table_of_an_arm(tmp_path: Path) -> None:
    parts = clouds()
    sweep = validated(BackendSweep, SHIPPED, "backends")
    table = sweep_table(write(tmp_path, parts), sweep, Score(), True)
    assert list(table.columns) == COLUMNS
    names = list(dict.fromkeys(table["backend"]))
    assert names == ["native", "native_other", *(name for name in sweep.sweep if name != "native")]
    assert (table.groupby("backend").size() == len(parts.test)).all()
    assert np.isfinite(table["score"]).all()
    for name in names:
        np.testing.assert_array_equal(of(table, name, "clip_id"), parts.test_meta["clip_id"])
    known = set(table.loc[table["standardised"].notna(), "backend"])
    assert known == {"knn_cosine", "ldn", "mahalanobis", "fusion", "fusion_min", "fusion_rank"}
    assert known == set(table.loc[table["rank"].notna(), "backend"])
    # What the score stage gives by the same names, it gives here.
    score = score_table(tmp_path, Score(backends=["native", "knn_cosine", "ldn", "gmm"]), True)
    for name in ("native", "knn_cosine", "ldn", "gmm"):
        np.testing.assert_array_equal(of(table, name), of(score, name))


def test_an_evaluation_reads_it(tmp_path: Path) -> None:
    table = sweep_table(write(tmp_path, clouds()), validated(BackendSweep, SHIPPED, "backends"), Score(), True)
    ids = clouds().test_meta["clip_id"]
    labels = pd.DataFrame({"clip_id": ids, "anomaly": np.arange(len(ids)) % 2, "domain": "source"})
    summary = evaluate(table.assign(arm="a"), labels, MetricRules(), replicates=5)
    assert set(summary["backend"]) == set(table["backend"])


@pytest.mark.parametrize("scope", ["unit", "machine"])
@pytest.mark.parametrize("banks", [None, True, False])
def test_scope_and_banks_come_from_the_back_end_the_score_section_or_the_profile(
    scope: Any, banks: bool | None, tmp_path: Path
) -> None:
    parts = clouds()
    sweep = settings(
        plain={"kind": "knn_cosine", "k": 3},
        own={"kind": "knn_cosine", "k": 3, "scope": "machine", "domain_banks": False},
    )
    table = sweep_table(write(tmp_path, parts), sweep, Score(scope=scope, domain_banks=banks), domains=True)
    expected = scores("knn_cosine", parts, 3, banks in (None, True), scope=scope)
    np.testing.assert_array_equal(of(table, "plain"), expected)
    np.testing.assert_array_equal(of(table, "own"), scores("knn_cosine", parts, 3, False, scope="machine"))
    score = Score(backends=["knn_cosine"], k=3, scope=scope, domain_banks=banks)
    np.testing.assert_array_equal(score_table(tmp_path, score, True)["score"], expected)


def test_fusion_is_the_mean_of_scores_standardised_by_training_clips(tmp_path: Path) -> None:
    parts = clouds()
    sweep = settings(
        near={"kind": "knn_cosine", "k": 2}, gmm={"kind": "gmm"}, f={"kind": "fusion", "of": ["gmm", "near"]}
    )
    table = sweep_table(write(tmp_path, parts), sweep, Score(), True)
    exact = left_out(*parts[:2], knobs("knn_cosine", 2, True))  # type: ignore[arg-type]
    split = fold_scores(partial(scored, knobs("gmm", 1, True)), *parts[:2], sweep.folds, sweep.seed)
    near = standardised(of(table, "near"), parts.test_meta, exact, parts.train_meta)
    gmm = standardised(of(table, "gmm"), parts.test_meta, split, parts.train_meta)
    np.testing.assert_allclose(of(table, "f"), (near + gmm) / 2, rtol=1e-12)
    np.testing.assert_allclose(of(table, "near", "standardised"), near, rtol=1e-12)


def test_no_test_clip_has_a_say_in_another_ones_score(tmp_path: Path) -> None:
    """Every third test clip alone in the folder: each row is the same, of a fusion too."""
    parts = clouds()
    sweep = validated(BackendSweep, SHIPPED, "backends")
    whole = sweep_table(write(tmp_path / "whole", parts), sweep, Score(), True)
    third = np.arange(0, len(parts.test), 3)
    few = parts._replace(test=parts.test[third], test_meta=parts.test_meta.iloc[third])
    part = sweep_table(write(tmp_path / "part", few), sweep, Score(), True).query(
        "not backend.str.startswith('native')"
    )
    both = part.merge(whole, on=["clip_id", "backend"], suffixes=("", "_whole"))
    assert len(both) == len(part)
    for column in ("score", "standardised", "rank"):
        np.testing.assert_allclose(both[column], both[f"{column}_whole"], rtol=1e-4, atol=1e-5)


def test_twice_the_same(tmp_path: Path) -> None:
    sweep = validated(BackendSweep, SHIPPED, "backends")
    folder = write(tmp_path, clouds())
    pd.testing.assert_frame_equal(
        sweep_table(folder, sweep, Score(), True), sweep_table(folder, sweep, Score(), True), check_exact=True
    )


def test_an_arm_that_could_not_be_trained_has_no_rows(tmp_path: Path) -> None:
    parts = clouds()
    nothing = Clouds(parts.train[:0], parts.train_meta[:0], parts.test[:0], parts.test_meta[:0])
    table = sweep_table(write(tmp_path, nothing), validated(BackendSweep, SHIPPED, "backends"), Score(), True)
    assert list(table.columns) == COLUMNS
    assert table.empty


def test_an_arm_without_own_scores_has_no_native_rows(tmp_path: Path) -> None:
    folder = write(tmp_path, clouds(), native=False)
    assert set(
        sweep_table(folder, settings(native={"kind": "native"}, ldn={"kind": "ldn"}), Score(), True)["backend"]
    ) == {"ldn"}
    assert sweep_table(folder, settings(native={"kind": "native"}), Score(), True).empty
