"""Training-free baseline: nearest neighbours between log-mel spectrograms pooled over time.

What a detector gets from the sound itself. Which pooling decides: a mean hides the short click of a bad valve, a
maximum hides the slow drift of a fan.

---
deploy: {difference: 1e-07, torch: 23, onnxruntime: 21}
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar, Literal

import torch
from torch import Tensor

from auscult.methods.base import Batch, Method, Network, Shape
from auscult.settings.training import MethodSettings

Pool = Literal["mean", "std", "max"]


class SpectralKnnSettings(MethodSettings):
    method: Literal["spectral_knn"] = "spectral_knn"
    any_length: ClassVar[bool] = True
    fill: Literal["none", "repeat", "zeros"] = "none"
    frontend: str = "osscl"
    pooling: tuple[Pool, ...] = ("mean", "std", "max")
    """Statistics over time, joined."""


class SpectralKnn(Network):
    """Pools over time, then z-scores every dimension by the machine's training clips."""

    mean: Tensor
    std: Tensor

    def __init__(self, settings: SpectralKnnSettings, shape: Shape) -> None:
        super().__init__()
        self.pooling = settings.pooling
        width = shape.mels * len(settings.pooling)
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("std", torch.ones(width))

    def pooled(self, batch: Batch) -> Tensor:
        """[B, mels * statistics]."""
        pools = {"mean": lambda x: x.mean(2), "std": lambda x: x.std(2, correction=0), "max": lambda x: x.amax(2)}
        return torch.cat([pools[name](batch.mel) for name in self.pooling], dim=1)

    def prepare(self, batches: Iterable[Batch]) -> None:
        pooled = torch.cat([self.pooled(batch) for batch in batches])
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
