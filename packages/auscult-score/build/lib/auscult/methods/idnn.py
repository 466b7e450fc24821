"""IDNN (Suefusa et al., ICASSP 2020): the middle one of five log-mel frames is predicted from the other four.

One network per machine type. The paper's own network is smaller and was evaluated on MIMII; the numbers that later papers
print for the 2020 challenge come from re-implementations. This one has the network, the window and the front-end of the AE-ASD
code, and is trained as the autoencoder of the challenge's baseline (`ae`), at the same learning rate.

---
deploy: {difference: 1e-07, torch: 21, onnxruntime: 21, remark: all windows of a clip in one pass}
fidelity:
  idnn:
    source: "Suefusa et al., ICASSP 2020; code AE-ASD 51a171d"
    parameters: {source: 185496, unused: 0, words: one network per machine type}
    golden:
      ae_idnn: tests/methods/test_idnn.py, tests/models/test_autoencoder.py
    deviations:
      - {what: network, paper: "64-32-16-32-64 on MIMII, as recollected", code: "128 x 4, 8, 128 x 4 with batch norms; the
         numbers of later papers come from re-implementations", here: as the code}
      - {what: length, code: "301 epochs, steps of about 39,500 windows (128 files)", here: "100 epochs, 512 windows", switch:
         "idnn.epochs, idnn.batch_size"}
      - {what: selection, code: best AUC + pAUC on the development test set, here: last epoch}
      - {what: clips shorter than the year's longest (2023 on), code: none in its data, here: "windows of each clip alone, to its
         last frame", switch: idnn.fill}
"""

from __future__ import annotations

from typing import ClassVar, Literal

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
    any_length: ClassVar[bool] = True
    fill: Literal["none", "repeat", "zeros"] = "none"
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
    window=lambda settings, frames: FRAMES,
)
