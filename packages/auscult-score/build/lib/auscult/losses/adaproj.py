"""AdaProj (Wilkinghoff, 2024, arXiv 2403.14179): the angle between an embedding and its projection to a class's sub-space.

A clip may lie anywhere in the sub-space of its class, where AdaCos wants it at a centre. The d unit vectors of a class are drawn
once and not made orthogonal, so that the "projection" is one only in the mean. Everything runs in float32 whatever surrounds it.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from auscult.losses.adacos import mixed_cross_entropy
from auscult.losses.scac import start_scale


def projected(x: Tensor, vectors: Tensor) -> Tensor:
    """q_c = sum_j (x . w_cj) w_cj: [N, C, D].

    Args:
        x: [N, D].
        vectors: w, [C, d, D], of length 1.
    """
    return torch.einsum("ncd,cde->nce", torch.einsum("ne,cde->ncd", x, vectors), vectors)


def projection_cosines(x: Tensor, vectors: Tensor) -> Tensor:
    """cos(x, q_c): [N, C], between 0 and 1. Arguments as of `projected`, of any length but zero."""
    with torch.autocast(x.device.type, enabled=False):
        x = functional.normalize(x.to(torch.promote_types(x.dtype, torch.float32)))
        q = functional.normalize(projected(x, functional.normalize(vectors, dim=2)), dim=2)
        return (x[:, None] * q).sum(2)


def next_scale(scale: Tensor, cosine: Tensor, targets: Tensor) -> Tensor:
    """s <- ln(mean over the batch of sum_c e_c) / cos(min(pi/4, median angle)); scalar.

    e_c is exp(s cos_c), but e^0 where y_c is 1. The angle of a clip is the share-weighted mean over its classes; of an even batch
    the lower median counts.

    Args:
        scale: s.
        cosine: [N, C].
        targets: y, [N, C], shares of the classes; a mixed clip has none that is 1.
    """
    exponent = (scale * cosine).where(targets < 1, 0.0)
    log_mean = exponent.flatten().logsumexp(0) - math.log(len(cosine))
    angle = (targets * cosine.clamp(-1 + 1e-7, 1 - 1e-7).acos()).sum(1)
    return log_mean / angle.median().clamp(max=math.pi / 4).cos()


class AdaProj(nn.Module):
    """Cross-entropy of s cos(x, q_c); the vectors are fixed, s follows the batch in training.

    Args:
        dim: D, size of the embedding.
        classes: C.
        directions: d, vectors of a class.

    s and the vectors are buffers: part of the saved state, and outside the optimiser.
    """

    scale: Tensor
    weight: Tensor

    def __init__(self, dim: int, classes: int, directions: int) -> None:
        super().__init__()
        self.register_buffer("weight", torch.empty(classes, directions, dim))
        nn.init.xavier_uniform_(self.weight)
        self.register_buffer("scale", torch.tensor(start_scale(classes)))

    def each(self, embedding: Tensor, targets: Tensor) -> Tensor:
        """Loss [N] of embeddings [N, D] with shares [N, C]; in training the scale follows the batch first."""
        cosine = projection_cosines(embedding, self.weight)
        if self.training:
            with torch.no_grad():
                self.scale.copy_(next_scale(self.scale, cosine, targets))
        logits = self.scale.clone() * cosine  # a copy: the next step writes to the buffer
        return mixed_cross_entropy(logits.log_softmax(1), targets)

    def forward(self, embedding: Tensor, targets: Tensor) -> Tensor:
        """Mean of `each`; scalar."""
        return self.each(embedding, targets).mean()
