"""ImageBind's audio branch against the authors' code, and its checkpoint file."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from auscult.encoders.imagebind import ENCODERS, ImageBind, load
from auscult.errors import AuscultError
from auscult.settings.sections import EncoderSettings
from support.fill import absolute_error, golden, relative_error
from support.vit import check_contract, counted, official, saved, tiny, waves

STORED = golden("imagebind")


def state() -> dict[str, Tensor]:
    """As in the authors' file: all of the audio branch, and something of another modality."""
    return official(STORED["manifest"], "imagebind/") | {
        "modality_trunks.vision.blocks.0.norm_1.weight": torch.zeros(3),
        "modality_postprocessors.audio.1.log_logit_scale": torch.tensor(3.0),
    }


@pytest.fixture
def encoder(tmp_path: Path) -> ImageBind:
    encoder = ImageBind(tiny("imagebind")).eval()
    load(encoder, saved(state(), tmp_path))
    return encoder


def to_time_major(y: Tensor) -> Tensor:
    """The authors' [windows, 1 + 12 rows x 19 steps, D] -> patches [windows, 19 x 12, D]."""
    return y[:, 1:].unflatten(1, (12, 19)).transpose(1, 2).flatten(1, 2)


def test_as_the_authors_code(encoder: ImageBind) -> None:
    x = encoder.front_end(waves("imagebind/wave", 1, 64_000))
    assert x.shape == (1, 408, 128)
    assert absolute_error(x.unflatten(1, (2, 204))[0, :, ::6], STORED["x"]) < 1e-4
    for layer, key in ((0, "y"), (2, "layer2")):
        theirs = torch.from_numpy(STORED[key])
        with torch.no_grad():
            y = encoder.tokens(x, layer)
        assert relative_error(y[:, 0], theirs[:, 0].mean(0, keepdim=True).numpy()) < 5e-6
        assert relative_error(y[0, 1:].reshape(2, 228, 24), to_time_major(theirs).numpy()) < 6e-5


def test_windows_cover_the_clip(encoder: ImageBind) -> None:
    wave = waves("imagebind/lengths", 2, 72_000)
    x = encoder.front_end(wave)
    assert x.shape == (2, 3 * 204, 128)
    for i, start in enumerate((0, 20_000, 40_000)):  # evenly spaced, the last at the end
        alone = encoder.front_end(wave[:, start : start + 32_000])
        torch.testing.assert_close(x[:, 204 * i : 204 * (i + 1)], alone, atol=1e-5, rtol=0)
    short = encoder.front_end(wave[:, :16_000])
    assert short.shape == (2, 204, 128)
    assert short[:, 98:].unique().numel() == 1  # zeros before normalisation
    assert short[0, -1, 0].item() == pytest.approx(4.268 / 9.138)
    assert encoder.tokens(encoder.front_end(wave[:, : encoder.min_samples])).shape == (2, 229, 24)


def test_contract() -> None:
    check_contract(ImageBind(tiny("imagebind")), waves("imagebind/contract", 2, 40_000))


def test_size_as_published() -> None:
    with torch.device("meta"):
        encoder = ENCODERS["imagebind"].build(EncoderSettings(name="imagebind"))
    assert counted(encoder) == 85_449_216
    assert counted(encoder) + 768 * 1024 == 86_235_648  # with the projection that is left out: "86 M"


def test_wrong_keys_are_named(tmp_path: Path) -> None:
    broken = state()
    del broken["modality_trunks.audio.blocks.1.attn.bias_k"]
    with pytest.raises(AuscultError, match=r"transformer\.blocks\.1\.attention\.bias_k"):
        load(ImageBind(tiny("imagebind")), saved(broken, tmp_path))
    with pytest.raises(AuscultError, match="missing"):
        load(ImageBind(tiny("imagebind")), saved({"something": torch.zeros(1)}, tmp_path))
