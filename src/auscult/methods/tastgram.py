"""TASTgram with Noisy-ArcMix (Choi and Choi, ICASSP 2024): Tgram, log-mel and an attended log-mel as image channels.

Follows the authors' code. `mixup.mode` chooses among the paper's three losses: ArcFace ("none"), ArcMix, Noisy-ArcMix.
Their code trains in mixed precision without a gradient scaler; here `train.precision` decides, for all methods alike.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from torch import Tensor

from auscult.losses.arcface import ArcFace
from auscult.losses.noisy_arcmix import mixed_cross_entropy
from auscult.methods.base import Batch, Method, Shape, two_classes
from auscult.methods.classifier import ArcFaceClassifier, mix
from auscult.models.mobilefacenet import MobileFaceNet
from auscult.models.temporal_attention import temporal_attention
from auscult.models.tgram import Tgram
from auscult.settings.sections import ArcFaceSettings, MixupSettings
from auscult.settings.training import MethodSettings
from auscult.training import distributed


class TastgramSettings(MethodSettings):
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
        self.mfn = MobileFaceNet(3, shape.mels, shape.frames, settings.embedding)
        self.arcface = ArcFace(settings.embedding, shape.classes, settings.arcface.scale, settings.arcface.margin)

    def features(self, batch: Batch) -> Tensor:
        """Embedding [B, E], not normalised."""
        tgram = self.tgram(batch.wave.unsqueeze(1))
        return self.mfn(torch.stack([tgram, batch.mel, temporal_attention(batch.mel)], dim=1))

    def loss(self, batch: Batch, rng: np.random.Generator) -> dict[str, Tensor]:
        mixed, y_b, lam = mix(batch, self.mixup, rng)
        x = distributed.sharded(self.features, mixed)  # with the attention of the mixed log-mel
        return {"loss": mixed_cross_entropy(self.arcface, x, batch.label, y_b, lam, self.mixup.mode)}


METHOD = Method(
    settings=TastgramSettings,
    build=Tastgram,
    scope="all",
    mel=lambda settings: settings.frontend,
    wave=lambda settings: True,
    divisible=True,
    untrainable=two_classes,
)
