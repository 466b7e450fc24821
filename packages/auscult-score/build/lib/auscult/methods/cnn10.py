"""CNN10 told to classify: the convolutional baseline of Han et al., Tables I to III.

---
deploy: {difference: 3e-07, torch: 624, onnxruntime: 308}
fidelity:
  cnn10:
    source: 'row "CNN10" of Han et al. Tables I to III; the network of PANNs (Kong et al., 2020), without its pre-trained
      weights'
    remark: Han et al. call it the challenge's official classification baseline; no such baseline with this network is known.
    deviations:
      - {what: "loss, margin, schedule, front-end", paper: not stated, code: none, here: those of our other plain classifiers,
         switch: cnn10}
      - {what: clips shorter than the year's longest (2023 on), paper: not stated, here: filled with zeros, switch: cnn10.fill}
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field
from torch import Tensor, nn

from auscult.methods.base import Batch, Method, Shape, two_classes
from auscult.methods.classifier import ArcFaceClassifier, ClassifierSettings, arcface_head
from auscult.models.cnn10 import CHANNELS, POOL, Cnn10
from auscult.settings.section import Positive
from auscult.settings.sections import ArcFaceSettings


class Cnn10Settings(ClassifierSettings):
    method: Literal["cnn10"] = "cnn10"
    frontend: str = "dcase_constant"
    embedding: Positive = 128
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.2
    epochs: int = 100
    batch_size: int = 64
    lr: float = 1e-3
    lr_min: float = 1e-5
    weight_decay: float = 0.01
    arcface: ArcFaceSettings = ArcFaceSettings()


class Cnn10Classifier(ArcFaceClassifier):
    def __init__(self, settings: Cnn10Settings, shape: Shape) -> None:
        super().__init__()
        self.cnn = Cnn10(shape.mels, settings.dropout)
        self.project = nn.Linear(CHANNELS[-1], settings.embedding)
        self.arcface = arcface_head(settings, shape.classes, shape.names)

    def features(self, batch: Batch) -> Tensor:
        """Embedding [B, E], not normalised."""
        return self.project(self.cnn(batch.mel))


METHOD = Method(
    settings=Cnn10Settings,
    build=Cnn10Classifier,
    window=lambda settings, frames: 0 if frames >= POOL ** len(CHANNELS) else POOL ** len(CHANNELS),
    smallest=(POOL ** len(CHANNELS), 1),
    divisible=True,
    untrainable=two_classes,
)
