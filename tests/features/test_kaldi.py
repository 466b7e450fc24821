"""The filter bank of Kaldi: against torchaudio's function clip by clip, and against three stored extractors."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor
from torchaudio.compliance.kaldi import fbank

from auscult.errors import AuscultError
from auscult.features.kaldi import KaldiBank, Window, kaldi_fbank
from support.fill import absolute_error, golden, v


def clips(samples: int = 16_000) -> Tensor:
    """Noise, a tone under little noise, a tone with an offset, and noise that falls silent: [4, samples] in [-1, 1)."""
    noise = torch.from_numpy(v("kaldi/noise", (4, samples))).float()
    tone = torch.sin(2 * torch.pi * 440 * torch.arange(samples) / 16_000)
    noise[1] = 0.3 * tone + 0.001 * noise[1]
    noise[2] = 0.3 + 0.2 * tone
    noise[3, samples // 2 :] = 0
    return noise


@pytest.mark.parametrize("extractor", ["torchaudio", "kaldi_native", "numpy64"])
def test_stored_extractors(extractor: str) -> None:
    stored = golden("kaldi_fbank")
    ours = kaldi_fbank(torch.from_numpy(stored["wav"])[None] * 32768, KaldiBank())[0]
    difference = np.abs(ours.numpy() - stored[f"fbank_{extractor}"])
    assert difference.shape == (38, 128)
    if extractor == "torchaudio":
        # As far as float32 goes, whatever the processor's order of sums: a bin far below its frame's loudest holds more of the
        # transform's rounding.
        below = np.exp((stored["fbank_torchaudio"].max(1, keepdims=True) - stored["fbank_torchaudio"]) / 2)
        assert (difference < 4e-6 + 2.0**-24 * below).all()
    assert difference.max() < (2e-5 if extractor == "torchaudio" else 2e-3)
    assert difference.mean() < 1e-4


def test_silence_and_the_empty_triangle_are_the_floor() -> None:
    ours = kaldi_fbank(torch.from_numpy(golden("kaldi_fbank")["wav"])[None] * 32768, KaldiBank())[0]
    floor = np.float32(np.log(2.0**-23))
    assert (ours[15] == floor).all()
    assert (ours[:, 3] == floor).all()
    assert (ours[[14, 16]][:, 4:] > floor).all()


def test_double_precision() -> None:
    stored = golden("kaldi_fbank")
    ours = kaldi_fbank(torch.from_numpy(stored["wav"]).double()[None] * 32768, KaldiBank())[0]
    assert ours.dtype == torch.float64
    # torchaudio rounds its triangles to float32; the stored ones are exact.
    assert absolute_error(ours, stored["fbank_numpy64"]) < 2e-4


@pytest.mark.parametrize(
    ("window", "bins", "scale", "sample_rate", "low"),
    [
        ("povey", 128, 32768.0, 16_000, 20.0),  # BEATs
        ("hanning", 128, 1.0, 16_000, 20.0),  # AST, EAT, ImageBind
        ("povey", 40, 1.0, 8_000, 20.0),
        ("hanning", 64, 1.0, 22_050, 0.0),  # a frame shift of 220.5 samples
    ],
)
@pytest.mark.parametrize("samples", [16_000, 16_159])
def test_torchaudio_clip_by_clip(
    window: Window, bins: int, scale: float, sample_rate: int, low: float, samples: int
) -> None:
    wave = clips(samples) * scale
    expected = torch.stack(
        [
            fbank(
                clip[None],
                num_mel_bins=bins,
                sample_frequency=float(sample_rate),
                window_type=window,
                htk_compat=True,
                use_energy=False,
                dither=0.0,
                low_freq=low,
            )
            for clip in wave
        ]
    )
    ours = kaldi_fbank(wave, KaldiBank(bins, window, sample_rate, low=low))
    assert ours.shape == expected.shape
    # Bins of a clean tone far from its frequency hold rounding of the Fourier transform alone.
    assert (ours - expected).abs().max() < 2e-3
    assert (ours - expected).abs().mean() < 1e-5


def test_clips_do_not_see_each_other() -> None:
    wave = clips() * 32768
    alone = torch.cat([kaldi_fbank(clip[None], KaldiBank()) for clip in wave])
    assert (kaldi_fbank(wave, KaldiBank()) - alone).abs().max() < 1e-4


def test_float32_under_autocast() -> None:
    wave = clips() * 32768
    with torch.autocast("cpu", torch.bfloat16):
        ours = kaldi_fbank(wave, KaldiBank())
    assert ours.dtype == torch.float32
    assert torch.equal(ours, kaldi_fbank(wave, KaldiBank()))


def test_the_wave_is_left_alone() -> None:
    wave = clips()
    kaldi_fbank(wave, KaldiBank())
    assert torch.equal(wave, clips())


def test_constants_first_made_in_inference_mode_serve_training() -> None:
    wave = clips(800)
    with torch.inference_mode():
        kaldi_fbank(wave, KaldiBank(23))  # sizes that no other test uses: made here
    scale = torch.ones(23, requires_grad=True)
    (kaldi_fbank(wave, KaldiBank(23)) * scale).sum().backward()
    assert torch.isfinite(scale.grad).all()


def test_shortest_clip() -> None:
    assert kaldi_fbank(torch.zeros(2, 400), KaldiBank()).shape == (2, 1, 128)
    with pytest.raises(AuscultError, match=r"399 samples.*400"):
        kaldi_fbank(torch.zeros(2, 399), KaldiBank())
    with pytest.raises(TypeError, match="float16"):
        kaldi_fbank(torch.zeros(2, 400, dtype=torch.float16), KaldiBank())
