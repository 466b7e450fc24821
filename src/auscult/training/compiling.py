"""The loss of a training step as compiled code, for those who ask for it."""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from torch import Tensor

from auscult.methods.base import Batch, Network
from auscult.training.distributed import Loss


def compiled_loss(
    network: Network, how: Literal["compile", "graphs"], accumulates: bool = False, backend: str = "inductor"
) -> Loss:
    """`network.loss`, compiled for batches of one size, and once more for a last one of another size.

    What is drawn from NumPy stays outside: the compiler splits the step there. Sums are formed in another order, so
    results are not those of the plain step to the last bit.

    Args:
        how: "graphs" replays the kernels of a step as CUDA graphs; on a CPU it is the same as "compile".
        accumulates: gradients of several batches are added up, which graphs do not allow: their memory is used again.
        backend: of torch.compile.
    """
    torch._dynamo.reset()  # what was compiled for the network of another machine type
    graphs = how == "graphs" and not accumulates and torch.cuda.is_available()
    # Numbers drawn in each step (lambda of mixup) become inputs, at the second step; sizes stay numbers, see below.
    compiled = torch.compile(network.loss, backend=backend, mode="reduce-overhead" if graphs else None)

    def loss(batch: Batch, rng: np.random.Generator, update: bool = True) -> dict[str, Tensor]:
        if graphs:
            torch.compiler.cudagraph_mark_step_begin()
        for tensor in (part for part in vars(batch).values() if part is not None):
            torch._dynamo.mark_static(tensor)
        parts: dict[str, Tensor] = compiled(batch, rng)
        return parts

    return loss
