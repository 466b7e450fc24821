"""The packed data set against plain indexing, per-clip decoding and front-ends computed on the fly."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile
import torch

from auscult.data.condition import Condition
from auscult.data.manifest import build_manifest
from auscult.data.pack import INDEX, pack
from auscult.data.store import ClipStore, to_float
from auscult.errors import AuscultError
from auscult.features import FRONTENDS, spectrogram
from auscult.settings.schema import Data
from support.packed import tiny_profile
from support.trees import RATE, noise, write, write_tree_2020, write_tree_2023

DATA = Data(profile="tiny", workers=2)
UNITS = {"valve": ["00"], "fan": ["00", "02"], "ToyCar": ["01"]}


@pytest.fixture(scope="module")
def tree(module_path: Path) -> tuple[Path, pd.DataFrame]:
    """Recordings of three machines in both sets, of which some are shorter and some longer than a clip; the train rows."""
    root = module_path / "tree"
    write_tree_2020(root / "dev", UNITS, train=5, normal=1, anomaly=1, seconds=0.5)
    write_tree_2020(root / "eval", {"fan": ["01"], "valve": ["03"]}, train=3, normal=1, anomaly=1, seconds=0.5, seed=1)
    rng = np.random.default_rng(2)
    write(root / "dev/fan/train/normal_id_00_00000000.wav", noise(rng, 0.2))
    write(root / "dev/fan/train/normal_id_00_00000001.wav", noise(rng, 0.9))
    clips, _ = build_manifest(tiny_profile(sets={"dev": "dev", "eval": "eval"}), root)
    return root, clips[clips["partition"] == "train"]


PROFILE = tiny_profile(clip_seconds=0.5)


@pytest.fixture(scope="module")
def store(tree: tuple[Path, pd.DataFrame], module_path: Path) -> ClipStore:
    root, rows = tree
    out = module_path / "packed" / "train"
    pack(rows, root, out, PROFILE, DATA, ["osscl", "stgram"])
    return ClipStore(out)


@pytest.fixture(scope="module")
def plain(tree: tuple[Path, pd.DataFrame]) -> np.ndarray:
    """What packing has to be equal to: each recording read by itself, cut or padded, int16 [clips, samples]."""
    root, rows = tree
    out = np.zeros((len(rows), 8000), np.int16)
    for i, path in enumerate(rows["path"]):
        audio = soundfile.read(root / path, dtype="int16")[0][:8000]
        out[i, : len(audio)] = audio
    return out


def test_index_and_facts(tree: tuple[Path, pd.DataFrame], store: ClipStore) -> None:
    _, rows = tree
    assert list(store.index.columns) == INDEX
    assert not {"path", "anomaly", "label"} & set(store.index.columns)
    assert store.index["clip_id"].tolist() == rows["clip_id"].tolist()
    assert len(store) == len(rows) == 26
    facts = json.loads((store.folder / "facts.json").read_text())
    assert {**facts, "content": ""} == {"sample_rate": RATE, "samples": 8000, "channel": 0, "content": ""}
    expected = np.minimum(rows["seconds"].to_numpy() * RATE, 8000).round().astype(int)
    assert store.index["valid"].tolist() == expected.tolist()
    assert sorted(set(store.index["valid"])) == [3200, 8000]


def test_one_array_per_machine_in_the_order_of_the_index(store: ClipStore, plain: np.ndarray) -> None:
    for machine, rows in store.index.groupby("machine"):
        audio = np.load(store.folder / "audio" / f"{machine}.npy", mmap_mode="r")
        assert audio.dtype == np.int16
        assert np.array_equal(audio, plain[rows.index])
    assert sorted(path.stem for path in (store.folder / "audio").iterdir()) == ["ToyCar", "fan", "valve"]


ORDERS = {
    "all": list(range(26)),
    "backwards": list(range(25, -1, -1)),
    "shuffled with repeats": [25, 3, 3, 0, 17, 9, 3, 25, 12],
    "one": [7],
    "none": [],
}


@pytest.mark.parametrize("rows", ORDERS.values(), ids=ORDERS)
def test_gather_equals_direct_indexing(store: ClipStore, plain: np.ndarray, rows: list[int]) -> None:
    where = torch.tensor(rows, dtype=torch.int64)
    assert np.array_equal(store.wave(where).numpy(), plain[rows].astype(np.float32) / 32768)
    for frontend in ("osscl", "stgram"):
        direct = np.concatenate(
            [np.load(store.folder / frontend / f"{name}.npy") for name in ("ToyCar", "fan", "valve")]
        )
        place = {clip: i for i, clip in enumerate(np.argsort(store.index["machine"].to_numpy(str), kind="stable"))}
        assert np.array_equal(store.mel(where, frontend).numpy(), direct[[place[row] for row in rows]])


def test_waveform_is_what_other_decoders_give(tree: tuple[Path, pd.DataFrame], store: ClipStore) -> None:
    root, rows = tree
    full = store.index.index[store.index["valid"] == 8000][:3].tolist()
    for row, wave in zip(full, store.wave(torch.tensor(full)), strict=True):
        reference = soundfile.read(root / rows["path"].iloc[row], dtype="float32")[0][:8000]
        assert np.array_equal(wave.numpy(), reference)


@pytest.mark.parametrize("frontend", FRONTENDS)
def test_precomputed_equals_on_the_fly(
    tree: tuple[Path, pd.DataFrame], store: ClipStore, tmp_path: Path, frontend: str
) -> None:
    """To the last bit, whatever the batch: else caching a front-end would change results."""
    root, rows = tree
    pack(rows, root, tmp_path / "cached", PROFILE, DATA, [frontend])
    pack(rows, root, tmp_path / "bare", PROFILE, DATA, [])
    cached, bare = ClipStore(tmp_path / "cached"), ClipStore(tmp_path / "bare")
    assert (tmp_path / "cached" / frontend).is_dir()
    assert not (tmp_path / "bare" / frontend).exists()
    for some in (torch.arange(26), torch.tensor([4, 25, 4]), torch.tensor([11])):
        assert torch.equal(cached.mel(some, frontend), bare.mel(some, frontend))
        assert cached.mel(some, frontend).shape[1:] == cached.shape(frontend)


@pytest.mark.parametrize("frontend", ["osscl", "dcase_constant"])  # in the store, and not
@pytest.mark.parametrize("width", [1, 5, 16])
def test_windows_are_slices_of_the_whole(store: ClipStore, frontend: str, width: int) -> None:
    rng = np.random.default_rng(width)
    rows = torch.from_numpy(rng.integers(0, len(store), 40))
    frames = store.shape(frontend)[1]
    assert frames == 16
    first = torch.from_numpy(rng.integers(0, frames - width + 1, 40))
    windows = store.mel(rows, frontend, first, width)
    whole = store.mel(rows, frontend)
    for window, clip, start in zip(windows, whole, first.tolist(), strict=True):
        assert torch.equal(window, clip[:, start : start + width])


def test_equal_input_makes_equal_bytes_with_any_number_of_workers(
    tree: tuple[Path, pd.DataFrame], tmp_path: Path
) -> None:
    root, rows = tree
    made = []
    for workers in (1, 2, 5):
        out = tmp_path / str(workers)
        pack(rows, root, out, PROFILE, DATA.model_copy(update={"workers": workers}), ["osscl"])
        made.append({path.relative_to(out): path.read_bytes() for path in out.rglob("*") if path.is_file()})
    assert made[0] == made[1] == made[2]
    assert len(made[0]) == 8


def test_short_writes_are_continued(
    tree: tuple[Path, pd.DataFrame], store: ClipStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The system may write less than it was asked to."""
    whole = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda file, data, at: whole(file, data[:1001], at))
    root, rows = tree
    pack(rows, root, tmp_path / "out", PROFILE, DATA, ["osscl"])
    for kind in ("audio", "osscl"):
        assert (tmp_path / "out" / kind / "fan.npy").read_bytes() == (store.folder / kind / "fan.npy").read_bytes()


