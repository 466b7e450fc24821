"""Batch norm over the slices of all processes: what one process computes that sees the whole batch.

PyTorch's SyncBatchNorm is for GPUs alone. This one is plain collectives around PyTorch's own kernels, so that what is tested
on CPUs is what runs on GPUs.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, distributed, nn
from torch.nn.modules.batchnorm import _BatchNorm

from auscult.models.layers import _statistics
from auscult.training.distributed import apart


def global_batch_norms(network: nn.Module) -> None:
    """Put `GlobalBatchNorm` in the place of every batch norm of `network`, with the very same weights and buffers."""
    for name, module in list(network.named_modules()):
        if isinstance(module, _BatchNorm):
            network.set_submodule(name, GlobalBatchNorm(module))


class GlobalBatchNorm(_BatchNorm):
    """`like`, whose statistics in training are those of all processes' values together, however many each has.

    Outside training, and while every process runs the whole batch by itself, no process asks the others.

    Args:
        like: a batch norm with weights, running statistics and a fixed momentum. State dicts of both have the same keys.
    """

    running_mean: Tensor
    running_var: Tensor
    num_batches_tracked: Tensor
    momentum: float

    def __init__(self, like: _BatchNorm) -> None:
        super().__init__(0, like.eps, like.momentum)
        if not like.affine or like.momentum is None:
            raise TypeError("only batch norms with weights and a fixed momentum can be shared out")
        if like.running_mean is None or like.running_var is None or like.num_batches_tracked is None:
            raise TypeError("only batch norms with running statistics can be shared out")
        self.num_features = like.num_features
        self.weight, self.bias = like.weight, like.bias
        self.running_mean, self.running_var = like.running_mean, like.running_var
        self.num_batches_tracked = like.num_batches_tracked
        self.training = like.training

    def _check_input_dim(self, x: Tensor) -> None:
        """Any [B, C, ...]."""

    def forward(self, x: Tensor) -> Tensor:
        """[B, channels, ...] -> the same shape; B is this process's, and may differ between processes."""
        if not self.training:
            return super().forward(x)
        together = apart()
        mean, variance, values = global_statistics(x.detach(), together)
        with torch.no_grad():  # as PyTorch: the running variance is the unbiased one
            self.num_batches_tracked.add_(1)
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(variance * (values / (values - 1)).to(variance.dtype), self.momentum)
        return _GlobalBatchNorm.apply(x, self.weight, self.bias, mean, variance, values, self.eps, together)


def global_statistics(x: Tensor, together: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Mean and biased variance per channel, at least float32 [channels], and how many values each channel has in all."""
    image = x.reshape(*x.shape[:2], -1, 1) if x.dim() != 4 else x
    mean, variance = _statistics(image.to(torch.promote_types(x.dtype, torch.float32)))
    count = mean.new_full((1,), x.numel() // x.shape[1], dtype=torch.float64)
    if not together:
        return mean, variance, count
    mine = torch.cat([mean.double(), variance.double(), count])[None]
    all_of_them = mine.expand(distributed.get_world_size(), -1).clone()
    distributed.all_gather_into_tensor(all_of_them, mine)
    means, variances, counts = all_of_them.split([len(mean), len(mean), 1], 1)  # [W, channels] twice, [W, 1]
    values = counts.sum(0)
    whole = (counts * means).sum(0) / values
    spread = (counts * (variances + (means - whole).square())).sum(0) / values
    return whole.to(mean.dtype), spread.to(mean.dtype), values


class _GlobalBatchNorm(torch.autograd.Function):
    """(x - mean) / sqrt(variance + eps) * weight + bias, where mean and variance are those of all processes' x."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, mean: Tensor, variance: Tensor, values: Tensor, eps: float,
        together: bool,
    ) -> Tensor:  # fmt: skip
        ctx.save_for_backward(x, weight, mean, (variance + eps).rsqrt(), values)
        ctx.eps, ctx.together = eps, together
        return torch.native_batch_norm(x, weight, bias, mean, variance, False, 0.0, eps)[0]

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, mean, inverse_deviation, values = ctx.saved_tensors
        # PyTorch's gradient as if this process's slice were the batch; its mean terms are then put right, channel by channel.
        grad_x, grad_weight, grad_bias = torch.ops.aten.native_batch_norm_backward(
            grad, x, weight, None, None, mean, inverse_deviation, True, ctx.eps, [True, True, True]
        )
        if ctx.together:
            mine = torch.stack([grad_bias, grad_weight])  # sums of g and of g (x - mean) / deviation
            whole = mine.clone()
            distributed.all_reduce(whole)
            level, slope = mine / (x.numel() // x.shape[1]) - (whole / values).to(mine.dtype)
            slope = slope * inverse_deviation
            shape = (1, -1, *[1] * (x.dim() - 2))
            scale = (weight * inverse_deviation).view(shape)
            level, slope = (level - slope * mean).view(shape), slope.view(shape)
            grad_x = torch.addcmul(grad_x, scale, torch.addcmul(level, x, slope)).to(grad_x.dtype)
        return grad_x, grad_weight, grad_bias, None, None, None, None, None
