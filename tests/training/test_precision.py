"""Mixed precision: what must not be rounded to bfloat16 is not, in every loss and every method; and the compiled step."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from types import MappingProxyType

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from auscult.features import FRONTENDS, frames, spectrogram
from auscult.losses.adacos import SubClusterAdaCos
from auscult.losses.arcface import ArcFace
from auscult.losses.dlcl import DualLevelContrast
from auscult.losses.supcon import noise_supcon, supcon
from auscult.methods import METHODS, load_method
from auscult.methods.base import Batch, Drawn, Network, Shape
from auscult.models.gaussians import ClassMixtures
from auscult.models.pooling import AttentiveStatistics
from auscult.settings.sections import DlclSettings
from auscult.training.loss import compiled_loss
from support.draws import loss_of
from support.methods import small

LABELS = torch.tensor([0, 0, 1, 2, 1, 0])
BY_GRADIENT = [name for name in METHODS if load_method(name).settings(method=name).trained]
SAMPLES = 8000
pytestmark = pytest.mark.usefixtures("small_networks")


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


def network_and_batch(name: str, changes: Mapping[str, object] = MappingProxyType({})) -> tuple[Network, Batch]:
    method, settings = load_method(name), small(name).model_copy(update=dict(changes))
    frontend = method.mel(settings)
    mels, count = (FRONTENDS[frontend].mels, frames(SAMPLES, frontend)) if frontend else (0, 0)
    torch.manual_seed(0)
    network = method.trainings(settings)[-1].build(Shape(4, mels, count, SAMPLES)).train()
    for module in network.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    wave = 0.1 * torch.randn(12, SAMPLES)
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
            parts = loss_of(other, batch, 1)
        parts["loss"].backward()
        assert {value.dtype for value in parts.values()} == {torch.float32}
        assert {weight.grad.dtype for weight in other.parameters() if weight.grad is not None} == {torch.float32}
        assert all(buffer.dtype != torch.bfloat16 for buffer in other.buffers())
        results.append(float(parts["loss"].detach()))
    assert results[1] == pytest.approx(results[0], rel=0.05), f"{len(norms)} batch norms"


FEWER: dict[str, dict[str, object]] = {
    "sc_adacos": {"sub_clusters": (2,)},
    "glow_aff": {"steps": 1, "levels": 1},
    "clp_scf": {"plan": "current"},
}
"""Of the same modules, where they are many."""


@pytest.mark.parametrize("name", BY_GRADIENT)
def test_a_compiled_step_is_one_graph_and_gives_the_losses_of_the_plain_one(name: str) -> None:
    """No break, no recompilation, whatever is drawn; a last batch of another size is a second graph (of the quickest: tracing
    is what takes time here)."""
    plain, batch = network_and_batch(name, FEWER.get(name, {}))
    other = copy.deepcopy(plain)
    found = torch._dynamo.utils.counters
    found.clear()
    compiled = compiled_loss(other, "compile", backend="aot_eager")
    for step, size in enumerate((12, 12, 12, 8) if name == "ae" else (12, 12, 12)):
        cut = Batch(*(None if part is None else part[:size] for part in vars(batch).values()))
        losses = []
        for network, loss in ((plain, plain.loss), (other, compiled)):
            torch.manual_seed(step)  # of dropout
            value = loss(cut, network.draw(cut, np.random.default_rng(step)))["loss"]
            value.backward()
            losses.append(value.item())
        assert losses[1] == pytest.approx(losses[0], rel=1e-5)
        assert not found["graph_break"], dict(found["graph_break"])
        assert found["stats"]["unique_graphs"] == 1 + (size == 8), "compiled anew"
    assert [w.grad is None for w in plain.parameters()] == [w.grad is None for w in other.parameters()]
    a, b = (torch.cat([w.grad.flatten() for w in n.parameters() if w.grad is not None]) for n in (plain, other))
    # Against float64 the gradients of the plain step of `mfn` are off by 0.0005, and by 0.0025 with PyTorch's own batch norm
    # for CPUs, which models/layers.py avoids and a compiled step has.
    assert float((a - b).norm() / a.norm()) < 1e-2
    for (key, a), b in zip(plain.named_buffers(), other.buffers(), strict=True):
        torch.testing.assert_close(b, a, rtol=1e-4, atol=1e-5, msg=key)


class Drawing(Network):
    """Draws inside the loss: what the test above is there to find."""

    def loss(self, batch: Batch, drawn: Drawn) -> dict[str, Tensor]:
        return {"loss": batch.mel.mean() * float(np.random.default_rng().random())}


def test_a_draw_inside_a_loss_is_found() -> None:
    torch._dynamo.utils.counters.clear()
    compiled = compiled_loss(Drawing(), "compile", backend="aot_eager")
    for _ in range(3):
        compiled(Batch(mel=torch.randn(3, 4, 5, requires_grad=True)), {}, True)
    found = torch._dynamo.utils.counters
    assert found["graph_break"] or found["stats"]["unique_graphs"] > 1


class Small(Network):
    """One layer of each kind that a compiler fuses."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(16000, 4), nn.BatchNorm1d(4), nn.PReLU())

    def loss(self, batch: Batch, drawn: Drawn) -> dict[str, Tensor]:
        return {"loss": functional.cross_entropy(self.layers(batch.wave * drawn["gain"]), batch.label)}


def test_the_default_compiler_computes_a_whole_step() -> None:
    """Inductor itself, on a small network and without what takes it longest to start: vectors, headers compiled beforehand."""
    config = torch._inductor.config
    torch.manual_seed(0)
    plain = Small()
    other = copy.deepcopy(plain)
    batch = Batch(label=torch.arange(12) % 4, wave=torch.randn(12, 16000))
    with config.patch({"cpp.vec_isa_ok": False, "cpp_cache_precompile_headers": False, "compile_threads": 1}):
        compiled = compiled_loss(other, "graphs")  # on a CPU the same as "compile"
        for step in range(2):
            drawn = {"gain": torch.rand(12, 1, generator=torch.Generator().manual_seed(step))}
            losses = [plain.loss(batch, drawn)["loss"], compiled(batch, drawn, True)["loss"]]
            for value in losses:
                value.backward()
            assert losses[1].item() == pytest.approx(losses[0].item(), rel=1e-5)
    for a, b in zip(plain.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(b.grad, a.grad, rtol=1e-4, atol=1e-6)