def test_mixed_formats_end_up_alike(tmp_path: Path) -> None:
    """24 bit, float, FLAC, 22.05 kHz, 44.1 kHz and stereo in one data set."""
    rng = np.random.default_rng(4)
    folder = tmp_path / "fan" / "train"
    audio = noise(rng, 0.5)
    write(folder / "normal_id_00_00000000.wav", audio)
    write(folder / "normal_id_00_00000001.flac", audio)
    write(folder / "normal_id_00_00000002.wav", audio / 32768, subtype="FLOAT")
    write(folder / "normal_id_00_00000003.wav", audio / 32768, subtype="PCM_24")
    write(folder / "normal_id_00_00000004.wav", np.stack([audio, audio[::-1]], axis=1))
    write(folder / "normal_id_00_00000005.wav", noise(rng, 0.5, rate=22050), 22050)
    write(folder / "normal_id_00_00000006.flac", noise(rng, 0.5, rate=44100), 44100)
    write(tmp_path / "fan" / "test" / "normal_id_00_00000000.wav", noise(rng, 0.5))
    clips, _ = build_manifest(tiny_profile(), tmp_path)
    rows = clips[clips["partition"] == "train"]
    pack(rows, tmp_path, tmp_path / "out", PROFILE, DATA, [])
    store = ClipStore(tmp_path / "out")
    assert store.index["valid"].tolist() == [8000] * 7
    for row, path in enumerate(rows["path"]):
        number = int(Path(path).stem[-1])
        same = torch.equal(store.wave(torch.tensor([row]))[0], to_float(torch.from_numpy(audio)))
        assert same == (number <= 4), path


