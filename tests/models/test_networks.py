"""Whole published networks, put together from the parts: one training step and the test score."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from auscult.losses.arcface import ArcFace, margin_nll
from auscult.losses.noisy_arcmix import noisy_arcmix
from auscult.losses.supcon import noise_supcon
from auscult.models.mobilefacenet import MobileFaceNet
from auscult.models.temporal_attention import temporal_attention
from auscult.models.tgram import Tgram
from support.fill import absolute_error, fill, golden, relative_error, tensor, v
from support.os_scl import OsSclNetwork

SETTINGS = {"osscl_tfst": (0.4, "relu", True), "osscl_logmel": (0.7, "leaky_relu", False)}
# Shifts in front of a batch norm that removes them again: their gradient is zero but for rounding.
NO_EFFECT = (*tuple(f"block{i}.project.bn.bias" for i in range(6)), "gdconv.bn.bias")


def osscl(name: str) -> tuple[OsSclNetwork, dict, Tensor, Tensor]:
    stored = golden(name)
    margin, activation, waveform = SETTINGS[name]
    assert margin == stored["m"]
    network = OsSclNetwork(margin, activation, waveform)
    fill(network, f"{name}/")
    wave = 0.1 * v(f"{name}/wav", (6, 1, 160_000))
    mel = -40 + 20 * v(f"{name}/mel", (6, 1, 128, 313))
    return network, stored, wave, mel


@pytest.mark.parametrize("name", SETTINGS)
def test_osscl_training_step(name: str) -> None:
    network, stored, wave, mel = osscl(name)
    perm, lam = stored["perm"], float(stored["lam"])
    y_a = torch.from_numpy(stored["y_a"])
    y_b = y_a[perm]
    mixed_wave, mixed_mel = (tensor(lam * x + (1 - lam) * x[perm]) for x in (wave, mel))

    features = network.train()(mixed_wave, mixed_mel)
    logits = network.arcface(features, y_a)
    supcon = noise_supcon(features, y_a, float(stored["tau"]), float(stored["base_tau"]))
    total = noisy_arcmix(logits, y_a, y_b, lam) + supcon
    total.backward()

    assert absolute_error(features, stored["features"]) < 2e-5
    assert absolute_error(logits, stored["logits"]) < 2.5e-4
    assert functional.cross_entropy(logits, y_a).item() == pytest.approx(stored["ce_a"], abs=2e-5)
    assert functional.cross_entropy(logits, y_b).item() == pytest.approx(stored["ce_b"], abs=2e-5)
    assert supcon.item() == pytest.approx(stored["supcon"], abs=2e-5)
    assert total.item() == pytest.approx(stored["total"], abs=2e-5)
    assert relative_error(network.fph.bn2.running_mean, stored["fph_bn2_running_mean"]) < 1e-5
    assert relative_error(network.fph.bn2.running_var, stored["fph_bn2_running_var"]) < 1e-5

    expected = {key.removeprefix(f"{name}/"): norm for key, norm in stored["grad_l2_norms"].items()}
    ours = dict(network.named_parameters())
    assert {key for key, norm in expected.items() if norm is not None} <= ours.keys()
    for key, parameter in ours.items():
        if expected[key] is None:
            assert parameter.grad is None, key
        elif key.endswith(NO_EFFECT):
            assert parameter.grad.norm().item() < 3e-5, key
        else:
            assert parameter.grad.norm().item() == pytest.approx(expected[key], rel=4.5e-3), key


@pytest.mark.parametrize("name", SETTINGS)
def test_osscl_test_score(name: str) -> None:
    network, stored, wave, mel = osscl(name)
    labels = torch.from_numpy(stored["y_a"])
    network.eval()
    with torch.no_grad():
        features = torch.cat([network(tensor(w[None]), tensor(m[None])) for w, m in zip(wave, mel, strict=True)])
        own = functional.one_hot(labels, 41).bool()
        scores = margin_nll(network.arcface.cosine(features), own, float(stored["s"]), float(stored["m"]))
    assert absolute_error(features, stored["eval_features_unmixed"]) < 4e-6
    assert absolute_error(scores, stored["eval_scores_unmixed"]) < 6e-5


def stgram_image(wave: Tensor, mel: Tensor, tgram: nn.Module) -> Tensor:
    return torch.stack((mel, tgram(wave)), 1)


def tastgram_image(wave: Tensor, mel: Tensor, tgram: nn.Module) -> Tensor:
    return torch.stack((tgram(wave), mel, temporal_attention(mel)), 1)


@pytest.mark.parametrize(
    ("name", "prefix", "image", "channels"),
    [("stgram", "stgram", stgram_image, 2), ("tastgram", "tast", tastgram_image, 3)],
)
def test_stgram_and_tastgram(name: str, prefix: str, image: Callable[..., Tensor], channels: int) -> None:
    stored = golden(name)
    margin = float(stored["m"])
    parts = nn.ModuleDict(
        {"tgram": Tgram(), "mfn": MobileFaceNet(channels), "arcface": ArcFace(128, 41, margin=margin)}
    )
    fill(parts, f"{prefix}/").eval()
    wave = tensor(0.1 * v(f"{prefix}/wav", (2, 1, 160_000)))
    mel = tensor(-40 + 20 * v(f"{prefix}/mel", (2, 128, 313)))
    labels = torch.from_numpy(stored["labels"])
    with torch.no_grad():
        embedding = parts["mfn"](image(wave, mel, parts["tgram"]))
        logits = parts["arcface"](embedding, labels)
        own = functional.one_hot(labels, 41).bool()
        scores = margin_nll(parts["arcface"].cosine(embedding), own, 30.0, margin)
    assert relative_error(embedding, stored["eval_embedding"]) < 5.5e-6
    assert absolute_error(logits, stored["eval_logits"]) < 3.5e-5
    assert absolute_error(scores, stored["scores"]) < 1e-5


def test_parameter_totals_as_published() -> None:
    def count(network: nn.Module) -> int:
        return sum(parameter.numel() for parameter in network.parameters())

    assert count(OsSclNetwork(0.4, "relu", True)) == 1_377_535
    assert count(OsSclNetwork(0.7, "leaky_relu", False)) == 897_257
    assert count(OsSclNetwork(0.4, "relu", True, aux_classes=None)) == 1_372_246
    assert count(OsSclNetwork(0.7, "leaky_relu", False, aux_classes=None)) == 891_968
    tastgram = [Tgram(), MobileFaceNet(3), ArcFace(128, 41)]
    assert sum(map(count, tastgram)) == 1_156_566
