"""Feature values of very different sizes on one scale: logarithm, then z-scores by the training clips."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

LEAST = 1e-6
"""Smallest standard deviation that is divided by: a value that never changes carries nothing."""


class Standardise(nn.Module):
    """z = (log(x + floor) - mean) / sd, value by value; one mean and sd for all clips, or one per class.

    Args:
        width: D, values of a clip.
        groups: G, sets of clips with a mean and sd of their own.
        floor: added before the logarithm; 0 = no logarithm.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, width: int, groups: int = 1, floor: float = 0.0) -> None:
        super().__init__()
        self.floor = floor
        self.register_buffer("mean", torch.zeros(groups, width))
        self.register_buffer("std", torch.ones(groups, width))

    def log(self, x: Tensor) -> Tensor:
        """Values at or below -`floor`, which have no logarithm, count as the smallest number above zero."""
        return (x + self.floor).clamp(min=torch.finfo(x.dtype).tiny).log() if self.floor else x

    def fit(self, clips: Iterable[tuple[Tensor, Tensor]]) -> None:
        """Take mean and sd from training clips: batches of (values [B, D], group of each, int64 [B]).

        In float64 and by sums, so that no copy of all clips is made.
        """
        total = torch.zeros_like(self.mean, dtype=torch.float64)
        square, count = total.clone(), total[:, :1].clone()
        for x, group in clips:
            logs = self.log(x).double()
            count.index_add_(0, group, torch.ones_like(logs[:, :1]))
            total.index_add_(0, group, logs)
            square.index_add_(0, group, logs.square())
        mean = total / count.clamp(min=1)
        self.mean.copy_(mean)
        self.std.copy_((square / count.clamp(min=1) - mean.square()).clamp(min=0).sqrt().clamp(min=LEAST))

    def forward(self, x: Tensor, group: Tensor | None = None) -> Tensor:
        """[B, D], and the group of each clip (None: all in group 0) -> [B, D]."""
        if group is None:
            return (self.log(x) - self.mean[0]) / self.std[0]
        return (self.log(x) - self.mean[group]) / self.std[group]
