"""Arrays as a source: every form says the same, order says nothing, what is wrong is told at once, and the stages run on them."""

from __future__ import annotations

import hashlib
import re
import runpy
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from sklearn.metrics import roc_auc_score
from sklearn.neighbors import NearestNeighbors

from auscult.data.condition import Condition
from auscult.data.download import fetch
from auscult.data.inventory import root_of
from auscult.data.manifest import build_manifest
from auscult.data.pack import pack
from auscult.data.store import ClipStore
from auscult.errors import AuscultError
from auscult.files import digest
from auscult.methods import METHODS, load_method
from auscult.settings.params import load_profile
from auscult.settings.profile import Profile
from auscult.settings.schema import Data
from auscult.settings.training import Train
from auscult.training import modelfolder
from auscult.training.arm import train_arm
from support.projects import make_project

ROOT = Path(__file__).parents[2]
REAL = ROOT.parent / "shared" / "real" / "dcase2020_modspec"
UNITS = {"fan": ["00", "02"], "pump": ["1"]}
Arrays = dict[str, np.ndarray]


# ------------------------------------------------------------------------------------------------------- making sources
def arrays(machine: str, shape: tuple[int, ...] = (24,), clips: int = 12) -> Arrays:
    """Arrays of a machine by the names of the npz form; anomalies lie two deviations off, the test normals come first."""
    rng, made = np.random.default_rng(len(machine)), {}
    for unit in UNITS[machine]:
        made[f"train_{unit}"] = rng.normal(size=(clips, *shape)).astype(np.float32)
        made[f"anomaly_{unit}"] = np.repeat([0, 1], clips // 2).astype(np.uint8)
        lift = 2 * made[f"anomaly_{unit}"].reshape(-1, *[1] * len(shape))
        made[f"test_{unit}"] = (rng.normal(size=(clips, *shape)) + lift).astype(np.float32)
    return made


def put_npz(folder: Path, sources: dict[str, Arrays]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for machine, made in sources.items():
        np.savez(folder / f"{machine}.npz", **made)


def tables(made: Arrays) -> dict[str, tuple[np.ndarray, pd.DataFrame]]:
    """The same clips by partition, in one array with an index."""
    out = {}
    for partition in ("train", "test"):
        keys = [key for key in made if key.startswith(partition)]
        units = np.concatenate([[key.split("_")[1]] * len(made[key]) for key in keys])
        index = pd.DataFrame({"unit": units})
        if partition == "test":
            index["anomaly"] = np.concatenate([made[f"anomaly_{key.split('_')[1]}"] for key in keys])
        out[partition] = np.concatenate([made[key] for key in keys]), index
    return out


def put_npy(folder: Path, sources: dict[str, Arrays]) -> None:
    for machine, made in sources.items():
        (folder / machine).mkdir(parents=True)
        for partition, (values, index) in tables(made).items():
            np.save(folder / machine / f"{partition}.npy", values)
            index.to_csv(folder / machine / f"{partition}.csv", index=False)


def put_parquet(folder: Path, sources: dict[str, Arrays]) -> None:
    folder.mkdir(parents=True)
    parts: dict[str, list[pd.DataFrame]] = {"train": [], "test": []}
    for machine, made in sources.items():
        for partition, (values, index) in tables(made).items():
            parts[partition].append(index.assign(machine=machine, values=list(values)))
    for partition, frames in parts.items():
        pd.concat(frames, ignore_index=True).to_parquet(folder / f"{partition}.parquet")


FORMS: dict[str, Callable[[Path, dict[str, Arrays]], None]] = {"npz": put_npz, "npy": put_npy, "parquet": put_parquet}


def profile_of(folder: Path, **changes: Any) -> Profile:
    source = {"kind": "arrays", "path": str(folder), **changes.pop("source", {})}
    values = {
        "name": "tiny",
        "dataset": "tiny",
        "title": "numbers",
        "licence": "none",
        "rules": {"scheme": "dcase2020"},
    }
    return Profile.model_validate({**values, "source": source, **changes})


def packed_from(folder: Path, out: Path, **changes: Any) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Download, manifest and features of arrays; clips and labels."""
    profile = profile_of(folder, **changes)
    fetch(profile, out / "raw")
    clips, labels = build_manifest(profile, root_of(out / "raw"))
    for partition in ("train", "test"):
        rows = clips[clips["partition"] == partition]
        pack(rows, root_of(out / "raw"), out / partition, profile, Data(profile="tiny"), ["osscl"])
    return clips, labels


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A packed source of 4 x 6 values per clip."""
    out = tmp_path_factory.mktemp("arrays")
    put_npz(out / "source", {machine: arrays(machine) for machine in UNITS})
    packed_from(out / "source", out, source={"shape": [4, 6]})
    return out


# ------------------------------------------------------------------------------------------------------------- what is read
@pytest.mark.parametrize("form", ["npy", "parquet"])
def test_the_forms_say_the_same(form: str, tmp_path: Path) -> None:
    sources = {machine: arrays(machine) for machine in UNITS}
    made = {}
    for name in ("npz", form):
        FORMS[name](tmp_path / name, sources)
        clips, labels = packed_from(tmp_path / name, tmp_path / f"out_{name}")
        features = digest(*(tmp_path / f"out_{name}" / part for part in ("train", "test")))
        made[name] = clips.drop(columns="path"), labels, features
    pd.testing.assert_frame_equal(made["npz"][0], made[form][0])
    pd.testing.assert_frame_equal(made["npz"][1], made[form][1])
    assert made["npz"][2] == made[form][2]


def test_each_value_reaches_its_clip_under_the_hash_of_its_bytes(small: Path) -> None:
    store = {part: ClipStore(small / part) for part in ("train", "test")}
    assert [len(one) for one in store.values()] == [36, 36]
    for machine in UNITS:
        for key, values in arrays(machine).items():
            partition, unit = key.split("_")  # noqa: RUF059
            if partition == "anomaly":
                continue
            of = store[partition].index.query("machine == @machine and unit == @unit")
            ids = [
                int.from_bytes(hashlib.blake2b(row.tobytes(), digest_size=8).digest(), "little") >> 1 for row in values
            ]
            assert of["clip_id"].tolist() == sorted(ids), "ordered by the clip's id, nothing else"
            rows = torch.from_numpy(of.index.to_numpy(copy=True))
            found = store[partition].mel(rows, "arrays").numpy()
            assert (found == values[np.argsort(ids)].reshape(-1, 4, 6)).all()
    assert store["test"].shape("arrays") == (4, 6)
    assert (store["test"].samples, store["test"].valid(torch.arange(2))) == (0, None)


def test_labels_stay_with_their_values(tmp_path: Path) -> None:
    """An anomaly is told by its values here, whatever became of the order."""
    made = {machine: arrays(machine) for machine in UNITS}
    for of_machine in made.values():
        for key in [key for key in of_machine if key.startswith("test")]:
            of_machine[key][:, 0] = of_machine[f"anomaly_{key.split('_')[1]}"]
    put_npz(tmp_path / "source", made)
    _, labels = packed_from(tmp_path / "source", tmp_path)
    store = ClipStore(tmp_path / "test")
    told = store.mel(torch.arange(len(store)), "arrays")[:, 0, 0].numpy()
    assert (labels.set_index("clip_id")["anomaly"].loc[store.index["clip_id"]].to_numpy() == told).all()
    of_unit = told[(store.index["machine"] == "fan") & (store.index["unit"] == "00")]
    assert 0 < np.abs(np.diff(of_unit)).sum() != 1, "and their order does not part them"


@pytest.mark.parametrize(
    ("stored", "asked", "shape"),
    [((5,), [], (5, 1)), ((3, 4), [], (3, 4)), ((2, 3, 4), [], (2, 12)), ((), [], (1, 1)), ((12,), [3, 4], (3, 4)),
     ((12,), [2, 3, 2], (2, 6)), ((3, 4), [12], (12, 1))],
)  # fmt: skip
def test_shapes(stored: tuple[int, ...], asked: list[int], shape: tuple[int, int], tmp_path: Path) -> None:
    made = arrays("pump", stored)
    put_npz(tmp_path / "source", {"pump": made})
    packed_from(tmp_path / "source", tmp_path, source={"shape": asked})
    store = ClipStore(tmp_path / "train")
    found = store.mel(torch.arange(12), "arrays").numpy()
    assert found.shape == (12, *shape) == (12, *store.shape("arrays"))
    assert sorted(found.reshape(12, -1).tolist()) == sorted(made["train_1"].reshape(12, -1).tolist())


@pytest.mark.parametrize("dtype", ["float64", ">f4", "int16", "float16", "bool"])
def test_number_types(dtype: str, tmp_path: Path) -> None:
    """Types that hold the same numbers give the same clips."""
    both = []
    for kind in (dtype, "float32"):
        made = {key: np.round(values).astype(dtype) for key, values in arrays("pump").items()}
        put_npz(tmp_path / kind, {"pump": {key: values.astype(kind) for key, values in made.items()}})
        packed_from(tmp_path / kind, tmp_path / f"out_{kind}")
        both.append(digest(tmp_path / f"out_{kind}" / "train"))
    assert both[0] == both[1]


def test_index_with_domains_attributes_and_unknown_labels(tmp_path: Path) -> None:
    made = tables(arrays("pump"))
    folder = tmp_path / "source" / "pump"
    folder.mkdir(parents=True)
    for partition, (values, _) in made.items():
        np.save(folder / f"{partition}.npy", values)
    domains = ["source"] * 8 + ["target"] * 4
    pd.DataFrame({"domain": domains, "attributes": "rpm=900"}).to_csv(folder / "train.csv", index=False)
    marks = ["0", "1", ""] * 4
    pd.DataFrame({"domain": domains, "attributes": "rpm=1", "anomaly": marks}).to_csv(folder / "test.csv", index=False)
    clips, labels = packed_from(tmp_path / "source", tmp_path, rules={"scheme": "dcase2022"})
    train, test = (clips[clips["partition"] == partition] for partition in ("train", "test"))
    assert train["domain"].value_counts().to_dict() == {"source": 8, "target": 4}
    assert set(train["attributes"]) == {"rpm=900"}
    assert set(clips["unit"]) == {"00"}
    assert (set(test["domain"]), set(test["attributes"])) == ({"unknown"}, {""}), "hidden from every method"
    known = pd.Series(marks, [f"pump/test.npy/{row}" for row in range(12)])
    of = test.merge(labels, on="clip_id").set_index("path")
    assert of["anomaly"].astype(str).to_dict() == known[known != ""].to_dict()
    assert of["domain_y"].to_dict() == {path: domains[int(path.split("/")[-1])] for path in of.index}


def test_sets_and_machines_of_the_profile(tmp_path: Path) -> None:
    put_npz(tmp_path / "source" / "a", {machine: arrays(machine) for machine in UNITS})
    later = {key: values + (0 if key.startswith("anomaly") else 9) for key, values in arrays("pump").items()}
    put_npz(tmp_path / "source" / "b", {"pump": later})
    clips, _ = packed_from(tmp_path / "source", tmp_path, sets={"dev": "a", "eval": "b"}, machines=["pump"])
    assert clips.groupby(["set", "machine", "partition"]).size().tolist() == [12, 12, 12, 12]
    store = ClipStore(tmp_path / "train")
    found = store.mel(torch.arange(24), "arrays").numpy().reshape(24, -1)
    assert sorted(found[:12].tolist()) == sorted(arrays("pump")["train_1"].tolist())
    assert sorted(found[12:].tolist()) == sorted(later["train_1"].tolist())


def test_holdout_makes_test_clips(tmp_path: Path) -> None:
    made = {key: values for key, values in arrays("pump", clips=40).items() if key.startswith("train")}
    put_npz(tmp_path / "source", {"pump": made})
    clips, labels = packed_from(tmp_path / "source", tmp_path, holdout=0.3)
    held = clips["partition"].value_counts()["test"]
    assert 4 <= held <= 20
    assert labels["anomaly"].tolist() == [0] * held


# ----------------------------------------------------------------------------------------------------------- what is refused
def _without(key: str) -> Callable[[Arrays], None]:
    return lambda made: made.__delitem__(key)


def _set(key: str, at: Any, value: Any) -> Callable[[Arrays], None]:
    return lambda made: made[key].__setitem__(at, value)


def _put(key: str, value: Any) -> Callable[[Arrays], None]:
    return lambda made: made.__setitem__(key, value)


WRONG: dict[str, tuple[Callable[[Arrays], None], list[str]]] = {
    "width": (
        _put("test_02", np.ones((12, 7), np.float32)),
        ["fan.npz/test_02: 7 values per clip, where fan.npz/", "has 24"],
    ),
    "nan": (_set("train_00", (3, 5), np.nan), ["fan.npz/train_00, row 3: NaN"]),
    "infinity": (_set("test_02", (slice(4, 7), 0), -np.inf), ["fan.npz/test_02, row 4 (and 2 more): NaN, infinity"]),
    "overflow": (
        _put("train_00", np.full((12, 24), 1e300)),
        ["fan.npz/train_00, row 0 (and 11 more)", "beyond float32"],
    ),
    "object": (
        _put("train_00", np.array([{}] * 12, object)),
        ["fan.npz/train_00: no array of numbers", "allow_pickle"],
    ),
    "text": (_put("train_00", np.array([["a"] * 24] * 12)), ["fan.npz/train_00: holds `<U1`, and numbers are wanted"]),
    "complex": (_put("train_00", np.ones((12, 24), complex)), ["fan.npz/train_00: holds `complex128`"]),
    "no clip": (_put("test_00", np.ones((0, 24))), ["fan.npz/test_00: not one clip"]),
    "no value": (_put("train_00", np.ones((12, 0))), ["fan.npz/train_00: 0 values per clip"]),
    "no label": (_without("anomaly_00"), ["fan.npz: key `test_00` without `anomaly_00`"]),
    "no test": (_without("test_00"), ["fan.npz: key `anomaly_00` without `test_00`"]),
    "no training": (_without("train_02"), ["fan.npz/test_02/0: unit 02 of fan has test clips and not one to train on"]),
    "labels": (_put("anomaly_00", np.zeros(11)), ["fan.npz/anomaly_00: labels of shape [11] for 12 clips"]),
    "label": (_set("anomaly_00", 4, 2), ["fan.npz/anomaly_00, row 4: 2 is neither 0 (normal) nor 1"]),
    "key": (_put("valid_00", np.ones(3)), ["fan.npz: key `valid_00` is none of train_<unit>"]),
    "unit": (_put("train_a/b", np.ones((2, 24))), ["fan.npz/train_a/b: `a/b` cannot be the name of a unit"]),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_npz_is_refused_as_a_whole(name: str, tmp_path: Path) -> None:
    spoil, words = WRONG[name]
    made = {machine: arrays(machine) for machine in UNITS}
    spoil(made["fan"])
    put_npz(tmp_path / "source", made)
    _refused(tmp_path, words)


def _refused(tmp_path: Path, words: list[str], **changes: Any) -> str:
    """One message with all these words, and nothing written."""
    with pytest.raises(AuscultError) as caught:
        fetch(profile_of(tmp_path / "source", **changes), tmp_path / "raw")
    assert [word for word in words if word not in str(caught.value)] == [], str(caught.value)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["source"]
    return str(caught.value)


def test_all_that_is_wrong_is_told_at_once(tmp_path: Path) -> None:
    made = {machine: arrays(machine) for machine in UNITS}
    made["fan"]["train_00"][0, 0] = np.nan
    made["pump"]["anomaly_1"] = np.zeros(3)
    put_npz(tmp_path / "source", made)
    _refused(tmp_path, ["2 thing(s)", "fan.npz/train_00, row 0", "pump.npz/anomaly_1: labels of shape [3]"])


def test_a_leak_is_named(tmp_path: Path) -> None:
    """A test clip with the values of a training clip, even of another unit."""
    made = {machine: arrays(machine) for machine in UNITS}
    made["fan"]["test_02"][5] = made["fan"]["train_00"][7]
    put_npz(tmp_path / "source", made)
    _refused(tmp_path, ["fan.npz/test_02/5: a leak", "(fan.npz/train_00/7)"])


def test_copies_inside_a_partition_are_said_and_kept(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = arrays("pump")
    made["train_1"][4] = made["train_1"][9]
    made["test_1"][11] = made["test_1"][8]
    put_npz(tmp_path / "source", {"pump": made})
    clips, labels = packed_from(tmp_path / "source", tmp_path)
    said = capsys.readouterr()
    said_all = said.out + said.err
    assert "clips of equal values inside the train part, each kept and counted: 2 clips, 1 different" in said_all
    assert "pump.npz/train_1/4 = pump.npz/train_1/9" in said_all
    assert "clips of equal values inside the test part, each kept and counted: 2 clips, 1 different" in said_all
    assert len(clips) == clips["clip_id"].nunique() == 24
    assert labels["anomaly"].sum() == 6


def test_copies_with_different_labels_are_refused(tmp_path: Path) -> None:
    made = arrays("pump")
    made["test_1"][11] = made["test_1"][0]
    put_npz(tmp_path / "source", {"pump": made})
    _refused(tmp_path, ["pump.npz/test_1/0 = pump.npz/test_1/11: the same values with different labels"])


def test_copies_in_two_domains_keep_their_ids_whatever_the_order_of_rows(tmp_path: Path) -> None:
    values = np.repeat(np.arange(6.0)[:, None], 2, axis=0)
    index = pd.DataFrame({"domain": ["source", "target"] * 6})
    made = []
    for number, order in enumerate((np.arange(12), np.arange(12)[::-1])):
        folder = tmp_path / str(number) / "source" / "pump"
        folder.mkdir(parents=True)
        for partition, shift in (("train", 0), ("test", 10)):
            np.save(folder / f"{partition}.npy", values[order] + shift)
            index.iloc[order].assign(anomaly=0).to_csv(folder / f"{partition}.csv", index=False)
        rules = {"scheme": "dcase2022"}
        clips, labels = packed_from(folder.parent, tmp_path / str(number), rules=rules)
        made.append((clips.drop(columns="path"), labels))
    for one, other in zip(*made, strict=True):
        pd.testing.assert_frame_equal(one, other)


INDEX_WRONG: dict[str, tuple[dict[str, Any], list[str]]] = {
    "short": ({"unit": ["1"] * 11}, ["pump/test.csv: 11 rows, for 12 clips in test.npy"]),
    "unit": (
        {"unit": ["1"] * 5 + ["9"] * 7},
        ["pump/test.npy/5: unit 9 of pump has test clips and not one to train on"],
    ),
    "label": (
        {"unit": ["1"] * 12, "anomaly": ["0"] * 11 + ["yes"]},
        ["pump/test.csv, row 11: `anomaly` is neither 0, 1"],
    ),
    "domain": ({"domain": ["here"] * 12}, ["pump/test.csv, row 0 (and 11 more): the domain is none of source, target"]),
    "column": ({"units": ["1"] * 12}, ["pump/test.csv", "unknown column `units` (did you mean `unit`?)"]),
    "no unit": ({"unit": ["1"] * 11 + [""], "domain": ["source"] * 12}, ["pump/test.csv, row 11: no unit"]),
}


@pytest.mark.parametrize("name", INDEX_WRONG)
def test_an_index_that_does_not_fit(name: str, tmp_path: Path) -> None:
    columns, words = INDEX_WRONG[name]
    put_npy(tmp_path / "source", {"pump": arrays("pump")})
    pd.DataFrame(columns).to_csv(tmp_path / "source" / "pump" / "test.csv", index=False)
    _refused(tmp_path, words)


def test_files_that_are_not_what_they_are_called(tmp_path: Path) -> None:
    folder = tmp_path / "source"
    put_npy(folder, {"pump": arrays("pump")})
    (folder / "pump" / "train.csv").unlink()
    anomalous = pd.DataFrame({"unit": ["00"] * 2, "anomaly": [0, 1]})
    (folder / "saw").mkdir()
    np.save(folder / "saw" / "train.npy", np.ones((2, 24)))
    anomalous.to_csv(folder / "saw" / "train.csv", index=False)
    put_npz(folder, {"fan": arrays("fan")})
    whole = (folder / "fan.npz").read_bytes()
    (folder / "fan.npz").write_bytes(whole[: len(whole) // 2])
    (folder / "lathe.npz").write_bytes(b"no zip")
    np.save(folder / "drill.npy", np.ones(3))
    (folder / "drill.npy").rename(folder / "drill.npz")
    np.save(folder / "lone.npy", np.ones((3, 24)))
    ragged = pd.DataFrame({"values": [[1.0, 2.0], [1.0]], "machine": "mill"})
    ragged.to_parquet(folder / "train.parquet")
    (folder / "test.parquet").write_bytes(b"PAR1")
    words = ["pump/train.npy: without its index train.csv", "saw/train.csv, row 1: an anomaly among the training clips"]
    words += ["fan.npz: not a whole .npz file", "lathe.npz: not a whole .npz file", "drill.npz: not a whole .npz file"]
    words += ["train.parquet (mill): no array of numbers of one shape", "test.parquet: not a whole Parquet file"]
    words += ["lone.npy: an array by itself"]
    assert "8 thing(s)" in _refused(tmp_path, words)


def test_a_pickle_is_never_opened(tmp_path: Path) -> None:
    """An object array in a .npy runs code when it is unpickled; it is refused instead."""

    class Trap:
        def __reduce__(self) -> tuple[Any, ...]:
            return Path.touch, (tmp_path / "sprung",)

    put_npy(tmp_path / "source", {"pump": arrays("pump")})
    np.save(tmp_path / "source" / "pump" / "train.npy", np.array([Trap()] * 12, object), allow_pickle=True)
    _refused(tmp_path, ["pump/train.npy: no array of numbers of one shape"])


def test_shapes_and_machines_that_do_not_fit(tmp_path: Path) -> None:
    put_npz(tmp_path / "source", {machine: arrays(machine) for machine in UNITS})
    _refused(tmp_path, ["24 values per clip, which `source.shape` 5 x 5 does not fit"], source={"shape": [5, 5]})
    _refused(tmp_path, ["no arrays of the profile's machines saw, valve"], machines=["fan", "saw", "valve"])
    _refused(tmp_path, ["source.shape"], source={"shape": [0, 24]})


def test_a_folder_that_is_not_there_or_empty(tmp_path: Path) -> None:
    profile = load_profile("dcase2020_modspec", ROOT / "profiles")
    elsewhere = profile.model_copy(update={"source": {**profile.source, "path": str(tmp_path / "none")}})
    with pytest.raises(AuscultError) as caught:
        fetch(elsewhere, tmp_path / "raw")
    assert "they come from: github.com/L-A-Sandhu/DCASE2020-Anomly-Detection" in str(caught.value)
    (tmp_path / "source").mkdir()
    _refused(tmp_path, ["no arrays in this folder", "<machine>.npz"])


# ------------------------------------------------------------------------------------------------------------- methods
def test_methods_that_need_audio_say_so(small: Path, packed: Path) -> None:
    store, audio = ClipStore(small / "train"), ClipStore(packed / "train")
    for name in METHODS:
        method = load_method(name)
        settings = method.settings()
        reason = store.cannot_give(method.mel(settings), method.wave(settings))
        assert reason.startswith("it reads waveforms" if method.wave(settings) else "it reads the front-end")
        assert audio.cannot_give(method.mel(settings), method.wave(settings)) == ""
    assert store.cannot_give("arrays", False) == ""
    assert audio.cannot_give("arrays", False) == "it reads arrays (`frontend: arrays`), and these clips are audio"


@pytest.mark.parametrize(
    ("method", "values", "reason"),
    [
        ("spectral_knn", {}, ""),
        ("ae", {"epochs": 1, "batch_size": 64}, ""),
        ("mfn", {"epochs": 1, "batch_size": 16}, ""),
        ("mobilenet_v2", {"epochs": 1, "batch_size": 16}, ""),
        ("sc_adacos", {"epochs": 1}, "its network needs 5 bands and 5 frames, and the clips have 4 and 6"),
        ("cnn10", {"epochs": 1}, "its network needs 16 bands and 1 frames, and the clips have 4 and 6"),
        ("glow_aff", {"epochs": 1}, "a window of 8 frames is longer than the clips (6 frames)"),
        ("stgram_mfn", {"epochs": 1}, "it reads waveforms, and these clips are arrays without audio"),
    ],
)
def test_methods_work_on_arrays_or_are_left_out_with_the_reason(
    method: str, values: dict[str, Any], reason: str, small: Path, tmp_path: Path
) -> None:
    settings = load_method(method).settings.model_validate({"frontend": "arrays", **values})
    train_arm(settings, "unit", Train(threads=1, device="cpu"), 1, small / "train", tmp_path / "m", tmp_path / "r", "0")
    trained = modelfolder.load(tmp_path / "m")
    network = {"all": "all", "machine": "fan"}[load_method(method).scope]
    assert (network in trained.networks) is not bool(reason)
    assert trained.skipped.get(network, "").startswith(reason)
    if not reason:
        shape = trained.shapes[network]
        assert (shape.mels, shape.frames, shape.samples) == (4, 6, 0)


def test_arrays_on_an_audio_profile_are_left_out(packed: Path, tmp_path: Path) -> None:
    settings = load_method("spectral_knn").settings.model_validate({"frontend": "arrays"})
    train_arm(
        settings, "unit", Train(threads=1, device="cpu"), 1, packed / "train", tmp_path / "m", tmp_path / "r", "0"
    )
    assert set(modelfolder.load(tmp_path / "m").skipped.values()) == {
        "it reads arrays (`frontend: arrays`), and these clips are audio"
    }


@pytest.mark.parametrize("condition", [Condition(snr_db=0.0), Condition(lowpass_hz=2000.0)])
def test_conditions_are_refused(condition: Condition, small: Path) -> None:
    with pytest.raises(AuscultError, match="noise and low-pass are for audio, and these clips are arrays"):
        ClipStore(small / "test", condition=condition)


# ----------------------------------------------------------------------------------------------------------- the stages
def run_stages(folder: Path, monkeypatch: pytest.MonkeyPatch, *more: list[str]) -> Path:
    """The stages to the tables, and `more`, of a project on the arrays in `folder`/source, run in this process."""
    over = {"spectral_knn": {"frontend": "arrays"}, "ae": {"frontend": "arrays", "epochs": 2}}
    make_project(
        folder,
        {"source": {"kind": "arrays", "path": "source", "shape": [4, 6]}, "grammar": "", "sample_rate": 0, "clip_seconds": 0,
         "overrides": over},
        {"arms": ["spectral_knn", "ae", "stgram_mfn"], "submission": {"set": "dev"}},
    )  # fmt: skip
    (folder / "checkpoints.yaml").write_text((ROOT / "checkpoints.yaml").read_text())
    monkeypatch.chdir(folder)
    monkeypatch.delenv("DVC_ROOT", raising=False)
    arms = ["spectral_knn", "ae", "stgram_mfn"]
    stages = [] if Path("data/tiny/digests").is_dir() else [["digests"]]
    stages += [["download"], ["manifest"], ["features"], *(["train", arm, "2024"] for arm in arms)]
    stages += [["embed", "2024", *arms], ["score"], ["tables"]]
    for words in [*stages, *more]:
        monkeypatch.setattr(sys, "argv", words)
        runpy.run_path(str(ROOT / "stages" / f"{words[0]}.py"), run_name="__main__")
    return folder


def test_the_stages_on_arrays_and_that_the_order_of_rows_changes_no_result(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sources = {machine: arrays(machine) for machine in UNITS}
    put_npz(tmp_path / "one" / "source", sources)
    rng = np.random.default_rng(7)
    for made in sources.values():
        for unit in {key.split("_")[1] for key in made}:
            shuffled = rng.permutation(12)
            for key in (f"test_{unit}", f"anomaly_{unit}"):
                made[key] = made[key][shuffled]
            made[f"train_{unit}"] = made[f"train_{unit}"][::-1]
    put_npz(tmp_path / "two" / "source", {machine: dict(reversed(sources[machine].items())) for machine in sources})
    one = run_stages(tmp_path / "one", monkeypatch, ["submission", "spectral_knn", "ae", "stgram_mfn"], ["report"])
    shutil.copytree(one / "data/tiny/digests", tmp_path / "two/data/tiny/digests")
    two = run_stages(tmp_path / "two", monkeypatch)

    for place in ("data/tiny/features", "data/tiny/manifest/labels.parquet", "data/tiny/embeddings", "models/tiny"):
        assert digest(one / place) == digest(two / place), place
    for arm in ("spectral_knn", "ae", "stgram_mfn"):
        assert digest(one / f"data/tiny/scores/project/{arm}.parquet") == digest(
            two / f"data/tiny/scores/project/{arm}.parquet"
        )
    values = [pd.read_csv(root / "metrics/tiny/summary.csv") for root in (one, two)]
    pd.testing.assert_frame_equal(*values)

    clips = [pd.read_parquet(root / "data/tiny/manifest/clips.parquet") for root in (one, two)]
    pd.testing.assert_frame_equal(*(table.drop(columns="path") for table in clips))
    assert (clips[0]["path"] != clips[1]["path"]).any(), "the rows have moved indeed"

    found = (
        values[0].query("metric == 'auc' and machine == 'mean' and convention == 'per_unit'").set_index("arm")["value"]
    )
    assert found["spectral_knn"].max() > 90, "two deviations in 24 values are hard to miss"
    table = (one / "metrics/tiny/table.md").read_text()
    assert "it reads waveforms, and these clips are arrays" in table
    page = (one / "data/tiny/report/index.html").read_text()
    assert "The clips of this profile are arrays of features: there is no sound to play" in page
    assert [path.name for path in (one / "data/tiny/submission/stgram_mfn").iterdir()] == ["nothing.txt"]
    rows = (one / "data/tiny/submission/ae/anomaly_score_fan_id_00.csv").read_text().splitlines()
    assert sorted(int(row.split(",")[0]) for row in rows) == list(range(12)), "named by the row in the file"


# ------------------------------------------------------------------------------------------------------------- the page
def examples() -> list[str]:
    return re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "your-own-features.md").read_text(), re.S)


def test_the_vibration_example(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Written by the page's lines, read by the page's profile: each file's features are a clip with its label."""
    rng = np.random.default_rng(0)
    for name, count, gain in (("normal", 5, 1.0), ("good", 3, 1.0), ("bad", 2, 3.0)):
        (tmp_path / "logger" / name).mkdir(parents=True)
        for number in range(count):
            np.savetxt(tmp_path / "logger" / name / f"{number}.csv", gain * rng.normal(size=(400, 3)), delimiter=",")
    monkeypatch.chdir(tmp_path)
    exec(examples()[0], {})
    profile = load_profile("arrays", ROOT / "profiles")
    fetch(profile, tmp_path / "raw")
    clips, labels = build_manifest(profile, root_of(tmp_path / "raw"))
    assert clips["partition"].value_counts().to_dict() == {"train": 5, "test": 5}
    stored = np.load(tmp_path / "raw" / "spindle.npy")
    assert stored.shape == (10, 11, 3)
    table = pd.read_parquet(tmp_path / "raw" / "clips.parquet")
    loud = stored[table["row"], 0].mean(axis=1) > 2
    assert loud.tolist() == (table["anomaly"] == 1).tolist(), "the first row of a clip is its RMS"
    assert labels["anomaly"].sum() == 2


def test_the_embeddings_example(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    vectors = np.random.default_rng(0).normal(size=(12, 768))
    np.save(tmp_path / "vectors.npy", vectors)
    facts = {"machine": ["fan"] * 6 + ["pump"] * 6, "part": ["train", "test"] * 6, "unit": "01", "domain": "source"}
    table = pd.DataFrame({**facts, "anomaly": ["", "1", "", "0", "", ""] * 2})
    table.to_csv(tmp_path / "recordings.csv", index=False)
    monkeypatch.chdir(tmp_path)
    exec(examples()[1], {})
    profile = load_profile("arrays", ROOT / "profiles")
    fetch(profile, tmp_path / "raw")
    clips, labels = build_manifest(profile, root_of(tmp_path / "raw"))
    assert clips.groupby(["machine", "partition"]).size().tolist() == [3, 3, 3, 3]
    assert sorted(labels["anomaly"]) == [0, 0, 1, 1], "of one test clip of each machine it is not known"
    assert np.load(tmp_path / "raw" / "fan.npy").shape == (6, 768, 1)


# ---------------------------------------------------------------------------------------------------------- real features
@pytest.mark.skipif(not REAL.is_dir(), reason="the real features are not beside this checkout")
def test_stated_figures_of_the_real_features(tmp_path: Path) -> None:
    """The 1-NN that was computed from the files themselves (log, z-scored per unit): AUC and pAUC of the valve."""
    profile = load_profile("dcase2020_modspec", ROOT / "profiles")
    source = {**profile.source, "path": str(REAL)}
    profile = profile.model_copy(update={"source": source, "machines": ["valve"]})
    fetch(profile, tmp_path / "raw")
    clips, labels = build_manifest(profile, root_of(tmp_path / "raw"))
    anomaly = labels.set_index("clip_id")["anomaly"]
    x, index = {}, {}
    for part in ("train", "test"):
        pack(
            clips[clips["partition"] == part],
            root_of(tmp_path / "raw"),
            tmp_path / part,
            profile,
            Data(profile="x"),
            [],
        )
        store = ClipStore(tmp_path / part)
        assert store.shape("arrays") == (60, 8)
        x[part], index[part] = (
            np.log(store.mel(torch.arange(len(store)), "arrays").flatten(1).numpy() + 1e-8),
            store.index,
        )
    assert len(x["train"]) == 3291
    areas = []
    for unit, rows in index["test"].groupby("unit"):
        train = x["train"][(index["train"]["unit"] == unit).to_numpy()]
        mean, sd = train.mean(0), train.std(0)
        search = NearestNeighbors(n_neighbors=1, algorithm="brute").fit((train - mean) / sd)
        far, marks = (
            search.kneighbors((x["test"][rows.index] - mean) / sd)[0][:, 0],
            anomaly[rows["clip_id"]].to_numpy(),
        )
        areas.append([roc_auc_score(marks, far), roc_auc_score(marks, far, max_fpr=0.1)])
    assert np.round(100 * np.mean(areas, axis=0), 1).tolist() == [96.8, 89.1]


def test_the_profile_of_real_features_stands_apart() -> None:
    text = yaml.safe_load((ROOT / "profiles" / "dcase2020_modspec.yaml").read_text())
    assert text["title"] == "Third-party modulation spectra of DCASE 2020 dev, 20 of 23 units"
    assert text["dataset"] not in ("dcase2020", "")
