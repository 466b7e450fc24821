"""FISHER and ECHO, encoders of one band at a time, against their authors' code; and their checkpoint files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from auscult.encoders import echo, fisher
from auscult.encoders.echo import Echo
from auscult.encoders.fisher import Fisher
from auscult.errors import AuscultError
from auscult.models.rows import RowPooling, grid, pool_rows
from auscult.settings.sections import EncoderSettings
from support.fill import absolute_error, golden, relative_error
from support.vit import check_contract, counted, official, saved, tiny, waves

SILENCE = slice(3000, 6000)
TABLE = "modality_encoders.IMAGE.fixed_positional_encoder.positions"


def fisher_state() -> dict[str, Tensor]:
    """As the authors' file has it under `model`; the table is EAT's for a grid 50 patches wide."""
    stored = golden("fisher")
    assert tuple(stored["table"]) == (1, 128 * 50, 24)
    return official(stored["manifest"], "fisher/") | {TABLE: fisher.sine_table(128, 50, 24)}


def echo_state() -> dict[str, Tensor]:
    """As the hub's model.safetensors has it: the table begins with a row for the class token, of zeros."""
    table = torch.cat([torch.zeros(1, 1, 24), echo.time_table(6, 24)], dim=1)
    return official(golden("echo")["manifest"], "echo/") | {"pos_embed": table}


def wave(name: str) -> Tensor:
    clips = waves(f"{name}/wave", 2, 12_000, SILENCE)
    clips[0] += 0.05  # a mean to take off
    return clips


@pytest.fixture
def fishers(tmp_path: Path) -> Fisher:
    path = tmp_path / "fisher.pt"
    torch.save({"cfg": {"model": {"num_heads": 3, "band_width": 100}}, "model": fisher_state()}, path)
    encoder = Fisher(tiny("fisher")).eval()
    fisher.load(encoder, path)
    return encoder


@pytest.fixture
def echoes(tmp_path: Path) -> Echo:
    encoder = Echo(tiny("echo", size={"frames": 96})).eval()
    echo.load(encoder, saved(echo_state(), tmp_path))
    return encoder


def beside(theirs: Any, rows: int) -> Tensor:
    """Their tokens [B * rows, 1 + steps, D], or [B, rows, 1 + steps, D], in the order of ours."""
    bands = torch.from_numpy(theirs)
    bands = bands if bands.dim() == 4 else bands.unflatten(0, (-1, rows))
    return bands.transpose(1, 2).flatten(1, 2)


def test_fisher_as_the_authors_code(fishers: Fisher) -> None:
    stored = golden("fisher")
    x = fishers.front_end(wave("fisher"))
    assert x.shape == (2, 73, 201)
    assert absolute_error(x[:, ::4], stored["x"]) < 1e-5
    with torch.no_grad():
        y = fishers.tokens(x)
        assert relative_error(y, beside(stored["y"], 2).numpy()) < 2.5e-6
        assert relative_error(fishers.tokens(x, 2), beside(stored["layer2"], 2).numpy()) < 2.5e-6
    first = pool_rows(grid(y, fishers.rows, fishers.class_token), RowPooling(how="first")).flatten(1)
    assert relative_error(first, stored["embedding"]) < 2.5e-6
    assert absolute_error(fishers.positions[0, [0, 1, 7, 49, 50, 51, 383]], stored["positions"]) < 5e-6


def test_echo_as_the_authors_code(echoes: Echo) -> None:
    stored = golden("echo")
    x = echoes.front_end(wave("echo"))
    assert absolute_error(x.transpose(1, 2)[:, :, ::4], stored["x"]) < 1e-5
    with torch.no_grad():
        y = echoes.tokens(x)
        assert relative_error(y, beside(stored["y"], 7).numpy()) < 2.5e-6
        assert relative_error(echoes.tokens(x, 2), beside(stored["layer2"], 7).numpy()) < 2.5e-6
    first = pool_rows(grid(y, echoes.rows, echoes.class_token), RowPooling(how="first")).flatten(1)
    assert relative_error(first, stored["embedding"]) < 2.5e-6
    assert absolute_error(echoes.positions[0, [0, 1, 5]], stored["positions"][1:]) < 1e-6
    assert absolute_error(echoes.bands[[0, 3, 6]], stored["bands"]) < 2e-6


