"""Autoencoder of the DCASE 2020 Task 2 baseline: five log-mel frames in, the same five out, error as score.

One network per machine type. Differs from the official Keras code in the batch norms' epsilon and momentum (PyTorch's)
and in what is held out: the last 10 % of windows there, a tenth of the clips by seed here. Neither selects an epoch.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from torch import Tensor

from auscult.config import MethodSettings
from auscult.methods.base import Batch, Method, Network, Shape
from auscult.methods.windows import mean_over_windows
from auscult.models.autoencoder import Autoencoder

FRAMES = 5


class AeSettings(MethodSettings):
    method: Literal["ae"] = "ae"
    frontend: str = "dcase_constant"
    epochs: int = 100
    batch_size: int = 512
    """Windows, not clips."""
    optimizer: Literal["adam", "adamw"] = "adam"
    lr: float = 1e-3
    schedule: Literal["constant", "cosine"] = "constant"
    valid_fraction: float = 0.1


class Ae(Network):
    def __init__(self, settings: AeSettings, shape: Shape) -> None:
        super().__init__()
        self.autoencoder = Autoencoder(FRAMES * shape.mels, FRAMES * shape.mels)

    def evaluate(self, windows: Tensor) -> tuple[Tensor, Tensor]:
        """Bottleneck [n, 8] and mean squared error [n] of windows [n, mels, 5]."""
        window = windows.transpose(1, 2).flatten(1)  # [n, 5 * mels], frame-major
        output, latent = self.autoencoder(window)
        return latent, (output - window).square().mean(1)

    def loss(self, batch: Batch, rng: np.random.Generator) -> dict[str, Tensor]:
        assert batch.mel is not None
        return {"loss": self.evaluate(batch.mel)[1].mean()}

    def valid_loss(self, batch: Batch) -> Tensor:
        return self.embed(batch)[1]["native"]

    def embed(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """Mean bottleneck activation [B, 8]; own score: mean squared error over all windows [B] of whole clips."""
        assert batch.mel is not None
        latent, error = mean_over_windows(self.evaluate, batch.mel, FRAMES)
        return latent, {"native": error}


METHOD = Method(
    settings=AeSettings,
    build=Ae,
    scope="machine",
    mel=lambda settings: settings.frontend,
    wave=lambda settings: False,
    window=lambda settings, frames: FRAMES,
)
