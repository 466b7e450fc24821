"""Supervised contrastive loss (Khosla et al., NeurIPS 2020) in the two forms of OS-SCL and CLP-SCF: one view per clip,
everything inside the batch.

OS-SCL, Eq. (1): the noise is in the labels: clips are mixed, yet each keeps the label of its first ingredient, even when
that has the smaller share. Paper and code differ: Eq. (1) sums over anchors, the code takes the mean and multiplies it by
temperature / 0.07, which at temperature 0.02 and batch 64 makes the term 224 times smaller. The settings default to the code.

CLP-SCF (code of its predecessor): the anchor itself is part of its denominator, anchors without a positive do not count,
and there is no factor.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor


def supcon_terms(z: Tensor, labels: Tensor, temperature: float, with_itself: bool) -> tuple[Tensor, Tensor]:
    """What each anchor adds to the loss.

    Args:
        z: features of unit length [B, dim], at least float32 (cosines / 0.02 need more than bfloat16's three digits).
        labels: [B].
        temperature: tau.
        with_itself: the denominator runs over all clips, the anchor included, instead of all others.

    Returns:
        Terms [B] >= 0, zero for anchors without a positive; and which anchors have one, bool [B].

    >>> z = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    >>> supcon_terms(z, torch.tensor([0, 0, 1]), temperature=1.0, with_itself=False)
    (tensor([0.3133, 0.3133, 0.0000]), tensor([ True,  True, False]))
    """
    similarity = z @ z.T / temperature  # [B, B]
    itself = torch.eye(len(z), dtype=torch.bool, device=z.device)
    positive = (labels.unsqueeze(0) == labels.unsqueeze(1)) & ~itself  # P(i) by rows
    positives = positive.sum(1)  # |P(i)|
    # The lowest finite number, not -inf: the gradient stays defined in a batch of one, whose row is empty.
    rivals = similarity if with_itself else similarity.masked_fill(itself, torch.finfo(z.dtype).min)
    alignment = (similarity * positive).sum(1) / positives.clamp(min=1)
    return torch.where(positives > 0, rivals.logsumexp(1) - alignment, 0.0), positives > 0


def noise_supcon(
    z_unit: Tensor,
    labels: Tensor,
    temperature: float,
    base_temperature: float | None,
    reduction: Literal["mean", "sum"],
) -> Tensor:
    """OS-SCL, Eq. (1): pull clips of one class together.

    Args:
        z_unit: features of unit length [B, dim].
        labels: [B], those of the first ingredient (y_a).
        temperature: tau.
        base_temperature: the result is multiplied by temperature / base_temperature; None for no factor.
        reduction: over anchors. An anchor without a positive adds 0, and "mean" counts it.
            base_temperature=None with "sum" is Eq. (1) as printed.

    Returns:
        Scalar >= 0.

    >>> z = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    >>> noise_supcon(z, torch.tensor([0, 0, 1]), 1.0, None, "sum")
    tensor(0.6265)
    """
    with torch.autocast(z_unit.device.type, enabled=False):
        z = z_unit.to(torch.promote_types(z_unit.dtype, torch.float32))
        per_anchor, _ = supcon_terms(z, labels, temperature, with_itself=False)  # Eq. (1), one term per anchor
        total = per_anchor.mean() if reduction == "mean" else per_anchor.sum()
        return total if base_temperature is None else total * (temperature / base_temperature)


def supcon(z_unit: Tensor, labels: Tensor, temperature: float) -> Tensor:
    """CLP-SCF: mean over the anchors that have a positive; zero, with zero gradient, when none has.

    Args:
        z_unit: features of unit length [B, dim].
        labels: [B].
        temperature: tau.

    Returns:
        Scalar >= 0.

    >>> supcon(torch.eye(2), torch.tensor([0, 1]), temperature=0.1)  # no positives
    tensor(0.)
    """
    with torch.autocast(z_unit.device.type, enabled=False):
        z = z_unit.to(torch.promote_types(z_unit.dtype, torch.float32))
        per_anchor, counted = supcon_terms(z, labels, temperature, with_itself=True)
        return per_anchor.sum() / counted.sum().clamp(min=1)
