"""Frozen weights in training: none is rounded in a step, what is saved is as before, joint products give what single ones do."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from auscult.data.store import ClipStore
from auscult.methods import load_method
from auscult.methods.base import Batch, Network, Shape
from auscult.methods.pretrained import Pretrained
from auscult.models.lora import Joint, LoraLinear
from auscult.settings.sections import LoraSettings
from auscult.settings.training import MethodSettings, Train
from auscult.training.frozen import Frozen
from auscult.training.loop import TrainingSet, fit
from auscult.training.loss import compiled_loss
from auscult.training.resume import ResumeFolder
from support.draws import loss_of
from support.methods import small

CPU, MIXED = torch.device("cpu"), Train(precision="bfloat16", threads=1, device="cpu")
SPEECH = {"layers": 2, "width": 32, "heads": 4, "ffn": 48, "channels": 16, "positions": 16, "position_groups": 4}
VIT = {"layers": 2, "width": 32, "heads": 4, "ffn": 64}
ENCODERS: dict[str, dict[str, int]] = {"beats": {}, "hubert": SPEECH, "wavlm": SPEECH, "eat": VIT}


def settings_of(method: str, encoder: str = "beats", layers: int = 2, **changes: Any) -> MethodSettings:
    settings = small(method)
    if encoder != "beats":
        values = {"name": encoder, "checkpoint": "", "size": {**ENCODERS[encoder], "layers": layers}}
        changes = {"encoder": values, "specaug": {"frequency": 0, "time": 0}, **changes}
    merged = {**settings.model_dump(), **changes}
    return type(settings).model_validate(merged)


def network_of(settings: MethodSettings) -> Network:
    """In training; what starts at zero, LoRA's B, is not zero any more."""
    torch.manual_seed(0)
    network = load_method(settings.method).trainings(settings)[-1].build(Shape(4, 0, 0, 16000)).train()
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, LoraLinear):
                module.b.normal_(std=0.05)
    return network


def clips(count: int = 6) -> Batch:
    torch.manual_seed(1)
    return Batch(label=torch.arange(count) % 4, clip=torch.arange(count), wave=0.1 * torch.randn(count, 16000))


class Casts(TorchDispatchMode):
    """Counts the conversions of some tensors to another type, by where they lie in memory."""

    def __init__(self, tensors: Sequence[Tensor]) -> None:
        super().__init__()
        self.places = {tensor.untyped_storage().data_ptr() for tensor in tensors}
        self.count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        if func is torch.ops.aten._to_copy.default and args[0].dtype != out.dtype:
            self.count += args[0].untyped_storage().data_ptr() in self.places
        return out


def step(network: Network, batch: Batch) -> float:
    network.zero_grad()
    with torch.autocast("cpu", torch.bfloat16):
        loss = loss_of(network, batch, 1)["loss"]
    loss.backward()
    return float(loss.detach())


def casts(network: Network, batch: Batch) -> int:
    """Of what is frozen, in a step as it runs here."""
    assert isinstance(network, Pretrained)
    part = network.frozen_part()
    assert part is not None
    weights = [weight for weight in part.parameters() if not weight.requires_grad]
    joint = [rows for module in part.modules() if isinstance(module, Joint) for rows in module.buffers(recurse=False)]
    with Casts([*weights, *joint]) as found:
        step(network, batch)
    return found.count


@pytest.mark.parametrize(("method", "encoder"), [*(("han", name) for name in ENCODERS), ("scac_lora", "beats")])
def test_no_frozen_weight_is_rounded_in_a_step(method: str, encoder: str) -> None:
    network, batch = network_of(settings_of(method, encoder)), clips()
    assert casts(network, batch) >= 2 * 6 * 2, "autocast rounds weight and bias of the six maps of each layer"
    with Frozen(network, MIXED, CPU).held():
        assert casts(network, batch) == 0
    assert casts(network, batch) > 0


@contextmanager
def apart(network: Network) -> Iterator[None]:
    """No product is made for several maps."""
    for module in network.modules():
        if isinstance(module, Joint):
            module.frozen_maps = list  # type: ignore[method-assign]
    yield
    for module in network.modules():
        vars(module).pop("frozen_maps", None)


@pytest.mark.parametrize("joined", [False, True])
def test_loss_and_gradients_are_those_of_weights_rounded_in_the_step(joined: bool) -> None:
    """To the last bit where products stay apart; joint ones are within bfloat16's rounding."""
    network, batch = network_of(settings_of("han")), clips()
    loss = step(network, batch)
    expected = [weight.grad for weight in network.parameters() if weight.requires_grad]
    with nullcontext() if joined else apart(network):
        frozen = Frozen(network, MIXED, CPU)
    with frozen.held():
        held = step(network, batch)
    found = [weight.grad for weight in network.parameters() if weight.requires_grad]
    if not joined:
        assert held == loss
        assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))
    assert held == pytest.approx(loss, rel=0.02)
    difference = sum((a - b).square().sum() for a, b in zip(found, expected, strict=True))
    assert difference < 0.03**2 * sum(value.square().sum() for value in expected)


class Three(Joint):
    """q, k and v of one input."""

    def __init__(self, parts: Sequence[nn.Module]) -> None:
        super().__init__()
        self.parts = nn.ModuleList(parts)

    def maps(self) -> Sequence[nn.Module]:
        return list(self.parts)


