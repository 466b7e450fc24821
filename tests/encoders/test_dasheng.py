"""Dasheng against the authors' code, and its checkpoint files."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from auscult.encoders.ced import load
from auscult.encoders.dasheng import ENCODERS, Dasheng
from auscult.errors import AuscultError
from auscult.settings.sections import EncoderSettings
from support.fill import absolute_error, golden, relative_error
from support.vit import check_contract, counted, official, saved, tiny, waves

STORED = golden("dasheng")
SIZE = {"frames": 64}


def state() -> dict[str, Tensor]:
    """As the authors' file has it under `model`."""
    return official(STORED["manifest"], "dasheng/") | {"init_bn.1.num_batches_tracked": torch.tensor(7)}


@pytest.fixture
def encoder(tmp_path: Path) -> Dasheng:
    path = tmp_path / "dasheng_base.pt"
    extra = {"front_end.0.mel_scale.fb": torch.zeros(257, 64), "front_end.0.spectrogram.window": torch.zeros(512)}
    torch.save({"model": state() | extra, "config": {"embed_dim": 24, "depth": 3}}, path)
    encoder = Dasheng(tiny("dasheng", size=SIZE)).eval()
    load(encoder, path)
    return encoder


def test_as_the_authors_code(encoder: Dasheng) -> None:
    x = encoder.front_end(waves("dasheng/wave", 2, 9000, slice(3000, 6000)))
    assert absolute_error(x.transpose(1, 2)[:, :, ::3], STORED["x"]) < 4e-4  # dB
    with torch.no_grad():
        assert relative_error(encoder.tokens(x), STORED["y"]) < 1e-5
        assert relative_error(encoder.tokens(x, 2), STORED["layer2"]) < 1e-5


def test_long_clips_as_the_authors_code(encoder: Dasheng) -> None:
    x = encoder.front_end(waves("dasheng/long", 1, 149 * 160))
    assert x.shape[1] == 150  # 64 + 64 + 22
    with torch.no_grad():
        assert relative_error(encoder.tokens(x), STORED["y_long"]) < 1e-5


@pytest.mark.parametrize("frames", [4, 7, 63, 64, 65, 67, 68, 127, 128, 130])
def test_every_whole_step_has_a_token(encoder: Dasheng, frames: int) -> None:
    x = encoder.front_end(waves("dasheng/steps", 3, (frames - 1) * 160))
    with torch.no_grad():
        y = encoder.tokens(x)
        assert y.shape == (3, frames // 4, 24)
        torch.testing.assert_close(encoder.tokens(x[1:2]), y[1:2], atol=1e-5, rtol=0)


def test_hub_file_and_one_fine_tuned(encoder: Dasheng, tmp_path: Path) -> None:
    hub = {f"encoder.{key}": value for key, value in state().items()}
    tuned = state() | {"outputlayer.0.weight": torch.ones(24), "outputlayer.1.bias": torch.ones(527)}
    x = encoder.front_end(waves("dasheng/wave", 2, 9000))
    for content in (hub, tuned):
        other = Dasheng(tiny("dasheng", size=SIZE)).eval()
        load(other, saved(content, tmp_path))
        assert torch.equal(other.tokens(x), encoder.tokens(x))


def test_contract() -> None:
    check_contract(Dasheng(tiny("dasheng", size=SIZE)), waves("dasheng/contract", 2, 9000))


def test_size_as_published() -> None:
    with torch.device("meta"):
        encoder = ENCODERS["dasheng"].build(EncoderSettings(name="dasheng"))
    assert counted(encoder) == 85_447_808  # "86 M"


def test_a_file_of_ced_is_refused_with_what_differs(tmp_path: Path) -> None:
    with pytest.raises(AuscultError) as caught:
        load(Dasheng(tiny("dasheng", size=SIZE)), saved(official(golden("ced")["manifest"], "ced/"), tmp_path))
    assert "patches.weight is (24, 1, 16, 16), should be (24, 1, 64, 4)" in caught.value.what
