"""Sub-space loss (Fujimura et al., ICASSP 2025): fixed centres for the whole embedding, trained ones for each branch's part.

L = L_fixed([z_1 ... z_M]) + sum_m L_trained(z_m), every term a sub-cluster AdaCos, every weight 1.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from auscult.losses.scac import SubClusterAdaCos


class SubSpaceLoss(nn.Module):
    """The loss with its centres.

    Args:
        parts: M, into which an embedding falls; all are of one width.
        width: of a part.
        classes, sub_clusters: C and K of every term.
    """

    def __init__(self, parts: int, width: int, classes: int, sub_clusters: int) -> None:
        super().__init__()
        self.width = width
        self.whole = SubClusterAdaCos(parts * width, classes, sub_clusters, trainable=False)
        self.each_part = nn.ModuleList(
            SubClusterAdaCos(width, classes, sub_clusters, trainable=True) for _ in range(parts)
        )

    def each(self, embedding: Tensor, targets: Tensor) -> Tensor:
        """Loss [N] of embeddings [N, M * width] with shares [N, C]."""
        terms = [self.whole.each(embedding, targets)]
        losses = cast(list[SubClusterAdaCos], list(self.each_part))
        for part, loss in zip(embedding.split(self.width, 1), losses, strict=True):
            terms.append(loss.each(part, targets))
        return torch.stack(terms).sum(0)

    def forward(self, embedding: Tensor, targets: Tensor) -> Tensor:
        """Mean of `each`; scalar."""
        return self.each(embedding, targets).mean()
