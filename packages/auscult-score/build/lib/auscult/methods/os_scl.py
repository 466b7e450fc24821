"""OS-SCL: one-stage supervised contrastive learning with label noise and perturbed features (Huang et al., ICASSP 2025).

Reads in the paper's order: inputs (II-D), mixing and perturbation head (II-A), contrastive loss (II-B), classification
(II-C), total (Eq. 4), score. Where paper and code disagree the default is the code, which made the printed numbers.

---
deploy: {difference: 5e-06, torch: 97, onnxruntime: 65, remark: adaptive maximum as a look-up of samples}
fidelity:
  tfst_os_scl:
    source: "Huang, Fang, He, ICASSP 2025; code huangswt/OS-SCL 9aca394"
    parameters: {source: 1377535, unused: 5289, words: the paper's 1.38 M}
    golden:
      osscl_tfst: tests/models/test_networks.py::test_osscl_training_step,
        tests/models/test_networks.py::test_osscl_test_score
      tfgram: tests/models/test_tfgram.py
      tgram: tests/models/test_tgram.py
      mfn: tests/models/test_mobilefacenet.py
      arcface: tests/losses/test_arcface.py
      noisy_arcmix: tests/losses/test_noisy_arcmix.py
      supcon: tests/losses/test_supcon.py
      ema: tests/training/test_state.py
      lr_schedule: tests/training/test_schedule.py
      mel: tests/features/test_frontends.py
    deviations:
      - {what: anomaly score, paper: not stated, code: cross-entropy of the clip's own class with the training margin, here:
         as the code, switch: os_scl.score_margin}
      - {what: contrastive loss, paper: "Eq. (1): sum over anchors, no factor", code: mean over the batch times tau / 0.07 (at
         batch 64 it is 1/224 of Eq. 1), here: as the code, switch: "supcon.reduction, supcon.base_temperature"}
      - {what: TFgram block 2, paper: 64 channels (Table I), code: 128 channels; 1.38 M parameters need it, here: as the code,
         switch: os_scl.tfgram_block2_channels}
      - {what: moving average, paper: no decay given, code: "0.9999 over every float tensor, and live tensors shrink by 1 -
         2e-6 a step", here: as the code, switch: "ema.decay, ema.shrink"}
      - {what: perturbation head, paper: Eq. (2) puts ArcFace on the embedding, code: "ArcFace, contrastive loss and score all
         on its normalised output; batch norm after the activation", here: as the code, switch: fph.reduction}
      - {what: held-out split, paper: not stated, code: "random 5 %, lowest loss selects the epoch", here: "as the code,
         another random generator", switch: "os_scl.valid_fraction, os_scl.selection"}
      - {what: optimiser, paper: AdamW 1e-4, code: "weight decay 0.01, cosine to 1e-5", here: as the code, switch:
         "os_scl.weight_decay, os_scl.lr_min"}
      - {what: front-end, paper: 128 x 313, code: "FFT 2048, Slaney, zero padding, dB", here: as the code, switch:
         os_scl.frontend}
      - {what: mixing, paper: waveform and log-mel, code: "log-mel in dB, not recomputed; lambda not folded", here: as the
         code, switch: mixup}
      - {what: pooling of TFgram, paper: text says global max pooling, code: adaptive to 626 and 313 frames, here: "as the
         code; shorter clips: to twice their frames, and to their frames"}
      - {what: clips shorter than the year's longest (2023 on), code: none in its data, here: filled with zeros,
         switch: os_scl.fill}
      - {what: validation loss, paper: not stated, code: "mean over batches, the last of which is smaller", here: mean over
         clips}
      - {what: AUC of a machine type, paper: not stated, code: pooled over its units, here: both conventions}
      - {what: last batch of one clip, code: crashes, here: joins its neighbour}
  logmel_os_scl:
    as: tfst_os_scl
    parameters: {source: 897257, unused: 5289, words: the paper's 0.88 M leaves out perturbation head and ArcFace}
    golden:
      osscl_logmel: tests/models/test_networks.py::test_osscl_training_step,
        tests/models/test_networks.py::test_osscl_test_score
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from auscult.losses.noisy_arcmix import mixed_cross_entropy
from auscult.losses.supcon import noise_supcon
from auscult.methods.base import Batch, Drawn, Method, Shape, two_classes
from auscult.methods.classifier import ArcFaceClassifier, ClassifierSettings, arcface_head, draw_mixing, mix
from auscult.models.fph import FeaturePerturbationHead
from auscult.models.mobilefacenet import MobileFaceNet
from auscult.models.perceptron import perceptron
from auscult.models.standardise import Standardise
from auscult.models.tfgram import TFgram
from auscult.models.tgram import Tgram
from auscult.settings.sections import ArcFaceSettings, EmaSettings, FphSettings, MixupSettings, SupconSettings
from auscult.training import distributed


class OsSclSettings(ClassifierSettings):
    """Defaults: the paper (section III-A) and, where it is silent, the authors' code."""

    method: Literal["os_scl"] = "os_scl"
    inputs: Literal["logmel", "stgram", "tfst", "arrays"] = "tfst"
    """Image channels: log-mel; log-mel and Tgram; log-mel, Tgram and TFgram (Eq. 3). Or the arrays of a profile without
    audio, which are no image: z-scored logarithms, through fully connected layers in the place of MobileFaceNet."""
    frontend: str = "osscl"
    embedding: int = 128
    tfgram_block2_channels: Literal[64, 128] = 128
    hidden: tuple[int, ...] = (512, 256)
    """Widths of the layers before the embedding, with arrays."""
    floor: float = 1e-8
    """Added to arrays before the logarithm; 0 = no logarithm."""
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
        self.tgram = Tgram(shape.frames, shape.mels) if settings.inputs in ("stgram", "tfst") else None
        self.tfgram = TFgram(shape.frames, settings.tfgram_block2_channels) if settings.inputs == "tfst" else None
        if settings.inputs == "arrays":
            width = shape.mels * shape.frames
            self.standardise = Standardise(width, floor=settings.floor)
            self.mlp = perceptron(width, settings.hidden, settings.embedding)
        else:
            channels = 1 + (self.tgram is not None) + (self.tfgram is not None)
            self.mfn = MobileFaceNet(channels, shape.mels, shape.frames, settings.embedding, "current")
        self.fph = FeaturePerturbationHead(settings.embedding, settings.fph.reduction, settings.fph.activation)
        self.arcface = arcface_head(settings, shape.classes, shape.names)

    def prepare(self, batches: Iterable[Batch]) -> None:
        if self.settings.inputs == "arrays":
            self.standardise.fit((b.mel.flatten(1), b.label.new_zeros(len(b.label))) for b in batches)

    def scaled(self, batch: Batch) -> Batch:
        """Arrays on the scale on which they are mixed, as log-mels are mixed in dB; log-mels as they are."""
        if self.settings.inputs != "arrays":
            return batch
        return replace(batch, mel=self.standardise(batch.mel.flatten(1)).view_as(batch.mel))

    def features(self, batch: Batch) -> Tensor:
        """Unit vectors z [B, E] that both losses and the score see."""
        if self.settings.inputs == "arrays":
            return self.fph(self.mlp(batch.mel.flatten(1)))
        channels = [batch.mel]
        if self.tgram is not None and batch.wave is not None:
            channels.append(self.tgram(batch.wave.unsqueeze(1)))
        if self.tfgram is not None and batch.wave is not None:
            channels.append(self.tfgram(batch.wave.unsqueeze(1)))
        x_tfst = torch.stack(channels, dim=1)  # Eq. (3): [B, channels, mels, frames]
        return self.fph(self.mfn(x_tfst))  # II-A

    def draw(self, batch: Batch, rng: np.random.Generator) -> Drawn:
        return draw_mixing(batch.size, self.settings.mixup, rng)

    def loss(self, batch: Batch, drawn: Drawn) -> dict[str, Tensor]:
        mixup, supcon, y_a = self.settings.mixup, self.settings.supcon, batch.label
        mixed, y_b, shares = mix(self.scaled(batch), drawn)  # II-A
        z = distributed.sharded(self.features, mixed)
        namix = mixed_cross_entropy(self.arcface, z, y_a, y_b, shares, mixup.mode)  # Eq. (2)
        if not supcon.weight:
            return {"loss": namix}
        contrast = noise_supcon(z, y_a, supcon.temperature, supcon.base_temperature, supcon.reduction)  # Eq. (1)
        return {"loss": supcon.weight * contrast + namix, "supcon": contrast, "namix": namix}  # Eq. (4)

    def valid_loss(self, batch: Batch) -> Tensor:
        return super().valid_loss(self.scaled(batch))

    def embed(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        return super().embed(self.scaled(batch))


METHOD = Method(
    settings=OsSclSettings,
    build=OsScl,
    wave=lambda settings: settings.inputs in ("stgram", "tfst"),
    divisible=True,
    untrainable=two_classes,
)
