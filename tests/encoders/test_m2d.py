"""M2D against the authors' runtime, and its checkpoint files."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from auscult.encoders.m2d import ENCODERS, M2d, load
from auscult.errors import AuscultError
from auscult.settings.sections import EncoderSettings
from support.fill import absolute_error, golden, relative_error
from support.vit import check_contract, counted, official, saved, tiny, waves

STORED = golden("m2d")
SIZE = {"frames": 100}  # no multiple of a patch, as 1001 is none
STATISTICS = torch.tensor([-7.1, 4.2])


def state() -> dict[str, Tensor]:
    return official(STORED["manifest"], "m2d/")


def loaded(content: dict[str, Tensor], folder: Path) -> M2d:
    encoder = M2d(tiny("m2d", size=SIZE)).eval()
    load(encoder, saved(content, folder))
    return encoder


def time_major(y: torch.Tensor, columns: int) -> Tensor:
    return torch.as_tensor(y).unflatten(1, (5, columns)).transpose(1, 2).flatten(1, 2)


def test_as_the_authors_code(tmp_path: Path) -> None:
    encoder = loaded(state(), tmp_path)
    theirs = torch.from_numpy(STORED["x"]).transpose(1, 2)
    x = encoder.front_end(waves("m2d/wave", 2, 9000, slice(3000, 6000)))
    assert absolute_error(x, theirs.numpy()) < 1.5e-4
    for spectrogram, limit in ((theirs, 2.5e-6), (x, 6e-5)):
        for layer, key in ((0, "y"), (2, "layer2")):
            first, rest = torch.from_numpy(STORED[key]).split([1, 20], dim=1)
            with torch.no_grad():
                y = encoder.tokens(spectrogram, layer)
            assert relative_error(y[:, :1], first.numpy()) < limit
            assert relative_error(y[:, 1:], time_major(rest, 4).numpy()) < limit


def test_long_clips_as_the_authors_code(tmp_path: Path) -> None:
    encoder = loaded(state(), tmp_path)
    x = encoder.front_end(waves("m2d/long", 1, 249 * 160))
    assert x.shape[1] == 250  # 100 + 100 + 50, filled up to 64
    theirs, parts = torch.from_numpy(STORED["y_long"]), [6, 6, 4]
    theirs = torch.cat(
        [time_major(y, n) for y, n in zip(theirs.split([5 * n for n in parts], 1), parts, strict=True)], 1
    )
    with torch.no_grad():
        assert relative_error(encoder.tokens(x)[:, 1:], theirs.numpy()) < 1e-5


@pytest.mark.parametrize(
    ("frames", "columns"), [(2, 1), (16, 1), (17, 2), (98, 6), (100, 6), (101, 7), (116, 7), (117, 8)]
)
def test_steps_of_clip_lengths(frames: int, columns: int) -> None:
    encoder = M2d(tiny("m2d", size=SIZE)).eval()
    assert encoder.tokens(torch.zeros(2, frames, 80)).shape == (2, 1 + 5 * columns, 24)


def test_contract() -> None:
    check_contract(M2d(tiny("m2d", size=SIZE)), waves("m2d/contract", 2, 9000))


def test_every_form_of_the_file(tmp_path: Path) -> None:
    alone = loaded(state(), tmp_path)
    more = {"decoder_embed.weight": torch.ones(2), "mask_token": torch.ones(2), "norm_stats": STATISTICS}
    clap = {f"backbone.{key}": value for key, value in state().items()} | {
        "text_encoder.model.embeddings.weight": torch.ones(2),
        "backbone.audio_proj.sem_token": torch.ones(2),
    }
    tuned = {f"module.ar.runtime.backbone.{key}": value for key, value in state().items()} | {
        "module.head.norm.running_mean": torch.ones(2)
    }
    for content in (state() | more, clap, tuned):
        other = loaded(content, tmp_path)
        assert all(torch.equal(other.state_dict()[key], value) for key, value in alone.state_dict().items())
    path = tmp_path / "checkpoint-300.pth"
    torch.save({"model": state()}, path)
    load(other, path)


def test_the_files_statistics_normalise(tmp_path: Path) -> None:
    wave = waves("m2d/wave", 1, 9000)
    plain, other = loaded(state(), tmp_path), loaded(state() | {"norm_stats": torch.tensor([-5.1, 2.1])}, tmp_path)
    torch.testing.assert_close(other.front_end(wave) * 2.1 - 5.1, plain.front_end(wave) * 4.2 - 7.1, atol=1e-5, rtol=0)


def test_a_file_of_another_window_is_refused_with_what_differs(tmp_path: Path) -> None:
    with pytest.raises(AuscultError) as caught:
        load(M2d(tiny("m2d")), saved(state(), tmp_path))
    assert "positions is (1, 31, 24), should be (1, 191, 24)" in caught.value.what
    broken = state()
    del broken["blocks.1.attn.qkv.weight"]
    with pytest.raises(AuscultError, match=r"transformer\.blocks\.1\.attention\.q\.weight"):
        loaded(broken, tmp_path)


def test_size_as_published() -> None:
    with torch.device("meta"):
        encoder = ENCODERS["m2d"].build(EncoderSettings(name="m2d"))
    assert counted(encoder) == 85_400_832  # "86 M"
