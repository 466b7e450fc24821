"""Encoder of STgram-MFN (Liu et al., ICASSP 2022): log-mel and Tgram as the two channels of one image.

CLP-SCF trains the same encoder with another loss.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from auscult.models.mobilefacenet import MobileFaceNet
from auscult.models.tgram import Tgram


class Stgram(nn.Module):
    """Tgram and MobileFaceNet.

    Args:
        mels: height of the log-mel image.
        frames: its width; a network serves one clip length.
        embedding: size of the output.
        plan: of MobileFaceNet, "current" or "original".
    """

    def __init__(self, mels: int, frames: int, embedding: int, plan: str) -> None:
        super().__init__()
        self.tgram = Tgram(frames, mels)
        self.mfn = MobileFaceNet(2, mels, frames, embedding, plan)

    def forward(self, mel: Tensor, wave: Tensor) -> Tensor:
        """[B, mels, frames] in dB and [B, samples] -> [B, embedding], not normalised."""
        return self.mfn(torch.stack([mel, self.tgram(wave.unsqueeze(1))], dim=1))  # channels in the authors' order