def test_clips_of_2023_keep_domains_in_training_only(tmp_path: Path) -> None:
    write_tree_2023(tmp_path / "raw", seconds=0.2)
    profile = tiny_profile(grammar="dcase2023", clip_seconds=0.2)
    clips, _ = build_manifest(profile, tmp_path / "raw")
    for partition in ("train", "test"):
        pack(clips[clips["partition"] == partition], tmp_path / "raw", tmp_path / partition, profile, DATA, [])
    assert set(ClipStore(tmp_path / "train").index["domain"]) == {"source", "target"}
    test = ClipStore(tmp_path / "test").index
    assert set(test["domain"]) == {"unknown"}
    assert set(test["attributes"]) == {""}


def test_a_unit_with_one_clip(tmp_path: Path) -> None:
    write_tree_2020(tmp_path / "raw", {"fan": ["00"], "valve": ["00"]}, train=1, normal=1, anomaly=1, seconds=0.2)
    clips, _ = build_manifest(tiny_profile(), tmp_path / "raw")
    rows = clips[clips["partition"] == "train"]
    pack(rows, tmp_path / "raw", tmp_path / "out", tiny_profile(clip_seconds=0.2), DATA, ["osscl"])
    store = ClipStore(tmp_path / "out")
    assert store.mel(torch.tensor([1, 0]), "osscl").shape == (2, 128, 7)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_resident_on_the_device_equals_gathered_from_disk(store: ClipStore) -> None:
    rows, first = torch.tensor([25, 3, 3, 0, 17]), torch.tensor([0, 4, 11, 2, 7])
    for fraction in (0.0, 0.5):
        there = ClipStore(store.folder, "cuda", fraction)
        assert torch.equal(there.wave(rows).cpu(), store.wave(rows))
        assert torch.equal(there.mel(rows, "osscl").cpu(), store.mel(rows, "osscl"))
        assert torch.equal(there.mel(rows, "osscl", first, 5).cpu(), store.mel(rows, "osscl", first, 5))


def test_packing_leaves_the_number_of_threads_alone(tree: tuple[Path, pd.DataFrame], tmp_path: Path) -> None:
    root, rows = tree
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        pack(rows, root, tmp_path / "out", PROFILE, DATA, ["osscl"])
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_to_float_is_exact_and_leaves_its_input_alone() -> None:
    every = torch.arange(-32768, 32768, dtype=torch.int32).to(torch.int16)
    assert np.array_equal(to_float(every).numpy(), np.arange(-32768, 32768, dtype=np.float32) / np.float32(32768))
    assert every[0] == -32768


