"""Plain MobileFaceNet on the log-mel (after Hou et al., GLOBECOM 2023): a baseline for what others add to it.

Printed tables have an "MFN" row for DCASE 2020 whose settings nobody published: the authors' code covers DCASE 2022 and
2023 only, with another input and other losses. This recipe is therefore our own. It is that of `stgram_mfn` (same
front-end, network plan, loss and schedule), so that the two differ by the Tgram channel alone.
"""

from __future__ import annotations

from typing import Literal

from torch import Tensor

from auscult.losses.arcface import ArcFace
from auscult.methods.base import Batch, Method, Shape, two_classes
from auscult.methods.classifier import ArcFaceClassifier
from auscult.models.mobilefacenet import MobileFaceNet
from auscult.settings.sections import ArcFaceSettings
from auscult.settings.training import MethodSettings


class MfnSettings(MethodSettings):
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
        self.arcface = ArcFace(settings.embedding, shape.classes, settings.arcface.scale, settings.arcface.margin)

    def features(self, batch: Batch) -> Tensor:
        """Embedding [B, E], not normalised."""
        return self.mfn(batch.mel.unsqueeze(1))


METHOD = Method(
    settings=MfnSettings,
    build=Mfn,
    scope="all",
    mel=lambda settings: settings.frontend,
    wave=lambda settings: False,
    divisible=True,
    untrainable=two_classes,
)
