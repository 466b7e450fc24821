"""The machine alone and the noise alone in training: which clips, how loud, from which random numbers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from auscult.data.manifest import build_manifest
from auscult.data.pack import pack
from auscult.data.store import ClipStore
from auscult.data.synthetic import FarMicrophone, SyntheticSource, UnitSets, write_tree
from auscult.errors import AuscultError
from auscult.files import digest
from auscult.methods import load_method
from auscult.settings.schema import Data
from auscult.settings.sections import SupplementSettings
from auscult.settings.training import MethodSettings, Train
from auscult.training import modelfolder
from auscult.training.arm import train_arm
from auscult.training.embed import embed_arm
from auscult.training.supplement import Noises
from support.methods import small
from support.packed import tiny_profile

pytestmark = pytest.mark.usefixtures("small_networks")
BOTH = {"clean": True, "noise_probability": 0.5}
PROFILE = tiny_profile(grammar="dcase2023", sets={"dev": "dev"}, clip_seconds=1.0, inputs=("near", "w1"))


@pytest.fixture(scope="module")
def features(module_path: Path) -> Path:
    """Two machine types, of which the valve has no noise alone; the fan's first is silent."""
    tmp = module_path / "supplements"
    source = SyntheticSource(
        version=1, seed=1, clip_seconds=1.0, machines={"fan": UnitSets(dev=["00"]), "valve": UnitSets(dev=["00"])},
        train_clips=8, test_normal=2, test_anomaly=2, machine_clips=3, noise_clips=4, snr_db=0.0, severity=1.0,
        domain_shift=0.5, far=FarMicrophone(),
    )  # fmt: skip
    write_tree(source, tmp / "raw", progress=False)
    for path in (tmp / "raw" / "dev" / "valve" / "supplemental").glob("*noise*"):
        path.unlink()
    clips, _ = build_manifest(PROFILE, tmp / "raw", workers=1)
    data = Data(profile="tiny", workers=1)
    pack(clips[clips["partition"] == "train"], tmp / "raw", tmp / "train", PROFILE, data, ["osscl"])
    for kind, rows in clips[clips["partition"] == "supplemental"].groupby("kind"):
        out = tmp / "train" / "supplemental" / str(kind)
        pack(rows, tmp / "raw", out, PROFILE, data, ["osscl"] if kind == "machine" else [])
    audio = np.load(tmp / "train" / "supplemental" / "noise" / "w1" / "audio" / "fan.npy", mmap_mode="r+")
    audio[0] = 0
    return tmp / "train"


def arm(name: str, **more: Any) -> MethodSettings:
    made = small(name, epochs=2)
    return type(made).model_validate({**made.model_dump(), "input": "w1", **more})


def train(settings: MethodSettings, features: Path, out: Path) -> modelfolder.Trained:
    section = Train(threads=1, device="cpu", checkpoint_seconds=0)
    train_arm(settings, "attributes", section, 1, features, out / "model", out / "resume", "code")
    return modelfolder.load(out / "model")


def stores(features: Path, **settings: Any) -> tuple[ClipStore, Noises]:
    clips = ClipStore(features, heard="w1")
    noise = ClipStore(features / "supplemental" / "noise", heard="w1")
    return clips, Noises(clips, noise, SupplementSettings.model_validate(settings))


