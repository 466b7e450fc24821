"""Feature perturbation head (OS-SCL, section II-A): squeeze the embedding to a few numbers and expand it again.

The paper names neither the batch norms nor their place; both come from the authors' code, where the activation stands
before the norm. The head stays in use at test time: losses and scores all see its output.
"""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn
from torch.nn import functional


class FeaturePerturbationHead(nn.Module):
    """Linear, activation, batch norm, twice; then L2 normalisation.

    Args:
        dim: size of the embedding.
        reduction: size R in the middle (paper, Table VI); 0 leaves the head out: L2 normalisation alone.
        activation: "relu" (TFSTgram model) or "leaky_relu" with slope 0.01 (Log-Mel model).
    """

    def __init__(self, dim: int, reduction: int, activation: Literal["relu", "leaky_relu"]) -> None:
        super().__init__()
        self.reduction = reduction
        if reduction:
            self.slope = {"relu": 0.0, "leaky_relu": 0.01}[activation]
            self.fc1 = nn.Linear(dim, reduction)
            self.bn1 = nn.BatchNorm1d(reduction)
            self.fc2 = nn.Linear(reduction, dim)
            self.bn2 = nn.BatchNorm1d(dim)

    def forward(self, embedding: Tensor) -> Tensor:
        """[B, dim] -> [B, dim] of unit length."""
        x = embedding
        if self.reduction:
            x = self.bn1(functional.leaky_relu(self.fc1(x), self.slope))  # [B, reduction]
            x = self.bn2(functional.leaky_relu(self.fc2(x), self.slope))  # [B, dim]
        return functional.normalize(x, dim=1)
