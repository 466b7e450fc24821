"""FeatEx as a loss (Wilkinghoff, ICASSP 2024, for M parts and with a fixed scale as ASDKit has it).

L = L_fixed(z, y) + L_trained(z', y'): z' has its parts 2 to M from other clips, and y' is one of (M + 1) C classes
(losses/exchange.py).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from auscult.losses.exchange import exchanged_features, exchanged_shares
from auscult.losses.scac import SubClusterAdaCos


class FeatExLoss(nn.Module):
    """The loss with its centres.

    Args:
        parts: M, into which an embedding falls; all are of one width.
        width: of a part.
        classes, sub_clusters: C and K.
    """

    def __init__(self, parts: int, width: int, classes: int, sub_clusters: int) -> None:
        super().__init__()
        self.width, self.parts = width, parts
        self.plain = SubClusterAdaCos(parts * width, classes, sub_clusters, trainable=False)
        self.exchanged = SubClusterAdaCos(parts * width, (parts + 1) * classes, sub_clusters, trainable=True)

    def each(self, embedding: Tensor, targets: Tensor) -> Tensor:
        """Loss [N] of embeddings [N, M * width] with shares [N, C], of which none is exchanged."""
        alone = torch.cat([targets, targets.new_zeros(len(targets), self.parts * targets.shape[1])], 1)
        return self.plain.each(embedding, targets) + self.exchanged.each(embedding, alone)

    def forward(self, embedding: Tensor, targets: Tensor, exchange: Tensor, partners: Tensor) -> Tensor:
        """Mean loss; scalar.

        Args:
            embedding: [N, M * width].
            targets: [N, C].
            exchange: bool [N], which clips take parts of others.
            partners: int64 [M - 1, N], whose.
        """
        first, *rest = embedding.split(self.width, 1)
        others = [exchanged_features(part, exchange, partner) for part, partner in zip(rest, partners, strict=True)]
        made = torch.cat([first, *others], 1)
        return self.plain(embedding, targets) + self.exchanged(made, exchanged_shares(targets, exchange, partners))
