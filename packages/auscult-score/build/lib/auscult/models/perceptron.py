"""Fully connected layers for inputs that are no image: few values per clip, or values in no order."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn


def perceptron(width: int, hidden: Sequence[int], out: int) -> nn.Sequential:
    """[B, width] -> [B, out]: linear, batch norm and PReLU for each hidden width, then linear and batch norm.

    >>> [tuple(layer.weight.shape) for layer in perceptron(8, (4,), 2) if isinstance(layer, nn.Linear)]
    [(4, 8), (2, 4)]
    """
    layers: list[nn.Module] = []
    for size in hidden:
        layers += [nn.Linear(width, size), nn.BatchNorm1d(size), nn.PReLU(size)]
        width = size
    return nn.Sequential(*layers, nn.Linear(width, out), nn.BatchNorm1d(out))
