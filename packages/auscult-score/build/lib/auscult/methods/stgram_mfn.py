"""STgram-MFN (Liu et al., ICASSP 2022): log-mel and a learnt Tgram as two image channels, ArcFace over all units.

Follows the authors' code (2023 form).

---
deploy: {difference: 2e-06, torch: 109, onnxruntime: 97}
fidelity:
  stgram_mfn:
    source: "Liu et al., ICASSP 2022; code STgram-MFN d6c8865 (2023)"
    parameters: {source: 1161279, unused: 5289}
    golden:
      stgram: tests/models/test_networks.py::test_stgram
      tgram: tests/models/test_tgram.py
      mfn: tests/models/test_mobilefacenet.py
      lr_schedule: tests/training/test_schedule.py
    deviations:
      - {what: selection, code: best AUC + pAUC on the development test set, here: last epoch; no test clip selects}
      - {what: layout of MobileFaceNet, paper: first release, code: changed in 2023 with the printed numbers kept, here: both,
         switch: stgram_mfn.plan}
      - {what: epochs, paper: "300", code: the loop runs 301, here: "300", switch: stgram_mfn.epochs}
      - {what: schedule, code: "cosine over 300 epochs, first stepped after epoch 20", here: as the code, switch:
         stgram_mfn.schedule_delay}
      - {what: clips shorter than the year's longest (2023 on), code: none in its data, here: filled with zeros,
         switch: stgram_mfn.fill}
  stgram_mfn_original:
    as: stgram_mfn
    source: "Liu et al., ICASSP 2022; first release of the code"
    parameters: {source: 1350335, unused: 5289}
    golden:
      mfn_original_plan: tests/models/test_mobilefacenet.py
"""

from __future__ import annotations

from typing import Literal

from torch import Tensor

from auscult.methods.base import Batch, Method, Shape, two_classes
from auscult.methods.classifier import ArcFaceClassifier, ClassifierSettings, arcface_head
from auscult.models.stgram import Stgram
from auscult.settings.sections import ArcFaceSettings


class StgramMfnSettings(ClassifierSettings):
    method: Literal["stgram_mfn"] = "stgram_mfn"
    frontend: str = "stgram"
    embedding: int = 128
    plan: Literal["current", "original"] = "current"
    """Layout of MobileFaceNet: the 2023 code's, or that of the first release, which made the published numbers."""
    epochs: int = 300
    batch_size: int = 128
    optimizer: Literal["adam", "adamw"] = "adam"
    lr: float = 1e-4
    lr_min: float = 1e-5
    schedule_delay: int = 20
    arcface: ArcFaceSettings = ArcFaceSettings()


class StgramMfn(ArcFaceClassifier):
    def __init__(self, settings: StgramMfnSettings, shape: Shape) -> None:
        super().__init__()
        self.stgram = Stgram(shape.mels, shape.frames, settings.embedding, settings.plan)
        self.arcface = arcface_head(settings, shape.classes, shape.names)

    def features(self, batch: Batch) -> Tensor:
        """Embedding [B, E], not normalised."""
        return self.stgram(batch.mel, batch.wave)


METHOD = Method(
    settings=StgramMfnSettings,
    build=StgramMfn,
    wave=lambda settings: True,
    divisible=True,
    untrainable=two_classes,
)
