"""Log-mel variants against golden vectors, librosa-independent identities, and their edges."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
import torchaudio

from auscult.errors import AuscultError
from auscult.features import FRONTENDS, LOG_MELS, exact_spectrogram, frames, spectrogram
from auscult.features.logmel import LogMel, filter_bank, log_mel
from support.fill import GOLDEN, tensor, v


@pytest.fixture(scope="module")
def stored() -> dict[str, np.ndarray]:
    with np.load(GOLDEN / "mel.npz") as file:
        return dict(file)


def ten_seconds() -> np.ndarray:
    t = np.arange(160_000) / 16_000
    swell = 0.5 + 0.5 * np.sin(2 * np.pi * 3 * t)
    tones = 0.2 * np.sin(2 * np.pi * 440 * t) + 0.1 * np.sin(2 * np.pi * 3000 * t) * swell
    return (tones + 0.01 * v("mel/noise10", (160_000,))).astype(np.float32)


def deviation(ours: torch.Tensor, reference: np.ndarray) -> float:
    assert tuple(ours.shape) == reference.shape
    return float(np.abs(ours.double().numpy() - reference).max())


# In float32 the tolerance is five times what a plain implementation reaches; in double what float32 storage rounds.
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1.6e-3), (torch.float64, 2e-5)])
@pytest.mark.parametrize("name", ["osscl", "noisyarcmix", "stgram", "dcase_reflect", "dcase_constant"])
def test_golden(name: str, dtype: torch.dtype, tolerance: float, stored: dict[str, np.ndarray]) -> None:
    for clip in ("1s", "gap"):
        wave = torch.from_numpy(stored[f"wave_{clip}"]).to(dtype)
        assert deviation(spectrogram(wave, name), stored[f"{name}_{clip}"]) < tolerance
        plain = exact_spectrogram(stored[f"wave_{clip}"][None], name, 16_000)[0]
        assert np.abs(plain - stored[f"{name}_{clip}"]).max() < 2e-5
    mel = spectrogram(torch.from_numpy(ten_seconds()).to(dtype), name)
    assert list(mel.shape) == stored[f"{name}_10s_shape"].tolist() == [128, frames(160_000, name)]
    assert deviation(mel[:, stored["frame_idx_10s"]], stored[f"{name}_10s"]) < tolerance
    mean, deviation_, low, high = stored[f"{name}_10s_stats"]
    mel = mel.double()
    found = [mel.mean().item(), mel.std(correction=0).item(), mel.min().item(), mel.max().item()]
    assert found == pytest.approx([mean, deviation_, low, high], abs=7e-3 if dtype == torch.float32 else 2e-5)


def by_hand(wave: np.ndarray) -> np.ndarray:
    """The front-end of Sub-cluster AdaCos in NumPy: symmetric Hann window, reflected edges, Slaney's mel scale."""

    def hertz(mel: float) -> float:
        return mel * 200 / 3 if mel < 15 else 1000 * 6.4 ** ((mel - 15) / 27)

    edges = [hertz(number / 129 * (15 + 27 * np.log(8) / np.log(6.4))) for number in range(130)]
    bank = np.zeros((128, 513))
    for band, line in np.ndindex(bank.shape):
        low, mid, high = edges[band : band + 3]
        height = np.interp(line * 15.625, [low, mid, high], [0, 1, 0], left=0, right=0)
        bank[band, line] = height * 2 / (high - low)
    padded = np.pad(wave, 512, mode="reflect")
    spectra = [np.fft.rfft(np.hanning(1024) * padded[start : start + 1024]) for start in range(0, len(wave) + 1, 512)]
    return 10 * np.log10(np.maximum(bank @ np.abs(np.array(spectra)).T ** 2, 1e-10))


def test_sc_adacos_equals_numpy(stored: dict[str, np.ndarray]) -> None:
    for clip in ("1s", "gap"):
        wave = stored[f"wave_{clip}"].astype(np.float64)
        assert deviation(spectrogram(torch.from_numpy(wave), "sc_adacos"), by_hand(wave)) < 1e-8
    periodic = replace(LOG_MELS["sc_adacos"], window="hann")
    assert deviation(log_mel(torch.from_numpy(wave), periodic), by_hand(wave)) > 1e-3


@pytest.mark.parametrize(("name", "key"), [("osscl", "slaney_2048"), ("stgram", "htk_1024")])
def test_golden_filter_banks(name: str, key: str, stored: dict[str, np.ndarray]) -> None:
    bank = filter_bank(LOG_MELS[name])
    np.testing.assert_allclose(bank.sum(1), stored[f"fbank_{key}_rowsum"], rtol=1e-9)
    np.testing.assert_array_equal(bank.argmax(1), stored[f"fbank_{key}_argmax"])
    if name == "osscl":
        np.testing.assert_allclose(bank.max(1), stored[f"fbank_{key}_max"], rtol=1e-9)


