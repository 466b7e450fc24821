"""Statistics and feature exchange (Wilkinghoff, ICASSP 2024): clips made of parts of two clips are classes of their own.

The partner of a clip is the one at the same place of the reversed batch. With C classes, shares [B, C] become shares [B, 3 C]:
a clip left alone keeps its own in the first C; of an exchanged one the second C say half whose the kept part is, and the third C
half whose the part that was put in.
"""

from __future__ import annotations

import torch
from torch import Tensor


def exchanged_shares(shares: Tensor, exchange: Tensor) -> Tensor:
    """Shares [B, C] of classes -> [B, 3 C].

    Args:
        shares: rows sum to one.
        exchange: bool [B], which clips take a part of their partner's.

    >>> exchanged_shares(torch.eye(2), torch.tensor([True, False]))
    tensor([[0.0000, 0.0000, 0.5000, 0.0000, 0.0000, 0.5000],
            [0.0000, 1.0000, 0.0000, 0.0000, 0.0000, 0.0000]])
    """
    nothing = torch.zeros_like(shares)
    alone = torch.cat([shares, nothing, nothing], 1)
    made = torch.cat([nothing, 0.5 * shares, 0.5 * shares.flip(0)], 1)
    return made.where(exchange[:, None], alone)


def exchanged_features(features: Tensor, exchange: Tensor) -> Tensor:
    """FeatEx: the partner's features [B, E] for the clips that exchange, which keep those of their other branch.

    >>> exchanged_features(torch.tensor([[1.0], [2.0]]), torch.tensor([True, False])).flatten()
    tensor([2., 2.])
    """
    return features.flip(0).where(exchange[:, None], features)


def exchanged_statistics(spectrogram: Tensor, exchange: Tensor) -> Tensor:
    """StatEx, temporal: every frame of a clip that exchanges gets the mean and the deviation over frequency that the frame at
    the same time has in its partner.

    Args:
        spectrogram: [B, frequencies, frames].
        exchange: bool [B].
    """
    mean, deviation = spectrogram.mean(1, keepdim=True), spectrogram.std(1, correction=0, keepdim=True)
    # A frame of silence has no deviation, and stays flat.
    made = (spectrogram - mean) / deviation.clamp(min=1e-16) * deviation.flip(0) + mean.flip(0)
    return made.where(exchange[:, None, None], spectrogram)
