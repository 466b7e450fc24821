"""ArcFace (Deng et al., CVPR 2019) and the anomaly score that OS-SCL, Noisy-ArcMix and STgram-MFN derive from it.

Angles and logarithms run in at least float32 whatever the precision of the network around them: in bfloat16 the
cosine of a well-trained embedding rounds to one and its margin vanishes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from auscult.losses.adacos import cosines


class ArcFace(nn.Module):
    """Cosine classifier with an additive angular margin on the target class.

    Args:
        dim: size of the embedding.
        classes: number of classes C.
        scale: s, multiplies cosines to logits.
        margin: m, in radians.
        sub_centres: centres of every class, or of each; the nearest one counts. Rows of `weight` are class-major.
    """

    places: Tensor

    def __init__(
        self, dim: int, classes: int, scale: float, margin: float, sub_centres: int | Sequence[int] = 1
    ) -> None:
        super().__init__()
        self.classes, self.scale, self.margin = classes, scale, margin
        counts = [sub_centres] * classes if isinstance(sub_centres, int) else list(sub_centres)
        self.most = max(counts)
        self.weight = nn.Parameter(torch.empty(sum(counts), dim))
        nn.init.xavier_uniform_(self.weight)
        # Rows of each class's centres [C, most]; where it has fewer, its first one again, which changes no maximum.
        firsts = [sum(counts[:c]) for c in range(classes)]
        places = [
            [first + (k if k < count else 0) for k in range(self.most)]
            for first, count in zip(firsts, counts, strict=True)
        ]
        self.register_buffer("places", torch.tensor(places), persistent=False)

    def cosine(self, x: Tensor) -> Tensor:
        """Cosine of each embedding [B, dim] (any length) with each class: [B, C], in [-1, 1] up to rounding."""
        cosine = cosines(x, self.weight)
        return cosine[:, self.places].amax(2) if self.most > 1 else cosine

    def forward(self, x: Tensor, labels: Tensor) -> Tensor:
        """Logits [B, C] of embeddings [B, dim], with the margin on the class in `labels` [B] (int64)."""
        cosine = self.cosine(x)
        target = labels.unsqueeze(1)  # [B, 1]
        return self.scale * cosine.scatter(1, target, add_margin(cosine.gather(1, target), self.margin))


def add_margin(cosine: Tensor, margin: float) -> Tensor:
    """cos(theta + m) from cos(theta), any shape.

    Where theta + m would pass pi, cos(theta + m) rises again; there the line cos(theta) - m sin(m) takes its place
    (authors' code), so that the result always falls as theta grows. The root is kept off zero: its slope there is
    infinite, and rounding can even push its argument below.

    >>> add_margin(torch.tensor([0.0]), 0.5)  # cos(pi / 2 + 0.5)
    tensor([-0.4794])
    """
    sine = (1 - cosine.square()).clamp(min=1e-20).sqrt()
    shifted = cosine * math.cos(margin) - sine * math.sin(margin)
    return torch.where(cosine > math.cos(math.pi - margin), shifted, cosine - margin * math.sin(margin))


def margin_nll(cosine: Tensor, candidates: Tensor, scale: float, margin: float) -> Tensor:
    """Anomaly score: cross-entropy of the likeliest candidate class, with the training margin still applied.

    With one candidate, the clip's own unit, it is the test score in the authors' code (the papers do not state it).
    With several it is the least of their scores, for clips whose unit is not known. It is computed as
    log(1 + exp(r - s phi)), r being the log-sum-exp of all *other* classes, which keeps apart confident clips whose
    cross-entropy would round to zero.

    Args:
        cosine: [B, C].
        candidates: bool [B, C], the classes each clip may belong to.
        scale: s of the classifier.
        margin: m of the classifier, in radians.

    Returns:
        [B], >= 0, higher = more anomalous; infinite for a clip without candidates.

    >>> cosine, own = torch.tensor([[0.9, 0.1], [0.1, 0.9]]), torch.tensor([[True, False], [True, False]])
    >>> margin_nll(cosine, own, scale=10.0, margin=0.0)[1]  # ln(1 + e^8)
    tensor(8.0003)
    """
    logits = scale * cosine
    before = functional.pad(logits.logcumsumexp(1)[:, :-1], (1, 0), value=-math.inf)
    after = functional.pad(logits.flip(1).logcumsumexp(1).flip(1)[:, 1:], (0, 1), value=-math.inf)
    others = torch.logaddexp(before, after)  # [B, C], log-sum-exp over all classes but this one
    nll = functional.softplus(others - scale * add_margin(cosine, margin))
    return nll.masked_fill(~candidates, math.inf).amin(1)
