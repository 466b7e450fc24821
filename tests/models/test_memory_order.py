"""What a GPU copies from one order of memory to another in a step of OS-SCL on TFSTgram, counted on a CPU that takes the forms
meant for a GPU; and that these forms compute the same."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from auscult.methods import load_method
from auscult.methods.base import Batch, Network, Shape
from auscult.models import layers, tfgram, tgram
from support.draws import loss_of
from support.fill import fill, golden, relative_error, tensor, v
from support.methods import small

IMAGES = {"convolution", "convolution_backward", "native_batch_norm", "native_batch_norm_backward", "cudnn_batch_norm",
          "max_pool2d_with_indices", "max_pool2d_with_indices_backward", "_prelu_kernel", "_prelu_kernel_backward"}  # fmt: skip
"""Operations on images that run in one order; a GPU copies whatever comes in another, weights included."""
ROWS = {"native_layer_norm", "native_layer_norm_backward", "adaptive_max_pool2d", "adaptive_max_pool2d_backward"}
"""Operations that a GPU has for rows that lie one behind the other alone."""
COPIES = {"clone", "copy_", "_to_copy", "contiguous"}


def order(x: Tensor) -> list[int]:
    """Its dimensions, that of the largest step first."""
    return sorted((d for d in range(x.dim()) if x.shape[d] > 1), key=lambda d: -x.stride(d))


def channels_last(x: Tensor) -> bool:
    return x.dim() == 4 and x.is_contiguous(memory_format=torch.channels_last)


class Conversions(TorchDispatchMode):
    """Counts them by operation, in tensors that are read (weights, too) or copied."""

    def __init__(self) -> None:
        super().__init__()
        self.counts: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out, name = func(*args, **(kwargs or {})), func.overloadpacket.__name__
        read = [x for x in tree_leaves(args) if isinstance(x, Tensor) and x.dim() > 2]
        if name in IMAGES:
            self.counts[name] += sum(not channels_last(x) for x in read)
        if name in ROWS:
            self.counts[name] += sum(not x.is_contiguous() for x in read)
        if name in COPIES:
            self.counts[name] += sum(order(x) != order(out) for x in read if x.shape == out.shape)
        return out


@pytest.fixture
def as_on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (layers, tgram, tfgram):
        monkeypatch.setattr(module, "on_cpu", lambda x: False)


def network() -> Network:
    settings = small("os_scl").model_copy(update={"inputs": "tfst"})
    torch.manual_seed(0)
    made = load_method("os_scl").build(settings, Shape(4, 128, 32, 16000)).train()
    return made.to(memory_format=torch.channels_last)


def batch() -> Batch:
    torch.manual_seed(1)
    label = torch.arange(6) % 4
    return Batch(label=label, clip=torch.arange(6), wave=torch.randn(6, 16000), mel=torch.randn(6, 128, 32))


def counted(made: Network) -> dict[str, int]:
    with Conversions() as found:
        loss_of(made, batch(), 0)["loss"].backward()
    return {name: count for name, count in found.counts.items() if count}


def test_images_stay_in_one_order(as_on_a_gpu: None) -> None:
    """TFgram and MobileFaceNet convert nothing. Tgram's layer norm runs over time and its products over channels: per round one
    copy into frames, one for the norm, and those of their gradients."""
    found = counted(network())
    assert found == {"native_layer_norm": 3, "native_layer_norm_backward": 3, "clone": 7}


def test_what_is_converted_is_found() -> None:
    """In the forms for a CPU, where it costs nothing worth a form of its own."""
    found = counted(network())
    assert found["convolution"] == 2 * 4 + 6, "Tgram's inputs and weights, TFgram's weights"
    assert found["convolution_backward"] == 3 * 4 + 6
    assert found["adaptive_max_pool2d"] == 2, "images of 131 and 10 MB at paper scale in bfloat16"


def test_the_forms_for_a_gpu_compute_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """Image and gradients, in double: else rounding decides which of two samples is the maximum."""
    results = []
    for form in (True, False):
        for module in (layers, tgram, tfgram):
            monkeypatch.setattr(module, "on_cpu", lambda x, form=form: form)
        made = network().double()
        given = batch()
        mixed = replace(given, wave=given.wave.double(), mel=given.mel.double())
        out = made.features(mixed)
        (out * torch.arange(out.numel()).view_as(out)).sum().backward()
        gradients = [weight.grad.flatten() for weight in made.parameters() if weight.grad is not None]
        assert len(gradients) > 100
        results.append((out.detach(), torch.cat(gradients)))
    for ours, theirs in zip(*results, strict=True):
        assert relative_error(ours, theirs.numpy()) < 1e-9


@pytest.mark.parametrize(
    ("name", "kind", "stored"),
    [("tfgram", tfgram.TFgram, "eval_sample0_every4th_channel"), ("tgram", tgram.Tgram, "out_sample0_every4th_mel")],
)
def test_golden_vectors_in_the_forms_for_a_gpu(name: str, kind: Any, stored: str, as_on_a_gpu: None) -> None:
    made = fill(kind(313, 128), f"{name}/").eval()
    with torch.no_grad():
        out = made(tensor(0.1 * v(f"{name}/input", (2, 1, 160_000))))
    assert relative_error(out[0, ::4], golden(name)[stored]) < 2.5e-6


@pytest.mark.parametrize("outputs", [7, 10, 40])
def test_pooling_in_place_is_pytorch_s(outputs: int, as_on_a_gpu: None) -> None:
    """Also of which of several equal values gets the gradient, and channels stay last."""
    torch.manual_seed(0)
    x = torch.randn(3, 5, 1, 80).mul(2).round().to(memory_format=torch.channels_last).requires_grad_()
    down = torch.randn(3, 5, 1, outputs)
    found, expected = tfgram.adaptive_max_pool(x, outputs), functional.adaptive_max_pool2d(x, (1, outputs))
    assert torch.equal(found, expected)
    assert channels_last(found)
    a, b = (torch.autograd.grad(y, x, down)[0] for y in (found, expected))
    assert torch.equal(a, b)


def test_weights_keep_their_values_in_the_order_of_a_gpu(as_on_a_gpu: None) -> None:
    torch.manual_seed(0)
    conv = tfgram.FlatConv(4, 6, 3, padding=1)
    before = conv.weight.detach().clone()
    conv.to(torch.float32)
    assert torch.equal(conv.weight, before)
    assert channels_last(conv.weight.unsqueeze(2))
