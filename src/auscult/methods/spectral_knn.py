"""Training-free baseline: nearest neighbours between log-mel spectrograms pooled over time.

What a detector gets from the sound itself. Which pooling decides: a mean hides the short click of a bad valve, a
maximum hides the slow drift of a fan. `gwrp` lies between them, at a place that training clips choose (models/gwrp.py).

---
compare: [{}, {pooling: [gwrp]}, {pooling: [max]}, {pooling: [mean]}, {pooling: [std]}]
deploy: {difference: 1e-07, torch: 23, onnxruntime: 21}
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

import torch
from torch import Tensor

from auscult.methods.base import Batch, Method, Network, Shape
from auscult.models.gwrp import GRID, choose, gwrp
from auscult.settings.untrained import SpectralKnnSettings
from auscult.training import distributed


class SpectralKnn(Network):
    """Pools over time, then z-scores every dimension by the machine's training clips.

    Attributes:
        z_scored: what a bundle leaves out to know how normal sound scores.
        r: [1], of `gwrp`; only where that is among the poolings.
    """

    z_scored: ClassVar[bool] = True
    mean: Tensor
    std: Tensor
    r: Tensor

    def __init__(self, settings: SpectralKnnSettings, shape: Shape) -> None:
        super().__init__()
        self.pooling, self.given_r = settings.pooling, settings.r
        width = shape.mels * len(settings.pooling)
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("std", torch.ones(width))
        if "gwrp" in settings.pooling:
            self.register_buffer("r", torch.tensor([1.0 if settings.r == "auto" else settings.r]))

    def pooled(self, batch: Batch) -> Tensor:
        """[B, mels * statistics]."""
        pools = {
            "mean": lambda x: x.mean(2),
            "std": lambda x: x.std(2, correction=0),
            "max": lambda x: x.amax(2),
            "gwrp": lambda x: gwrp(x, self.r.tolist()).squeeze(2),
        }
        return torch.cat([pools[name](batch.mel) for name in self.pooling], dim=1)

    def prepare(self, batches: Iterable[Batch]) -> None:
        seen, each_r, labels = [], [], []
        for batch in batches:
            seen.append(self.pooled(batch))
            if "gwrp" in self.pooling and self.given_r == "auto":
                each_r.append(gwrp(batch.mel, GRID))
                labels.append(batch.label)
        pooled = torch.cat(seen)
        if each_r:
            every = torch.cat(each_r)  # [clips, mels, R]
            place, words = choose(every, torch.cat(labels))
            distributed.say(words)
            self.r.fill_(GRID[place])
            pooled.unflatten(1, (len(self.pooling), -1))[:, self.pooling.index("gwrp")] = every[:, :, place]
        self.mean.copy_(pooled.mean(0))
        # A band without variation carries nothing; the floor keeps it from dividing by zero.
        self.std.copy_(pooled.std(0, correction=0).clamp(min=1e-6))

    def embed(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        return (self.pooled(batch) - self.mean) / self.std, {}


METHOD = Method(
    settings=SpectralKnnSettings,
    build=SpectralKnn,
    scope="machine",
    distance="euclidean",  # the dimensions are z-scored
)
