"""ATST-Frame and ATST-Clip against the authors' code, and their checkpoint files."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest
import torch
from torch import Tensor

from auscult.encoders.atst import ENCODERS, Atst, load
from auscult.errors import AuscultError
from auscult.settings.sections import EncoderSettings
from support.fill import absolute_error, golden, relative_error
from support.vit import check_contract, counted, official, saved, tiny, waves

SIZE = {"frames": 81, "positions": 20}
SILENCE = slice(3000, 6000)
NAMES = ("atst", "atst_clip")


def built(name: str, **size: int) -> Atst:
    encoder = ENCODERS[name].build(tiny(name, size={**SIZE, **size}))
    assert isinstance(encoder, Atst)
    return encoder.eval()


def lightning(name: str) -> dict[str, Tensor]:
    """The state of the authors' training module: student and teacher with their heads."""
    state = official(golden(name)["manifest"], f"{name}/")
    student = {f"model.student.encoder.{key}": torch.zeros_like(value) for key, value in state.items()}
    heads = {f"model.{who}.projector.0.weight": torch.zeros(2, 2) for who in ("student", "teacher")}
    return {f"model.teacher.encoder.{key}": value for key, value in state.items()} | student | heads


def loaded(name: str, folder: Path) -> Atst:
    path = folder / "base.ckpt"
    torch.save({"state_dict": lightning(name), "hyper_parameters": {"arch": "base"}, "epoch": 1}, path)
    encoder = built(name)
    load(encoder, path)
    return encoder


@pytest.mark.parametrize("name", NAMES)
def test_as_the_authors_code(name: str, tmp_path: Path) -> None:
    stored = golden(name)
    encoder = loaded(name, tmp_path)
    x = encoder.front_end(waves(f"{name}/wave", 2, 9000, SILENCE))
    assert absolute_error(x, stored["x"]) < 6e-7
    with torch.no_grad():
        assert relative_error(encoder.tokens(x), stored["y"]) < 3e-6
        assert relative_error(encoder.transformer.norm(encoder.tokens(x, 2)), stored["normed2"]) < 3e-6


def test_long_clips_as_the_authors_code(tmp_path: Path) -> None:
    encoder = loaded("atst", tmp_path)
    x = encoder.front_end(waves("atst/long", 2, 170 * 160))
    assert x.shape[1] == 171  # 81 + 81 + 9: the rest gives two tokens
    with torch.no_grad():
        assert relative_error(encoder.tokens(x), golden("atst")["y_long"]) < 3e-6


def test_class_tokens_of_long_clips_as_the_authors_code(tmp_path: Path) -> None:
    encoder = loaded("atst_clip", tmp_path)
    x = encoder.front_end(waves("atst_clip/long", 2, 140 * 160))
    assert x.shape[1] == 141  # 81 + 60, which counts; 40 would not
    with torch.no_grad():
        y = encoder.tokens(x)
        assert y.shape == (2, 1 + 20 + 15, 24)
        assert relative_error(y[:, 0], golden("atst_clip")["y_long"]) < 3e-6
        assert encoder.tokens(x[:, :121]).shape[1] == 1 + 20
        assert torch.equal(encoder.tokens(x[:, :121]), encoder.tokens(x[:, :81]))


@pytest.mark.parametrize("name", NAMES)
def test_contract(name: str) -> None:
    encoder = built(name)
    assert encoder.class_token == (name == "atst_clip")
    check_contract(encoder, waves("atst/contract", 2, 9000))


@pytest.mark.parametrize(("name", "count"), [("atst", 85_418_496), ("atst_clip", 85_419_264)])
def test_size_as_published(name: str, count: int) -> None:
    with torch.device("meta"):
        encoder = ENCODERS[name].build(EncoderSettings(name=name))
    assert counted(encoder) == count  # "85 M"


def test_shortest_clip() -> None:
    encoder = built("atst")
    assert encoder.tokens(encoder.front_end(torch.randn(1, encoder.min_samples))).shape == (1, 1, 24)


def test_quiet_parts_lie_80_db_below_the_clips_maximum() -> None:
    x = built("atst").front_end(waves("atst/wave", 2, 9000, SILENCE))
    span = (x.amax((1, 2)) - x.amin((1, 2))) / 2 * (50.6842 + 79.6482)
    assert span[1].item() == pytest.approx(80, abs=1e-3)
    assert span[0].item() < 70


def test_older_checkpoint_needs_conversion(tmp_path: Path) -> None:
    """Settings as argparse left them make the file more than weights; the advice in the error makes it weights again."""
    state = official(golden("atst_clip")["manifest"], "atst_clip/")
    path = tmp_path / "base.ckpt"
    teacher = {f"module.backbone.{key}": value for key, value in state.items()} | {
        "module.head.0.weight": torch.zeros(2)
    }
    torch.save({"teacher": teacher, "args": argparse.Namespace(arch="base")}, path)
    with pytest.raises(AuscultError, match="could run code") as caught:
        load(built("atst_clip"), path)
    lines = [line.strip() for line in caught.value.fix.splitlines() if line.startswith("    ")]
    exec("\n".join(lines).replace('"base.', f'"{tmp_path}/base.'), {})
    encoder = built("atst_clip")
    load(encoder, path.with_suffix(".safetensors"))
    assert torch.equal(encoder.positions, state["pos_embed"])


def test_the_other_variant_is_recognised(tmp_path: Path) -> None:
    for name, other in zip(NAMES, NAMES[::-1], strict=True):
        path = saved(lightning(name), tmp_path)
        with pytest.raises(AuscultError, match=f"`{name}`") as caught:
            load(built(other), path)
        assert caught.value.fix.startswith(f"set encoder.name to {name},")


def test_wrong_keys_are_named(tmp_path: Path) -> None:
    state = lightning("atst")
    del state["model.teacher.encoder.blocks.0.attn.proj.bias"]
    with pytest.raises(AuscultError, match=r"transformer\.blocks\.0\.attention\.out\.bias"):
        load(built("atst"), saved(state, tmp_path))
    with pytest.raises(AuscultError, match="positions"):
        load(built("atst", positions=30), saved(lightning("atst"), tmp_path))
    with pytest.raises(AuscultError, match="20 positions"):
        built("atst", positions=19)
