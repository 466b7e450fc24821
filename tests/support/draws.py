"""A training step's loss with its draws, and known draws in the place of its own random numbers."""

from __future__ import annotations

import numpy as np
from torch import Tensor

from auscult.methods.base import Batch, Network


class Drawn(np.random.Generator):
    """Mixing by one lambda and one permutation."""

    def __init__(self, lam: float, perm: np.ndarray) -> None:
        super().__init__(np.random.PCG64(0))
        self.lam, self.perm = lam, perm

    def beta(self, a: float, b: float) -> float:  # type: ignore[override]
        return self.lam

    def permutation(self, x: int) -> np.ndarray:  # type: ignore[override]
        return self.perm


def loss_of(network: Network, batch: Batch, rng: np.random.Generator | int = 0) -> dict[str, Tensor]:
    """The loss of a step, drawn from `rng`, or from a generator of this seed."""
    rng = np.random.default_rng(rng) if isinstance(rng, int) else rng
    return network.loss(batch, network.draw(batch, rng))
