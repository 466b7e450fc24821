"""Autoencoder of the DCASE 2020 Task 2 baseline: five log-mel frames in, the same five out, error as score.

One network per machine type. Differs from the official Keras code in the batch norms' epsilon and momentum (PyTorch's)
and in what is held out: the last 10 % of windows there, a tenth of the clips by seed here. Neither selects an epoch.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from torch import Tensor
from torch.nn.functional import mse_loss

from auscult.config import MethodSettings
from auscult.methods.base import Batch, Method, Network, Shape
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

    def loss(self, batch: Batch, rng: np.random.Generator) -> dict[str, Tensor]:
        assert batch.mel is not None
        window = batch.mel.transpose(1, 2).flatten(1)  # [B, 5 * mels], frame-major
        return {"loss": mse_loss(self.autoencoder(window)[0], window)}

    def valid_loss(self, batch: Batch) -> Tensor:
        return self.embed(batch)[1]

    def embed(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Mean bottleneck activation [B, 8] and mean squared error over all windows [B] of whole clips."""
        assert batch.mel is not None
        windows = batch.mel.unfold(2, FRAMES, 1).permute(0, 2, 3, 1)  # [B, W, 5, mels], a view
        flat = windows.reshape(-1, FRAMES * batch.mel.shape[1])
        output, latent = self.autoencoder(flat)
        error = (output - flat).square().mean(1).unflatten(0, windows.shape[:2])
        return latent.unflatten(0, windows.shape[:2]).mean(1), error.mean(1)


METHOD = Method(
    settings=AeSettings,
    build=Ae,
    scope="machine",
    mel=lambda settings: settings.frontend,
    wave=lambda settings: False,
    window=FRAMES,
)
