"""Plain MobileFaceNet on the log-mel (after Hou et al., GLOBECOM 2023): a baseline for what others add to it.

Printed tables have an "MFN" row for DCASE 2020 whose settings nobody published. This recipe is our own: that of `stgram_mfn`.

---
deploy: {difference: 2e-06, torch: 197, onnxruntime: 53}
fidelity:
  mfn:
    source: row "MFN" of AnoPatch Table 1 and Han Table VI; no recipe for the 2020 data is published
    remark: "A controlled baseline rather than a reproduction: MobileFaceNet on the log-mel alone, everything else as
      stgram_mfn, so that the Tgram channel is the only difference between the two."
    parameters: {source: 880297, unused: 5289, words: "875,049 of the network with the unused layer and 5,248 of ArcFace"}
    golden:
      mfn: tests/methods/test_mfn.py
    deviations:
      - {what: everything, paper: not stated, code: "for 2022/23 only: linear spectrogram, centre loss, attribute classifier",
         here: that of stgram_mfn, switch: mfn}
      - {what: clips shorter than the year's longest (2023 on), paper: not stated, here: filled with zeros, switch: mfn.fill}
"""

from __future__ import annotations

from typing import Literal

from torch import Tensor

from auscult.methods.base import Batch, Method, Shape, two_classes
from auscult.methods.classifier import ArcFaceClassifier, ClassifierSettings, arcface_head
from auscult.models.mobilefacenet import MobileFaceNet
from auscult.settings.sections import ArcFaceSettings


class MfnSettings(ClassifierSettings):
    """Defaults: those of `stgram_mfn`."""

    method: Literal["mfn"] = "mfn"
    frontend: str = "stgram"
    embedding: int = 128
    plan: Literal["current", "original"] = "current"
    epochs: int = 300
    batch_size: int = 128
    optimizer: Literal["adam", "adamw"] = "adam"
    lr: float = 1e-4
    lr_min: float = 1e-5
    schedule_delay: int = 20
    arcface: ArcFaceSettings = ArcFaceSettings()


class Mfn(ArcFaceClassifier):
    def __init__(self, settings: MfnSettings, shape: Shape) -> None:
        super().__init__()
        self.mfn = MobileFaceNet(1, shape.mels, shape.frames, settings.embedding, settings.plan)
        self.arcface = arcface_head(settings, shape.classes, shape.names)

    def features(self, batch: Batch) -> Tensor:
        """Embedding [B, E], not normalised."""
        return self.mfn(batch.mel.unsqueeze(1))


METHOD = Method(
    settings=MfnSettings,
    build=Mfn,
    divisible=True,
    untrainable=two_classes,
)
