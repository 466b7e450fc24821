"""Autoencoder of the DCASE 2020 Task 2 baseline: five log-mel frames in, the same five out, error as score.

One network per machine type.

---
deploy: {difference: 5e-07, torch: 35, onnxruntime: 23, remark: all windows of a clip in one pass}
fidelity:
  ae:
    source: DCASE 2020 Task 2 baseline (Keras)
    parameters: {source: 267928, unused: 0, words: one network per machine type}
    golden:
      ae_idnn: tests/methods/test_idnn.py, tests/models/test_autoencoder.py
      mel: tests/features/test_frontends.py
    deviations:
      - {what: batch norm, code: "Keras, epsilon 1e-3 and momentum 0.99", here: "PyTorch, 1e-5 and 0.1"}
      - {what: held out, code: last 10 % of windows, here: a tenth of the clips by seed; neither selects an epoch, switch:
         ae.valid_fraction}
      - {what: training data of the evaluation units, code: trained apart from the development units, here: one network on
         both}
      - {what: padding of the front-end, code: "librosa's, which changed from reflect to zeros in 0.10", here: zeros, switch:
         ae.frontend}
      - {what: clips shorter than the year's longest (2023 on), code: "arrays sized by a type's first clip, nothing filled up",
         here: "windows of each clip alone, to its last frame", switch: ae.fill}
      - {what: AE in Han et al. Table VIII, paper: the baseline of 2022, code: "trained apart for the evaluation sections",
         here: "the baseline of 2020, one network for all six sections"}
"""

from __future__ import annotations

from typing import ClassVar, Literal

from torch import Tensor

from auscult.methods.base import Method, Shape
from auscult.methods.windows import WindowErrors
from auscult.models.autoencoder import Autoencoder
from auscult.settings.training import MethodSettings

FRAMES = 5


class AeSettings(MethodSettings):
    method: Literal["ae"] = "ae"
    any_length: ClassVar[bool] = True
    fill: Literal["none", "repeat", "zeros"] = "none"
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
    window=lambda settings, frames: FRAMES,
)
