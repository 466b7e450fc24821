"""What every registered method must do; a new name in METHODS is tested by being there."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from auscult.data.store import ClipStore, Raw
from auscult.errors import AuscultError
from auscult.methods import METHODS, load_method
from auscult.methods.base import Batch, Drawn
from auscult.scoring.table import score_table
from auscult.settings.schema import Score
from auscult.settings.training import Train
from auscult.training import modelfolder
from auscult.training.arm import train_arm
from auscult.training.batches import batches
from auscult.training.embed import embed, embed_arm
from support.draws import loss_of
from support.methods import small
from support.packed import pack_tree, tiny_profile

BY_GRADIENT = [name for name in METHODS if load_method(name).settings(method=name).trained]
TRAIN = Train(threads=1, device="cpu", checkpoint_seconds=0)
pytestmark = pytest.mark.usefixtures("small_networks")


@pytest.fixture(scope="module")
def packed(packed: Path, module_path: Path) -> Path:
    """The first half second of the clips of all tests: as good for a contract, in half the time."""
    pack_tree(packed / "raw", module_path / "short", tiny_profile(clip_seconds=0.5), ["osscl"])
    return module_path / "short"


def train(name: str, packed: Path, out: Path, epochs: int = 3) -> Path:
    train_arm(small(name, epochs), "unit", TRAIN, 1, packed / "train", out / name, out / "resume", "code")
    return out / name


@pytest.fixture(scope="module", params=METHODS)
def trained(request: pytest.FixtureRequest, packed: Path, module_path: Path) -> tuple[str, Path]:
    """Name of a method and the folder of its model, trained once."""
    return request.param, train(request.param, packed, module_path)


by_gradient = pytest.mark.parametrize("trained", BY_GRADIENT, indirect=True)


def test_load_gives_what_was_saved(trained: tuple[str, Path], packed: Path, tmp_path: Path) -> None:
    model = modelfolder.load(trained[1])
    store = ClipStore(packed / "test")
    assert model.networks
    assert not model.skipped
    first = embed(model, store, 4)
    modelfolder.save(tmp_path / "again", model, history=pd.DataFrame({"epoch": []}), code="code")
    second = embed(modelfolder.load(tmp_path / "again"), store, 4)
    np.testing.assert_array_equal(first[0], second[0])
    pd.testing.assert_frame_equal(first[1], second[1], check_exact=True)
    assert (tmp_path / "again" / "weights.safetensors").read_bytes() == (
        trained[1] / "weights.safetensors"
    ).read_bytes()


@by_gradient
def test_training_changes_the_network(trained: tuple[str, Path], packed: Path, tmp_path: Path) -> None:
    name, folder = trained
    other = train(name, packed, tmp_path, epochs=0)
    assert (folder / "weights.safetensors").read_bytes() != (other / "weights.safetensors").read_bytes()


@by_gradient
def test_interrupted_training_ends_in_the_same_bytes(
    trained: tuple[str, Path], packed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name, straight = trained
    network = type(next(iter(modelfolder.load(straight).networks.values())))
    original, calls = network.loss, 0

    def interrupted(self: torch.nn.Module, batch: Batch, drawn: Drawn) -> dict[str, torch.Tensor]:
        nonlocal calls
        calls += 1
        if calls % 5 == 0:  # in the middle of epochs, again and again; an epoch has two to four steps
            raise KeyboardInterrupt
        return original(self, batch, drawn)  # type: ignore[no-any-return, operator]

    attempts = 0
    monkeypatch.setattr(network, "loss", interrupted)
    while True:
        attempts += 1
        assert attempts < 30
        try:
            train(name, packed, tmp_path)
            break
        except KeyboardInterrupt:
            assert not (tmp_path / name).exists()
    for file in ("weights.safetensors", "config.yaml", "history.csv"):
        assert (tmp_path / name / file).read_bytes() == (straight / file).read_bytes(), file
    assert attempts > 1


def test_a_clip_is_embedded_alike_in_any_batch(trained: tuple[str, Path], packed: Path) -> None:
    model, store = modelfolder.load(trained[1]), ClipStore(packed / "test")
    together, alone = embed(model, store, 64), embed(model, store, 1)
    scale = np.abs(together[0]).max()
    np.testing.assert_allclose(alone[0], together[0], atol=2e-5 * scale)
    np.testing.assert_allclose(own(alone[1]), own(together[1]), rtol=2e-4, atol=1e-6)


def own(index: pd.DataFrame) -> np.ndarray:
    """The method's own scores [clips, scores]; none for a method that has none."""
    return index[[name for name in index if name.startswith("native")]].to_numpy(np.float64)


