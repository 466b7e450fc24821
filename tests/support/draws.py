"""Known draws in the place of a training step's own random numbers."""

from __future__ import annotations

import numpy as np


class Drawn(np.random.Generator):
    """Mixing by one lambda and one permutation."""

    def __init__(self, lam: float, perm: np.ndarray) -> None:
        super().__init__(np.random.PCG64(0))
        self.lam, self.perm = lam, perm

    def beta(self, a: float, b: float) -> float:  # type: ignore[override]
        return self.lam

    def permutation(self, x: int) -> np.ndarray:  # type: ignore[override]
        return self.perm
