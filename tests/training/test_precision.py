"""Mixed precision: what must not be rounded to bfloat16 is not, in every loss and every method; and the compiled step."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from auscult.features import FRONTENDS, frames, spectrogram
from auscult.losses.adacos import SubClusterAdaCos
from auscult.losses.arcface import ArcFace
from auscult.losses.dlcl import DualLevelContrast
from auscult.losses.noisy_arcmix import mixed_cross_entropy
from auscult.losses.supcon import noise_supcon, supcon
from auscult.methods import METHODS, load_method
from auscult.methods.base import Batch, Network, Shape
from auscult.methods.classifier import mix
from auscult.models.gaussians import ClassMixtures
from auscult.models.pooling import AttentiveStatistics
from auscult.settings.sections import DlclSettings, MixupSettings
from auscult.training.loss import compiled_loss
from support.methods import small

LABELS = torch.tensor([0, 0, 1, 2, 1, 0])
BY_GRADIENT = [name for name in METHODS if load_method(name).settings(method=name).trained]


def features() -> Tensor:
    """Embeddings as a network gives them under autocast."""
    return functional.normalize(torch.randn(6, 16, generator=torch.Generator().manual_seed(0))).bfloat16()


def seeded(build: type[nn.Module], *args: object) -> nn.Module:
    torch.manual_seed(0)
    return build(*args)


def mixtures() -> ClassMixtures:
    rng = np.random.default_rng(0)
    model = ClassMixtures()
    model.fit(rng.standard_normal((60, 16)), np.arange(60) % 3, 3, 2, 1e-3)
    return model


PARTS = {
    "arcface": lambda x: seeded(ArcFace, 16, 3, 30.0, 0.7)(x, LABELS),
    "arcface of sub-centres": lambda x: seeded(ArcFace, 16, 3, 30.0, 0.7, 2)(x, LABELS),
    "adacos": lambda x: seeded(SubClusterAdaCos, 16, 3, 2)(x, functional.one_hot(LABELS, 3).float()),
    "noise_supcon": lambda x: noise_supcon(x, LABELS, 0.02, 0.07, "mean"),
    "supcon": lambda x: supcon(x, LABELS, 0.1),
    "dlcl": lambda x: seeded(DualLevelContrast, DlclSettings(codes=4, bank=8, start=1), 16)(x, LABELS > 0)["dlcl"],
    "mixtures": lambda x: mixtures().nearest_log_density(x),
    "attentive statistics": lambda x: seeded(AttentiveStatistics, 16)(x.view(2, 3, 16)),
}


@pytest.mark.parametrize("name", PARTS)
def test_a_loss_is_the_same_under_autocast(name: str) -> None:
    """To the last bit: it computes in float32 whatever surrounds it."""
    with torch.autocast("cpu", torch.bfloat16):
        mixed = PARTS[name](features())
    plain = PARTS[name](features().float())
    assert mixed.dtype == torch.float32
    assert torch.equal(mixed, plain)


@pytest.mark.parametrize("frontend", FRONTENDS)
def test_a_log_mel_is_the_same_under_autocast(frontend: str) -> None:
    wave = torch.randn(2, 16000, generator=torch.Generator().manual_seed(0))
    with torch.autocast("cpu", torch.bfloat16):
        mixed = spectrogram(wave, frontend)
    assert mixed.dtype == torch.float32
    assert torch.equal(mixed, spectrogram(wave, frontend))


def network_and_batch(name: str) -> tuple[Network, Batch]:
    method, settings = load_method(name), small(name)
    frontend = method.mel(settings)
    mels, count = (FRONTENDS[frontend].mels, frames(16000, frontend)) if frontend else (0, 0)
    torch.manual_seed(0)
    network = method.trainings(settings)[-1].build(Shape(4, mels, count, 16000)).train()
    for module in network.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    wave = 0.1 * torch.randn(12, 16000)
    mel = spectrogram(wave, frontend) if frontend else None
    width = method.window(settings, count)
    if mel is not None and width:
        mel = mel[:, :, :width]
    batch = Batch(
        label=torch.arange(12) % 4, clip=torch.arange(12), wave=wave if method.wave(settings) else None, mel=mel
    )
    return network, batch


@pytest.mark.parametrize("name", BY_GRADIENT)
def test_a_method_s_loss_and_statistics_are_float32_and_close(name: str) -> None:
    """Within what three digits in the layers leave of it; an autocast cosine or likelihood would be off by far more."""
    network, batch = network_and_batch(name)
    norms = [module for module in network.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    results = []
    for mixed in (False, True):
        other = copy.deepcopy(network)
        torch.manual_seed(1)
        with torch.autocast("cpu", torch.bfloat16, enabled=mixed):
            parts = other.loss(batch, np.random.default_rng(1))
        parts["loss"].backward()
        assert {value.dtype for value in parts.values()} == {torch.float32}
        assert {weight.grad.dtype for weight in other.parameters() if weight.grad is not None} == {torch.float32}
        assert all(buffer.dtype != torch.bfloat16 for buffer in other.buffers())
        results.append(float(parts["loss"].detach()))
    assert results[1] == pytest.approx(results[0], rel=0.05), f"{len(norms)} batch norms"


class Mixed(Network):
    """Small, with what a compiler stumbles over: numbers drawn by NumPy, and running statistics."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(128, 16), nn.BatchNorm1d(16), nn.ReLU())
        self.arcface = ArcFace(16, 4, 30.0, 0.7)

    def loss(self, batch: Batch, rng: np.random.Generator) -> dict[str, Tensor]:
        mixed, other, lam = mix(batch, MixupSettings(), rng)
        assert mixed.mel is not None
        assert mixed.label is not None
        x = self.net(mixed.mel.mean(2) / 50)
        return {"loss": mixed_cross_entropy(self.arcface, x, mixed.label, other, lam, "noisy_arcmix")}


def test_a_compiled_step_gives_the_losses_of_the_plain_one() -> None:
    """Over steps with numbers drawn by NumPy, and a last batch of another size."""
    torch.manual_seed(0)
    plain = Mixed().train()
    other = copy.deepcopy(plain)
    batch = Batch(label=torch.arange(12) % 4, mel=20 * torch.randn(12, 128, 8) - 40)
    compiled = compiled_loss(other, "compile", backend="aot_eager")
    optimizers = [torch.optim.SGD(each.parameters(), lr=1e-3) for each in (plain, other)]
    seen = set()
    for step in range(5):
        size = 12 if step < 4 else 8
        cut = Batch(*(None if part is None else part[:size] for part in vars(batch).values()))
        losses = []
        for optimizer, loss in zip(optimizers, (plain.loss, compiled), strict=True):
            value = loss(cut, np.random.default_rng(step))["loss"]  # type: ignore[operator]
            optimizer.zero_grad()
            value.backward()
            optimizer.step()
            losses.append(value.item())
        assert losses[1] == pytest.approx(losses[0], rel=1e-5)
        seen.add(losses[0])
    assert len(seen) == 5
    for (name, a), b in zip(plain.state_dict().items(), other.state_dict().values(), strict=True):
        torch.testing.assert_close(b, a, rtol=1e-5, atol=1e-6, msg=name)
