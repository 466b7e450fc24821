"""Sub-cluster AdaCos (Wilkinghoff, IJCNN 2021): a cosine classifier that sets its own scale, with centres per class.

With one sub-cluster it is AdaCos with a dynamic scale (Zhang et al., CVPR 2019, section 4.2), except that the sum under
the logarithm holds the clip's own class too (authors' code). Everything here runs in float32 whatever surrounds it.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional


class SubClusterAdaCos(nn.Module):
    """Log-probabilities of classes, each the sum over its sub-clusters; no margin and nothing to tune.

    Args:
        dim: size of the embedding.
        classes: number of classes C.
        sub_clusters: centres n per class. Rows of `weight` are class-major.

    The scale s is a buffer: part of the saved state, and constant outside training.
    """

    scale: Tensor

    def __init__(self, dim: int, classes: int, sub_clusters: int) -> None:
        super().__init__()
        self.classes, self.sub_clusters = classes, sub_clusters
        self.weight = nn.Parameter(torch.empty(classes * sub_clusters, dim))
        nn.init.xavier_uniform_(self.weight)
        start = math.sqrt(2) * math.log(max(classes * sub_clusters - 1, 1))
        self.register_buffer("scale", torch.tensor(start, dtype=torch.float32))

    def forward(self, x: Tensor, targets: Tensor) -> Tensor:
        """Log-probabilities [B, C] of embeddings [B, dim]. In training the scale follows the batch first.

        Args:
            x: of any length; only the direction counts.
            targets: [B, C] share of each class in the clip, rows summing to one; read by the scale alone.
        """
        with torch.autocast(x.device.type, enabled=False):
            cosine = cosines(x, self.weight)  # [B, C * n]
            if self.training:
                self.scale.copy_(self.next_scale(cosine.detach(), targets))
            # A copy of the scale: the next step writes to the buffer.
            return class_log_probabilities(self.scale.clone() * cosine, self.classes)

    @torch.no_grad()
    def next_scale(self, cosine: Tensor, targets: Tensor) -> Tensor:
        """s <- ln(mean over the batch of sum_j exp(s cos_j)) / cos(min(pi/4, median angle)); scalar.

        As the code has it, the angle of a clip is the share-weighted sum of its angles with *all* centres of its
        classes, times the number of those classes: with more than one sub-cluster or mixed clips it seldom falls below
        pi/4. The median of an even batch is the element at round((B - 1) / 2), halves to even, not a mean of two.

        Args:
            cosine: [B, C * n].
            targets: [B, C], see `forward`.
        """
        log_mean = (self.scale * cosine).flatten().logsumexp(0) - math.log(len(cosine))
        theta = cosine.clamp(-1 + 1e-7, 1 - 1e-7).acos().unflatten(1, (self.classes, self.sub_clusters)).sum(2)
        angle = (targets * theta).sum(1) * (targets != 0).sum(1)  # [B]
        median = angle.sort().values[round((len(angle) - 1) / 2)]
        return log_mean / median.clamp(max=math.pi / 4).cos()

    def centres(self) -> Tensor:
        """Unit vectors [C, n, dim]."""
        return functional.normalize(self.weight).unflatten(0, (self.classes, self.sub_clusters))


def cosines(x: Tensor, centres: Tensor) -> Tensor:
    """Cosine of each of x [B, D] with each centre [n, D], of any length: [B, n] in at least float32, whatever surrounds it."""
    with torch.autocast(x.device.type, enabled=False):
        x = x.to(torch.promote_types(x.dtype, torch.float32))
        return functional.linear(functional.normalize(x), functional.normalize(centres))


def class_log_probabilities(logits: Tensor, classes: int) -> Tensor:
    """Log of the softmax over all centres, summed within each class: logits [B, C * n], class-major -> [B, C].

    >>> class_log_probabilities(torch.tensor([[0.0, 0.0, 0.0, -torch.inf]]), 2).exp()
    tensor([[0.6667, 0.3333]])
    """
    return logits.log_softmax(1).unflatten(1, (classes, logits.shape[1] // classes)).logsumexp(2)


def shares_of(label: Tensor, classes: int) -> Tensor:
    """Shares float32 [B, C] of clips that are of one class each; not by torch's one_hot, which waits for the device to look at
    the largest label.

    >>> shares_of(torch.tensor([1]), 3)
    tensor([[0., 1., 0.]])
    """
    return (label[:, None] == torch.arange(classes, device=label.device)).float()


def mixed_cross_entropy(log_probabilities: Tensor, targets: Tensor) -> Tensor:
    """Cross-entropy [B] of log-probabilities [B, C] with shares `targets` [B, C].

    >>> mixed_cross_entropy(torch.tensor([[0.5, 0.5]]).log(), torch.tensor([[0.3, 0.7]]))
    tensor([0.6931])
    """
    return -(targets * log_probabilities).sum(1)
