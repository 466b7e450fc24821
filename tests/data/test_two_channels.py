"""Recordings of two channels: what is packed of them, what an arm hears, and what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from auscult.data.manifest import build_manifest
from auscult.data.pack import pack
from auscult.data.store import ClipStore
from auscult.errors import AuscultError
from auscult.features import cancel, spectrogram
from auscult.features.cancel import INPUTS, heard
from auscult.settings.params import Params, arm_settings, checked
from auscult.settings.schema import Data
from support.packed import tiny_profile
from support.trees import RATE, noise, write

ALL = tiny_profile(clip_seconds=0.5, inputs=INPUTS)
LENGTHS = (0.5, 0.3, 0.7)  # as long as the clips, shorter, longer


def tree(root: Path, channels: int = 2) -> tuple[Path, pd.DataFrame]:
    rng = np.random.default_rng(4)
    for machine in ("fan", "valve"):
        for number in range(4):
            audio = np.stack([noise(rng, LENGTHS[number % 3]) for _ in range(channels)], axis=1)
            partition = "train" if number < 3 else "test"
            write(root / machine / partition / f"normal_id_00_{number:08d}.wav", audio)
    clips, _ = build_manifest(ALL, root, workers=1)
    return root, clips[clips["partition"] == "train"]


@pytest.fixture(scope="module")
def stereo(module_path: Path) -> tuple[Path, pd.DataFrame, Path]:
    tmp = module_path / "stereo"
    root, rows = tree(tmp / "raw")
    pack(rows, root, tmp / "train", ALL, Data(profile="tiny", workers=2), ["osscl"])
    return root, rows, tmp / "train"


def test_each_input_is_packed_as_it_is_heard(stereo: tuple[Path, pd.DataFrame, Path]) -> None:
    import soundfile

    root, rows, folder = stereo
    for name in INPUTS:
        store = ClipStore(folder, heard=name)
        assert store.index["valid"].tolist() == [min(round(s * RATE), 8000) for s in rows["seconds"]]
        for row, path in enumerate(rows["path"]):
            pair = torch.from_numpy(soundfile.read(root / path)[0].T[:, :8000].copy())
            wave = store.wave(torch.tensor([row]))[0].double()
            expected = (heard(pair, name) * 32768).round().clamp(-32768, 32767) / 32768
            assert torch.equal(wave[: pair.shape[1]], expected), name
            assert not wave[pair.shape[1] :].any()
            if pair.shape[1] == 8000:
                torch.testing.assert_close(
                    store.mel(torch.tensor([row]), "osscl")[0], spectrogram(wave.float(), "osscl")
                )
    assert torch.equal(ClipStore(folder).wave(torch.arange(3)), ClipStore(folder, heard="near").wave(torch.arange(3)))


def test_a_number_of_a_channel_where_one_is_heard(stereo: tuple[Path, pd.DataFrame, Path], tmp_path: Path) -> None:
    root, rows, folder = stereo
    mono = tiny_profile(clip_seconds=0.5)
    everything = torch.arange(len(rows))
    for asked, same in (("near", "near"), (1, "far"), ("far", "far"), ("mean", "mean")):
        pack(rows, root, tmp_path / str(asked), mono, Data(profile="tiny", input=asked, workers=1), [])
        found, known = ClipStore(tmp_path / str(asked)).wave(everything), ClipStore(folder, heard=same).wave(everything)
        assert torch.equal(found, known)
        assert not (tmp_path / str(asked) / "near").exists()


def test_what_cannot_be_heard_is_said(stereo: tuple[Path, pd.DataFrame, Path], tmp_path: Path) -> None:
    root, rows, _ = stereo
    two = tiny_profile(clip_seconds=0.5, inputs=("near", "w1"))
    pack(rows, root, tmp_path / "two", two, Data(profile="tiny", workers=1), [])
    assert ClipStore(tmp_path / "two", heard="w1").cannot_give("osscl", True) == ""
    assert "near, w1 are kept" in ClipStore(tmp_path / "two", heard="ss").cannot_give("osscl", True)
    mono = tiny_profile(clip_seconds=0.5)
    pack(rows, root, tmp_path / "mono", mono, Data(profile="tiny", workers=1), [])
    assert "these clips have one" in ClipStore(tmp_path / "mono", heard="w1").cannot_give("osscl", True)
    with pytest.raises(AuscultError, match="`w1` is made of two channels") as error:
        pack(rows, root, tmp_path / "no", mono, Data(profile="tiny", input="w1", workers=1), [])
    assert "`inputs` of the profile" in error.value.fix


def test_recordings_of_one_channel_are_named_and_nothing_is_left(tmp_path: Path) -> None:
    root, rows = tree(tmp_path / "raw", channels=1)
    with pytest.raises(AuscultError, match=r"(?s)6 recording.s. cannot be decoded.*has 1 channel"):
        pack(rows, root, tmp_path / "out", ALL, Data(profile="tiny", workers=1), [])
    assert not (tmp_path / "out").exists()


def test_a_silent_channel_is_said_and_heard_as_it_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root, rows = tree(tmp_path / "raw")
    nothing, sound = np.zeros(8000, np.int16), noise(np.random.default_rng(0), 0.5)
    for path, pair in zip(rows["path"], ((nothing, sound), (sound, nothing)), strict=False):
        write(root / path, np.stack(pair, axis=1))
    pack(rows, root, tmp_path / "out", ALL, Data(profile="tiny", workers=1), [])
    printed = capsys.readouterr().out
    assert "2 recording(s) with a silent channel" in printed
    assert f"{rows['path'].iloc[0]} (near)" in printed
    assert f"{rows['path'].iloc[1]} (far)" in printed
    near = ClipStore(tmp_path / "out", heard="near").wave(torch.tensor([0, 1]))
    assert not near[0].any()
    for name in ("w1", "ss"):
        wave = ClipStore(tmp_path / "out", heard=name).wave(torch.tensor([0, 1]))
        torch.testing.assert_close(wave, near, rtol=0, atol=1.01 / 32768)  # rounded once more


def test_what_was_packed_is_told_by_its_facts(
    stereo: tuple[Path, pd.DataFrame, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """States of a training are kept for clips of these facts: another way to cancel the same files must show there."""
    root, rows, _ = stereo
    facts = []
    for name, floor in (("a", 0.1), ("b", 0.1), ("c", 0.2)):
        monkeypatch.setattr(cancel, "FLOOR", floor)
        pack(rows, root, tmp_path / name, tiny_profile(clip_seconds=0.5, inputs=("ss",)), Data(profile="tiny"), [])
        facts.append((tmp_path / name / "facts.json").read_text())
    assert facts[0] == facts[1] != facts[2]


# --------------------------------------------------------------------------------------------------------- arms' settings
def params(**data: object) -> Params:
    content = {"data": {"profile": "tiny", **data}, "arms": ["a", "b"], "a": {"method": "spectral_knn"}}
    return checked({"": ("params.yaml", {**content, "b": {"method": "spectral_knn", "input": "ss"}})})


def test_an_arm_hears_what_it_says_and_else_what_the_project_says() -> None:
    assert [arm_settings(params(input="w1"), ALL, arm).input for arm in "ab"] == ["w1", "ss"]
    assert [arm_settings(params(), ALL, arm).input for arm in "ab"] == ["near", "ss"]
    mono = tiny_profile()
    assert [arm_settings(params(input=3), mono, arm).input for arm in "ab"] == ["", "ss"]
    with pytest.raises(AuscultError, match="has no input `far`"):
        arm_settings(params(input="far"), tiny_profile(inputs=("near",)), "a")
