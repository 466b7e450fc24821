"""Batch norm and PReLU whose CPU training steps are fast and exact for images in channels-last order.

Both are PyTorch's modules: same parameters, same outputs. On other devices, outside training and where a compiler makes one
kernel of both, PyTorch's own code runs. On CPUs two of its kernels had to be avoided: the PReLU gradient, not vectorised,
took a third of MobileFaceNet's training step; and channels-last batch norm adds up each channel in one float32 sum, whose
variance is off by 1e-3 once a batch holds two million values per channel.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional


class BatchNorm(nn.BatchNorm2d):
    """`torch.nn.BatchNorm2d` over [B, channels, height, width], with running statistics and a momentum always."""

    running_mean: Tensor
    running_var: Tensor
    num_batches_tracked: Tensor
    momentum: float

    def forward(self, x: Tensor) -> Tensor:
        """[B, channels, height, width] -> the same shape."""
        own = self.training and x.device.type == "cpu" and x.dtype == self.weight.dtype
        if not own or torch.compiler.is_compiling():
            return super().forward(x)
        values = x.numel() // x.shape[1]  # per channel
        if values < 2:
            raise ValueError("batch norm needs more than one value per channel to train: use a larger batch")
        mean, variance = _statistics(x.detach())
        with torch.no_grad():  # as PyTorch: the running variance is the unbiased one
            self.num_batches_tracked.add_(1)
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(variance * (values / (values - 1)), self.momentum)
        return _BatchNorm.apply(x, self.weight, self.bias, mean, variance, self.eps)


def _statistics(x: Tensor, groups: int = 64) -> tuple[Tensor, Tensor]:
    """Mean and biased variance per channel of [B, channels, height, width]; two vectors [channels].

    PyTorch's kernel gets interleaved groups of pixels as if they were channels of their own, which makes its sums
    short; mean and variance of the whole then follow from those of the equally large groups.
    """
    channels = x.shape[1]
    pixels = x.numel() // channels
    groups = math.gcd(pixels, groups)
    rows = x.permute(0, 2, 3, 1).reshape(pixels // groups, groups * channels)  # a view in channels-last order
    mean, variance = torch.batch_norm_update_stats(rows, None, None, 0.0)
    mean, variance = mean.view(groups, channels), variance.view(groups, channels)
    return mean.mean(0), variance.mean(0) + mean.var(0, correction=0)


class _BatchNorm(torch.autograd.Function):
    """(x - mean) / sqrt(variance + eps) * weight + bias, where mean and variance are those of x."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, mean: Tensor, variance: Tensor, eps: float
    ) -> Tensor:
        ctx.save_for_backward(x, weight, mean, (variance + eps).rsqrt())
        ctx.eps = eps
        return torch.native_batch_norm(x, weight, bias, mean, variance, False, 0.0, eps)[0]

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, mean, inverse_deviation = ctx.saved_tensors
        grads = torch.ops.aten.native_batch_norm_backward(
            grad, x, weight, None, None, mean, inverse_deviation, True, ctx.eps, [True, True, True]
        )
        return *grads, None, None, None


class PReLU(nn.PReLU):
    """`torch.nn.PReLU` with one slope per channel."""

    def forward(self, x: Tensor) -> Tensor:
        """[B, channels, ...] -> the same shape."""
        if x.device.type == "cpu" and torch.is_grad_enabled() and not torch.compiler.is_compiling():
            return _PReLU.apply(x, self.weight)
        return super().forward(x)


class _PReLU(torch.autograd.Function):
    """max(0, x) + slope * min(0, x)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, slope: Tensor) -> Tensor:
        ctx.save_for_backward(x, slope)
        return functional.prelu(x, slope)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor]:
        x, slope = ctx.saved_tensors
        slopes = slope.view(-1, *[1] * (x.dim() - 2))
        grad_x, grad_slope = torch.empty_like(x), torch.zeros_like(slope)
        for g, clip, out in zip(grad.split(1), x.split(1), grad_x.split(1), strict=True):  # a clip fits the cache
            torch.ops.aten.threshold_backward.grad_input(g, clip, 0, grad_input=out)  # g where x > 0, else 0
            left = g - out  # g where x <= 0, else 0
            out.addcmul_(left, slopes)
            grad_slope += left.mul_(clip).sum([0, *range(2, x.dim())])
        return grad_x, grad_slope


def framed_product(wave: Tensor, weight: Tensor, stride: int, padding: int) -> Tensor:
    """A strided convolution of one channel, as frames times a matrix: [B, samples], [filters, taps] -> [B, frames, filters].

    For GPUs, whose weight gradient of such a convolution takes longer than all else of a layer like it.

    >>> framed_product(torch.tensor([[1.0, 2.0, 3.0]]), torch.tensor([[1.0, 10.0]]), stride=2, padding=1)[0, :, 0]
    tensor([10., 32.])
    """
    frames = functional.pad(wave, (padding, padding)).unfold(1, weight.shape[1], stride)
    return functional.linear(frames, weight)
