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


def saved(folder: Path, bands: int) -> Path:
    """As the port publishes it: constants of the spectrogram beside the weights, which are alike here for 128 and 256 bands."""
    state = official(golden("openl3")["manifest"], "openl3/")
    state |= {f"batch_normalization_{i}.num_batches_tracked": torch.tensor(0) for i in range(1, 9)}
    torch.save(state | {"speclayer.mel_basis": torch.zeros(bands, 1025)}, folder / "openl3.pth.tar")
    return folder / "openl3.pth.tar"


@pytest.mark.parametrize(("bands", "rows", "suffix"), [(128, 1, "128"), (256, 1, ""), (256, 4, "6144")])
def test_as_the_port(tmp_path: Path, bands: int, rows: int, suffix: str) -> None:
    stored = golden("openl3")
    encoder = OpenL3(settings(rows=rows, bands=bands)).eval()
    load(encoder, saved(tmp_path, bands))
    wave = waves("openl3/wave", 1, 58_000)
    wave[:, 20_000:30_000] *= 1e-3
    x = encoder.front_end(wave)
    assert x.shape == (1, 9 * 199, bands)
    windows = x.unflatten(1, (9, 199)).transpose(2, 3)[0]
    assert absolute_error(windows[:, ::16, ::20], stored["x128" if bands == 128 else "x"]) < 4e-4  # dB
    with torch.no_grad():
        if rows == 1:
            assert relative_error(encoder.tokens(x)[0], stored[f"y{suffix}"]) < 3e-6
        else:  # theirs: rows, steps, channels; of windows 0 and 5
            y = encoder.tokens(x[:, : 6 * 199]).unflatten(1, (6, 3, 4))[0, [0, 5]]
            assert relative_error(y.transpose(1, 2).flatten(1), stored[f"y{suffix}"]) < 3e-6


@pytest.mark.parametrize(
    ("samples", "windows"), [(1, 1), (23_999, 1), (24_000, 1), (24_001, 2), (48_000, 2), (480_000, 20)]
)
def test_windows_of_clip_lengths(samples: int, windows: int) -> None:
    """Half a second of zeros before the clip; as many windows of a second, half a second apart, as reach its end."""
    encoder = OpenL3(settings(**SMALL)).eval()
    x = encoder.front_end(torch.randn(1, samples))
    assert x.shape == (1, windows * 199, 128)
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


def test_what_it_has_not_is_refused(tmp_path: Path) -> None:
    encoder = OpenL3(settings(**SMALL, bands=256))
    for call, words in (
        (lambda: encoder.linear_maps("q"), "no linear maps"),
        (lambda: encoder.blocks("ffn"), "no Transformer"),
    ):
        with pytest.raises(AuscultError, match=words):
            call()
    with pytest.raises(AuscultError, match="no layer 2"):
        OpenL3(EncoderSettings(name="openl3", layer=2))
    for size in ({"width": 12}, {"rows": 2}, {"hop": 0}, {"bands": 64}):
        with pytest.raises(AuscultError, match="multiple of 8"):
            OpenL3(settings(**size))
    with pytest.raises(AuscultError, match=r"norms\.1\.weight is \(64,\), should be \(2,\)"):
        load(encoder, saved(tmp_path, 256))
    with pytest.raises(AuscultError, match="weights for 256 mel bands, not for 128"):
        load(OpenL3(settings()), saved(tmp_path, 256))


def test_size_as_published() -> None:
    with torch.device("meta"):
        encoder = ENCODERS["openl3"].build(EncoderSettings(name="openl3"))
    assert counted(encoder) == sum(
        torch.Size(shape).numel() for _, shape, kind in golden("openl3")["manifest"] if kind[0] != "r"
    )
