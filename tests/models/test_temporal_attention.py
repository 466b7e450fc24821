"""Temporal attention against golden vectors."""

from __future__ import annotations

import torch

from auscult.models.temporal_attention import temporal_attention
from support.fill import absolute_error, golden, tensor


def test_golden() -> None:
    stored = golden("temporal_attention")
    out = temporal_attention(tensor(stored["x"]))
    assert absolute_error(out.squeeze(1), stored["out"]) < 5e-7


def test_one_weight_per_frame() -> None:
    mel = torch.tensor([[1.0, -50.0], [3.0, -70.0]])  # two mels, two frames
    weights = torch.sigmoid(torch.tensor([3.0 + 2.0, -50.0 - 60.0]))
    torch.testing.assert_close(temporal_attention(mel), mel * weights)