@pytest.mark.parametrize("norm", ["slaney", None])
@pytest.mark.parametrize("scale", ["slaney", "htk"])
@pytest.mark.parametrize(("rate", "mels", "n_fft"), [(16_000, 128, 1024), (44_100, 64, 2048), (1600, 20, 256)])
def test_filter_bank_equals_torchaudio(scale: str, norm: str | None, rate: int, mels: int, n_fft: int) -> None:
    settings = LogMel("x", n_fft, mels=mels, sample_rate=rate, mel_scale=scale, norm=norm)  # type: ignore[arg-type]
    theirs = torchaudio.functional.melscale_fbanks(n_fft // 2 + 1, 0, rate / 2, mels, rate, norm, scale)
    np.testing.assert_allclose(filter_bank(settings), theirs.T, rtol=0, atol=2e-4 * theirs.max().item())


@pytest.mark.parametrize("name", ["osscl", "stgram"])
def test_equals_torchaudio_transforms(name: str) -> None:
    settings = LOG_MELS[name]
    reference = torchaudio.transforms.MelSpectrogram(
        16_000, settings.n_fft, hop_length=512, n_mels=128, pad_mode=settings.pad_mode,
        norm=settings.norm, mel_scale=settings.mel_scale,
    )  # fmt: skip
    wave = tensor(0.3 * v("w", (2, 16_000)))
    expected = torchaudio.transforms.AmplitudeToDB("power")(reference(wave))
    torch.testing.assert_close(spectrogram(wave, name), expected, rtol=0, atol=1e-3)


def test_silence_floors() -> None:
    floors = {name: spectrogram(torch.zeros(4000), name).unique().tolist() for name in LOG_MELS}
    assert floors["osscl"] == floors["stgram"] == floors["sc_adacos"] == [-100.0]
    for name in ("noisyarcmix", "dcase_reflect", "dcase_constant"):
        assert floors[name] == pytest.approx([10 * np.log10(2.0**-52)])


def test_leading_dimensions_and_single_clips() -> None:
    wave = tensor(v("w", (2, 3, 4000)))
    batched = spectrogram(wave, "osscl")
    assert batched.shape == (2, 3, 128, frames(4000, "osscl"))
    torch.testing.assert_close(batched[1, 2], spectrogram(wave[1, 2], "osscl"), rtol=0, atol=1e-3)


@pytest.mark.parametrize("samples", [1, 511, 512, 1023, 1024, 32_000])
def test_number_of_frames(samples: int) -> None:
    assert spectrogram(torch.zeros(samples), "osscl").shape[1] == frames(samples, "osscl") == 1 + samples // 512


@pytest.mark.parametrize(("name", "shortest"), [("osscl", 1), ("stgram", 513), ("dcase_reflect", 513)])
def test_too_short_clip_is_refused_with_the_limit(name: str, shortest: int) -> None:
    assert spectrogram(torch.zeros(shortest), name).isfinite().all()
    with pytest.raises(AuscultError, match=rf"{name}.*{shortest}"):
        spectrogram(torch.zeros(shortest - 1), name)


def test_unknown_front_end_and_wrong_type_are_refused() -> None:
    with pytest.raises(AuscultError, match="unknown front-end `mel`"):
        spectrogram(torch.zeros(4000), "mel")
    with pytest.raises(TypeError, match="int16"):
        spectrogram(torch.zeros(4000, dtype=torch.int16), "osscl")


def test_sampling_rate_moves_the_bands() -> None:
    """A tone in the middle of the spectrum stays in the middle when rate and pitch double together."""
    for rate in (16_000, 32_000):
        wave = torch.sin(torch.pi / 2 * torch.arange(rate, dtype=torch.float64))  # rate / 4 in Hz
        expected = log_mel(wave, LogMel("here", 2048, mel_scale="htk", sample_rate=rate))
        torch.testing.assert_close(log_mel(wave, LogMel("there", 2048, mel_scale="htk"), rate), expected)
    peaks = [spectrogram(wave, "osscl", rate).mean(1).argmax().item() for rate in (16_000, 32_000)]
    assert peaks[1] > peaks[0]  # 8 kHz lies higher than 4 kHz on the mel scale of its own range


def test_usable_in_training_after_inference_mode_and_under_autocast() -> None:
    settings = LogMel("fresh", 256, mels=16)  # not in the cache before
    wave = tensor(v("w", (2, 4000)))
    with torch.inference_mode():
        plain = log_mel(wave, settings)
    trainable = wave.clone().requires_grad_()
    log_mel(trainable, settings).sum().backward()
    assert trainable.grad.isfinite().all()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(log_mel(wave, settings), plain)


@pytest.mark.parametrize("name", FRONTENDS)
def test_every_front_end_says_its_sizes_and_is_the_same_in_float64(name: str) -> None:
    wave = tensor(0.3 * v("w", (2, 4000)))
    mel = spectrogram(wave, name)
    assert mel.shape == (2, FRONTENDS[name].mels, frames(4000, name))
    exact = exact_spectrogram(wave.numpy(), name, 16_000)
    assert exact.dtype == np.float32
    # Two transforms in float64: a step of float32 apart where one is rounded up and the other down.
    np.testing.assert_array_max_ulp(exact, spectrogram(wave.double(), name).float().numpy(), maxulp=1)
    assert 0 < np.abs(mel.numpy() - exact).max() < 0.1
