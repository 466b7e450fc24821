"""Statistics and feature exchange (Wilkinghoff, ICASSP 2024): clips made of parts of two clips are classes of their own.

With C classes and clips of two parts, shares [B, C] become shares [B, 3 C]: a clip left alone keeps its own in the first C; of an
exchanged one the second C say half whose the kept part is, and the third C half whose the part that was put in. In the author's
code the partner of a clip is the one at the same place of the reversed batch; ASDKit draws one, for each part anew.
"""

from __future__ import annotations

import torch
from torch import Tensor


def exchanged_shares(shares: Tensor, exchange: Tensor, partners: Tensor | None = None) -> Tensor:
    """Shares [B, C] of classes -> [B, (M + 1) C], of clips with M parts.

    Args:
        shares: rows sum to one.
        exchange: bool [B], which clips take parts of their partners'.
        partners: int64 [M - 1, B], whose the second to last part are; None = two parts, and the reversed batch.

    >>> exchanged_shares(torch.eye(2), torch.tensor([True, False]))
    tensor([[0.0000, 0.0000, 0.5000, 0.0000, 0.0000, 0.5000],
            [0.0000, 1.0000, 0.0000, 0.0000, 0.0000, 0.0000]])
    """
    others = shares.flip(0)[None] if partners is None else shares[partners]
    owners = [shares, *others]
    nothing = torch.zeros_like(shares)
    alone = torch.cat([shares, *[nothing] * len(owners)], 1)
    made = torch.cat([nothing, *(owner / len(owners) for owner in owners)], 1)
    return made.where(exchange[:, None], alone)


def exchanged_features(features: Tensor, exchange: Tensor, partner: Tensor | None = None) -> Tensor:
    """FeatEx: the partner's features [B, E] for the clips that exchange, which keep those of their first branch.

    `partner`: int64 [B]; None = the reversed batch.

    >>> exchanged_features(torch.tensor([[1.0], [2.0]]), torch.tensor([True, False])).flatten()
    tensor([2., 2.])
    """
    others = features.flip(0) if partner is None else features[partner]
    return others.where(exchange[:, None], features)


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
