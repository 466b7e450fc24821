"""CNN10 against the parameter count of PANNs and against itself without its parts."""

from __future__ import annotations

import numpy as np
import torch

from auscult.models.cnn10 import Cnn10

PUBLISHED = 5_219_279  # PANNs, with 64 mels and a linear layer to 527 classes


def test_parameters_are_those_of_panns() -> None:
    with torch.device("meta"):
        ours = sum(p.numel() for p in Cnn10(64, 0.2).parameters())
    assert ours == PUBLISHED - (512 * 527 + 527)


def test_any_length_from_sixteen_frames_on() -> None:
    net = Cnn10(64, dropout=0.0).eval()
    for frames in (16, 17, 40):
        assert net(torch.randn(2, 64, frames)).shape == (2, 512)


def test_what_follows_the_blocks_against_numpy() -> None:
    """Mean over frequency, then maximum plus mean over time, then a linear layer and ReLU."""
    net = Cnn10(64, dropout=0.0).eval()
    seen: list[torch.Tensor] = []
    net.blocks[-1].register_forward_hook(lambda module, inputs, output: seen.append(output))
    with torch.inference_mode():
        out = net(torch.randn(2, 64, 100)).numpy()
    pixels = seen[0].numpy()  # [B, 512, frames, mels]
    assert pixels.shape == (2, 512, 6, 4)
    curve = pixels.mean(axis=3)
    pooled = curve.max(axis=2) + curve.mean(axis=2)
    expected = np.maximum(pooled @ net.fc.weight.detach().numpy().T + net.fc.bias.detach().numpy(), 0)
    np.testing.assert_allclose(out, expected, rtol=1e-4, atol=1e-5)
