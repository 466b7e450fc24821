"""Batch norm and PReLU for CPU training against PyTorch's own, in double precision and against it in float32."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from auscult.models.layers import BatchNorm, PReLU, framed_product

SHAPES = [(4, 6, 8, 10), (3, 5, 7, 1), (2, 4, 1, 64), (6, 3, 1, 1)]
FORMATS = [torch.channels_last, torch.contiguous_format]


def step(layer: nn.Module, x: Tensor, grad: Tensor) -> list[Tensor]:
    """Output and gradients of input and parameters."""
    x = x.clone().requires_grad_()
    out = layer(x)
    out.backward(grad)
    return [out.detach(), x.grad, *(parameter.grad for parameter in layer.parameters())]


def randomised(layer: nn.Module) -> nn.Module:
    for parameter in layer.parameters():
        nn.init.uniform_(parameter, -1, 1, generator=torch.Generator().manual_seed(3))
    return layer


@pytest.mark.parametrize("layers", [(BatchNorm, nn.BatchNorm2d), (PReLU, nn.PReLU)])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("memory_format", FORMATS)
def test_one_step_equals_pytorch(layers: tuple, shape: tuple, memory_format: torch.memory_format) -> None:
    generator = torch.Generator().manual_seed(0)
    x, grad = (torch.randn(shape, generator=generator, dtype=torch.float64) for _ in range(2))
    x[0, 0, 0, 0] = 0  # where PReLU has its corner
    ours, theirs = (randomised(layer(shape[1]).double()) for layer in layers)
    expected = step(theirs, x, grad)
    found = step(ours, x.contiguous(memory_format=memory_format), grad.contiguous(memory_format=memory_format))
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b)
    for name, value in theirs.state_dict().items():
        torch.testing.assert_close(ours.state_dict()[name], value)


def test_gradient_arriving_in_another_order() -> None:
    x, grad = torch.randn(2, 4, 4, 5, 6, generator=torch.Generator().manual_seed(0))
    mixed = x.contiguous(memory_format=torch.channels_last)
    for layer in (BatchNorm(4), PReLU(4)):
        reference = step(layer, x, grad)
        layer.zero_grad()
        for a, b in zip(step(layer, mixed, grad), reference, strict=True):
            torch.testing.assert_close(a, b)


def test_statistics_of_large_batches_stay_exact() -> None:
    """A single float32 sum over these 512,000 values, as in PyTorch's channels-last kernel, is off by more than 1e-5."""
    x = 5 + torch.randn(16, 2, 1, 32_000, generator=torch.Generator().manual_seed(0))
    layer = BatchNorm(2, momentum=1.0)
    layer(x.contiguous(memory_format=torch.channels_last))
    exact = x.double()
    torch.testing.assert_close(layer.running_mean.double(), exact.mean((0, 2, 3)), rtol=2e-6, atol=0)
    torch.testing.assert_close(layer.running_var.double(), exact.var((0, 2, 3)), rtol=5e-6, atol=0)


def test_one_value_per_channel_is_refused() -> None:
    with pytest.raises(ValueError, match="larger batch"):
        BatchNorm(3)(torch.zeros(1, 3, 1, 1))
    assert BatchNorm(3).eval()(torch.zeros(1, 3, 1, 1)).isfinite().all()


def test_constant_channels_stay_finite() -> None:
    found = step(BatchNorm(2), torch.full((4, 2, 3, 3), -100.0), torch.ones(4, 2, 3, 3))
    assert all(value.isfinite().all() for value in found)


def test_mixed_precision_trains() -> None:
    network = nn.Sequential(nn.Conv2d(2, 4, 3), BatchNorm(4), PReLU(4))
    x = torch.randn(4, 2, 8, 8, generator=torch.Generator().manual_seed(0))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = network(x)
    out.float().square().sum().backward()
    assert all(parameter.grad.dtype == torch.float32 for parameter in network.parameters())
    torch.testing.assert_close(out.float(), network(x), rtol=0.1, atol=0.1)


@pytest.mark.parametrize(
    ("channels", "filters", "taps", "stride", "padding"), [(1, 8, 1024, 512, 512), (1, 6, 11, 5, 5), (4, 6, 3, 1, 1)]
)
def test_frames_times_a_matrix_are_the_convolution(
    channels: int, filters: int, taps: int, stride: int, padding: int
) -> None:
    """Values and both gradients, against a loop over frames in float64."""
    generator = torch.Generator().manual_seed(0)
    wave = torch.randn(3, channels, 4003, generator=generator, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(filters, channels, taps, generator=generator, dtype=torch.float64, requires_grad=True)
    found = framed_product(wave, weight, stride, padding)
    padded = torch.nn.functional.pad(wave, (padding, padding))
    starts = range(0, padded.shape[2] - taps + 1, stride)
    expected = torch.stack([(padded[:, None, :, at : at + taps] * weight).sum((2, 3)) for at in starts], 1)
    torch.testing.assert_close(found, expected)
    down = torch.randn(found.shape, generator=generator, dtype=torch.float64)
    for a, b in zip(*(torch.autograd.grad(y, (wave, weight), down) for y in (found, expected)), strict=True):
        torch.testing.assert_close(a, b)
    convolved = torch.nn.functional.conv1d(wave, weight, None, stride, padding)
    torch.testing.assert_close(found.mT, convolved)
