"""Moving average of the weights during training, as in the authors' code of OS-SCL (the paper does not mention it)."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class WeightEMA:
    """Keeps `average` as the exponential moving average of `live`, and shrinks `live` a little.

    After each optimiser step, over all floating-point tensors, parameters and batch-norm statistics alike:

        average <- decay * average + (1 - decay) * live
        live    <- (1 - shrink) * live

    Both networks must start from the same values. Integer buffers (step counters of batch norm) are copied; the
    authors leave them alone, and with a fixed momentum nothing reads them. The state to save is that of the two
    networks; this object has none of its own.

    Args:
        live: the network in training.
        average: a copy of it, on the same device.
        decay: 0.9999 in the authors' code, from the first step on (no warm-up).
        shrink: 2e-6 in the authors' code: a weight decay that also reaches the tensors which no optimiser decays,
            running statistics and centres included; 0 turns it off.
    """

    def __init__(self, live: nn.Module, average: nn.Module, decay: float = 0.9999, shrink: float = 2e-6) -> None:
        self.decay, self.shrink = decay, shrink
        mine, theirs = average.state_dict(), live.state_dict()
        if mine.keys() != theirs.keys():
            raise ValueError("the averaged network must have the tensors of the live one")
        floating = [name for name, tensor in theirs.items() if tensor.is_floating_point()]
        others = [name for name in theirs if name not in set(floating)]
        # state_dict shares memory with the network, so these lists stay valid while the networks are not moved.
        self._live: list[Tensor] = [theirs[name] for name in floating]
        self._average: list[Tensor] = [mine[name] for name in floating]
        self._live_integers: list[Tensor] = [theirs[name] for name in others]
        self._average_integers: list[Tensor] = [mine[name] for name in others]

    @torch.no_grad()
    def step(self) -> None:
        """Update both networks in place; call it right after the optimiser's step. Nothing waits for the device."""
        # Product and sum are rounded separately, as the authors' are; a fused multiply-add differs in the last bit.
        share = torch._foreach_mul(self._live, 1.0 - self.decay)
        torch._foreach_mul_(self._average, self.decay)
        torch._foreach_add_(self._average, share)
        if self._live_integers:
            torch._foreach_copy_(self._average_integers, self._live_integers)
        if self.shrink:
            torch._foreach_mul_(self._live, 1.0 - self.shrink)
