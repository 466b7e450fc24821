"""Recordings shorter than the clips of their profile: what fills them up must not be heard where `fill` says so."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from auscult.data.condition import Condition
from auscult.data.store import ClipStore
from auscult.detector.bundle import FitSettings, fit
from auscult.errors import AuscultError
from auscult.features import FRONTENDS, exact_spectrogram, spectrogram
from auscult.methods import METHODS, load_method
from auscult.methods.base import Batch
from auscult.settings.section import validated
from auscult.settings.training import MethodSettings, Train
from auscult.training import modelfolder
from auscult.training.arm import train_arm
from auscult.training.batches import Loader
from auscult.training.embed import embed
from support.methods import small
from support.packed import pack_tree, tiny_profile
from support.trees import noise, write

TRAIN = Train(threads=1, device="cpu")
pytestmark = pytest.mark.usefixtures("small_networks")
ALONE = [name for name in METHODS if load_method(name).settings.any_length]
CHANGES: dict[str, dict[str, Any]] = {"mobilenet_v2": {"window": 16}}


def settings(name: str, **more: Any) -> MethodSettings:
    made = small(name, epochs=2)
    return type(made).model_validate({**made.model_dump(), **CHANGES.get(name, {}), **more})


def tree(root: Path, machines: dict[str, list[float]], train: int = 6) -> Path:
    """Two units of each machine; the lengths (seconds) of its recordings in turn."""
    rng = np.random.default_rng(5)
    for machine, lengths in machines.items():
        for unit in ("00", "02"):
            for number in range(train):
                sound = noise(rng, lengths[number % len(lengths)], tone=200 + 40 * int(unit))
                write(root / machine / "train" / f"normal_id_{unit}_{number:08d}.wav", sound)
            for number, label in enumerate(("normal", "anomaly", "normal", "anomaly")):
                sound = noise(rng, lengths[number % len(lengths)], tone=200 + 40 * int(unit))
                write(root / machine / "test" / f"{label}_id_{unit}_{number:08d}.wav", sound)
    return root


@pytest.fixture(scope="module")
def packs(module_path: Path) -> dict[str, Path]:
    """`alone`: the fan, in clips of its own length. `filled`: with a valve of twice that. `mixed`: both lengths in a machine."""
    tmp = module_path / "packs"
    tree(tmp / "alone_raw", {"fan": [1.2]})
    tree(tmp / "filled_raw", {"fan": [1.2], "valve": [2.4]})
    tree(tmp / "mixed_raw", {"fan": [1.2, 2.4, 1.77]})
    for name, seconds in (("alone", 1.2), ("filled", 2.4), ("mixed", 2.4)):
        pack_tree(tmp / f"{name}_raw", tmp / name, tiny_profile(clip_seconds=seconds), ["osscl", "stgram"])
    return {name: tmp / name for name in ("alone", "filled", "mixed")}


def trained(
    chosen: MethodSettings, features: Path, out: Path
) -> tuple[modelfolder.Trained, np.ndarray, pd.DataFrame, Path]:
    train_arm(chosen, "unit", TRAIN, 3, features / "train", out / "m", out / "r", "code")
    model = modelfolder.load(out / "m")
    return model, *embed(model, ClipStore(features / "test"), 3), out / "m"


def own(index: pd.DataFrame) -> pd.DataFrame:
    return index[["clip_id", *(name for name in index if name.startswith("native"))]].reset_index(drop=True)


# -------------------------------------------------------------------------------------------------------- the front-ends
@pytest.mark.parametrize("name", FRONTENDS)
def test_the_first_frames_are_those_of_the_sound_alone(name: str) -> None:
    """Also where what surrounds a clip would reach beyond its array, or the whole of it is sound. To the last bit, but that a
    product of very few frames is summed in another order."""
    lengths = [32000, 31999, 31700, 20000, 20001, 12345, 2000]
    wave = torch.from_numpy(np.stack([noise(np.random.default_rng(n), 2.0) for n in lengths])).float() / 32768
    for row, length in enumerate(lengths):
        wave[row, length:] = 0
    found = spectrogram(wave, name, valid=torch.tensor(lengths))
    assert found.shape == spectrogram(wave, name).shape
    for row, length in enumerate(lengths):
        alone = spectrogram(wave[row, :length].clone(), name)
        first, rest = found[row, :, : alone.shape[1]], found[row, :, alone.shape[1] + 5 :]
        assert torch.equal(first, alone) or length == 2000, length
        torch.testing.assert_close(first, alone, rtol=0, atol=1e-5)
        assert length > 25000 or rest.max() == rest.min() < -15, "and silence after them"


def test_what_is_stored_is_what_is_computed(packs: dict[str, Path], tmp_path: Path) -> None:
    stored = ClipStore(packs["mixed"] / "train")
    valid = stored.index["valid"].tolist()
    assert sorted(set(valid)) == [19200, 28320, 38400]
    rows = torch.arange(len(stored))
    for name in ("osscl", "stgram"):
        for row, length in enumerate(valid):
            alone = spectrogram(stored.wave(rows[row : row + 1])[0, :length].clone(), name)
            assert torch.equal(stored.mel(rows[row : row + 1], name)[0, :, : alone.shape[1]], alone)


# --------------------------------------------------------------------------------------------------- filled and not filled
@pytest.mark.parametrize("name", ALONE)
def test_filled_clips_train_and_score_as_unfilled_ones(name: str, packs: dict[str, Path], tmp_path: Path) -> None:
    """Weights, embeddings and scores, to the last bit: batches hold the same values, however long the arrays are."""
    chosen = settings(name, fill="none")
    _, vectors, index, _ = trained(chosen, packs["alone"], tmp_path / "alone")
    model, filled, both, _ = trained(chosen, packs["filled"], tmp_path / "filled")
    fan = (both["machine"] == "fan").to_numpy()
    assert 0 < fan.sum() == len(index) < len(both)
    assert model.shapes["fan" if "fan" in model.shapes else "all"].samples == 38400
    # The batches differ for `frozen`, which has one network for both machines.
    exact = "fan" in model.networks
    pd.testing.assert_frame_equal(own(both[fan])[own(index).columns], own(index), check_exact=exact)
    np.testing.assert_allclose(filled[fan], vectors, rtol=0, atol=0 if exact else 1e-6)


@pytest.mark.parametrize("name", ["ae", "idnn", "spectral_knn"])
def test_zeros_would_be_heard(name: str, packs: dict[str, Path], tmp_path: Path) -> None:
    """What the tests above are worth: with `fill: zeros` the same arms score otherwise."""
    alone = trained(settings(name), packs["alone"], tmp_path / "alone")[1]
    both = trained(settings(name, fill="zeros"), packs["filled"], tmp_path / "filled")
    fan = (both[2]["machine"] == "fan").to_numpy()
    assert both[1].shape[1] != alone.shape[1] or not np.allclose(both[1][fan], alone, rtol=1e-2)


def test_windows_of_clips_of_several_lengths_against_a_loop(packs: dict[str, Path], tmp_path: Path) -> None:
    chosen = settings("ae", frontend="osscl")
    model, _, index, _ = trained(chosen, packs["mixed"], tmp_path)
    store, network = ClipStore(packs["mixed"] / "test"), model.networks["fan"]
    for row, length in enumerate(store.index["valid"]):
        mel = spectrogram(store.wave(torch.tensor([row]))[0, :length].clone(), "osscl")
        errors = []
        for start in range(mel.shape[1] - 4):
            window = mel[:, start : start + 5].T.reshape(1, -1)
            with torch.inference_mode():
                output = network.autoencoder(window)[0]  # type: ignore[operator, union-attr]
            errors.append(float((output - window).square().mean()))
        assert index["native"][row] == pytest.approx(np.mean(errors), rel=1e-5)


@pytest.mark.parametrize("name", ["ae", "mobilenet_v2", "glow_aff"])
def test_training_sees_every_window_of_sound_and_no_other(
    name: str, packs: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen = settings(name, frontend="osscl", epochs=1, valid_fraction=0.0)
    seen: list[tuple[int, int]] = []
    original = Loader.__call__

    def listen(
        self: Loader, clips: np.ndarray, first: np.ndarray | None = None, raw: Any = None, rng: Any = None
    ) -> Batch:
        if first is not None:
            seen.extend(zip(clips.tolist(), first.tolist(), strict=True))
        return original(self, clips, first, raw, rng)

    monkeypatch.setattr(Loader, "__call__", listen)
    trained(chosen, packs["mixed"], tmp_path)
    index = ClipStore(packs["mixed"] / "train").index
    width, hop = load_method(name).window(chosen, 76), load_method(name).hop(chosen)
    wanted = [
        (clip, first)
        for clip, valid in enumerate(index["valid"])
        for first in range(0, 1 + valid // 512 - width + 1, hop)
    ]
    assert sorted(seen) == wanted
    assert len(wanted) < len(index) * ((76 - width) // hop + 1)


def test_pooled_statistics_are_of_valid_frames(packs: dict[str, Path], tmp_path: Path) -> None:
    _, vectors, _, _ = trained(settings("spectral_knn"), packs["mixed"], tmp_path)

    def pooled(part: str) -> np.ndarray:
        store, out = ClipStore(packs["mixed"] / part), []
        for row, length in enumerate(store.index["valid"]):
            mel = spectrogram(store.wave(torch.tensor([row]))[0, :length].clone(), "osscl").double().numpy()
            out.append(np.concatenate([mel.mean(1), mel.std(1), mel.max(1)]))
        return np.stack(out)

    train = pooled("train")
    expected = (pooled("test") - train.mean(0)) / train.std(0).clip(1e-6)
    np.testing.assert_allclose(vectors, expected, rtol=1e-3, atol=2e-3)


# ------------------------------------------------------------------------------------------------------------- the other ways
@pytest.mark.parametrize("name", ["stgram_mfn", "ae", "frozen", "featex"])
def test_repeated_clips_are_heard_as_if_they_had_been_recorded_so(
    name: str, packs: dict[str, Path], tmp_path: Path
) -> None:
    chosen = settings(name, fill="repeat")
    method, store = load_method(name), ClipStore(packs["mixed"] / "test")
    rows = np.arange(len(store))
    batch = Loader(method, chosen, store, rows)(rows)
    for row, length in enumerate(store.index["valid"]):
        sound = store.wave(torch.tensor([row]))[0, :length].repeat(3)[:38400]
        if batch.wave is not None:
            assert torch.equal(batch.wave[row], sound)
        if batch.mel is not None:
            assert torch.equal(batch.mel[row], spectrogram(sound, method.mel(chosen)))
    _, vectors, _, _ = trained(chosen, packs["mixed"], tmp_path)
    assert np.isfinite(vectors).all()
    first = Loader(method, chosen.model_copy(update={"fill": "zeros"}), store, rows)(rows)
    assert first.wave is None or torch.equal(first.wave, store.wave(torch.from_numpy(rows)))
    assert first.mel is None or torch.equal(first.mel, store.mel(torch.from_numpy(rows), method.mel(chosen)))


def test_networks_of_one_length_refuse_to_hear_each_clip_alone() -> None:
    for name in set(METHODS) - set(ALONE):
        with pytest.raises(
            AuscultError, match="fill: the networks of this method have one length: use repeat or zeros"
        ):
            validated(load_method(name).settings, {"method": name, "fill": "none"}, name)


def test_added_noise_is_of_the_sound_s_own_power(packs: dict[str, Path]) -> None:
    store = ClipStore(packs["mixed"] / "test")
    loud = ClipStore(packs["mixed"] / "test", condition=Condition(snr_db=3.0))
    rows = torch.arange(len(store))
    plain, changed = store.wave(rows), loud.wave(rows)
    for row, length in enumerate(store.index["valid"]):
        added = (changed - plain)[row]
        assert not added[length:].any()
        ratio = plain[row, :length].square().mean() / added[:length].square().mean()
        assert float(10 * ratio.log10()) == pytest.approx(3.0, abs=1.5)  # the noise swells
        alone = spectrogram(changed[row, :length].clone(), "stgram")
        assert torch.equal(loud.mel(rows, "stgram")[row, :, : alone.shape[1]], alone)


# ------------------------------------------------------------------------------------------------------------- too short
def test_clips_shorter_than_a_window_are_named(packs: dict[str, Path], tmp_path: Path) -> None:
    model = trained(settings("mobilenet_v2"), packs["mixed"], tmp_path / "whole")[0]
    raw = tree(tmp_path / "raw", {"fan": [0.4, 2.4]})
    pack_tree(raw, tmp_path / "p", tiny_profile(clip_seconds=2.4), ["osscl"])
    with pytest.raises(AuscultError, match=r"4 clip\(s\) are too short for a window of 16 frame\(s\): 0.4 s") as caught:
        embed(model, ClipStore(tmp_path / "p" / "test"), 3)
    assert "fill: repeat" in str(caught.value)
    skipped = trained(settings("mobilenet_v2"), tmp_path / "p", tmp_path / "short")[0].skipped
    assert "6 clip(s) are too short" in skipped["fan"]
    repeated = trained(settings("mobilenet_v2", fill="repeat"), tmp_path / "p", tmp_path / "repeat")
    assert np.isfinite(repeated[1]).all()
    assert not repeated[0].skipped


# ------------------------------------------------------------------------------------------------------------- the detector
@pytest.mark.parametrize(("fill", "heard"), [("none", 15800), ("zeros", 16000)])
def test_a_detector_hears_a_short_recording_alone_or_mirrored(fill: str, heard: int, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for number in range(12):
        write(tmp_path / "n" / f"{number}.wav", noise(rng, 1.0))
    bundle = fit(tmp_path / "n", tmp_path / "b", FitSettings(values={"fill": fill, "frontend": "osscl"}))
    short = noise(rng, 1.0)[None, :15800].astype(np.float32) / 32768
    sound = np.pad(short, ((0, 0), (0, heard - 15800)), mode="symmetric")
    mel = torch.from_numpy(exact_spectrogram(sound, "osscl", 16000))
    with torch.inference_mode():
        expected = bundle.trained.networks["machine"].embed(Batch(mel=mel))[0].numpy()
    np.testing.assert_allclose(
        bundle.embed(short)[0], expected, rtol=0, atol=1e-4
    )  # NumPy and torch: see test_plain.py
    with pytest.raises(AuscultError, match="is wanted"):
        bundle.scores(short[:, :15000])


def test_a_detector_s_window_too_short_for_the_network_is_mirrored(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for number in range(12):
        write(tmp_path / "n" / f"{number}.wav", noise(rng, 1.0))
    values = {"epochs": 1, "steps": 2, "hidden": 8}  # windows of the 32 frames there are
    bundle = fit(tmp_path / "n", tmp_path / "b", FitSettings(method="glow_aff", values=values))
    short = noise(rng, 1.0)[None, :15700].astype(np.float32) / 32768
    whole = np.pad(short, ((0, 0), (0, 300)), mode="symmetric")
    np.testing.assert_array_equal(bundle.scores(short), bundle.scores(whole))
