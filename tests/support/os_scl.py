"""The OS-SCL network put together from its parts, with the names of the golden files."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from auscult.losses.arcface import ArcFace
from auscult.models.fph import FeaturePerturbationHead
from auscult.models.mobilefacenet import MobileFaceNet
from auscult.models.tfgram import TFgram
from auscult.models.tgram import Tgram


class OsSclNetwork(nn.Module):
    """Channels log-mel, Tgram, TFgram, or log-mel alone; then MobileFaceNet, the head and ArcFace."""

    def __init__(self, margin: float, activation: str, waveform: bool, aux_classes: int | None = 41) -> None:
        super().__init__()
        self.tgram = Tgram() if waveform else None
        self.tfgram = TFgram() if waveform else None
        self.mfn = MobileFaceNet(3 if waveform else 1, aux_classes=aux_classes)
        self.fph = FeaturePerturbationHead(activation=activation)  # type: ignore[arg-type]
        self.arcface = ArcFace(128, 41, margin=margin)

    def forward(self, wave: Tensor, mel: Tensor) -> Tensor:
        """[B, 1, samples] and [B, 1, mels, frames] -> unit features [B, 128]."""
        image = mel
        if self.tgram is not None and self.tfgram is not None:
            image = torch.cat((mel, self.tgram(wave).unsqueeze(1), self.tfgram(wave).unsqueeze(1)), 1)
        return self.fph(self.mfn(image))
