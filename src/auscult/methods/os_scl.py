"""OS-SCL: one-stage supervised contrastive learning with label noise and perturbed features (Huang et al., ICASSP 2025).

Reads in the paper's order: inputs (II-D), mixing and perturbation head (II-A), contrastive loss (II-B), classification
(II-C), total (Eq. 4), score. Where paper and code disagree the default is the code, which made the printed numbers:

* the score (margin cross-entropy of the clip's own unit), the 5 % split, the moving average and its shrink, the batch
  norms of the head: only in the code (`score_margin`, `valid_fraction`, `ema`, always);
* Eq. (1) is a sum without factor, the code a mean times tau / 0.07 (`supcon.reduction`, `supcon.base_temperature`);
* TFgram's second block has 64 channels in Table I, 128 in the code (`tfgram_block2_channels`);
* Eq. (2) puts ArcFace on the embedding, the code on the output of the perturbation head (always).
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from torch import Tensor

from auscult.losses.arcface import ArcFace
from auscult.losses.noisy_arcmix import mixed_cross_entropy
from auscult.losses.supcon import noise_supcon
from auscult.methods.base import Batch, Method, Shape, two_classes
from auscult.methods.classifier import ArcFaceClassifier, mix
from auscult.models.fph import FeaturePerturbationHead
from auscult.models.mobilefacenet import MobileFaceNet
from auscult.models.tfgram import TFgram
from auscult.models.tgram import Tgram
from auscult.settings.sections import ArcFaceSettings, EmaSettings, FphSettings, MixupSettings, SupconSettings
from auscult.settings.training import MethodSettings
from auscult.training import distributed


class OsSclSettings(MethodSettings):
    """Defaults: the paper (section III-A) and, where it is silent, the authors' code."""

    method: Literal["os_scl"] = "os_scl"
    inputs: Literal["logmel", "stgram", "tfst"] = "tfst"
    """Image channels: log-mel; log-mel and Tgram; log-mel, Tgram and TFgram (Eq. 3)."""
    frontend: str = "osscl"
    embedding: int = 128
    tfgram_block2_channels: Literal[64, 128] = 128
    score_margin: bool = True
    """Keep the margin in the test score, as the code does."""
    epochs: int = 300
    batch_size: int = 64
    optimizer: Literal["adam", "adamw"] = "adamw"
    lr: float = 1e-4
    lr_min: float = 1e-5
    weight_decay: float = 0.01
    valid_fraction: float = 0.05
    selection: Literal["valid_loss", "last"] = "valid_loss"
    fph: FphSettings = FphSettings()
    arcface: ArcFaceSettings = ArcFaceSettings()
    supcon: SupconSettings = SupconSettings()
    mixup: MixupSettings = MixupSettings()
    ema: EmaSettings = EmaSettings()


class OsScl(ArcFaceClassifier):
    def __init__(self, settings: OsSclSettings, shape: Shape) -> None:
        super().__init__()
        self.settings = settings
        self.score_margin = settings.score_margin
        self.tgram = Tgram(shape.frames, shape.mels) if settings.inputs != "logmel" else None
        self.tfgram = TFgram(shape.frames, settings.tfgram_block2_channels) if settings.inputs == "tfst" else None
        channels = 1 + (self.tgram is not None) + (self.tfgram is not None)
        self.mfn = MobileFaceNet(channels, shape.mels, shape.frames, settings.embedding)
        self.fph = FeaturePerturbationHead(settings.embedding, settings.fph.reduction, settings.fph.activation)
        self.arcface = ArcFace(settings.embedding, shape.classes, settings.arcface.scale, settings.arcface.margin)

    def features(self, batch: Batch) -> Tensor:
        """Unit vectors z [B, E] that both losses and the score see."""
        channels = [batch.mel]
        if self.tgram is not None and batch.wave is not None:
            channels.append(self.tgram(batch.wave.unsqueeze(1)))
        if self.tfgram is not None and batch.wave is not None:
            channels.append(self.tfgram(batch.wave.unsqueeze(1)))
        x_tfst = torch.stack(channels, dim=1)  # Eq. (3): [B, channels, mels, frames]
        return self.fph(self.mfn(x_tfst))  # II-A

    def loss(self, batch: Batch, rng: np.random.Generator) -> dict[str, Tensor]:
        mixup, supcon, y_a = self.settings.mixup, self.settings.supcon, batch.label
        mixed, y_b, lam = mix(batch, mixup, rng)  # II-A
        z = distributed.sharded(self.features, mixed)
        namix = mixed_cross_entropy(self.arcface, z, y_a, y_b, lam, mixup.mode)  # Eq. (2)
        if not supcon.weight:
            return {"loss": namix}
        contrast = noise_supcon(z, y_a, supcon.temperature, supcon.base_temperature, supcon.reduction)  # Eq. (1)
        return {"loss": supcon.weight * contrast + namix, "supcon": contrast, "namix": namix}  # Eq. (4)


METHOD = Method(
    settings=OsSclSettings,
    build=OsScl,
    scope="all",
    mel=lambda settings: settings.frontend,
    wave=lambda settings: settings.inputs != "logmel",
    divisible=True,
    untrainable=two_classes,
)
