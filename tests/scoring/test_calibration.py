"""Calibration by domain against its equations clip by clip, and ranks and machines that nobody tells."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from scipy.spatial.distance import cosine

from auscult.errors import AuscultError
from auscult.evaluation.metrics import Floats
from auscult.scoring.calibration import quantile_map
from auscult.scoring.fusion import ranks, standardised
from auscult.scoring.knn import left_out
from auscult.scoring.sweep import entries
from auscult.scoring.table import Embedded
from auscult.settings.schema import BackendSweep, Score
from auscult.settings.section import validated
from support.clouds import UNITS, Clouds, clouds, of_unit
from support.scores import knobs, scores

ONE = {"kind": "knn_cosine", "domain_banks": False}


def of(parts: Clouds, **sweep: dict[str, Any]) -> dict[str, Floats]:
    return entries(Embedded(*parts), validated(BackendSweep, {"sweep": sweep}, "backends"), Score(), True).scores


# ---------------------------------------------------------------------------------------------------------------- quantile
def place_by_hand(normal: list[float], score: float) -> float:
    known = sorted(normal)
    n = len(known)
    if score >= known[-1]:
        beyond, scale = score - known[-1], known[-1] - float(np.median(known))
        return n / (n + 1) + (1 / (n + 1)) * beyond / (beyond + scale)
    low = [(min(0.0, known[0]), 0.0)] + [(value, (i + 1) / (n + 1)) for i, value in enumerate(known)]
    for (left, below), (right, above) in pairwise(low):
        if left <= score < right:
            return below + (above - below) * (score - left) / (right - left)
    return 0.0


def test_a_place_among_normal_scores_by_hand() -> None:
    rng = np.random.default_rng(0)
    normal = rng.gamma(2, size=11)
    asked = np.concatenate([rng.gamma(2, size=60), normal, [0.0, 30.0, 1e6]])
    found = quantile_map(normal)(asked)
    np.testing.assert_allclose(found, [place_by_hand(normal.tolist(), value) for value in asked], rtol=1e-9, atol=1e-12)
    assert (np.diff(found[np.argsort(asked)]) >= 0).all()
    assert found.max() < 1


def test_beyond_all_normal_scores_no_two_clips_are_alike() -> None:
    """What a plain empirical p-value would do to most anomalies."""
    normal = np.linspace(1, 2, 10)
    found = quantile_map(normal)(np.array([3.0, 4.0, 50.0]))
    assert (np.diff(found) > 0).all()


# -------------------------------------------------------------------------------------------------------------------- DACo
def by_hand(parts: Clouds, unit: tuple[str, str], how: str, assign: str, m: float) -> list[float]:
    bank, domain, queries, _ = of_unit(parts, *unit)
    bank, queries = bank.astype(np.float64), queries.astype(np.float64)
    loo = np.array([min(cosine(x, y) for j, y in enumerate(bank) if j != i) for i, x in enumerate(bank)])
    found = []
    for x in queries:
        a = min(cosine(x, y) for y in bank)
        near = [min(cosine(x, y) for y in bank[domain == name]) for name in ("source", "target")]
        weight = np.exp(-np.array(near) / np.median(loo))
        weight = weight / weight.sum() if assign == "soft" else (np.array(near) == min(near)).astype(float)
        values = []
        for name in ("source", "target"):
            own = loo[domain == name]
            one = place_by_hand(own.tolist(), a)
            every = place_by_hand(loo.tolist(), a)
            quantile = (len(own) * one + m * every) / (len(own) + m)
            values.append(
                {"quantile": quantile, "ratio": a / np.median(own), "zscore": (a - own.mean()) / own.std()}[how]
            )
        found.append(float(weight @ values))
    return found


@pytest.mark.parametrize(
    ("how", "assign", "m"),
    [("quantile", "soft", 0), ("quantile", "hard", 30), ("ratio", "hard", 0), ("zscore", "soft", 0)],
)
def test_calibrated_by_hand(how: str, assign: str, m: float) -> None:
    parts = clouds(source=14, target=5)
    found = of(parts, near=ONE, c={"kind": "calibrated", "of": "near", "how": how, "assign": assign, "m": m})["c"]
    for unit in UNITS:
        np.testing.assert_allclose(found[of_unit(parts, *unit)[3]], by_hand(parts, unit, how, assign, m), rtol=1e-3)


def test_an_endless_m_is_the_order_of_the_plain_scores() -> None:
    parts = clouds(source=14, target=5)
    found = of(parts, near=ONE, c={"kind": "calibrated", "of": "near", "m": 1e12})
    for unit in UNITS:
        places = of_unit(parts, *unit)[3]
        np.testing.assert_array_equal(found["c"][places].argsort(), found["near"][places].argsort())


def test_with_one_domain_the_order_within_a_unit_stays() -> None:
    parts = clouds(source=14, target=0)
    found = of(parts, near=ONE, c={"kind": "calibrated", "of": "near"})
    for unit in UNITS:
        places = of_unit(parts, *unit)[3]
        np.testing.assert_array_equal(found["c"][places].argsort(), found["near"][places].argsort())


def test_a_unit_of_one_training_clip_is_calibrated_by_all() -> None:
    """It has no left-out score; its plain scores beside the others' quantiles would decide any pooled number."""
    parts = clouds(source=14, target=5)
    lone = (parts.train_meta["machine"] == "valve").to_numpy()
    kept = ~lone | (np.cumsum(lone) == 1)
    few = parts._replace(train=parts.train[kept], train_meta=parts.train_meta[kept].reset_index(drop=True))
    places = of_unit(few, "valve", "00")[3]
    found = of(few, near=ONE, c={"kind": "calibrated", "of": "near", "assign": "hard", "m": 1e12})
    every = left_out(few.train, few.train_meta, knobs("knn_cosine", domain_banks=False))  # type: ignore[arg-type]
    every = every[np.isfinite(every)]
    expected = [place_by_hand(every.tolist(), value) for value in found["near"][places]]
    np.testing.assert_allclose(found["c"][places], expected, rtol=1e-5)


