"""IDNN (Suefusa et al., ICASSP 2020): the middle one of five log-mel frames is predicted from the other four.

One network per machine type. The paper's own network is smaller and was evaluated on MIMII; the numbers that later
papers print for the 2020 challenge come from re-implementations. This one has the network, the window and the front-end
of the AE-ASD code, whose training cannot be followed to the letter:

* it takes 301 epochs with steps of all windows of 128 *files* (about 39,500); here it is trained as the autoencoder of
  the challenge's baseline is (`ae`): 100 epochs with steps of 512 windows, at the same learning rate;
* every five epochs it looks at the development *test* set and keeps the best epoch; here the last epoch is kept.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from auscult.methods.base import Method, Shape
from auscult.methods.windows import WindowErrors
from auscult.models.autoencoder import Autoencoder
from auscult.settings.training import MethodSettings

FRAMES = 5
MIDDLE = 2


class IdnnSettings(MethodSettings):
    method: Literal["idnn"] = "idnn"
    frontend: str = "stgram"
    """HTK mels and reflected edges, as in the AE-ASD code."""
    epochs: int = 100
    batch_size: int = 512
    """Windows, not clips."""
    optimizer: Literal["adam", "adamw"] = "adam"
    lr: float = 1e-3
    schedule: Literal["constant", "cosine"] = "constant"
    valid_fraction: float = 0.1


class Idnn(WindowErrors):
    width = FRAMES

    def __init__(self, settings: IdnnSettings, shape: Shape) -> None:
        super().__init__()
        self.autoencoder = Autoencoder((FRAMES - 1) * shape.mels, shape.mels)

    def evaluate(self, windows: Tensor) -> tuple[Tensor, Tensor]:
        """Bottleneck [n, 8] and mean squared error of the predicted frame [n] of windows [n, mels, 5]."""
        middle = windows[:, :, MIDDLE]  # [n, mels]
        others = torch.cat([windows[:, :, :MIDDLE], windows[:, :, MIDDLE + 1 :]], 2)  # by slices: a list would be sent
        around = others.transpose(1, 2).flatten(1)  # [n, 4 * mels], frame-major
        predicted, latent = self.autoencoder(around)
        return latent, (predicted - middle).square().mean(1)


METHOD = Method(
    settings=IdnnSettings,
    build=Idnn,
    scope="machine",
    mel=lambda settings: settings.frontend,
    wave=lambda settings: False,
    window=lambda settings, frames: FRAMES,
)