def test_noise_is_of_the_clips_own_machine_at_the_ratio_that_was_drawn(
    features: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    clips, noises = stores(features, noise_probability=1.0, snr=[5, 20])
    assert "no noise alone of valve" in capsys.readouterr().err
    rows = np.arange(len(clips))
    wave = clips.wave(torch.from_numpy(rows))
    mixed = noises.mixed(wave, None, rows, np.random.default_rng(3))
    places, which, snr = noises.draw(rows, np.random.default_rng(3))
    assert (clips.index["machine"][places] == "fan").all()
    assert len(places) == (clips.index["machine"] == "fan").sum()
    assert (noises.store.index["machine"][which] == "fan").all()
    assert set(snr) == {5.0, 20.0}
    for row in rows:
        added = (mixed - wave)[row].double()
        if row not in places:
            assert not added.any()
            continue
        at = places.tolist().index(row)
        noise = noises.store.wave(torch.tensor([which[at]]))[0].double()
        if not noise.any():  # the silent one adds nothing, and no NaN
            assert not added.any()
            continue
        ratio = 10 * torch.log10(wave[row].double().square().sum() / added.square().sum())
        assert ratio == pytest.approx(snr[at], abs=1e-3)
        assert torch.corrcoef(torch.stack([added, noise]))[0, 1] > 0.9999


def test_half_of_the_clips_get_noise(features: Path) -> None:
    clips, noises = stores(features, noise_probability=0.5)
    fan = np.flatnonzero(clips.index["machine"] == "fan")
    rng = np.random.default_rng(0)
    share = np.mean([len(noises.draw(fan, rng)[0]) / len(fan) for _ in range(300)])
    assert share == pytest.approx(0.5, abs=0.04)
    seen = {int(which) for _ in range(100) for which in noises.draw(fan, rng)[1]}
    assert seen == set(np.flatnonzero(noises.store.index["machine"] == "fan"))


def test_noise_is_not_added_behind_the_end_of_a_shorter_clip(features: Path) -> None:
    clips, noises = stores(features, noise_probability=1.0)
    rows = np.flatnonzero(clips.index["machine"] == "fan")
    wave = clips.wave(torch.from_numpy(rows))
    wave[:, 10_000:] = 0
    mixed = noises.mixed(wave, torch.full((len(rows),), 10_000), rows, np.random.default_rng(0))
    assert not mixed[:, 10_000:].any()
    assert (mixed != wave).any()


@pytest.mark.parametrize("name", ["os_scl", "ae"])  # whole clips, and windows of them
def test_training_with_both_and_again(name: str, features: Path, tmp_path: Path) -> None:
    plain = train(arm(name), features, tmp_path / "plain")
    both = train(arm(name, supplement=BOTH), features, tmp_path / "both")
    again = train(arm(name, supplement=BOTH), features, tmp_path / "again")
    weights = "model/weights.safetensors"
    assert digest(tmp_path / "both" / weights) == digest(tmp_path / "again" / weights)
    assert digest(tmp_path / "both" / weights) != digest(tmp_path / "plain" / weights)
    assert again.classes == both.classes
    off = train(arm(name, supplement={"snr": [1.0]}), features, tmp_path / "off")
    assert off.classes == plain.classes
    assert digest(tmp_path / "off" / weights) == digest(tmp_path / "plain" / weights)


def test_clean_clips_have_a_class_and_count(features: Path, tmp_path: Path) -> None:
    model = train(arm("os_scl", supplement={"clean": True}), features, tmp_path)
    assert "fan/00/supplemental" in model.classes["all"]
    assert len(ClipStore(features, heard="w1", beside=features / "supplemental" / "machine")) == 16 + 6


def test_noise_where_nothing_is_trained_is_said_to_change_nothing(
    features: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train(load_method("spectral_knn").settings(method="spectral_knn", input="w1", supplement=BOTH), features, tmp_path)
    assert "noise_probability` changes nothing" in capsys.readouterr().err


def test_clean_clips_are_in_no_bank(features: Path, tmp_path: Path) -> None:
    """What test clips are compared with is of training clips alone."""
    train(arm("os_scl", supplement=BOTH), features, tmp_path)
    embed_arm(tmp_path / "model", {"train": features}, tmp_path / "e", 8, Train(threads=1, device="cpu"))
    table = pd.read_parquet(tmp_path / "e" / "train.parquet")
    assert table["clip_id"].tolist() == pd.read_parquet(features / "index.parquet")["clip_id"].tolist()
    assert len(np.load(tmp_path / "e" / "train.npy")) == 16


def test_a_stopped_training_draws_the_same_noise(features: Path, tmp_path: Path) -> None:
    """Stopped after its first epoch, by an error of the second's loss."""
    chosen = arm("os_scl", supplement=BOTH)
    network = type(train(chosen, features, tmp_path / "straight").networks["all"])
    original, calls = network.loss, []

    def fails(self: Any, batch: Any, rng: np.random.Generator) -> Any:
        calls.append(1)
        if len(calls) == 5:
            raise KeyboardInterrupt
        return original(self, batch, rng)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(network, "loss", fails)
        with pytest.raises(KeyboardInterrupt):
            train(chosen, features, tmp_path / "stopped")
    assert list((tmp_path / "stopped" / "resume").rglob("*.pt"))
    train(chosen, features, tmp_path / "stopped")
    assert digest(tmp_path / "stopped" / "model") == digest(tmp_path / "straight" / "model")


@pytest.mark.parametrize("asked", [{"clean": True}, {"noise_probability": 0.5}])
def test_supplements_that_are_not_there(asked: dict[str, Any], packed: Path, tmp_path: Path) -> None:
    settings = type(small("os_scl")).model_validate({**small("os_scl").model_dump(), "supplement": asked})
    with pytest.raises(AuscultError, match=r"there are no recordings of the (machine|noise) alone") as error:
        train(settings, packed / "train", tmp_path)
    assert "dcase2025" in error.value.fix
    # Not asked where the arm cannot hear these clips at all: it is left out with that reason.
    left_out = train(arm("os_scl", supplement=asked), packed / "train", tmp_path / "mono")
    assert "these clips have one" in left_out.skipped["all"]