@pytest.mark.parametrize("more", [{"assign": "soft"}, {"assign": "hard", "how": "ratio"}])
def test_scores_that_are_no_distances_are_not_divided_by(more: dict[str, Any]) -> None:
    parts, gmm = clouds(source=40, target=8), {"kind": "gmm", "components": 1}
    rng = np.random.default_rng(0)  # tight clouds, of densities far above 1
    parts = parts._replace(train=(1 + 0.01 * rng.standard_normal(parts.train.shape)).astype(np.float32))
    with pytest.raises(AuscultError, match="scores by `gmm` are no distances"):
        of(parts, gmm=gmm, c={"kind": "calibrated", "of": "gmm"} | more)
    of(parts, gmm=gmm, c={"kind": "calibrated", "of": "gmm", "assign": "hard"})


# ------------------------------------------------------------------------------------------------------------------- ranks
def test_fusion_by_rank_is_the_mean_place_among_the_units_training_clips() -> None:
    parts = clouds()
    far = {"kind": "knn_euclidean", "domain_banks": False}
    found = of(parts, near=ONE, far=far, f={"kind": "fusion", "of": ["near", "far"], "how": "rank"})
    expected = np.zeros(len(parts.test))
    for name, kind in (("near", "knn_cosine"), ("far", "knn_euclidean")):
        loo = left_out(*parts[:2], knobs(kind))  # type: ignore[arg-type]
        for machine, unit in UNITS:
            own = ((parts.train_meta["machine"] == machine) & (parts.train_meta["unit"] == unit)).to_numpy()
            places = of_unit(parts, machine, unit)[3]
            expected[places] += [place_by_hand(loo[own].tolist(), value) / 2 for value in found[name][places]]
    np.testing.assert_allclose(found["f"], expected, rtol=1e-6)


def test_a_growing_function_of_the_scores_between_normal_ones_changes_no_rank_by_much() -> None:
    """What ranks are for: only the order counts, at the normal scores themselves exactly."""
    parts = clouds()
    loo = left_out(*parts[:2], knobs("knn_cosine"))  # type: ignore[arg-type]
    own = ranks(loo, parts.train_meta, loo, parts.train_meta)
    bent = ranks(np.exp(loo), parts.train_meta, np.exp(loo), parts.train_meta)
    np.testing.assert_allclose(own, bent, rtol=1e-9)


# ------------------------------------------------------------------------------------------------------- machine not told
def forgotten(parts: Clouds) -> Clouds:
    """The test clips under one machine's name, whatever they are."""
    return parts._replace(test_meta=parts.test_meta.assign(machine=UNITS[0][0], unit=UNITS[0][1]))


def test_without_the_machine_the_smallest_over_all_banks_counts() -> None:
    parts = clouds()
    sweep = {
        "near": ONE,
        "all": ONE | {"scope": "all"},
        "raw": {"kind": "blind", "of": "near", "standardise": False},
        "blind": {"kind": "blind", "of": "near"},
    }
    found = of(parts, **sweep)
    expected, scaled = [], []
    loo = left_out(*parts[:2], knobs("knn_cosine"))  # type: ignore[arg-type]
    for machine, unit in UNITS:
        meta = parts.test_meta.assign(machine=machine, unit=unit)
        expected.append(scores("knn_cosine", parts._replace(test_meta=meta)))
        scaled.append(standardised(expected[-1], meta, loo, parts.train_meta))
    np.testing.assert_allclose(found["raw"], np.min(expected, axis=0), rtol=1e-6)
    np.testing.assert_allclose(
        found["all"], found["raw"], atol=1e-6
    )  # k = 1: the union's nearest is the nearest of all
    np.testing.assert_allclose(found["blind"], np.min(scaled, axis=0), rtol=1e-6)
    assert (found["raw"] <= found["near"] + 1e-7).all()
    assert not np.allclose(found["raw"], found["near"])


@pytest.mark.parametrize("scope", ["machine", "all"])
def test_a_wider_bank_is_on_the_scale_of_all_its_clips(scope: str) -> None:
    """Not on that of whichever unit comes first in it."""
    parts, scaled = clouds(), []
    one = ONE | {"scope": scope}
    found = of(parts, near=one, blind={"kind": "blind", "of": "near"})["blind"]
    loo = left_out(*parts[:2], knobs("knn_cosine", domain_banks=False, scope=scope))  # type: ignore[arg-type]
    machines = parts.train_meta["machine"].to_numpy()
    for machine in ("fan", "valve"):
        here = machines == machine if scope == "machine" else np.full(len(machines), True)
        raw = [min(cosine(x, y) for y in parts.train[here]) for x in parts.test]
        scaled.append((np.array(raw) - loo[here].mean()) / loo[here].std())
    np.testing.assert_allclose(found, np.min(scaled, axis=0), rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("kind", ["knn_cosine", "ldn", "varmin", "mahalanobis"])
def test_without_the_machine_its_name_changes_nothing(kind: str) -> None:
    parts = clouds()
    sweep = {"all": {"kind": kind, "scope": "all"}, "plain": {"kind": kind}, "blind": {"kind": "blind", "of": "plain"}}
    told, untold = of(parts, **sweep), of(forgotten(parts), **sweep)
    for name in ("all", "blind"):
        np.testing.assert_array_equal(told[name], untold[name])
    assert not np.array_equal(told["plain"], untold["plain"])
