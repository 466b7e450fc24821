"""Nearest-neighbour scores against brute force, and the score table's rules."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.spatial.distance import cdist
from scipy.stats import zscore

from auscult.errors import AuscultError
from auscult.results.names import BACKEND_NOTES, backend_name
from auscult.results.results import headline_backend
from auscult.scoring import backends
from auscult.scoring import knn as module
from auscult.scoring.banks import Metric, Scope
from auscult.scoring.knn import left_out, nearest, nearest_others
from auscult.scoring.table import score_table, scored
from auscult.settings.schema import Score
from support.clouds import Clouds
from support.scores import knobs, scores


def embeddings(seed: int = 0) -> Clouds:
    """30 training and 20 test clips of two units in mixed order, 5 dimensions; one source-heavy and one target bank."""
    rng = np.random.default_rng(seed)

    def table(clips: int) -> pd.DataFrame:
        return pd.DataFrame(
            {"clip_id": range(clips), "set": "dev", "machine": "fan", "unit": rng.choice(["00", "02"], clips),
             "domain": rng.choice(["source", "target"], clips, p=[0.8, 0.2])}
        )  # fmt: skip

    train_meta, test_meta = table(30), table(20).assign(domain="unknown")
    train, test = (rng.standard_normal((clips, 5)).astype(np.float32) for clips in (30, 20))
    return Clouds(train, train_meta, test, test_meta)


@pytest.mark.parametrize("block", [1, 2000, 2**23])
@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_neighbours_are_those_of_all_distances_at_once(
    metric: Metric, block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_BLOCK", block)
    rng = np.random.default_rng(0)
    bank, queries = rng.standard_normal((70, 16), dtype=np.float32), rng.standard_normal((50, 16), dtype=np.float32)
    bank[3], queries[5] = 0, bank[7]  # no direction; a copy
    tolerance = {"rtol": 1e-5, "atol": 1e-6 if metric == "cosine" else 1e-7}
    for k in (1, 3):
        expected = np.sort(cdist(queries[6:], bank[4:], metric), axis=1)[:, :k].mean(axis=1)
        np.testing.assert_allclose(nearest(bank[4:], queries[6:], k, metric), expected, **tolerance)
        among = cdist(bank[4:], bank[4:], metric)
        np.fill_diagonal(among, np.inf)
        expected = np.sort(among, axis=1)[:, :k].mean(axis=1)
        np.testing.assert_allclose(nearest_others(bank[4:], k, metric), expected, **tolerance)
    assert nearest(bank, queries[5:6], 1, metric) == pytest.approx(0, abs=1e-6)
    assert nearest(bank[3:4], queries[:1], 1, "cosine") == 1


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
@pytest.mark.parametrize("k", [1, 3, 100])
@pytest.mark.parametrize("domains", [False, True])
def test_brute_force(metric: str, k: int, domains: bool) -> None:
    train, train_meta, test, test_meta = embeddings()
    found = scores(f"knn_{metric}", Clouds(train, train_meta, test, test_meta), k, domains)
    for row in range(len(test)):
        of_banks = []
        for domain in ["source", "target"] if domains else [None]:
            bank = (train_meta["unit"] == test_meta["unit"][row]).to_numpy()
            if domain:
                bank = bank & (train_meta["domain"] == domain).to_numpy()
            distances = np.sort(cdist(test[row : row + 1].astype(float), train[bank].astype(float), metric)[0])
            of_banks.append(distances[:k].mean())
        assert found[row] == pytest.approx(min(of_banks), rel=1e-4, abs=1e-6)


@pytest.mark.parametrize("domains", [False, True])
def test_one_bank_for_all_units_of_a_type(domains: bool) -> None:
    """As scores of a data set whose units are not told apart."""
    train, train_meta, test, test_meta = embeddings()
    found = scores("knn_cosine", embeddings(), 2, domains, scope="machine")
    together = Clouds(train, train_meta.assign(unit="all"), test, test_meta.assign(unit="all"))
    np.testing.assert_array_equal(found, scores("knn_cosine", together, 2, domains))
    assert not np.allclose(found, scores("knn_cosine", embeddings(), 2, domains))


def test_the_nearest_of_two_banks_is_the_nearest_of_their_union() -> None:
    parts = embeddings()
    np.testing.assert_allclose(scores("knn_cosine", parts, 1, True), scores("knn_cosine", parts, 1, False), atol=1e-6)


def test_the_domain_of_a_test_clip_is_not_looked_at() -> None:
    parts = embeddings()
    known = parts._replace(test_meta=parts.test_meta.assign(domain="source"))
    np.testing.assert_array_equal(scores("knn_cosine", parts, 1, True), scores("knn_cosine", known, 1, True))


def brute_banks(metric: str = "cosine", seed: int = 0) -> dict[str, np.ndarray]:
    """Distance of each test clip to its nearest training clip of its unit, domain -> [test clips]."""
    train, train_meta, test, test_meta = embeddings(seed)
    found = {}
    for domain in ("source", "target"):
        nearest = []
        for row in range(len(test)):
            bank = (train_meta["unit"] == test_meta["unit"][row]) & (train_meta["domain"] == domain)
            nearest.append(cdist(test[row : row + 1].astype(float), train[bank.to_numpy()].astype(float), metric).min())
        found[domain] = np.array(nearest)
    return found


def test_transductive_brute_force() -> None:
    parts = embeddings()
    found = scores("knn_cosine_transductive", parts, 1, True)
    banks = brute_banks()
    for unit in ("00", "02"):
        here = (parts.test_meta["unit"] == unit).to_numpy()
        expected = np.minimum(*(zscore(banks[domain][here]) for domain in ("source", "target")))
        np.testing.assert_allclose(found[here], expected, rtol=0, atol=1e-4)
    single = scores("knn_cosine_transductive", parts, 1, False)
    plain = scores("knn_cosine", parts, 1, False)
    for unit in ("00", "02"):  # one bank: another scale, the same order
        here = (parts.test_meta["unit"] == unit).to_numpy()
        np.testing.assert_array_equal(np.argsort(single[here]), np.argsort(plain[here]))


def test_test_clips_that_are_all_alike_are_at_zero() -> None:
    parts = embeddings()
    same = np.repeat(parts.test[:1], len(parts.test), axis=0)
    assert (scores("knn_cosine_transductive", parts._replace(test=same), 1, True) == 0).all()


@pytest.mark.parametrize("backend", sorted(backends()))
def test_only_a_transductive_score_changes_with_other_test_clips(backend: str) -> None:
    """The leak that its name admits: ten more test clips move the scores of the others."""
    parts = embeddings()
    more = np.concatenate([parts.test, 3 * embeddings(seed=1).test[:10]])
    more_meta = pd.concat([parts.test_meta, parts.test_meta.iloc[:10]], ignore_index=True)
    alone = scores(backend, parts, 1, True)
    beside = scores(backend, parts._replace(test=more, test_meta=more_meta), 1, True)[: len(alone)]
    change = np.abs(alone - beside).max()
    if backends()[backend].transductive:
        assert change > 0.05
    else:
        assert change < 1e-6


def test_a_transductive_score_is_none_by_default_and_says_what_it_is() -> None:
    names = [name for name in backends() if "transductive" in name]
    assert names == ["knn_cosine_transductive"]
    assert not set(names) & set(Score().backends)
    import yaml

    params = yaml.safe_load((Path(__file__).parents[2] / "params.yaml").read_text())
    assert not set(names) & set(params["score"]["backends"])
    assert backend_name(names[0]) == "kNN (cosine, transductive)"
    assert "not an official score" in BACKEND_NOTES[names[0]]


@pytest.mark.parametrize("scope", ["unit", "machine"])
@pytest.mark.parametrize("domains", [False, True])
@pytest.mark.parametrize("k", [1, 3])
@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_left_out_scores_are_those_without_the_clip(metric: str, k: int, domains: bool, scope: Scope) -> None:
    train, train_meta, _, _ = embeddings()
    settings = knobs(f"knn_{metric}", k, domains, scope)
    found = left_out(train, train_meta, settings)  # type: ignore[arg-type]
    for row in range(0, len(train), 3):
        others = np.arange(len(train)) != row
        alone = scored(settings, train[others], train_meta[others], train[[row]], train_meta.iloc[[row]])
        assert found[row] == pytest.approx(alone[0], rel=1e-4, abs=1e-6)


def test_the_only_clip_of_a_unit_has_nothing_to_be_left_out_of() -> None:
    train, train_meta, _, _ = embeddings()
    assert np.isinf(left_out(train[:1], train_meta[:1], knobs("knn_cosine", domains=True))).all()  # type: ignore[arg-type]


def write(folder: Path, native: float | None = None) -> Path:
    train, train_meta, test, test_meta = embeddings()
    for name, array, meta in (("train", train, train_meta), ("test", test, test_meta)):
        np.save(folder / f"{name}.npy", array)
        own = {} if native is None else {"native": np.full(len(meta), native), "native_other": np.ones(len(meta))}
        meta.assign(**own).to_parquet(folder / f"{name}.parquet")
    return folder


def test_an_arm_without_own_score_has_no_native_rows(tmp_path: Path) -> None:
    table = score_table(write(tmp_path), Score(backends=["native", "knn_cosine"]), domains=False)
    assert set(table["backend"]) == {"knn_cosine"}
    assert list(table.columns) == ["clip_id", "set", "machine", "unit", "domain", "backend", "score"]


def test_each_of_a_methods_own_scores_is_a_back_end(tmp_path: Path) -> None:
    table = score_table(write(tmp_path, 0.5), Score(backends=["native", "knn_cosine"]), domains=False)
    assert list(dict.fromkeys(table["backend"])) == ["native", "native_other", "knn_cosine"]
    assert (table.loc[table["backend"] == "native", "score"] == 0.5).all()
    assert (table.loc[table["backend"] == "native_other", "score"] == 1.0).all()


@pytest.mark.parametrize(("distance", "first"), [("", "knn_cosine"), ("euclidean", "knn_euclidean")])
def test_an_arm_is_judged_by_the_distance_of_its_method_and_not_by_a_score_beside_it(
    tmp_path: Path, distance: str, first: str
) -> None:
    """AnoPatch and Han et al. have a classifier's score, and 1-NN is their headline: the first back-end of an arm."""
    folder = write(tmp_path, 0.5)
    for name in ("train", "test"):
        pd.read_parquet(folder / f"{name}.parquet").drop(columns="native").to_parquet(folder / f"{name}.parquet")
    if distance:
        (folder / "network.json").write_text(f'{{"parameters": 0, "distance": "{distance}"}}')
    table = score_table(folder, Score(backends=["native", "knn_cosine", "knn_euclidean"]), domains=False)
    found = list(dict.fromkeys(table["backend"]))
    assert (found[0], found[-1], len(found)) == (first, "native_other", 3)
    assert headline_backend(table.assign(arm="a"), "a") == first


@pytest.mark.parametrize(
    ("score", "native", "words"),
    [
        (Score(backends=["knn_cosin"]), 1.0, "knn_cosin"),
        (Score(backends=["native"]), None, "no back-end"),
        (Score(backends=["native"]), np.inf, "not finite"),
    ],
)
def test_what_cannot_be_scored_is_said(tmp_path: Path, score: Score, native: float | None, words: str) -> None:
    with pytest.raises(AuscultError, match=words):
        score_table(write(tmp_path, native), score, domains=False)
