"""Residual network of Sub-cluster AdaCos (Wilkinghoff, IJCNN 2021): 128 numbers per clip from one spectrogram.

Layout as in the authors' code: 766,944 parameters. It is written in Keras, whose "same" padding of strided layers is
not PyTorch's: an odd rest goes behind the image only. Sizes in comments are for 128 mels x 313 frames (10 s).
"""

from __future__ import annotations

import math
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional

from auscult.models.layers import BatchNorm

STAGES = (16, 32, 64, 128)
POOL = 10  # frames under the last pooling: all that are left of 10 s
SLOPE = 0.1

# Keras's constants: a decay of 0.99 is what PyTorch calls a momentum of 0.01.
Norm = partial(BatchNorm, eps=1e-3, momentum=0.01)


class AdaCosResNet(nn.Module):
    """Embeds spectrogram images; the embedding is neither normalised nor bounded.

    Args:
        mels: image height.
        frames: image width; a network serves one clip length. Needs at least 5 of each.
        embedding: size of the output.
    """

    def __init__(self, mels: int, frames: int, embedding: int) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, STAGES[0], 7, stride=2)
        self.stem_bn = Norm(STAGES[0])
        channels, sizes = STAGES[0], [(-(-size // 2) - 3) // 2 + 1 for size in (mels, frames)]
        for number, width in enumerate(STAGES):
            strided = width != channels
            self.add_module(f"stage{number}", nn.Sequential(Residual(channels, width), Residual(width, width)))
            channels, sizes = width, [-(-size // 2) if strided else size for size in sizes]
        self.flat = channels * sizes[0] * -(-sizes[1] // POOL)
        self.embed = nn.Linear(self.flat, embedding)
        for layer in kernels(self):
            nn.init.xavier_uniform_(layer.weight)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)

    def forward(self, image: Tensor) -> Tensor:
        """[B, 1, mels, frames] -> [B, embedding]."""
        x = image.clone(memory_format=torch.channels_last)  # as in mobilefacenet.py
        x = functional.leaky_relu(self.stem(same(x, 7, 2)), SLOPE)  # [B, 16, 64, 157]
        x = functional.max_pool2d(self.stem_bn(x), 3, 2)  # [B, 16, 31, 78]
        for number in range(len(STAGES)):
            x = getattr(self, f"stage{number}")(x)  # [B, 16, 31, 78], [B, 32, 16, 39], [B, 64, 8, 20], [B, 128, 4, 10]
        # Fewer than ten frames are one window, more are several.
        x = functional.max_pool2d(same(x, (1, POOL), (1, POOL), -math.inf), (1, POOL))  # [B, 128, 4, 1]
        return self.embed(x.flatten(1))  # 512 -> 128


class Residual(nn.Module):
    """Leaky ReLU, 3x3 convolution, leaky ReLU, batch norm, 3x3 convolution; a batch norm follows the sum.

    A new width halves the image: the first convolution by its stride, the shortcut by max-pooling, then a 1x1
    convolution.
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.stride = 1 if inputs == outputs else 2
        self.conv0 = nn.Conv2d(inputs, outputs, 3, self.stride)
        self.bn0 = Norm(outputs)
        self.conv1 = nn.Conv2d(outputs, outputs, 3, padding=1)
        self.shortcut = nn.Conv2d(inputs, outputs, 1) if self.stride > 1 else None
        self.bn1 = Norm(outputs)

    def forward(self, x: Tensor) -> Tensor:
        """[B, inputs, h, w] -> [B, outputs, ceil(h / stride), ceil(w / stride)]."""
        y = self.conv0(same(functional.leaky_relu(x, SLOPE), 3, self.stride))
        y = self.conv1(self.bn0(functional.leaky_relu(y, SLOPE)))
        if self.shortcut is not None:
            x = self.shortcut(functional.max_pool2d(same(x, 2, 2, -math.inf), 2))
        return self.bn1(x + y)


def kernels(network: nn.Module) -> list[nn.Conv2d | nn.Linear]:
    """The layers with a kernel, on which the authors' code puts its L2 penalty (biases and norms are free)."""
    return [layer for layer in network.modules() if isinstance(layer, nn.Conv2d | nn.Linear)]


def same(x: Tensor, kernel: int | tuple[int, int], stride: int | tuple[int, int], value: float = 0.0) -> Tensor:
    """Pad [..., h, w] as Keras's "same": ceil(size / stride) outputs, and of an odd rest the larger half behind.

    >>> same(torch.ones(1, 1, 1, 4), kernel=(1, 3), stride=(1, 2))
    tensor([[[[1., 1., 1., 1., 0.]]]])
    """
    pads: list[int] = []
    for axis in (1, 0):  # PyTorch lists the last axis first
        k, s = (kernel, stride) if isinstance(kernel, int) else (kernel[axis], stride)
        s = s if isinstance(s, int) else s[axis]
        size = x.shape[-2 + axis]
        rest = max((-(-size // s) - 1) * s + k - size, 0)
        pads += [rest // 2, rest - rest // 2]
    return functional.pad(x, pads, value=value) if any(pads) else x
