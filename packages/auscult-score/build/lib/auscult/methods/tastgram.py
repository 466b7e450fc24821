"""TASTgram with Noisy-ArcMix (Choi and Choi, ICASSP 2024): Tgram, log-mel and an attended log-mel as image channels.

Follows the authors' code. `mixup.mode` chooses among the paper's three losses: ArcFace ("none"), ArcMix, Noisy-ArcMix.

---
deploy: {difference: 4e-06, torch: 183, onnxruntime: 193}
fidelity:
  tastgram_namix:
    source: "Choi, Choi, ICASSP 2024; code NoisyArcMix 674c759"
    parameters: {source: 1161855, unused: 5289}
    golden:
      tastgram: tests/models/test_networks.py::test_tastgram
      temporal_attention: tests/models/test_temporal_attention.py
      noisy_arcmix: tests/methods/test_tastgram.py
      mel: tests/features/test_frontends.py
    deviations:
      - {what: precision, code: mixed without a gradient scaler, here: float32, switch: train.precision}
      - {what: seed and split, code: "2023, torch's generator", here: train.seeds, switch: train.seeds}
      - {what: TAgram channel, code: attention on un-normalised dB, here: as the code; on quiet frames the channel is all but
         zero}
      - {what: clips shorter than the year's longest (2023 on), code: none in its data, here: filled with zeros,
         switch: tastgram.fill}
      - {what: validation loss, code: "mean over batches, the last of which is smaller", here: mean over clips}
      - {what: AUC of a machine type, code: pooled over its units, here: both conventions}
      - {what: its row in OS-SCL's Table II, paper: "94.08 / 89.01 there, 94.65 / 89.31 by the authors", here: both are what
         they are}
  tastgram_arcmix:
    as: tastgram_namix
    parameters: {source: 1161855, unused: 5289}
    golden:
      noisy_arcmix: tests/methods/test_tastgram.py
  tastgram_arcface:
    as: tastgram_namix
    parameters: {source: 1161855, unused: 5289}
    golden:
      tastgram: tests/models/test_networks.py::test_tastgram
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from torch import Tensor

from auscult.losses.noisy_arcmix import mixed_cross_entropy
from auscult.methods.base import Batch, Drawn, Method, Shape, two_classes
from auscult.methods.classifier import ArcFaceClassifier, ClassifierSettings, arcface_head, draw_mixing, mix
from auscult.models.mobilefacenet import MobileFaceNet
from auscult.models.temporal_attention import temporal_attention
from auscult.models.tgram import Tgram
from auscult.settings.sections import ArcFaceSettings, MixupSettings
from auscult.training import distributed


class TastgramSettings(ClassifierSettings):
    """Defaults: the authors' code."""

    method: Literal["tastgram"] = "tastgram"
    frontend: str = "noisyarcmix"
    embedding: int = 128
    epochs: int = 300
    batch_size: int = 64
    optimizer: Literal["adam", "adamw"] = "adamw"
    lr: float = 1e-4
    lr_min: float = 1e-5
    weight_decay: float = 0.01
    valid_fraction: float = 0.05
    selection: Literal["valid_loss", "last"] = "valid_loss"
    arcface: ArcFaceSettings = ArcFaceSettings()
    mixup: MixupSettings = MixupSettings()


class Tastgram(ArcFaceClassifier):
    def __init__(self, settings: TastgramSettings, shape: Shape) -> None:
        super().__init__()
        self.mixup = settings.mixup
        self.tgram = Tgram(shape.frames, shape.mels)
        self.mfn = MobileFaceNet(3, shape.mels, shape.frames, settings.embedding, "current")
        self.arcface = arcface_head(settings, shape.classes, shape.names)

    def features(self, batch: Batch) -> Tensor:
        """Embedding [B, E], not normalised."""
        tgram = self.tgram(batch.wave.unsqueeze(1))
        return self.mfn(torch.stack([tgram, batch.mel, temporal_attention(batch.mel)], dim=1))

    def draw(self, batch: Batch, rng: np.random.Generator) -> Drawn:
        return draw_mixing(batch.size, self.mixup, rng)

    def loss(self, batch: Batch, drawn: Drawn) -> dict[str, Tensor]:
        mixed, y_b, shares = mix(batch, drawn)
        x = distributed.sharded(self.features, mixed)  # with the attention of the mixed log-mel
        return {"loss": mixed_cross_entropy(self.arcface, x, batch.label, y_b, shares, self.mixup.mode)}


METHOD = Method(
    settings=TastgramSettings,
    build=Tastgram,
    wave=lambda settings: True,
    divisible=True,
    untrainable=two_classes,
)
