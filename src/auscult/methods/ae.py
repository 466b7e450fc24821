"""Autoencoder of the DCASE 2020 Task 2 baseline: five log-mel frames in, the same five out, error as score.

One network per machine type. Differs from the official Keras code in the batch norms' epsilon and momentum (PyTorch's)
and in what is held out: the last 10 % of windows there, a tenth of the clips by seed here. Neither selects an epoch.
"""

from __future__ import annotations

from typing import Literal

from torch import Tensor

from auscult.methods.base import Method, Shape
from auscult.methods.windows import WindowErrors
from auscult.models.autoencoder import Autoencoder
from auscult.settings.training import MethodSettings

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


class Ae(WindowErrors):
    width = FRAMES

    def __init__(self, settings: AeSettings, shape: Shape) -> None:
        super().__init__()
        self.autoencoder = Autoencoder(FRAMES * shape.mels, FRAMES * shape.mels)

    def evaluate(self, windows: Tensor) -> tuple[Tensor, Tensor]:
        """Bottleneck [n, 8] and mean squared error [n] of windows [n, mels, 5]."""
        window = windows.transpose(1, 2).flatten(1)  # [n, 5 * mels], frame-major
        output, latent = self.autoencoder(window)
        return latent, (output - window).square().mean(1)


METHOD = Method(
    settings=AeSettings,
    build=Ae,
    scope="machine",
    mel=lambda settings: settings.frontend,
    wave=lambda settings: False,
    window=lambda settings, frames: FRAMES,
)
