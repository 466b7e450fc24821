"""STgram-MFN (Liu et al., ICASSP 2022): log-mel and a learnt Tgram as two image channels, ArcFace over all units.

Follows the authors' code (2023 form). One thing is left out on purpose: it keeps the epoch that scores best on the
development *test* set; here the last epoch is kept. Its loop runs one epoch longer than its schedule of 300; ours does not.
"""

from __future__ import annotations

from typing import Literal

from torch import Tensor

from auscult.losses.arcface import ArcFace
from auscult.methods.base import Batch, Method, Shape, two_classes
from auscult.methods.classifier import ArcFaceClassifier
from auscult.models.stgram import Stgram
from auscult.settings.sections import ArcFaceSettings
from auscult.settings.training import MethodSettings


class StgramMfnSettings(MethodSettings):
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
        self.arcface = ArcFace(settings.embedding, shape.classes, settings.arcface.scale, settings.arcface.margin)

    def features(self, batch: Batch) -> Tensor:
        """Embedding [B, E], not normalised."""
        return self.stgram(batch.mel, batch.wave)


METHOD = Method(
    settings=StgramMfnSettings,
    build=StgramMfn,
    scope="all",
    mel=lambda settings: settings.frontend,
    wave=lambda settings: True,
    divisible=True,
    untrainable=two_classes,
)
