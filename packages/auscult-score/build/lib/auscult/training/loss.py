"""The loss of a training step as the loop calls it: plain, compiled for those who ask for it, or by several processes."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from contextlib import nullcontext
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from auscult.features.constants import mark_constants
from auscult.methods.base import Batch, Drawn, Network
from auscult.settings.training import MethodSettings, Train
from auscult.training import distributed

Loss = Callable[[Batch, Drawn, bool], dict[str, Tensor]]
"""`loss(batch, drawn, update)`; `update`: whether the weights are updated after it."""


def training_loss(network: Network, settings: MethodSettings, train: Train) -> Loss:
    """The loss of `network` in this process, as `train` asks for it."""
    if distributed.size() > 1:
        return replicated_loss(network, partly=hasattr(settings, "encoder"))
    if train.compile != "none":
        return compiled_loss(network, train.compile, accumulates=settings.accumulate > 1)
    return lambda batch, drawn, update: network.loss(batch, drawn)


def compiled_loss(
    network: Network, how: Literal["compile", "graphs"], accumulates: bool = False, backend: str = "inductor"
) -> Loss:
    """`network.loss`, compiled for batches of one size, and once more for a last one of another size.

    One graph, for everything random comes in as tensors. Sums are formed in another order, so results are not those of the
    plain step to the last bit.

    Args:
        how: "graphs" replays the kernels of a step as CUDA graphs; on a CPU it is the same as "compile".
        accumulates: gradients of several batches are added up, which graphs do not allow: their memory is used again.
        backend: of torch.compile.
    """
    mark_constants()
    torch._dynamo.reset()  # what was compiled for the network of another machine type
    graphs = how == "graphs" and not accumulates and torch.cuda.is_available()
    # Sizes stay numbers: a last, smaller batch gets code of its own instead of code for any size.
    mode = "reduce-overhead" if graphs else None
    compiled = torch.compile(network.loss, backend=backend, mode=mode, dynamic=False)

    def loss(batch: Batch, drawn: Drawn, update: bool = True) -> dict[str, Tensor]:
        if graphs:
            torch.compiler.cudagraph_mark_step_begin()
        parts: dict[str, Tensor] = compiled(batch, drawn)
        return parts

    return loss


def replicated_loss(network: Network, partly: bool) -> Loss:
    """`network.loss` in each of several processes; a backward pass of it averages the gradients if `update`.

    Args:
        partly: whether some of its weights may have no part in a loss (layers that are dropped or not used).
    """
    # Of 1x1 kernels, which are in channels-last and in any other order at once; it costs a copy.
    warnings.filterwarnings("ignore", message="Grad strides do not match bucket view strides")
    replica = DistributedDataParallel(_LossOf(network), broadcast_buffers=False, find_unused_parameters=partly)

    def loss(batch: Batch, drawn: Drawn, update: bool) -> dict[str, Tensor]:
        with nullcontext() if update else replica.no_sync():
            parts: dict[str, Tensor] = replica(batch, drawn)
        return parts

    return loss


class _LossOf(nn.Module):
    """A network's loss as the forward pass that DistributedDataParallel asks for."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = network

    def forward(self, batch: Batch, drawn: Drawn) -> dict[str, Tensor]:
        return self.network.loss(batch, drawn)