@pytest.mark.parametrize("name", ["fisher", "echo"])
def test_contract(name: str) -> None:
    encoder = Fisher(tiny("fisher")) if name == "fisher" else Echo(tiny("echo"))
    check_contract(encoder, waves(f"{name}/contract", 2, 12_000))


def test_long_clips(fishers: Fisher, echoes: Echo) -> None:
    encoder = Fisher(tiny("fisher", size={"frames": 64})).eval()
    encoder.load_state_dict({**fishers.state_dict(), "positions": fishers.positions[:, :24]})
    x = encoder.front_end(waves("fisher/long", 2, 400 + 160 * 149))
    assert x.shape[1] == 150  # 64 + 64 + 22
    with torch.no_grad():
        y = grid(encoder.tokens(x), 2, False)
        parts = [grid(encoder.tokens(part), 2, False) for part in x.split(64, dim=1)]
        torch.testing.assert_close(y[:, 1:], torch.cat([part[:, 1:] for part in parts], 1), atol=1e-5, rtol=0)
        torch.testing.assert_close(y[:, 0], torch.stack([part[:, 0] for part in parts]).mean(0), atol=1e-5, rtol=0)
        x = echoes.front_end(waves("echo/long", 2, 400 + 160 * 149))
        y = grid(echoes.tokens(x), 7, False)
        parts = [grid(echoes.tokens(part), 7, False) for part in (x[:, :96], x[:, -96:])]
        torch.testing.assert_close(y[:, 1:], torch.cat([part[:, 1:] for part in parts], 1), atol=1e-5, rtol=0)


def test_sizes_as_published() -> None:
    with torch.device("meta"):
        fishers, echoes = (
            kind.build(EncoderSettings(name="")) for kind in (fisher.ENCODERS["fisher"], echo.ENCODERS["echo"])
        )
    assert counted(fishers) == 21_393_408  # "22 M"
    assert counted(echoes) + 126 * 384 == 21_540_096  # of the authors' class, whose table counts


def test_fisher_needs_to_be_told_its_heads(fishers: Fisher, tmp_path: Path) -> None:
    """No shape shows them, and another number of heads is another network."""
    hub = tmp_path / "hub"
    hub.mkdir()
    path = saved({f"model.{key}": value for key, value in fisher_state().items()}, hub)
    with pytest.raises(AuscultError, match=r"how many heads this FISHER has"):
        fisher.load(Fisher(tiny("fisher")), path)
    (hub / "config.json").write_text(json.dumps({"model_type": "fisher", "num_heads": 3, "depth": 3}))
    for place in (path, hub):
        other = Fisher(tiny("fisher")).eval()
        fisher.load(other, place)
        assert all(torch.equal(value, fishers.state_dict()[key]) for key, value in other.state_dict().items())
    (hub / "config.json").write_text(json.dumps({"model": {"num_heads": 6, "band_width": 50}}))
    with pytest.raises(AuscultError, match="num_heads is 6, should be 3, band_width is 50, should be 100"):
        fisher.load(Fisher(tiny("fisher")), hub)


def test_echo_file_of_zenodo(echoes: Echo, tmp_path: Path) -> None:
    path = tmp_path / "echo.pth"
    torch.save({"encoder": echo_state(), "model_type": "small"}, path)
    other = Echo(tiny("echo", size={"frames": 96})).eval()
    echo.load(other, path)
    assert all(torch.equal(value, echoes.state_dict()[key]) for key, value in other.state_dict().items())


def test_wrong_keys_are_named(tmp_path: Path) -> None:
    state = echo_state()
    del state["encoder.layers.1.linear2.bias"]
    with pytest.raises(AuscultError, match=r"transformer\.blocks\.1\.ffn\.fc2\.bias"):
        echo.load(Echo(tiny("echo", size={"frames": 96})), saved(state, tmp_path))
    with pytest.raises(AuscultError, match=r"positions is \(1, 6, 24\), should be \(1, 125, 24\)"):
        echo.load(Echo(tiny("echo")), saved(echo_state(), tmp_path))