def test_silence_and_clipping_are_scored(trained: tuple[str, Path], packed: Path) -> None:
    model, store = modelfolder.load(trained[1]), ClipStore(packed / "test")

    class Hard(ClipStore):
        def wave(self, rows: torch.Tensor, raw: Raw | None = None) -> torch.Tensor:
            square = torch.sign(torch.sin(torch.arange(self.samples) * 0.1))
            return torch.stack([torch.zeros(self.samples), square])[rows % 2]

        def mel(
            self,
            rows: torch.Tensor,
            frontend: str,
            first: torch.Tensor | None = None,
            width: int = 0,
            raw: Raw | None = None,
        ) -> torch.Tensor:
            from auscult.features import spectrogram

            return spectrogram(self.wave(rows), frontend)

    vectors, index = embed(model, Hard(packed / "test"), 4)
    assert np.isfinite(vectors).all()
    assert np.isfinite(own(index)).all()
    assert len(vectors) == len(store)


@by_gradient
def test_a_training_step_on_silence_is_finite(trained: tuple[str, Path]) -> None:
    model = modelfolder.load(trained[1])
    name, network = next(iter(model.networks.items()))
    shape, method = model.shapes[name], model.method
    width = method.window(model.settings, shape.frames) or shape.frames
    batch = Batch(
        label=torch.zeros(4, dtype=torch.int64),
        wave=torch.zeros(4, shape.samples) if method.wave(model.settings) else None,
        mel=torch.full((4, shape.mels, width), -100.0),
    )
    network.train()
    loss = loss_of(network, batch)["loss"]
    loss.backward()
    assert torch.isfinite(loss)
    assert all(torch.isfinite(p.grad).all() for p in network.parameters() if p.grad is not None)


def test_no_batch_holds_a_single_item() -> None:
    for items in range(2, 40):
        for size in range(2, 12):
            parts = list(batches(np.arange(items), size))
            assert np.array_equal(np.concatenate(parts), np.arange(items))
            assert min(len(part) for part in parts) >= 2
            assert max(len(part) for part in parts) <= size + 1


def test_a_state_of_other_settings_data_or_code_is_not_found() -> None:
    from auscult.training.resume import run_key

    key = run_key("code", {"lr": 1e-3}, "data")
    assert key == run_key("code", {"lr": 1e-3}, "data")
    assert key != run_key("code", {"lr": 2e-3}, "data")
    assert key != run_key("code", {"lr": 1e-3}, "other data")
    assert key != run_key("other code", {"lr": 1e-3}, "data")


def test_attribute_classes_score_by_the_nearest_candidate(packed: Path) -> None:
    """A clip whose class is unknown gets the least of its candidates' scores."""
    method = load_method("os_scl")
    settings = small("os_scl").model_copy(update={"inputs": "logmel"})
    store = ClipStore(packed / "test")
    from auscult.methods.base import Shape

    shape = Shape(3, *store.shape("osscl"), store.samples)
    network = method.build(settings, shape).eval()
    batch = Batch(mel=store.mel(torch.arange(4), "osscl"))
    with torch.inference_mode():
        single = [
            network.embed(replace(batch, candidates=torch.eye(3, dtype=torch.bool)[[c] * 4]))[1]["native"]
            for c in range(3)
        ]
        pair = torch.tensor([[True, False, True]] * 4)
        both = network.embed(replace(batch, candidates=pair))[1]["native"]
    torch.testing.assert_close(both, torch.minimum(single[0], single[2]))


def test_a_network_that_cannot_be_trained_is_left_out_with_the_reason(
    packed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One class is nothing to classify: no crash in a long run, an arm without clips that says why."""
    one = ClipStore(packed / "train").index
    one = one[(one["machine"] == one["machine"].iloc[0]) & (one["unit"] == one["unit"].iloc[0])]
    assert 1 < len(one) < len(ClipStore(packed / "train"))
    folder = shutil.copytree(packed / "train", tmp_path / "train")
    one.to_parquet(folder / "index.parquet", index=False)
    for part in folder.glob("*/*.npy"):
        if part.stem != one["machine"].iloc[0]:
            part.unlink()
    train_arm(small("stgram_mfn"), "unit", TRAIN, 1, folder, tmp_path / "m", tmp_path / "r", "code")
    model = modelfolder.load(tmp_path / "m")
    assert "needs two" in model.skipped["all"]
    assert "needs two" in capsys.readouterr().err
    embed_arm(tmp_path / "m", {p: packed / p for p in ("train", "test")}, tmp_path / "e", 4, TRAIN)
    assert len(score_table(tmp_path / "e", Score(), domains=False)) == 0


def test_two_phases_follow_each_other() -> None:
    for name in METHODS:
        method = load_method(name)
        phases = method.trainings(method.settings(method=name))
        assert phases[-1].name == ""
        assert len({phase.name for phase in phases}) == len(phases)


def test_selection_without_held_out_clips_is_refused(packed: Path, tmp_path: Path) -> None:
    settings = small("os_scl").model_copy(update={"valid_fraction": 0.0})
    with pytest.raises(AuscultError, match="held out"):
        train_arm(settings, "unit", TRAIN, 1, packed / "train", tmp_path / "m", tmp_path / "r", "code")
