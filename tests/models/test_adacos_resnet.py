"""The residual network of Sub-cluster AdaCos: its size, its stages, and padding against a brute-force convolution."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from auscult.methods.base import Shape
from auscult.methods.sc_adacos import METHOD, ScAdacosSettings
from auscult.models.adacos_resnet import AdaCosResNet, kernels, same
from support.fill import tensor, v


def parameters(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def test_parameter_count_of_the_code() -> None:
    assert parameters(AdaCosResNet(128, 313, 128)) == 766_944


@pytest.mark.parametrize("sub_clusters", [(1,), (1, 2)])
def test_each_sub_cluster_adds_a_centre_per_class(sub_clusters: tuple[int, ...]) -> None:
    network = METHOD.build(ScAdacosSettings(sub_clusters=sub_clusters), Shape(41, 128, 313, 160_000))
    assert parameters(network) == 766_944 * len(sub_clusters) + 5_248 * sum(sub_clusters)


def test_stage_shapes() -> None:
    network, shapes = AdaCosResNet(128, 313, 128).eval(), {}
    for name, child in network.named_children():
        child.register_forward_hook(lambda _, __, output, name=name: shapes.__setitem__(name, tuple(output.shape[1:])))
    with torch.inference_mode():
        network(torch.zeros(1, 1, 128, 313))
    assert shapes == {
        "stem": (16, 64, 157), "stem_bn": (16, 64, 157), "stage0": (16, 31, 78), "stage1": (32, 16, 39),
        "stage2": (64, 8, 20), "stage3": (128, 4, 10), "embed": (128,),
    }  # fmt: skip
    assert network.flat == 512


@pytest.mark.parametrize(("mels", "frames", "flat"), [(128, 32, 512), (128, 63, 512), (128, 400, 1024), (20, 17, 128)])
def test_other_lengths(mels: int, frames: int, flat: int) -> None:
    network = AdaCosResNet(mels, frames, 128)
    assert network.flat == flat
    assert network(tensor(v("image", (2, 1, mels, frames)))).shape == (2, 128)


def brute_force(image: np.ndarray, kernel: np.ndarray, stride: int) -> np.ndarray:
    """TensorFlow's "same": output i starts at i * stride - rest // 2, whatever lies outside the image counts as zero."""
    sizes = [math.ceil(size / stride) for size in image.shape]
    k = kernel.shape[0]
    first = [max((out - 1) * stride + k - size, 0) // 2 for out, size in zip(sizes, image.shape, strict=True)]
    result = np.zeros(sizes)
    for row, column, i, j in np.ndindex(*sizes, k, k):
        y, x = row * stride - first[0] + i, column * stride - first[1] + j
        if 0 <= y < image.shape[0] and 0 <= x < image.shape[1]:
            result[row, column] += kernel[i, j] * image[y, x]
    return result


@pytest.mark.parametrize(("kernel", "stride"), [(7, 2), (3, 2), (3, 1)])
@pytest.mark.parametrize("size", [(8, 13), (9, 12), (1, 2)])
def test_padding_of_convolutions(kernel: int, stride: int, size: tuple[int, int]) -> None:
    image, weight = v("image", size), v("kernel", (kernel, kernel))
    padded = same(torch.from_numpy(image)[None, None], kernel, stride)
    ours = functional.conv2d(padded, torch.from_numpy(weight)[None, None], stride=stride)[0, 0]
    np.testing.assert_allclose(ours, brute_force(image, weight, stride), atol=1e-12)


def test_padding_never_wins_a_maximum() -> None:
    x = torch.full((1, 1, 4, 13), -5.0)
    pooled = functional.max_pool2d(same(x, (1, 10), (1, 10), -math.inf), (1, 10))
    assert torch.equal(pooled, torch.full((1, 1, 4, 2), -5.0))


def test_penalised_kernels_are_convolutions_and_the_dense_layer() -> None:
    network = AdaCosResNet(128, 313, 128)
    # 1 stem, 8 blocks of 2, 3 shortcuts, 1 dense layer
    assert len(kernels(network)) == 21
    names: list[Tensor] = [parameter for name, parameter in network.named_parameters() if parameter.dim() > 1]
    assert {id(parameter) for parameter in names} == {id(layer.weight) for layer in kernels(network)}


def test_initial_weights_follow_keras() -> None:
    """Glorot's uniform bound, which the largest of many weights nearly reaches; biases start at zero."""
    torch.manual_seed(0)
    weight = AdaCosResNet(128, 313, 128).embed.weight
    bound = math.sqrt(6 / (512 + 128))
    assert bound * 0.999 < weight.abs().max() <= bound
    assert all(not layer.bias.any() for layer in kernels(AdaCosResNet(128, 313, 128)))
