"""The multi-branch CNN against ASDKit's, its size by hand, and what its branches hear."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from auscult.models.multires import MultiResNet, spectrogram
from support.fill import fill, golden, relative_error, v

SAMPLES = 72_000
FFTS = (256, 1024, 4096)


@pytest.mark.parametrize(("mode", "limits"), [("eval", (3e-6, 1e-6)), ("train", (2e-5, 2e-5))])
def test_golden(mode: str, limits: tuple[float, float]) -> None:
    """Every fourth number of every branch, of the authors' network with the same weights, which computed in float32.

    In double, so that what is left is the rounding of the stored numbers, on every processor; and the same in float32.
    """
    network = MultiResNet(SAMPLES, FFTS, 128, 16_000)
    fill(network, "multires/net.")
    network.train(mode == "train")
    stored, wave = golden("multires")[mode], torch.from_numpy(0.1 * v("multires/wave", (4, SAMPLES)))
    with torch.no_grad():
        single = network(wave.float())
        network.double()
        images = [spectrogram(wave, fft, 16_000) for fft in FFTS]
        branches = zip(network.spectrograms, images, strict=True)
        parts = [network.spectrum(torch.fft.rfft(wave).abs()), *(branch(image) for branch, image in branches)]
    for number, (part, rounded) in enumerate(zip(parts, single, strict=True)):
        limit = limits[min(number, 1)]  # the whole clip's spectrum has sums of 80,000 terms, the others none so long
        assert relative_error(part[:, ::4], stored[:, 32 * number : 32 * (number + 1)]) < limit, number
        assert relative_error(rounded, part.numpy()) < (1e-5 if mode == "eval" else 5e-5), number


def test_size_by_hand() -> None:
    """Kernels alone, for there is nothing else: of 10 s, one spectrogram, and of one three times as narrow."""
    for width in (128, 48):
        a, b, c = width // 8, width // 4, width // 2
        gate = {n: 2 * n * (n // 16 or 1) for n in (a, b, c, width)}
        # 80,001 bins -> 1247 -> 37 -> 6.
        spectrum = width * 256 + width * width * (64 + 16) + 3 * gate[width] + 6 * width * width + 5 * width * width
        stem, first = 49 * a, 2 * (2 * 9 * a * a + gate[a])
        halving = sum(9 * n * m + 3 * 9 * m * m + 2 * gate[m] + n * m for n, m in ((a, b), (b, c), (c, width)))
        image = stem + first + halving + 16 * width * width  # 500 bins -> 247 -> 123 -> 62 -> 31 -> 16
        network = MultiResNet(160_000, (1024,), width, 16_000)
        assert sum(weight.numel() for weight in network.parameters()) == spectrum + image
        assert not any("bias" in name for name, _ in network.named_parameters())
        assert all(not norm.affine for norm in network.modules() if isinstance(norm, nn.BatchNorm1d | nn.BatchNorm2d))


def test_a_constant_answer_is_impossible() -> None:
    """Silence is the zero vector at the start of training, not a direction of its own."""
    network = MultiResNet(32_000, (256, 1024), 16, 16_000).eval()
    assert all(part.abs().max() == 0 for part in network(torch.zeros(2, 32_000)))


@pytest.mark.parametrize("fft", FFTS)
def test_spectrogram_by_the_definition(fft: int) -> None:
    """One frame as a sum: centred, zeros around, periodic Hann, over the root of its energy; bins of 200 to 8000 Hz."""
    wave = torch.from_numpy(v("wave", (1, 9_000)))
    found = spectrogram(wave, fft, 16_000)
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(fft) / fft)
    bins = [k for k in range(fft // 2 + 1) if 200 <= k * 16_000 / fft <= 8_000]
    assert found.shape == (1, len(bins), 1 + 9_000 // (fft // 2))
    padded = np.concatenate([np.zeros(fft // 2), wave[0].numpy(), np.zeros(fft)])
    for frame in (0, 1, found.shape[2] - 1):
        piece = window * padded[frame * fft // 2 : frame * fft // 2 + fft]
        for row in (0, 7, len(bins) - 1):
            turn = np.exp(-2j * np.pi * bins[row] * np.arange(fft) / fft)
            expected = abs((piece * turn).sum()) / np.sqrt((window**2).sum())
            assert float(found[0, row, frame]) == pytest.approx(expected, rel=1e-6, abs=1e-9)


def test_other_rates_have_the_bins_they_have() -> None:
    assert spectrogram(torch.zeros(1, 8_000), 1024, 8_000).shape[1] == 513 - 26  # to 4 kHz; from 203 Hz
    assert spectrogram(torch.zeros(1, 8_000), 1024, 44_100).shape[1] == 185 - 4  # 215 Hz to 7967 Hz


def test_short_clips_are_heard_to_their_end() -> None:
    """Kernels that are longer than their input see zeros behind it, and all of the sound before."""
    network = MultiResNet(8_000, (1024, 4096), 16, 16_000).eval()
    wave = torch.from_numpy(v("short", (1, 8_000))).float()
    other = wave.clone()
    other[:, -400:] = 0
    for one, two in zip(network(wave), network(other), strict=True):
        assert one.shape == (1, 16)
        assert (one - two).abs().max() > 1e-4 * one.abs().max()