FORMS: list[dict[str, Any]] = [
    {"connected": True},
    {"connected": False, "scale": 0.3},
    {"connected": True, "only": (0, 2)},
    {"connected": True, "bias": (True, False, True)},
    {"only": ()},
]


@pytest.mark.parametrize("form", FORMS)
def test_joint_products_are_those_of_each_map(form: dict[str, Any]) -> None:
    """In double, in value and gradient: for every form of LoRA, for some of the maps alone, with and without a bias."""
    form = dict(form)
    only, bias = form.pop("only", (0, 1, 2)), form.pop("bias", (True, True, True))
    torch.manual_seed(0)
    made = []
    for place in range(3):
        linear: nn.Module = nn.Linear(12, 10, bias=bias[place]).requires_grad_(False)
        if place in only:
            linear = LoraLinear(linear, LoraSettings(rank=2, branches=3, **form))  # type: ignore[arg-type]
            nn.init.normal_(linear.b)
        made.append(linear)
    three = Three(made).double()
    x = torch.randn(4, 5, 12, dtype=torch.float64, requires_grad=True)

    def results() -> list[Tensor]:
        out = three.products(x)
        weights = [x, *(weight for weight in three.parameters() if weight.requires_grad)]
        return [*out, *torch.autograd.grad(sum((y * y).sum() for y in out), weights)]

    expected = results()
    linear_maps = three.frozen_maps()
    assert len(linear_maps) == 3
    three.weight = torch.cat([each.weight for each in linear_maps])
    three.bias = torch.cat([torch.zeros(10).double() if each.bias is None else each.bias for each in linear_maps])
    for ours, theirs in zip(results(), expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-10)


@pytest.mark.parametrize(
    "change", [{"dropout": 0.1}, {"frozen": False}, {"one": LoraSettings(rank=3, branches=3)}, {"outputs": 11}]
)
def test_maps_of_another_form_stay_apart(change: dict[str, Any]) -> None:
    change = dict(change)
    one, outputs = change.pop("one", None), change.pop("outputs", 10)
    settings = LoraSettings(rank=2, branches=3, **change)
    made = [LoraLinear(nn.Linear(12, outputs if place == 2 else 10), settings) for place in range(3)]
    if one is not None:
        made[2] = LoraLinear(nn.Linear(12, 10), one)
    assert Three(made).frozen_maps() == []


def test_a_gpu_joins_products_in_float32_too_and_a_cpu_does_not() -> None:
    network = network_of(settings_of("han"))
    joint = [module for module in network.modules() if isinstance(module, Joint)]
    for device, expected in ((CPU, False), (torch.device("cuda"), True)):
        with Frozen(network, Train(device="cpu"), device).held():
            assert all((module.weight is not None) == expected for module in joint)
            assert {weight.dtype for weight in network.parameters()} == {torch.float32}


def test_a_training_saves_what_it_always_saved(packed: Path, tmp_path: Path) -> None:
    """Names, types and, of what is frozen, values to the bit; validation reads the weights as they are saved."""
    settings = settings_of("han", epochs=2, valid_fraction=0.25)
    store, seen = ClipStore(packed / "train"), []
    data = TrainingSet(store, np.arange(16), np.arange(16) % 4, Shape(4, 0, 0, store.samples, store.sample_rate))
    method = load_method("han")
    phase = method.trainings(settings)[-1]
    torch.manual_seed(0)
    expected = phase.build(data.shape).saved_state()
    original = type(phase.build(data.shape)).valid_loss

    def valid_loss(network: Network, batch: Batch) -> Tensor:
        seen.append({weight.dtype for weight in network.parameters()})
        return original(network, batch)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(phase.build(data.shape)), "valid_loss", valid_loss)
        network, _, _ = fit("all", method, phase, MIXED, 0, data, ResumeFolder(tmp_path, "key"))
    state = network.saved_state()
    assert [(name, value.dtype) for name, value in state.items()] == [(n, v.dtype) for n, v in expected.items()]
    assert seen, "it validates"
    assert all(types == {torch.float32} for types in seen)
    first = fit("all", method, phase, Train(threads=1, device="cpu"), 0, data, ResumeFolder(tmp_path, "other"))[0]
    names = [name for name, weight in network.named_parameters() if not weight.requires_grad]
    assert len(names) > 20
    assert all(torch.equal(state[name], first.saved_state()[name]) for name in names)


def test_a_compiled_step_on_held_weights_is_one_graph() -> None:
    """Of an encoder whose parts are the library's, and of one layer: tracing is what takes time here."""
    plain, batch = network_of(settings_of("han", "hubert", layers=1)), clips()
    other = copy.deepcopy(plain)
    found = torch._dynamo.utils.counters
    found.clear()
    compiled = compiled_loss(other, "compile", backend="aot_eager")
    one, two = Frozen(plain, MIXED, CPU), Frozen(other, MIXED, CPU)
    for seed in range(3):
        with one.held(), two.held(), torch.autocast("cpu", torch.bfloat16):  # an epoch each
            drawn = plain.draw(batch, np.random.default_rng(seed))
            losses = [loss(batch, drawn)["loss"] for loss in (plain.loss, compiled)]
            losses[1].backward()
        assert losses[1].item() == pytest.approx(losses[0].item(), rel=0.02)
    assert not found["graph_break"], dict(found["graph_break"])
    assert found["stats"]["unique_graphs"] == 1, "compiled anew"
