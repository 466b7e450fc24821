"""EAT against the authors' code, and its checkpoint files."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest
import torch
from torch import Tensor

from auscult.encoders.eat import ENCODERS, Eat, load, sine_table
from auscult.errors import AuscultError
from auscult.settings.sections import EncoderSettings
from support.fill import absolute_error, golden, relative_error
from support.vit import check_contract, counted, official, saved, tiny, waves

STORED = golden("eat")
SIZE = {"frames": 96}
HEAD = ("model.fc_norm.", "model.head.")


def hub_state() -> dict[str, Tensor]:
    """As the hub's model.safetensors of a fine-tuned EAT has it."""
    return official(STORED["manifest"], "eat/") | {"model.fixed_positional_encoder.positions": sine_table(768, 8, 24)}


def fairseq_state() -> dict[str, Tensor]:
    """The same encoder as the authors' pre-training saves it."""
    names = {
        "local_encoder.": "modality_encoders.IMAGE.local_encoder.",
        "extra_tokens": "modality_encoders.IMAGE.extra_tokens",
        "fixed_": "modality_encoders.IMAGE.fixed_",
        "pre_norm.": "modality_encoders.IMAGE.context_encoder.norm.",
    }
    state = {}
    for key, value in hub_state().items():
        key = key.removeprefix("model.")
        if not f"model.{key}".startswith(HEAD):
            old = next((name for name in names if key.startswith(name)), "")
            state[names.get(old, "") + key.removeprefix(old)] = value
    return state | {"modality_encoders.IMAGE.decoder.proj.weight": torch.zeros(2, 2)}


@pytest.fixture
def encoder(tmp_path: Path) -> Eat:
    encoder = Eat(tiny("eat", size=SIZE))
    load(encoder, saved(hub_state(), tmp_path))
    return encoder.eval()


def test_as_the_authors_code(encoder: Eat) -> None:
    x = encoder.front_end(waves("eat/wave", 2, 12_000))
    assert x.shape == (2, 96, 128)  # 73 frames, and zeros
    assert absolute_error(x[:, ::3], STORED["x"]) < 5e-5
    with torch.no_grad():
        assert relative_error(encoder.tokens(x), STORED["y"]) < 4e-6
        assert relative_error(encoder.tokens(x, 2), STORED["layer2"]) < 4e-6


def test_positions_are_the_authors() -> None:
    table = sine_table(768, 8, 24)[0]
    assert absolute_error(table[[0, 1, 9, 500, 3071, 6143]], STORED["positions"]) < 3.5e-5


def test_contract() -> None:
    check_contract(Eat(tiny("eat", size=SIZE)), waves("eat/contract", 2, 12_000))


def test_size_as_published() -> None:
    with torch.device("meta"):
        encoder = ENCODERS["eat"].build(EncoderSettings(name="eat"))
    # 90 M in the hub's file with the position table, which is not trained; "88 M" in the paper.
    assert counted(encoder) == 85_254_144
    assert counted(encoder) + encoder.get_buffer("positions").numel() == 89_972_736


def test_clip_lengths(encoder: Eat) -> None:
    for samples, frames in ((400, 96), (15_600, 96), (16_000, 112), (17_000, 112)):
        x = encoder.front_end(waves("eat/lengths", 1, samples))
        assert x.shape[1] == frames
        assert encoder.tokens(x).shape[1] == 1 + frames // 16 * 8
    x = torch.zeros(1, 16 * 8, 128)
    encoder = Eat(tiny("eat", size={"positions": 7}))
    with pytest.raises(AuscultError, match="position table"):
        encoder.tokens(x)


def test_fairseq_checkpoint(encoder: Eat, tmp_path: Path) -> None:
    state = fairseq_state()
    state["modality_encoders.IMAGE.fixed_positional_encoder.positions"] = sine_table(64, 8, 24).half()  # first release
    path = tmp_path / "checkpoint30.pt"
    torch.save(
        {"cfg": {"task": {"data": "/"}}, "model": state | {"_ema": {"blocks.0.norm1.weight": torch.ones(24)}}}, path
    )
    other = Eat(tiny("eat", size=SIZE)).eval()
    load(other, path)
    x = encoder.front_end(waves("eat/wave", 2, 12_000))
    torch.testing.assert_close(other.tokens(x), encoder.tokens(x), atol=2e-3, rtol=0)
    assert other.positions.shape == (1, 6144, 24)


def test_a_file_that_could_run_code_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint_last.pt"
    state = fairseq_state()
    torch.save({"args": argparse.Namespace(lr=1), "model": state | {"_ema": {}}}, path)
    with pytest.raises(AuscultError, match="could run code") as caught:
        load(Eat(tiny("eat")), path)
    # The advice is code, and works.
    lines = [line.strip() for line in caught.value.fix.splitlines() if line.startswith("    ")]
    assert len(lines) == 2
    advice = "\n".join(lines).replace("checkpoint_last", str(tmp_path / "checkpoint_last"))
    exec(advice, {})
    load(Eat(tiny("eat")), path.with_suffix(".safetensors"))


def test_wrong_keys_are_named(tmp_path: Path) -> None:
    state = hub_state()
    del state["model.blocks.1.mlp.fc2.bias"]
    state["model.blocks.0.attn.rel_pos"] = torch.zeros(2)
    with pytest.raises(AuscultError) as caught:
        load(Eat(tiny("eat")), saved(state, tmp_path))
    assert "transformer.blocks.1.ffn.fc2.bias" in caught.value.what
    assert "transformer.blocks.0.attention.rel_pos" in caught.value.what


def test_impossible_sizes() -> None:
    for size in ({"heads": 5}, {"width": 18}, {"layers": 1.5}, {"ffn": 0}, {"depth": 3}):
        with pytest.raises(AuscultError):
            Eat(tiny("eat", size=size))
    with pytest.raises(AuscultError, match="no layer 4"):
        Eat(tiny("eat", layer=4))
