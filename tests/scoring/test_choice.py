"""The label-free criterion against its definition, and what is registered."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.spatial.distance import cosine
from scipy.stats import ks_2samp

from auscult.errors import AuscultError
from auscult.scoring.choice import balances, chosen, register
from auscult.scoring.sweep import sweep_table
from auscult.scoring.table import Embedded
from auscult.settings.schema import BackendSweep, Score
from auscult.settings.section import validated
from support.clouds import UNITS, Clouds, clouds, of_unit

SWEEP = {
    "sweep": {
        "near": {"kind": "knn_cosine", "domain_banks": False},
        "even": {"kind": "calibrated", "of": "near"},
        "far": {"kind": "knn_euclidean"},
    },
    "choice": {"of": ["near", "even"], "splits": 4, "seed": 7},
}


def sweep() -> BackendSweep:
    return validated(BackendSweep, SWEEP, "backends")


def found(parts: Clouds) -> pd.DataFrame:
    return balances(Embedded(*parts), sweep(), Score(), True)


def by_hand(bank: np.ndarray, domain: np.ndarray) -> float:
    """Of nearest neighbours in one bank; the draws are those of the source's code: source first, then target."""
    rng, each = np.random.default_rng(7), []
    for _ in range(4):
        held = []
        for name in ("source", "target"):
            clips = np.flatnonzero(domain == name)
            held += rng.permutation(clips)[: len(clips) // 2].tolist()
        rest = [at for at in range(len(bank)) if at not in held]
        score = {at: min(cosine(bank[at], bank[other]) for other in rest) for at in held}
        source, target = ([score[at] for at in held if domain[at] == name] for name in ("source", "target"))
        each.append(ks_2samp(source, target).statistic)
    return float(np.mean(each))


def test_the_criterion_by_hand() -> None:
    parts = clouds(source=14, target=5)
    table = found(parts)
    assert set(table["backend"]) == {"near", "even"}
    for machine, unit in UNITS:
        bank, domain, *_ = of_unit(parts, machine, unit)
        row = table[(table["machine"] == machine) & (table["unit"] == unit) & (table["backend"] == "near")]
        assert row["balance"].item() == pytest.approx(by_hand(bank.astype(np.float64), domain))


def test_no_test_clip_has_a_say() -> None:
    parts = clouds(source=14, target=5)
    pd.testing.assert_frame_equal(found(parts), found(parts._replace(test=-parts.test)))


def test_calibration_makes_uneven_domains_even() -> None:
    """Target clips four times as far apart: plain distances call them strange, quantiles within a domain do not."""
    rng = np.random.default_rng(0)
    parts = clouds(source=200, target=60)
    train, domain = parts.train.copy(), parts.train_meta["domain"].to_numpy()
    for number, name in enumerate(("source", "target")):
        here = domain == name
        train[here] = 10 * np.eye(6, dtype=np.float32)[number] + (1 + 3 * number) * rng.standard_normal((here.sum(), 6))
    table = found(parts._replace(train=train)).assign(arm="a", set="eval")
    mean = table.groupby("backend")["balance"].mean()
    assert mean["even"] < mean["near"] / 2
    assert chosen(table) == {"a": {"eval": "even"}}


def test_without_two_domains_nothing_is_chosen() -> None:
    assert found(clouds(source=14, target=0)).empty
    assert found(clouds(source=14, target=1)).empty


@pytest.fixture
def written(tmp_path: Path) -> Path:
    parts, place = clouds(source=14, target=5), tmp_path / "embeddings"
    place.mkdir()
    for name, array, meta in (("train", *parts[:2]), ("test", *parts[2:])):
        np.save(place / f"{name}.npy", array)
        meta.to_parquet(place / f"{name}.parquet")
    sweep_table(place, sweep(), Score(), True).assign(seed=1).to_parquet(tmp_path / "a.parquet")
    register(tmp_path, {"a": {1: place}}, sweep(), Score(), domains=True)
    register(tmp_path / "nowhere", {"a": {1: place}}, sweep(), Score(), domains=False)
    return tmp_path


def test_what_is_registered(written: Path) -> None:
    says = json.loads((written / "choice" / "choice.json").read_text())
    for name, digest in says["sha256"].items():
        assert hashlib.sha256((written / "choice" / name).read_bytes()).hexdigest() == digest
    criteria, scores = (pd.read_csv(written / "choice" / f"{name}.csv") for name in ("criteria", "scores"))
    pick = criteria.groupby("backend")["balance"].mean().idxmin()
    assert says["chosen"] == {"a": {"dev": pick}}
    table = pd.read_parquet(written / "a.parquet").query("backend == @pick")
    np.testing.assert_allclose(scores["score"], table["score"], rtol=1e-12)
    assert not (written / "nowhere").exists()


@pytest.mark.parametrize("name", ["native", "nearr", "blind"])
def test_what_cannot_be_chosen_is_refused(name: str) -> None:
    more = {"native": {"kind": "native"}, "blind": {"kind": "blind", "of": "near"}}
    with pytest.raises(AuscultError, match=f"`{name}` cannot be chosen"):
        validated(BackendSweep, {"sweep": SWEEP["sweep"] | more, "choice": {"of": ["near", name]}}, "backends")
