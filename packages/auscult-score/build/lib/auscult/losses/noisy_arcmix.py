"""Cross-entropies of mixed clips: Noisy-ArcMix and ArcMix (Choi and Choi, ICASSP 2024).

Mixing (one lambda and one permutation per batch, the same for waveform and log-mel) is done before the network; here
are only the loss terms. Batch means.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

from torch import Tensor
from torch.nn.functional import cross_entropy

from auscult.losses.arcface import ArcFace

Shares: TypeAlias = Tensor | tuple[float, float]
"""Lambda and 1 - lambda; as a tensor [2], each rounded once."""


def noisy_arcmix(logits_ya: Tensor, y_a: Tensor, y_b: Tensor, shares: Shares) -> Tensor:
    """Both terms from the same logits, whose margin is on y_a: the label y_b is, on purpose, noisy.

    Args:
        logits_ya: [B, C], margin on y_a.
        y_a: labels [B] of the clips mixed in with weight lambda.
        y_b: labels [B] of their partners, weight 1 - lambda.
        shares: lambda in [0, 1], not folded to >= 0.5, and 1 - lambda.

    Returns:
        Scalar.

    >>> import torch
    >>> noisy_arcmix(torch.zeros(1, 4), torch.tensor([0]), torch.tensor([1]), (0.3, 0.7))  # ln 4
    tensor(1.3863)
    """
    lam, rest = shares
    return lam * cross_entropy(logits_ya, y_a) + rest * cross_entropy(logits_ya, y_b)  # OS-SCL, Eq. (2)


def arcmix(logits_ya: Tensor, logits_yb: Tensor, y_a: Tensor, y_b: Tensor, shares: Shares) -> Tensor:
    """As `noisy_arcmix`, but the second term's logits [B, C] carry the margin on y_b (authors' code)."""
    lam, rest = shares
    return lam * cross_entropy(logits_ya, y_a) + rest * cross_entropy(logits_yb, y_b)


def mixed_cross_entropy(
    arcface: ArcFace,
    x: Tensor,
    y_a: Tensor,
    y_b: Tensor,
    shares: Shares,
    mode: Literal["noisy_arcmix", "arcmix", "none"],
) -> Tensor:
    """The loss called `mode`, of features x [B, dim] of mixed clips; "none" is plain ArcFace on y_a. Scalar."""
    logits_ya = arcface(x, y_a)
    if mode == "noisy_arcmix":
        return noisy_arcmix(logits_ya, y_a, y_b, shares)
    if mode == "arcmix":
        return arcmix(logits_ya, arcface(x, y_b), y_a, y_b, shares)
    return cross_entropy(logits_ya, y_a)
