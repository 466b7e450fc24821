"""Sub-cluster AdaCos (Wilkinghoff, IJCNN 2021) with a fixed scale, as ASDKit has it: soft targets, centres fixed or trained.

`losses/adacos.py` has the same probabilities with a scale that follows the batch.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from auscult.losses.adacos import class_log_probabilities, cosines, mixed_cross_entropy


def sub_cluster_loss(embedding: Tensor, centres: Tensor, targets: Tensor, scale: float) -> Tensor:
    """Mean of -sum_c y_c log sum_k exp(s cos(x, w_ck)) / sum_ck exp(s cos(x, w_ck)); scalar, in at least float32.

    Args:
        embedding: x, [N, D], of any length but zero; only its direction counts.
        centres: w, [C, K, D], likewise.
        targets: y, [N, C], shares of the classes; rows sum to one.
        scale: s.

    >>> sub_cluster_loss(torch.tensor([[2.0, 0.0]]), torch.eye(2)[:, None], torch.tensor([[0.0, 1.0]]), scale=1.0)  # ln(1 + e)
    tensor(1.3133)
    """
    return sub_cluster_nll(embedding, centres, targets, scale).mean()


def sub_cluster_nll(embedding: Tensor, centres: Tensor, targets: Tensor, scale: float) -> Tensor:
    """`sub_cluster_loss` of each clip: [N]."""
    log_probabilities = class_log_probabilities(scale * cosines(embedding, centres.flatten(0, 1)), len(centres))
    return mixed_cross_entropy(log_probabilities, targets)


def start_scale(centres: int) -> float:
    """sqrt(2) ln(n - 1) of n centres (Zhang et al., CVPR 2019); two count as three, for with s = 0 nothing is learnt.

    >>> round(start_scale(41 * 16), 3)
    9.171
    """
    return math.sqrt(2) * math.log(max(centres - 1, 2))


class SubClusterAdaCos(nn.Module):
    """`sub_cluster_loss` with its centres.

    Args:
        dim: D, size of the embedding.
        classes: C.
        sub_clusters: K, centres per class.
        trainable: whether the centres are learnt; else they are a buffer: saved, and outside the optimiser.
        generator: of the random centres; None = torch's own.

    Attributes:
        weight: centres [C, K, D], Xavier uniform over [C K, D] at the start.
        scale: s = sqrt(2) ln(C K - 1), fixed.
    """

    weight: Tensor

    def __init__(
        self,
        dim: int,
        classes: int,
        sub_clusters: int = 16,
        *,
        trainable: bool,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        self.scale = start_scale(classes * sub_clusters)
        centres = torch.empty(classes * sub_clusters, dim)
        nn.init.xavier_uniform_(centres, generator=generator)
        centres = centres.unflatten(0, (classes, sub_clusters))
        if trainable:
            self.weight = nn.Parameter(centres)
        else:
            self.register_buffer("weight", centres)

    def forward(self, embedding: Tensor, targets: Tensor) -> Tensor:
        """Mean loss of embeddings [N, D] with shares [N, C]; scalar."""
        return sub_cluster_loss(embedding, self.weight, targets, self.scale)

    def each(self, embedding: Tensor, targets: Tensor) -> Tensor:
        """Loss of each: [N]."""
        return sub_cluster_nll(embedding, self.weight, targets, self.scale)
