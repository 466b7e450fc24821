"""Temporal attention of TASTgram (Noisy-ArcMix, Choi and Choi, ICASSP 2024, authors' code): no parameters."""

from __future__ import annotations

from torch import Tensor


def temporal_attention(mel: Tensor) -> Tensor:
    """Weight every frame of a spectrogram by sigmoid(max over mels + mean over mels): the TAgram.

    The weights come from values in dB, so a frame far below 0 dB gets a weight near zero.

    Args:
        mel: [..., mels, frames] in dB.

    Returns:
        The same shape.

    >>> import torch
    >>> temporal_attention(torch.tensor([[2.0, -2.0]]))  # sigmoid(4) and sigmoid(-4)
    tensor([[ 1.9640, -0.0360]])
    """
    weight = (mel.amax(-2, keepdim=True) + mel.mean(-2, keepdim=True)).sigmoid()  # [..., 1, frames]
    return mel * weight
