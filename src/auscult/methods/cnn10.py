"""CNN10 told to classify: the convolutional baseline of Han et al., Tables I to III.

They call it the challenge's official classification baseline, of which no recipe is stated and which the challenge's own
repository does not hold. The network is PANNs' (without its pre-trained weights: Table III lists it under "no"), loss and
schedule are those of our other plain classifiers.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field
from torch import Tensor, nn

from auscult.losses.arcface import ArcFace
from auscult.methods.base import Batch, Method, Shape, two_classes
from auscult.methods.classifier import ArcFaceClassifier
from auscult.models.cnn10 import CHANNELS, POOL, Cnn10
from auscult.settings.section import Positive
from auscult.settings.sections import ArcFaceSettings
from auscult.settings.training import MethodSettings


class Cnn10Settings(MethodSettings):
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
        self.arcface = ArcFace(settings.embedding, shape.classes, settings.arcface.scale, settings.arcface.margin)

    def features(self, batch: Batch) -> Tensor:
        """Embedding [B, E], not normalised."""
        return self.project(self.cnn(batch.mel))


METHOD = Method(
    settings=Cnn10Settings,
    build=Cnn10Classifier,
    scope="all",
    mel=lambda settings: settings.frontend,
    wave=lambda settings: False,
    window=lambda settings, frames: 0 if frames >= POOL ** len(CHANNELS) else POOL ** len(CHANNELS),
    divisible=True,
    untrainable=two_classes,
)
