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
from torch.nn.functional import cross_entropy

from auscult.config import ArcFaceSettings, EmaSettings, FphSettings, MethodSettings, MixupSettings, SupconSettings
from auscult.losses.arcface import ArcFace, margin_nll
from auscult.losses.noisy_arcmix import arcmix, noisy_arcmix
from auscult.losses.supcon import noise_supcon
from auscult.methods.base import Batch, Method, Network, Shape, mixing_partner
from auscult.models.fph import FeaturePerturbationHead
from auscult.models.mobilefacenet import MobileFaceNet
from auscult.models.tfgram import TFgram
from auscult.models.tgram import Tgram


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


class OsScl(Network):
    def __init__(self, settings: OsSclSettings, shape: Shape) -> None:
        super().__init__()
        self.settings = settings
        self.tgram = Tgram(shape.frames, shape.mels) if settings.inputs != "logmel" else None
        self.tfgram = TFgram(shape.frames, settings.tfgram_block2_channels) if settings.inputs == "tfst" else None
        channels = 1 + (self.tgram is not None) + (self.tfgram is not None)
        self.mfn = MobileFaceNet(channels, shape.mels, shape.frames, settings.embedding)
        self.fph = FeaturePerturbationHead(settings.embedding, settings.fph.reduction, settings.fph.activation)
        self.arcface = ArcFace(settings.embedding, shape.classes, settings.arcface.scale, settings.arcface.margin)

    def features(self, batch: Batch) -> Tensor:
        """Unit vectors z [B, E] that both losses and the score see."""
        assert batch.mel is not None
        channels = [batch.mel]
        if self.tgram is not None and batch.wave is not None:
            channels.append(self.tgram(batch.wave.unsqueeze(1)))
        if self.tfgram is not None and batch.wave is not None:
            channels.append(self.tfgram(batch.wave.unsqueeze(1)))
        x_tfst = torch.stack(channels, dim=1)  # Eq. (3): [B, channels, mels, frames]
        return self.fph(self.mfn(x_tfst))  # II-A

    def loss(self, batch: Batch, rng: np.random.Generator) -> dict[str, Tensor]:
        assert batch.label is not None
        mixup, supcon = self.settings.mixup, self.settings.supcon
        y_a = batch.label
        if mixup.mode != "none":  # II-A: one lambda and one permutation per batch
            lam = float(rng.beta(mixup.alpha, mixup.alpha))
            partner = mixing_partner(len(y_a), rng, y_a.device)
            batch, y_b = batch.mixed(partner, lam), y_a[partner]
        z = self.features(batch)
        logits = self.arcface(z, y_a)
        if mixup.mode == "noisy_arcmix":
            namix = noisy_arcmix(logits, y_a, y_b, lam)  # Eq. (2)
        elif mixup.mode == "arcmix":
            namix = arcmix(logits, self.arcface(z, y_b), y_a, y_b, lam)
        else:
            namix = cross_entropy(logits, y_a)
        if not supcon.weight:
            return {"loss": namix}
        contrast = noise_supcon(z, y_a, supcon.temperature, supcon.base_temperature, supcon.reduction)  # Eq. (1)
        return {"loss": supcon.weight * contrast + namix, "supcon": contrast, "namix": namix}  # Eq. (4)

    def valid_loss(self, batch: Batch) -> Tensor:
        assert batch.label is not None
        return cross_entropy(self.arcface(self.features(batch), batch.label), batch.label, reduction="none")

    def embed(self, batch: Batch) -> tuple[Tensor, Tensor]:
        assert batch.candidates is not None
        z = self.features(batch)
        margin = self.arcface.margin if self.settings.score_margin else 0.0
        return z, margin_nll(self.arcface.cosine(z), batch.candidates, self.arcface.scale, margin)


METHOD = Method(
    settings=OsSclSettings,
    build=OsScl,
    scope="all",
    mel=lambda settings: settings.frontend,
    wave=lambda settings: settings.inputs != "logmel",
)
