"""Standardising by left-out training clips, and what is made of it."""

from __future__ import annotations

from functools import partial

import numpy as np
import pandas as pd
import pytest

from auscult.errors import AuscultError
from auscult.evaluation.metrics import Floats
from auscult.scoring import table as scoring_table
from auscult.scoring.fusion import ensemble, fold_scores, fused, standardised
from support.clouds import Clouds, clouds
from support.scores import knobs

knn_scores = partial(scoring_table.scored, knobs("knn_cosine"))


def test_fold_scores_are_those_of_a_backend_fitted_to_the_rest() -> None:
    """By a back-end that writes down what it is given: every clip is scored once, by a bank that lacks it."""
    parts = clouds(source=20, target=4)
    train_meta = parts.train_meta.assign(row=np.arange(len(parts.train)))
    seen: list[tuple[set[int], set[int]]] = []

    def spy(train: np.ndarray, meta: pd.DataFrame, test: np.ndarray, test_meta: pd.DataFrame) -> Floats:
        np.testing.assert_array_equal(train, parts.train[meta["row"]])
        np.testing.assert_array_equal(test, parts.train[test_meta["row"]])
        seen.append((set(meta["row"]), set(test_meta["row"])))
        return knn_scores(train, meta, test, test_meta)

    found = fold_scores(spy, parts.train, train_meta, folds=4, seed=0)
    everything = set(range(len(parts.train)))
    assert [fitted | scored for fitted, scored in seen] == [everything] * 4
    assert not any(fitted & scored for fitted, scored in seen)
    assert sorted(row for _, scored in seen for row in scored) == sorted(everything)
    for _, scored in seen:  # each part has its share of every unit and domain
        counts = train_meta[train_meta["row"].isin(scored)].groupby(["machine", "unit", "domain"]).size()
        assert (counts.xs("source", level="domain") == 5).all()
        assert (counts.xs("target", level="domain") == 1).all()
    fitted, scored = seen[0]
    rest, here = sorted(fitted), sorted(scored)
    again = knn_scores(parts.train[rest], train_meta.iloc[rest], parts.train[here], train_meta.iloc[here])
    np.testing.assert_array_equal(found[here], again)


def test_the_seed_splits() -> None:
    parts = clouds()
    one, two, other = (fold_scores(knn_scores, parts.train, parts.train_meta, seed=seed) for seed in (0, 0, 1))
    np.testing.assert_array_equal(one, two)
    assert not np.array_equal(one, other)


def test_the_only_clip_of_a_unit_has_no_left_out_score() -> None:
    parts = clouds(source=6, target=0)
    keep = (parts.train_meta["unit"] != "02").to_numpy().copy()
    keep[np.flatnonzero(~keep)[0]] = True
    train, meta = parts.train[keep], parts.train_meta[keep]
    alone = (meta["unit"] == "02").to_numpy()
    found = fold_scores(knn_scores, train, meta)
    assert np.isnan(found[alone]).all()
    assert np.isfinite(found[~alone]).all()
    wide = fold_scores(
        partial(scoring_table.scored, knobs("knn_cosine", scope="machine")), train, meta, scope="machine"
    )
    assert np.isfinite(wide).all()


def meta(units: list[tuple[str, str]]) -> pd.DataFrame:
    return pd.DataFrame(units, columns=["machine", "unit"])


def test_standardised_by_the_unit_its_type_or_all() -> None:
    """fan 00 has scores of its own; fan 02 has one, valve 00 equal ones, pump 00 none."""
    train = meta([("fan", "00")] * 3 + [("fan", "02")] + [("valve", "00")] * 2 + [("pump", "00")])
    left_out = np.array([1.0, 2.0, 3.0, 10.0, 5.0, 5.0, np.inf])
    test = meta([("fan", "00"), ("fan", "02"), ("valve", "00"), ("pump", "00")])
    found = standardised(np.full(4, 4.0), test, left_out, train)
    own, fan, everyone = left_out[:3], left_out[:4], left_out[:6]
    expected = [(4 - of.mean()) / of.std() for of in (own, fan, everyone, everyone)]
    np.testing.assert_allclose(found, expected)


def test_scores_that_are_all_alike_stay() -> None:
    train = meta([("fan", "00")] * 3)
    np.testing.assert_array_equal(standardised(np.array([7.0]), meta([("fan", "00")]), np.ones(3), train), [7.0])


def test_a_backends_scale_has_no_say() -> None:
    """What standardising is for: scores in another unit of measure are the same scores."""
    parts = clouds()
    rng = np.random.default_rng(0)
    left_out, scores = rng.gamma(2, size=len(parts.train)), rng.gamma(2, size=len(parts.test))
    one = standardised(scores, parts.test_meta, left_out, parts.train_meta)
    other = standardised(1000 * scores - 3, parts.test_meta, 1000 * left_out - 3, parts.train_meta)
    np.testing.assert_allclose(one, other, rtol=1e-9)
    np.testing.assert_allclose(fused([one, other]), one, rtol=1e-9)


def sweep(parts: Clouds, seed: int, score: Floats) -> pd.DataFrame:
    columns = parts.test_meta[["clip_id", "set", "machine", "unit", "domain"]]
    return columns.assign(backend="knn", score=score, standardised=score / 2, rank=score / 3, seed=seed)


def test_an_ensemble_is_the_mean_clip_by_clip_and_seed_by_seed() -> None:
    parts = clouds()
    rng = np.random.default_rng(0)
    values = {(arm, seed): rng.standard_normal(len(parts.test)) for arm in "ab" for seed in (1, 2)}
    one, two = (pd.concat([sweep(parts, seed, values[arm, seed]) for seed in (1, 2)]) for arm in "ab")
    found = ensemble([one, two.sample(frac=1, random_state=0)], "knn")
    assert len(found) == 2 * len(parts.test)
    for seed in (1, 2):
        of = found[found["seed"] == seed].set_index("clip_id").loc[parts.test_meta["clip_id"]]
        np.testing.assert_allclose(of["score"], (values["a", seed] + values["b", seed]) / 4)
    partly = ensemble([one, two[(two["machine"] == "fan") & (two["seed"] == 1)]], "knn")
    assert set(partly["machine"]) == {"fan"}
    assert set(partly["seed"]) == {1}


def test_an_ensemble_of_scores_that_were_not_standardised_is_refused() -> None:
    table = sweep(clouds(), 1, np.ones(len(clouds().test))).assign(standardised=np.nan)
    with pytest.raises(AuscultError, match="no standardised scores by `knn`"):
        ensemble([table, table], "knn")
