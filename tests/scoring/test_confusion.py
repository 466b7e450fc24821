"""Confusion of units against brute force, and on clouds whose answer is known."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy.spatial.distance import cdist
from sklearn.metrics import roc_auc_score

from auscult.errors import AuscultError
from auscult.scoring.confusion import CONFUSION_COLUMNS, confusion, matrix

Data = tuple[np.ndarray, pd.DataFrame, np.ndarray, pd.DataFrame, pd.DataFrame]


def data(seed: int = 0) -> Data:
    """Two machine types of 3 and 2 units, overlapping clouds in 4 dimensions, clips in mixed order, dev and eval units."""
    rng = np.random.default_rng(seed)
    units = [("fan", "00"), ("fan", "02"), ("fan", "05"), ("valve", "00"), ("valve", "01")]
    centre = rng.standard_normal((len(units), 4)) + 1

    def clips(count: int) -> tuple[np.ndarray, pd.DataFrame]:
        of = rng.permutation(np.repeat(np.arange(len(units)), count))
        meta = pd.DataFrame([units[unit] for unit in of], columns=["machine", "unit"])
        meta["set"] = np.where(meta["unit"].isin(["01", "05"]), "eval", "dev")
        meta["clip_id"] = rng.integers(0, 2**60, len(meta))
        return (centre[of] + rng.standard_normal((len(of), 4))).astype(np.float32), meta

    train, train_meta = clips(15)
    test, test_meta = clips(12)
    labels = pd.DataFrame({"clip_id": test_meta["clip_id"], "anomaly": rng.integers(0, 2, len(test_meta))})
    return train, train_meta, test, test_meta, labels.sample(frac=1, random_state=1)


def brute_force(parts: Data, k: int, metric: str, level: float) -> dict[tuple[str, str, str, str], tuple[float, int]]:
    """The definitions, one clip at a time."""
    train, train_meta, test, test_meta, labels = parts
    normal = dict(zip(labels["clip_id"], labels["anomaly"] == 0, strict=True))

    def bank(machine: str, unit: str) -> list[int]:
        return [i for i, row in train_meta.iterrows() if (row["machine"], row["unit"]) == (machine, unit)]  # type: ignore[misc]

    def far(clip: np.ndarray, members: list[int]) -> float:
        distances = cdist(clip[None].astype(float), train[members].astype(float), metric)[0]
        return float(np.mean(sorted(distances)[:k]))

    out = {}
    for machine, of_machine in train_meta.groupby("machine"):
        units = sorted(set(of_machine["unit"]))
        banks = {unit: bank(str(machine), unit) for unit in units}
        mine = {
            unit: [i for i, row in test_meta.iterrows()
                   if (row["machine"], row["unit"]) == (machine, unit) and normal[row["clip_id"]]]
            for unit in units
        }  # fmt: skip
        limit = {
            unit: np.quantile([far(train[i], [j for j in rows if j != i]) for i in rows], level)
            for unit, rows in banks.items()
        }
        for i in units:
            alarms = [clip for clip in mine[i] if far(test[clip], banks[i]) > limit[i]]
            for j in units:
                passed = [far(test[clip], banks[j]) <= limit[j] for clip in mine[i]]
                out[str(machine), i, j, "accepted"] = (float(np.mean(passed)), len(passed))
                if i == j:
                    continue
                winners = [min((far(test[c], banks[u]), u) for u in units if u != i)[1] for c in alarms]
                out[str(machine), i, j, "nearest"] = (
                    np.mean([w == j for w in winners]) if winners else np.nan,
                    len(alarms),
                )
                scores = [far(test[clip], banks[j]) for clip in (*mine[i], *mine[j])]
                truth = [1] * len(mine[i]) + [0] * len(mine[j])
                out[str(machine), i, j, "auc"] = (roc_auc_score(truth, scores), len(scores))
    return out


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
@pytest.mark.parametrize(("k", "level"), [(1, 0.9), (3, 0.5), (100, 0.95)])
def test_brute_force(metric: str, k: int, level: float) -> None:
    parts = data()
    found = confusion(*parts, k=k, metric=metric, level=level)  # type: ignore[arg-type]
    expected = brute_force(parts, k, metric, level)
    assert list(found.columns) == CONFUSION_COLUMNS
    table = found.set_index(["machine", "unit", "other", "quantity"])
    assert set(table.index) == set(expected)
    assert len(table) == len(expected)
    for key, (value, clips) in expected.items():
        row = table.loc[key]
        assert row["clips"] == clips, key
        assert row["value"] == pytest.approx(value, abs=1e-6, nan_ok=True), key


def clouds(places: dict[str, float], train: int = 20, test: int = 10, spread: float = 0.1) -> Data:
    """Units as clouds on a line (Euclidean), evenly filled; anomalies, which must not count, lie far away."""
    rng = np.random.default_rng(0)
    vectors: dict[str, list[np.ndarray]] = {"train": [], "test": []}
    tables: dict[str, list[tuple[str, str]]] = {"train": [], "test": []}
    for unit, place in places.items():
        for name, count in (("train", train), ("test", test)):
            vectors[name].append(place + spread * rng.uniform(-1, 1, (count, 1)))
            tables[name] += [("fan", unit)] * count
    vectors["test"].append(np.full((5, 1), 1000.0))
    tables["test"] += [("fan", next(iter(places)))] * 5
    metas = [pd.DataFrame(tables[name], columns=["machine", "unit"]) for name in ("train", "test")]
    metas[1]["clip_id"] = np.arange(len(metas[1]))
    anomaly = np.r_[np.zeros(test * len(places)), np.ones(5)].astype(int)
    labels = pd.DataFrame({"clip_id": metas[1]["clip_id"], "anomaly": anomaly})
    train_array, test_array = (np.concatenate(vectors[name]).astype(np.float32) for name in ("train", "test"))
    return train_array, metas[0], test_array, metas[1], labels


def test_units_far_apart_accept_nobody_else() -> None:
    places = {"00": 0.0, "02": 50.0, "04": 90.0}
    table = confusion(*clouds(places, train=200, test=200), metric="euclidean", level=0.99)
    accepted = matrix(table, "fan", "accepted").to_numpy()
    assert (accepted[~np.eye(3, dtype=bool)] == 0).all()
    assert (np.diag(accepted) >= 0.95).all()
    assert (table.loc[table["quantity"] == "auc", "value"] == 1).all()


def test_units_in_one_place_accept_each_other() -> None:
    table = confusion(*clouds({"00": 0.0, "02": 0.0}, train=200, test=200), metric="euclidean")
    accepted = matrix(table, "fan", "accepted").to_numpy()
    assert (accepted > 0.85).all()
    auc = table.loc[table["quantity"] == "auc", "value"]
    assert (abs(auc - 0.5) < 0.1).all()


def test_false_alarms_go_to_the_nearest_other_unit() -> None:
    """Unit 00's test clips have moved to 9: its own detector rejects all of them, and of the others 02 (at 10) is nearest."""
    train, train_meta, test, test_meta, labels = clouds({"00": 0.0, "02": 10.0, "04": -20.0})
    test = np.where((test_meta["unit"] == "00").to_numpy()[:, None], test + 9, test)
    table = confusion(train, train_meta, test, test_meta, labels, metric="euclidean", level=0.99)
    nearest = table[(table["quantity"] == "nearest") & (table["unit"] == "00")].set_index("other")
    assert nearest["value"].to_dict() == {"02": 1, "04": 0}
    assert nearest["clips"].tolist() == [10, 10]  # the five anomalies are no false alarms
    own = table[(table["quantity"] == "accepted") & (table["unit"] == "00") & (table["other"] == "00")]
    assert own["value"].tolist() == [0]


