"""MobileNetV2: published sizes, its plan, and a forward pass written a second time in NumPy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from auscult.models.mobilenet_v2 import ConvUnit, InvertedResidual, MobileNetV2, scaled
from support.fill import absolute_error, fill, relative_error


@pytest.mark.parametrize(
    ("width", "encoder"),
    # torchvision's model of the same width without its classifier.
    [(0.5, 687_680), (0.35, 396_128), (1.0, 2_223_872), (1.4, 4_315_776)],
)
def test_parameter_counts(width: float, encoder: int) -> None:
    assert sum(p.numel() for p in MobileNetV2(width).parameters()) == encoder


def test_parameter_count_is_that_of_the_plan_written_out() -> None:
    """Channels of the half-width network, each convolution and its batch norm counted by hand."""
    blocks = [
        (16, 1, 8), (8, 6, 16), (16, 6, 16), (16, 6, 16), (16, 6, 16), (16, 6, 16), (16, 6, 32), (32, 6, 32),
        (32, 6, 32), (32, 6, 32), (32, 6, 48), (48, 6, 48), (48, 6, 48), (48, 6, 80), (80, 6, 80), (80, 6, 80),
        (80, 6, 160),
    ]  # fmt: skip
    total = 3 * 9 * 16 + 2 * 16
    for inputs, expansion, outputs in blocks:
        inner = inputs * expansion
        total += (inputs * inner + 2 * inner) * (expansion > 1) + 9 * inner + 2 * inner + inner * outputs + 2 * outputs
    total += 160 * 1280 + 2 * 1280
    assert total == sum(p.numel() for p in MobileNetV2(0.5).parameters())
    blocks_built: Any = MobileNetV2(0.5).blocks
    plan = [(block.dw.conv.in_channels, block.project.conv.out_channels) for block in blocks_built]
    assert plan == [(inputs * expansion, outputs) for inputs, expansion, outputs in blocks]


@pytest.mark.parametrize(
    ("mels", "frames", "sizes"),
    [
        (128, 64, [(64, 32), (32, 16), (16, 8), (8, 4), (4, 2)]),
        (128, 63, [(64, 32), (32, 16), (16, 8), (8, 4), (4, 2)]),
        (64, 5, [(32, 3), (16, 2), (8, 1), (4, 1), (2, 1)]),
    ],
)
def test_every_stride_halves_and_rounds_up(mels: int, frames: int, sizes: list[tuple[int, int]]) -> None:
    network = MobileNetV2(0.5).eval()
    seen: list[tuple[int, ...]] = []
    for module in (network.stem, *network.blocks, network.head):
        module.register_forward_hook(lambda _, __, output: seen.append(tuple(output.shape[1:])))
    with torch.no_grad():
        assert network(torch.zeros(1, 3, mels, frames)).shape == (1, 1280)
    repeats = [2, 2, 3, 7, 5]  # layers at each size: stem and block 0; then the runs of blocks; the head is in the last
    expected = [size for size, count in zip(sizes, repeats, strict=True) for _ in range(count)]
    assert [size[1:] for size in seen] == expected
    channels = [16, 8, *[16] * 2, *[16] * 3, *[32] * 4, *[48] * 3, *[80] * 3, 160, 1280]
    assert [size[0] for size in seen] == channels


def _norm(x: np.ndarray, bn: Any) -> np.ndarray:
    mean, var, weight, bias = (
        t.detach().double().numpy()[None, :, None, None] for t in (bn.running_mean, bn.running_var, bn.weight, bn.bias)
    )
    return (x - mean) / np.sqrt(var + 1e-5) * weight + bias


def _unit(x: np.ndarray, unit: ConvUnit) -> np.ndarray:
    """Convolution by shifted sums over the taps of the kernel, batch norm, clipping at 0 and 6."""
    w = unit.conv.weight.detach().double().numpy()  # [out, in or 1, k, k]
    stride, k = unit.conv.stride[0], w.shape[2]
    height, width = (-(-size // stride) for size in x.shape[2:])
    padded = np.pad(x, ((0, 0), (0, 0), (k // 2, k // 2), (k // 2, k // 2)))
    out = 0.0
    for i in range(k):
        for j in range(k):
            tap = padded[:, :, i : i + stride * height : stride, j : j + stride * width : stride][..., :height, :width]
            if unit.conv.groups == 1:
                out = out + np.einsum("oc,bchw->bohw", w[:, :, i, j], tap)
            else:  # depthwise: each channel by itself
                out = out + w[None, :, 0, i, j, None, None] * tap
    y = _norm(np.asarray(out), unit.bn)
    return y if unit.linear else np.clip(y, 0, 6)


def _block(x: np.ndarray, block: InvertedResidual) -> np.ndarray:
    y = x if block.expand is None else _unit(x, block.expand)
    y = _unit(_unit(y, block.dw), block.project)
    return x + y if y.shape == x.shape and block.dw.conv.stride == (1, 1) else y


@pytest.mark.parametrize(
    ("inputs", "outputs", "expansion", "stride"), [(8, 8, 6, 1), (8, 16, 6, 1), (8, 8, 6, 2), (16, 8, 1, 1)]
)
def test_block_against_numpy(inputs: int, outputs: int, expansion: int, stride: int) -> None:
    block: Any = fill(InvertedResidual(inputs, outputs, expansion, stride), "b/").eval()
    x = 3 * torch.randn(2, inputs, 9, 6, generator=torch.Generator().manual_seed(0))
    assert relative_error(block(x), _block(x.double().numpy(), block)) < 2e-6


def test_network_against_numpy() -> None:
    network: Any = fill(MobileNetV2(0.5), "n/").eval()
    image = 2 * torch.randn(2, 3, 33, 20, generator=torch.Generator().manual_seed(1))
    x = _unit(image.double().numpy(), network.stem)
    for block in network.blocks:
        x = _block(x, block)
    expected = _unit(x, network.head).mean((2, 3))
    assert expected.std() > 0.01
    assert relative_error(network(image), expected) < 1e-5


def test_images_do_not_influence_each_other_at_test_time() -> None:
    network = fill(MobileNetV2(0.5), "x/").eval()
    image = torch.randn(5, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        alone = torch.cat([network(one[None]) for one in image])
        assert absolute_error(network(image), alone.double().numpy()) < 1e-4 * alone.abs().max().item()


def test_initial_weights_are_glorot_uniform() -> None:
    """Bounds as Keras computes them: a depthwise kernel counts nine times its channels in, nine out."""
    for module in MobileNetV2(0.5).modules():
        if isinstance(module, nn.Conv2d):
            k = module.kernel_size[0] ** 2
            fans = k * (module.in_channels + (1 if module.groups > 1 else module.out_channels))
            bound, weight = (6 / fans) ** 0.5, module.weight.detach()
            assert weight.abs().max() <= bound
            assert weight.std().item() == pytest.approx(bound / 3**0.5, rel=5 / weight.numel() ** 0.5)


def test_channels_are_multiples_of_eight_and_never_lose_more_than_a_tenth() -> None:
    for channels in (16, 24, 32, 64, 96, 160, 320):
        for width in np.linspace(0.1, 1.5, 57):
            got = scaled(channels, float(width))
            assert got % 8 == 0
            assert got >= 0.9 * channels * width
            assert got <= max(8, channels * width + 8)


def test_gradient_reaches_every_weight() -> None:
    network = MobileNetV2(0.5)
    x: Tensor = torch.randn(4, 3, 64, 32, generator=torch.Generator().manual_seed(0))
    network(x).square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in network.parameters())
