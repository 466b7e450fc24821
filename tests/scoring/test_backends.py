"""What holds for every back-end: each clip judged alone, by training clips of its own unit or type, whatever there is of them."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from auscult.errors import AuscultError
from auscult.scoring import backends
from auscult.scoring.banks import DomainSettings, Scope, per_bank, unit_length
from support.clouds import Clouds, clouds
from support.scores import knobs, scores

each_backend = pytest.mark.parametrize("name", sorted(backends()))
each_alone = pytest.mark.parametrize("name", [name for name in sorted(backends()) if not backends()[name].transductive])
each_scope = pytest.mark.parametrize("scope", ["unit", "machine"])
each_domains = pytest.mark.parametrize("domains", [False, True])


def only(parts: Clouds, train: np.ndarray | None = None, test: np.ndarray | None = None) -> Clouds:
    """The clips at these rows."""
    of = np.arange(len(parts.train)) if train is None else train
    to = np.arange(len(parts.test)) if test is None else test
    return Clouds(parts.train[of], parts.train_meta.iloc[of], parts.test[to], parts.test_meta.iloc[to])


@each_alone
@each_scope
@each_domains
def test_a_clip_alone_has_the_score_it_has_in_the_batch(name: str, scope: Scope, domains: bool) -> None:
    parts, backend = clouds(), backends()[name]
    state = backend.fit(parts.train, parts.train_meta, knobs(name, 1, domains, scope))
    batch = backend.score(state, parts.test, parts.test_meta)
    rows = [parts.test_meta.iloc[[row]] for row in range(len(batch))]
    alone = [backend.score(state, parts.test[[row]], meta)[0] for row, meta in enumerate(rows)]
    np.testing.assert_allclose(batch, alone, rtol=1e-5, atol=1e-6)
    assert len(np.unique(batch)) > len(batch) / 2


@each_backend
def test_nothing_but_embeddings_and_units_of_test_clips_counts(name: str) -> None:
    """Neither a label nor the true domain nor the name of a test clip changes a bit, were they beside its unit."""
    parts = clouds()
    told = parts.test_meta.assign(
        domain="target", anomaly=np.arange(len(parts.test)) % 2, clip_id=0, set="eval", path="anomaly.wav"
    )
    plain = scores(name, parts, 2, True)
    np.testing.assert_array_equal(plain, scores(name, parts._replace(test_meta=told), 2, True))


@each_backend
@each_domains
def test_twice_the_same_bytes(name: str, domains: bool) -> None:
    parts = clouds()
    first = scores(name, parts, 1, domains)
    assert first.dtype == np.float64
    assert first.tobytes() == scores(name, parts, 1, domains).tobytes()


@each_backend
@each_scope
def test_only_training_clips_in_scope_count(name: str, scope: Scope) -> None:
    """Training clips of another type move among a unit's test clips: nothing changes. A sister unit's count in its scope."""
    parts = clouds()
    before = scores(name, parts, 1, True, scope=scope)
    mine = ((parts.test_meta["machine"] == "fan") & (parts.test_meta["unit"] == "00")).to_numpy()
    moved = {}
    for machine, unit in (("fan", "02"), ("valve", "00")):
        other = ((parts.train_meta["machine"] == machine) & (parts.train_meta["unit"] == unit)).to_numpy()
        train = parts.train.copy()
        train[other] = parts.test[mine][np.arange(other.sum()) % mine.sum()] + np.float32(0.01) * train[other]
        moved[machine] = scores(name, parts._replace(train=train), 1, True, scope=scope)
    np.testing.assert_array_equal(before[mine], moved["valve"][mine])
    assert np.array_equal(before[mine], moved["fan"][mine]) == (scope == "unit")


@each_backend
@each_domains
@pytest.mark.parametrize(("source", "target"), [(1, 0), (0, 1), (1, 1), (2, 1), (9, 2), (2, 3)])
def test_few_training_clips(name: str, domains: bool, source: int, target: int) -> None:
    parts = clouds(source, target)
    assert np.isfinite(scores(name, parts, 3, domains)).all()


@each_backend
@each_domains
@pytest.mark.parametrize("value", [0.0, 1.0])
def test_training_clips_that_are_all_alike(name: str, domains: bool, value: float) -> None:
    """Also alike to some test clips, and of no length."""
    parts = clouds()
    same = np.full_like(parts.train, value)
    test = np.concatenate([same[:3], parts.test[3:]])
    found = scores(name, parts._replace(train=same, test=test), 2, domains)
    assert np.isfinite(found).all()


@each_backend
def test_farther_away_is_more_anomalous(name: str) -> None:
    """Test clips drawn as the training clips score lower than those of another cloud."""
    parts = clouds(source=40, target=0, test=30, seed=3)
    far = parts.test.copy()
    far[::2] = -far[::2]
    found = scores(name, parts._replace(test=far), 1, False)
    for _, rows in parts.test_meta.groupby(["machine", "unit"]).groups.items():
        here = rows.to_numpy()
        assert found[here[here % 2 == 0]].mean() > found[here[here % 2 == 1]].mean()


@each_backend
@each_scope
def test_a_unit_without_training_clips_is_refused(name: str, scope: Scope) -> None:
    parts = clouds()
    known = (parts.train_meta["machine"] != "valve").to_numpy()
    with pytest.raises(AuscultError, match=r"without training clips(.|\n)*valve"):
        scores(name, only(parts, train=np.flatnonzero(known)), 1, False, scope=scope)


@each_backend
def test_no_clips_no_scores(name: str) -> None:
    parts = clouds()
    nothing = np.arange(0)
    assert scores(name, only(parts, nothing, nothing), 1, True).shape == (0,)


def test_per_domain_is_the_smaller_score_and_falls_back_to_one_bank() -> None:
    class Settings(DomainSettings):
        kind: str = "count"

    backends_by_least = [
        per_bank(
            Settings, lambda bank, domain, settings: len(bank), lambda count, queries, settings: [10 * count], least=n
        )
        for n in (1, 2, 3)
    ]
    parts = clouds(source=5, target=2)
    here = (parts.train_meta["machine"] == "valve").to_numpy()
    train, meta, test = (
        parts.train[here],
        parts.train_meta[here],
        parts.test_meta[parts.test_meta["machine"] == "valve"][:1],
    )
    found = []
    for domains, backend in ((False, backends_by_least[0]), *((True, backend) for backend in backends_by_least)):
        state = backend.fit(train, meta, Settings(domain_banks=domains, scope="unit"))
        found.append(backend.score(state, parts.test[:1], test).tolist())
    assert found == [[70], [20], [20], [70]]


def test_unit_length() -> None:
    found = unit_length(np.array([[3.0, 4.0], [0.0, 0.0]], np.float32))
    np.testing.assert_allclose(found, [[0.6, 0.8], [0, 0]], rtol=1e-6)
    assert found.dtype == np.float32


def test_rows_of_another_index_are_rows_all_the_same() -> None:
    """Tables whose index is no count from 0 (as after a selection) are read by place."""
    parts = clouds()
    odd = [meta.set_index(pd.Index(range(500, 500 - len(meta), -1))) for meta in (parts.train_meta, parts.test_meta)]
    for name in backends():
        found = scores(name, parts._replace(train_meta=odd[0], test_meta=odd[1]), 1, True)
        np.testing.assert_array_equal(found, scores(name, parts, 1, True), err_msg=name)
