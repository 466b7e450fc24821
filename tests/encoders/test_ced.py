"""CED against the authors' code, and its checkpoint files."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from auscult.encoders.ced import ENCODERS, Ced, load
from auscult.errors import AuscultError
from auscult.settings.sections import EncoderSettings
from support.fill import absolute_error, golden, relative_error
from support.vit import check_contract, counted, official, saved, tiny, waves

SIZE = {"frames": 64}
SILENCE = slice(3000, 6000)
COUNTER = "num_batches_tracked"


def state(name: str = "ced") -> dict[str, Tensor]:
    """Official state: `ced` as the authors' .pt files, `ced_hub` as the hub's model.safetensors."""
    prefix, norm = ("ced/", "init_bn.1.") if name == "ced" else ("cedhf/", "encoder.init_bn.")
    return official(golden(name)["manifest"], prefix) | {norm + COUNTER: torch.tensor(7)}


def loaded(name: str, folder: Path) -> Ced:
    encoder = Ced(tiny("ced", size=SIZE)).eval()
    load(encoder, saved(state(name), folder))
    return encoder


def test_as_the_authors_code(tmp_path: Path) -> None:
    stored = golden("ced")
    encoder = loaded("ced", tmp_path)
    x = encoder.front_end(waves("ced/wave", 2, 9000, SILENCE))
    assert absolute_error(x.transpose(1, 2), stored["x"]) < 4e-4  # dB
    for layer, key in ((0, "y"), (2, "layer2")):
        theirs = torch.from_numpy(stored[key]).unflatten(1, (4, 3)).transpose(1, 2).flatten(1, 2)  # to time-major
        with torch.no_grad():
            assert relative_error(encoder.tokens(x, layer), theirs.numpy()) < 1.7e-5


def test_long_clips_as_the_authors_code(tmp_path: Path) -> None:
    encoder = loaded("ced", tmp_path)
    x = encoder.front_end(waves("ced/long", 1, 149 * 160))
    assert x.shape[1] == 150  # 64 + 64 + 22, filled up
    theirs = torch.from_numpy(golden("ced")["y_long"]).unflatten(1, (4, 4)).transpose(1, 2)  # [windows, steps, rows, D]
    with torch.no_grad():
        y = encoder.tokens(x)
    assert relative_error(y, theirs.reshape(1, -1, 24).numpy()) < 1.5e-5


def test_long_clips_in_a_batch(tmp_path: Path) -> None:
    encoder = loaded("ced", tmp_path)
    x = encoder.front_end(waves("ced/batch", 3, 127 * 160))
    assert x.shape[1] == 128  # two whole windows
    with torch.no_grad():
        y = encoder.tokens(x)
        alone = [encoder.tokens(part) for part in x[1:2].split(64, dim=1)]
    assert y.shape == (3, 32, 24)
    torch.testing.assert_close(y[1:2], torch.cat(alone, dim=1), atol=1e-5, rtol=0)


def test_hub_checkpoint(tmp_path: Path) -> None:
    encoder = loaded("ced_hub", tmp_path)
    x = torch.from_numpy(golden("ced")["x"]).transpose(1, 2)
    theirs = torch.from_numpy(golden("ced_hub")["y"]).unflatten(1, (4, 3)).transpose(1, 2).flatten(1, 2)
    with torch.no_grad():
        assert relative_error(encoder.tokens(x), theirs.numpy()) < 1.5e-6
    # A folder as the hub has it.
    again = Ced(tiny("ced", size=SIZE)).eval()
    load(again, tmp_path)
    assert torch.equal(again.tokens(x), encoder.tokens(x))


def test_floor_lies_below_each_clips_own_maximum() -> None:
    wave = waves("ced/wave", 2, 9000, SILENCE)
    wave[0] *= 1e-4
    x = Ced(tiny("ced")).front_end(wave)
    # -100 dB is the floor of the power, 120 dB below the maximum that of the clip.
    assert x[0].min() >= -100
    assert x[1].min().item() == pytest.approx(max(x[1].max().item() - 120, -100), abs=1e-4)
    loud = Ced(tiny("ced")).front_end(1000 * wave)[1]
    assert loud.min().item() == pytest.approx(loud.max().item() - 120, abs=1e-4)


def test_contract() -> None:
    check_contract(Ced(tiny("ced", size=SIZE)), waves("ced/contract", 2, 9000))


def test_frozen_batch_norm_keeps_its_statistics() -> None:
    encoder = Ced(tiny("ced", size=SIZE)).train()
    x = encoder.front_end(waves("ced/contract", 2, 9000))
    encoder.init_bn.requires_grad_(False)
    encoder.tokens(x)
    assert encoder.init_bn.running_mean.abs().max() == 0
    encoder.init_bn.requires_grad_(True)
    encoder.tokens(x)
    assert encoder.init_bn.running_mean.abs().max() > 0


def test_size_as_published() -> None:
    with torch.device("meta"):
        encoder = ENCODERS["ced"].build(EncoderSettings(name="ced"))
    assert counted(encoder) == 85_304_960


def test_shortest_clip() -> None:
    encoder = Ced(tiny("ced"))
    assert encoder.tokens(encoder.front_end(torch.randn(1, encoder.min_samples))).shape == (1, 4, 24)


def test_wrong_keys_are_named(tmp_path: Path) -> None:
    broken = state()
    del broken["blocks.2.attn.qkv.weight"]
    with pytest.raises(AuscultError, match=r"transformer\.blocks\.2\.attention\.k\.weight"):
        load(Ced(tiny("ced", size=SIZE)), saved(broken, tmp_path))
    with pytest.raises(AuscultError, match="time_pos_embed"):  # of another window
        load(Ced(tiny("ced")), saved(state(), tmp_path))


def test_nonsense_is_no_checkpoint(tmp_path: Path) -> None:
    path = tmp_path / "nonsense.pt"
    torch.save({0: 1, "blocks.0.attn.qkv.weight": {}, "blocks.0.norm1.weight": torch.tensor(1.0), "epoch": 3}, path)
    with pytest.raises(AuscultError, match="epoch a int"):
        load(Ced(tiny("ced", size=SIZE)), path)