def test_what_a_batch_returns_is_the_callers_own(store: ClipStore) -> None:
    """Writing into a batch must reach neither the files nor the next batch."""
    rows = torch.tensor([0, 1])
    before = store.mel(rows, "osscl").clone()
    store.mel(rows, "osscl").fill_(7)
    store.mel(rows, "osscl", torch.tensor([0, 1]), 3).fill_(7)
    store.wave(rows).fill_(7)
    assert torch.equal(store.mel(rows, "osscl"), before)


CONDITIONS = [Condition(snr_db=0.0), Condition(lowpass_hz=1500.0), Condition(-6.0, 3000.0, seed=3)]


@pytest.mark.parametrize("condition", CONDITIONS, ids=str)
def test_a_condition_reaches_waveforms_and_every_front_end(store: ClipStore, condition: Condition) -> None:
    changed = ClipStore(store.folder, condition=condition)
    rows = torch.tensor([25, 3, 3, 0, 17])
    ids = torch.from_numpy(store.index["clip_id"].to_numpy()[rows.numpy()].copy())
    bank = condition.bank(store.samples, RATE, torch.device("cpu"))
    expected = condition.apply(store.wave(rows), RATE, ids, bank)
    assert torch.equal(changed.wave(rows), expected)
    assert (expected != store.wave(rows)).float().mean() > 0.9
    first = torch.tensor([0, 4, 11, 2, 7])
    for frontend in ("osscl", "dcase_constant"):  # stored, and not: both from the changed waveform
        mel = spectrogram(expected, frontend, RATE)
        assert torch.equal(changed.mel(rows, frontend), mel)
        windows = torch.stack([clip[:, start : start + 5] for clip, start in zip(mel, first.tolist(), strict=True)])
        assert torch.equal(changed.mel(rows, frontend, first, 5), windows)
        assert not torch.allclose(mel, store.mel(rows, frontend), atol=1)


@pytest.mark.parametrize("condition", CONDITIONS, ids=str)
def test_under_a_condition_a_clip_depends_on_its_row_only(store: ClipStore, condition: Condition) -> None:
    changed, again = (ClipStore(store.folder, condition=condition) for _ in range(2))
    whole = changed.mel(torch.arange(26), "osscl")
    for rows in ([7], [25, 3, 3, 0]):
        assert torch.equal(again.mel(torch.tensor(rows), "osscl"), whole[rows])


def test_no_condition_is_the_stored_data(store: ClipStore) -> None:
    """Also one that changes nothing: the pre-computed arrays are read, bit by bit."""
    rows = torch.tensor([4, 25, 4])
    for condition in (None, Condition()):
        plain = ClipStore(store.folder, condition=condition)
        assert torch.equal(plain.wave(rows), store.wave(rows))
        assert torch.equal(plain.mel(rows, "osscl"), store.mel(rows, "osscl"))
        assert set(plain._arrays) == {"audio", "osscl"}  # no front-end was computed


def test_a_cut_off_these_clips_cannot_have(store: ClipStore) -> None:
    with pytest.raises(AuscultError, match="9000 Hz"):
        ClipStore(store.folder, condition=Condition(lowpass_hz=9000))


def test_nothing_packed_here(tmp_path: Path) -> None:
    with pytest.raises(AuscultError, match="no packed features here") as caught:
        ClipStore(tmp_path / "features" / "train")
    assert "dvc repro" in str(caught.value)
    assert str(tmp_path) in str(caught.value)


def test_unknown_front_end(tree: tuple[Path, pd.DataFrame], tmp_path: Path) -> None:
    root, rows = tree
    with pytest.raises(AuscultError, match="unknown front-end `oscl`"):
        pack(rows, root, tmp_path / "out", PROFILE, DATA, ["oscl"])
    assert not (tmp_path / "out").exists()
