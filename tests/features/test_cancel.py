"""`w1` and `ss` against brute force, and against sounds whose answer is known."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from auscult.features.cancel import INPUTS, heard


def sound(samples: int = 8192, seed: int = 0) -> torch.Tensor:
    """Near and far, float64 [2, samples]: noises that share a part."""
    near, far, both = 0.1 * np.random.default_rng(seed).standard_normal((3, samples))
    return torch.from_numpy(np.stack([near + both, far + 0.5 * both]))


def frames(wave: np.ndarray, length: int) -> np.ndarray:
    """STFT with plain loops, complex [bins, frames]: edges reflected, a periodic Hann window, frame by frame."""
    hop, half = length // 2, length // 2
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(length) / length)
    padded = np.concatenate([wave[half:0:-1], wave, wave[-2 : -half - 2 : -1]])
    starts = range(0, len(wave) + 1, hop)
    return np.stack([np.fft.rfft(window * padded[start : start + length]) for start in starts], axis=1)


def joined(spectrum: np.ndarray, length: int, samples: int) -> np.ndarray:
    """Inverse of `frames` by weighted overlap and add."""
    hop, half = length // 2, length // 2
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(length) / length)
    out, weight = np.zeros(samples + 2 * length), np.zeros(samples + 2 * length)
    for number in range(spectrum.shape[1]):
        place = slice(number * hop, number * hop + length)
        out[place] += window * np.fft.irfft(spectrum[:, number], length)
        weight[place] += window**2
    return out[half : half + samples] / weight[half : half + samples]


@pytest.mark.parametrize("samples", [8192, 8192 + 200])
def test_w1_against_brute_force_per_frequency(samples: int) -> None:
    pair = sound(samples)
    scale = 0.9 / pair.abs().max().item()
    near, far = (frames(scale * channel, 1024) for channel in pair.numpy())
    left = np.empty_like(near)
    for frequency in range(513):
        c, f = near[frequency], far[frequency]
        top, bottom = 0j, 0.0
        for frame in range(len(c)):
            top += c[frame] * np.conj(f[frame])
            bottom += abs(f[frame]) ** 2
        left[frequency] = c - top / (bottom + 1e-12) * f
    expected = joined(left, 1024, samples) / scale
    np.testing.assert_allclose(heard(pair, "w1").numpy(), expected, atol=1e-12)


def test_ss_against_a_loop() -> None:
    pair = sound()
    near, far = (frames(channel, 512) for channel in pair.numpy())
    out = np.empty_like(near)
    for frequency in range(near.shape[0]):
        for frame in range(near.shape[1]):
            a, b = abs(near[frequency, frame]), abs(far[frequency, frame])
            magnitude = a - b if a > b else 0.1 * a
            out[frequency, frame] = magnitude * np.exp(1j * np.angle(near[frequency, frame]))
    np.testing.assert_allclose(heard(pair, "ss").numpy(), joined(out, 512, 8192), atol=1e-12)


def test_what_the_far_channel_alone_explains_is_gone() -> None:
    noise = sound()[1]
    pair = torch.stack([-0.7 * noise, noise])
    left = heard(pair, "w1").square().mean() / pair[0].square().mean()
    assert 10 * torch.log10(left) < -60


@pytest.mark.parametrize("name", ["w1", "ss"])
@pytest.mark.parametrize("samples", [8192, 8192 + 511, 600])
def test_a_near_channel_alone_is_left_as_it_is(name: str, samples: int) -> None:
    pair = torch.stack([sound(samples)[0], torch.zeros(samples, dtype=torch.float64)])
    torch.testing.assert_close(heard(pair, name), pair[0], atol=1e-9, rtol=0)


def test_sound_that_is_unlike_the_far_one_stays() -> None:
    """Two noises that share nothing: chance correlation over 313 frames takes less than 0.1 dB."""
    near, far = 0.1 * np.random.default_rng(1).standard_normal((2, 160_000))
    left = heard(torch.from_numpy(np.stack([near, far])), "w1").square().mean() / np.mean(near**2)
    assert -0.1 < 10 * np.log10(left.item()) < 0


@pytest.mark.parametrize("name", INPUTS)
def test_silence_stays_silence_and_no_end_blows_up(name: str) -> None:
    assert not heard(torch.zeros(2, 1000), name).any()
    silent_near = torch.stack([torch.zeros(1000), torch.randn(1000, generator=torch.Generator().manual_seed(0))])
    if name in ("near", "w1", "ss"):
        assert not heard(silent_near, name).any()
    for samples in range(2048, 2560, 37):
        pair = sound(samples)
        assert heard(pair, name).abs().max() < 2 * pair.abs().max()


@pytest.mark.parametrize("name", INPUTS)
def test_clips_at_once_are_clips_one_by_one_and_parts_add_up(name: str) -> None:
    clips = torch.stack([sound(seed=seed) for seed in range(3)])
    together = heard(clips, name)
    torch.testing.assert_close(together, torch.stack([heard(clip, name) for clip in clips]), atol=1e-12, rtol=0)
    part = 0.3 * sound(seed=9).expand_as(clips)
    parts = heard(clips, name, part) + heard(clips, name, clips - part)
    torch.testing.assert_close(parts, together, atol=1e-12, rtol=0)


def test_level_does_not_matter() -> None:
    pair = sound()
    for name in INPUTS:
        torch.testing.assert_close(heard(100 * pair, name), 100 * heard(pair, name), atol=1e-8, rtol=1e-8)