def test_without_false_alarms_there_is_nothing_to_be_near() -> None:
    train, train_meta, test, test_meta, labels = clouds({"00": 0.0, "02": 10.0})
    inside = np.median(train[:20]).astype(np.float32)  # no farther from a training clip than these are from each other
    test = np.where((test_meta["unit"] == "00").to_numpy()[:, None], inside, test)
    table = confusion(train, train_meta, test, test_meta, labels, metric="euclidean", level=0.99)
    row = table[(table["quantity"] == "nearest") & (table["unit"] == "00")].iloc[0]
    assert np.isnan(row["value"])
    assert row["clips"] == 0


def test_a_type_with_one_unit_has_its_diagonal_alone() -> None:
    table = confusion(*clouds({"00": 0.0}), metric="euclidean")
    assert table[["unit", "other", "quantity", "clips"]].to_numpy().tolist() == [["00", "00", "accepted", 10]]
    assert 0 <= table["value"][0] <= 1
    assert matrix(table, "fan", "nearest").isna().all(axis=None)


def test_the_threshold_leaves_test_clips_out() -> None:
    """Other test clips of j change nothing in what j accepts of i."""
    train, train_meta, test, test_meta, labels = data()
    before = confusion(train, train_meta, test, test_meta, labels)
    moved = test.copy()
    moved[(test_meta["unit"] == "02").to_numpy()] *= -3
    after = confusion(train, train_meta, moved, test_meta, labels)
    same = (before["unit"] != "02") & before["quantity"].isin(["accepted", "nearest"])
    pd.testing.assert_frame_equal(before[same], after[same])


def test_unlabelled_clips_and_units_without_test_clips() -> None:
    train, train_meta, test, test_meta, labels = data()
    labels = labels.assign(anomaly=labels["anomaly"].astype("float"))
    fan = test_meta.loc[(test_meta["machine"] == "fan") & (test_meta["unit"] == "05"), "clip_id"]
    expected = confusion(train, train_meta, test, test_meta, labels[~labels["clip_id"].isin(fan)])
    unknown = labels.assign(anomaly=labels["anomaly"].mask(labels["clip_id"].isin(fan)))
    empty = confusion(train, train_meta, test, test_meta, unknown)
    pd.testing.assert_frame_equal(expected, empty)
    of_unit = expected[(expected["machine"] == "fan") & (expected["unit"] == "05")]
    assert of_unit["value"].isna().all()
    kept = expected[(expected["machine"] == "fan") & (expected["unit"] == "00") & (expected["quantity"] == "accepted")]
    assert kept["value"].notna().all()  # its bank still judges the others


def test_a_unit_with_one_training_clip_has_no_threshold() -> None:
    train, train_meta, test, test_meta, labels = clouds({"00": 0.0, "02": 10.0})
    keep = np.r_[0:20, 20]
    table = confusion(train[keep], train_meta.iloc[keep], test, test_meta, labels, metric="euclidean")
    accepted = matrix(table, "fan", "accepted")
    assert accepted["02"].isna().all()
    assert accepted["00"].notna().all()
    assert (table.loc[table["quantity"] == "auc", "value"] == 1).all()  # needs no threshold


def test_refused() -> None:
    parts = data()
    with pytest.raises(AuscultError, match="quantile 1"):
        confusion(*parts, level=1.0)
    with pytest.raises(AuscultError, match="0 neighbours"):
        confusion(*parts, k=0)
    keep = ((parts[1]["machine"] != "valve") | (parts[1]["unit"] != "01")).to_numpy()
    with pytest.raises(AuscultError, match="valve 01"):
        confusion(parts[0][keep], parts[1][keep], *parts[2:])
