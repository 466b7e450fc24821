"""Noisy-ArcMix and ArcMix against golden vectors."""

from __future__ import annotations

import pytest
import torch

from auscult.losses.arcface import ArcFace
from auscult.losses.noisy_arcmix import arcmix, noisy_arcmix
from support.fill import absolute_error, golden, tensor


@pytest.mark.parametrize("lam", ["0.0", "0.25", "0.6", "1.0"])
def test_golden(lam: str) -> None:
    stored = golden("noisy_arcmix")
    head = ArcFace(16, 5, float(stored["s"]), float(stored["m"]))
    with torch.no_grad():
        head.weight.copy_(torch.from_numpy(stored["W"]))
    x, y_a, y_b = tensor(stored["x"]), torch.from_numpy(stored["y_a"]), torch.from_numpy(stored["y_b"])
    logits_ya, logits_yb = head(x, y_a), head(x, y_b)
    assert absolute_error(logits_ya, stored["logits_ya"]) < 1.5e-5
    noisy = noisy_arcmix(logits_ya, y_a, y_b, (float(lam), 1 - float(lam)))
    assert noisy.item() == pytest.approx(stored[f"noisy_arcmix_lam{lam}"], abs=1.5e-5)
    plain = arcmix(logits_ya, logits_yb, y_a, y_b, (float(lam), 1 - float(lam)))
    assert plain.item() == pytest.approx(stored[f"arcmix_lam{lam}"], abs=1.5e-5)
    on_device = noisy_arcmix(logits_ya, y_a, y_b, torch.tensor([float(lam), 1 - float(lam)]))
    torch.testing.assert_close(on_device, noisy)
