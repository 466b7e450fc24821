"""One training by several processes of one machine, one per GPU, that ends in the weights of one process.

Every process draws the same random numbers and holds the same batch. Each runs its slice of it through the network; then all
exchange what came out, so that each has the features of the whole batch, and each computes the whole loss. A contrastive loss
therefore sees every pair, centres and banks that follow the network move alike everywhere, and batch norms
(models/global_batch_norm.py) use the statistics of all slices.

Why the gradient is that of one process: the whole loss L stands on each of W processes, and each hands W dL/dz of its own
rows down through its slice. DistributedDataParallel takes the mean over processes: what lies below the exchange gets the sum
of dL/dz dz/dw over all rows, what lies above it W equal gradients and so that gradient itself.

Without a process group everything here is the identity.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import Tensor, distributed, nn

if TYPE_CHECKING:
    from auscult.methods.base import Batch

Rows = TypeVar("Rows", "Batch", Tensor)
_whole = False  # whether every process runs the whole batch at the moment


def size() -> int:
    """Processes of this training."""
    return distributed.get_world_size() if distributed.is_available() and distributed.is_initialized() else 1


def rank() -> int:
    """Number of this process, from 0; process 0 alone prints and writes."""
    return distributed.get_rank() if size() > 1 else 0


def say(text: str) -> None:
    """Print on stderr, once."""
    if rank() == 0:
        print(text, file=sys.stderr, flush=True)


def apart() -> bool:
    """Whether the processes hold different rows at the moment."""
    return size() > 1 and not _whole


def all_equal(number: int, device: torch.device) -> bool:
    """Whether every process says the same number."""
    if size() == 1:
        return True
    extremes = torch.tensor([number, -number], device=device)
    distributed.all_reduce(extremes, distributed.ReduceOp.MAX)
    return int(extremes[0]) == -int(extremes[1])


# --------------------------------------------------------------------------------------------------------------- the batch
def rows_of(number: int, count: int) -> slice:
    """The slice of `count` rows that is process `number`'s: contiguous, in the order of processes, one longer at most."""
    return slice(count * number // size(), count * (number + 1) // size())


def sharded(function: Callable[[Rows], Tensor], batch: Rows) -> Tensor:
    """`function(batch)` [B, ...], of which each process computes its rows; all have all of them afterwards.

    Args:
        function: gives one row per clip that depends on no other clip (but through batch norms).
        batch: the same on every process.
    """
    if size() == 1:
        return function(batch)
    return by_parts(lambda rows: function(_rows(batch, rows)), len(batch) if isinstance(batch, Tensor) else batch.size)


def by_parts(function: Callable[[slice], Tensor], count: int) -> Tensor:
    """As `sharded`, of a function that is told which of `count` rows to compute."""
    global _whole
    if size() == 1:
        return function(slice(None))
    if count >= size():
        return _Gather.apply(function(rows_of(rank(), count)), count)
    _whole = True  # fewer clips than processes: each computes them all, which is the same
    try:
        return function(slice(None))
    finally:
        _whole = False


def _rows(batch: Rows, rows: slice) -> Rows:
    if isinstance(batch, Tensor):
        return batch[rows]
    parts = {field.name: getattr(batch, field.name) for field in fields(batch)}
    return replace(batch, **{name: part[rows] for name, part in parts.items() if part is not None})


class _Gather(torch.autograd.Function):
    """Rows of all processes, in their order; in the backward pass the own rows' gradient times the number of processes.

    The sum over processes of their equal gradients is that product: nothing needs to be sent.
    """

    @staticmethod
    def forward(ctx: Any, part: Tensor, count: int) -> Tensor:
        ctx.count = count
        processes, longest = size(), -(-count // size())
        full = torch.zeros((longest, *part.shape[1:]), dtype=part.dtype, device=part.device)
        full[: len(part)] = part
        out = full.new_empty((processes * longest, *part.shape[1:]))
        distributed.all_gather_into_tensor(out, full)
        if count == len(out):
            return out
        parts = [rows_of(number, count) for number in range(processes)]
        return torch.cat([rows[: p.stop - p.start] for rows, p in zip(out.split(longest), parts, strict=True)])

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        return grad[rows_of(rank(), ctx.count)] * size(), None


# ------------------------------------------------------------------------------------------------------------- the network
def equalise(*networks: nn.Module | None) -> None:
    """Give every tensor the value it has in process 0: what each process prepared for itself may differ in the last bit."""
    for network in networks if size() > 1 else ():
        for tensor in network.state_dict().values() if network is not None else ():
            distributed.broadcast(tensor.data, 0)


def stream() -> tuple[int, ...]:
    """What sets this process's dropout apart from that of others: part of a seed; nothing in one process."""
    return (rank(),) if size() > 1 else ()


def provenance() -> Mapping[str, int]:
    """What a row of the history says of this; nothing in one process."""
    return {"processes": size()} if size() > 1 else {}


@contextmanager
def group(backend: str, **options: Any) -> Iterator[None]:
    """The process group, for the length of a `with`; without options the one that torchrun's environment describes."""
    distributed.init_process_group(backend, **options)
    yield
    distributed.barrier()  # none leaves while another is still at work: its end would look like a failure
    distributed.destroy_process_group()
