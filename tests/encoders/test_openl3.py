"""OpenL3 against its port to torch, whose files are loaded."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from auscult.encoders.openl3 import ENCODERS, OpenL3, load
from auscult.errors import AuscultError
from auscult.settings.sections import EncoderSettings
from support.fill import absolute_error, golden, relative_error
from support.vit import counted, official, stirred, waves

SMALL = {"width": 16, "hop": 500}


def settings(**size: int) -> EncoderSettings:
    return EncoderSettings(name="openl3", size=size)


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As the port publishes it: constants of the spectrogram beside the weights."""
    state = official(golden("openl3")["manifest"], "openl3/")
    state |= {f"batch_normalization_{i}.num_batches_tracked": torch.tensor(0) for i in range(1, 9)}
    file = tmp_path_factory.mktemp("openl3") / "torchopenl3_mel256_env_512.pth.tar"
    torch.save(state | {"speclayer.mel_basis": torch.zeros(256, 1025)}, file)
    return file


@pytest.mark.parametrize(("rows", "key"), [(1, "y"), (4, "y6144")])
def test_as_the_port(path: Path, rows: int, key: str) -> None:
    stored = golden("openl3")
    encoder = OpenL3(settings(rows=rows)).eval()
    load(encoder, path)
    wave = waves("openl3/wave", 1, 58_000)
    wave[:, 20_000:30_000] *= 1e-3
    x = encoder.front_end(wave)
    assert x.shape == (1, 9 * 199, 256)
    windows = x.unflatten(1, (9, 199)).transpose(2, 3)[0]
    assert absolute_error(windows[:, ::16, ::20], stored["x"]) < 4e-4  # dB
    with torch.no_grad():
        if rows == 1:
            assert relative_error(encoder.tokens(x)[0], stored[key]) < 3e-6
        else:  # theirs: rows, steps, channels; of windows 0 and 5
            y = encoder.tokens(x[:, : 6 * 199]).unflatten(1, (6, 3, 4))[0, [0, 5]]
            assert relative_error(y.transpose(1, 2).flatten(1), stored[key]) < 3e-6


@pytest.mark.parametrize(
    ("samples", "windows"), [(1, 1), (23_999, 1), (24_000, 1), (24_001, 2), (48_000, 2), (480_000, 20)]
)
def test_windows_of_clip_lengths(samples: int, windows: int) -> None:
    """Half a second of zeros before the clip; as many windows of a second, half a second apart, as reach its end."""
    encoder = OpenL3(settings(**SMALL)).eval()
    x = encoder.front_end(torch.randn(1, samples))
    assert x.shape == (1, windows * 199, 256)
    assert encoder.tokens(x).shape == (1, windows, 16)


def test_a_clip_alone_gives_what_it_gives_among_others() -> None:
    encoder = stirred(OpenL3(settings(**SMALL)))
    wave = waves("openl3/batch", 3, 60_000)
    x = encoder.front_end(wave)
    with torch.no_grad():
        y = encoder.tokens(x)
        torch.testing.assert_close(encoder.front_end(wave[1:2]), x[1:2], atol=1e-4, rtol=0)
        torch.testing.assert_close(encoder.tokens(x[1:2]), y[1:2], atol=1e-4, rtol=1e-5)
    encoder.train()
    encoder.tokens(x).square().sum().backward()
    assert all(parameter.grad is not None for parameter in encoder.parameters())


def test_what_it_has_not_is_refused(path: Path) -> None:
    encoder = OpenL3(settings(**SMALL))
    for call, words in (
        (lambda: encoder.linear_maps("q"), "no linear maps"),
        (lambda: encoder.blocks("ffn"), "no Transformer"),
    ):
        with pytest.raises(AuscultError, match=words):
            call()
    with pytest.raises(AuscultError, match="no layer 2"):
        OpenL3(EncoderSettings(name="openl3", layer=2))
    for size in ({"width": 12}, {"rows": 2}, {"hop": 0}):
        with pytest.raises(AuscultError, match="multiple of 8"):
            OpenL3(settings(**size))
    with pytest.raises(AuscultError, match=r"norms\.1\.weight is \(64,\), should be \(2,\)"):
        load(encoder, path)


def test_size_as_published() -> None:
    with torch.device("meta"):
        encoder = ENCODERS["openl3"].build(EncoderSettings(name="openl3"))
    assert counted(encoder) == sum(
        torch.Size(shape).numel() for _, shape, kind in golden("openl3")["manifest"] if kind[0] != "r"
    )
