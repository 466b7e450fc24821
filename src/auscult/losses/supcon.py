"""Noise supervised contrastive loss (OS-SCL, Eq. (1); Khosla et al., NeurIPS 2020).

The noise is in the labels: clips are mixed, yet each keeps the label of its first ingredient, even when that has the
smaller share. Paper and code differ: Eq. (1) sums over anchors, the code takes the mean and multiplies it by
temperature / 0.07, which at temperature 0.02 and batch 64 makes the term 224 times smaller. The default is the code.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor


def noise_supcon(
    z_unit: Tensor,
    labels: Tensor,
    temperature: float = 0.02,
    base_temperature: float | None = 0.07,
    reduction: Literal["mean", "sum"] = "mean",
) -> Tensor:
    """Pull clips of one class together, one view per clip, everything inside the batch.

    Args:
        z_unit: features of unit length [B, dim].
        labels: [B], those of the first ingredient (y_a).
        temperature: tau.
        base_temperature: the result is multiplied by temperature / base_temperature; None for no factor.
        reduction: over anchors. An anchor without a positive adds 0, and "mean" counts it.
            base_temperature=None with "sum" is Eq. (1) as printed.

    Returns:
        Scalar >= 0.
    """
    with torch.autocast(z_unit.device.type, enabled=False):  # cosines / 0.02 need more than bfloat16's three digits
        z = z_unit.to(torch.promote_types(z_unit.dtype, torch.float32))
        similarity = z @ z.T / temperature  # [B, B]
        itself = torch.eye(len(z), dtype=torch.bool, device=z.device)
        positive = (labels.unsqueeze(0) == labels.unsqueeze(1)) & ~itself  # P(i) by rows
        positives = positive.sum(1)  # |P(i)|
        # The lowest finite number, not -inf: the gradient stays defined in a batch of one, whose row is empty.
        others = similarity.masked_fill(itself, torch.finfo(z.dtype).min).logsumexp(1)  # log of the sum over A(i)
        alignment = (similarity * positive).sum(1) / positives.clamp(min=1)
        per_anchor = torch.where(positives > 0, others - alignment, 0.0)  # Eq. (1), one term per anchor
        total = per_anchor.mean() if reduction == "mean" else per_anchor.sum()
        return total if base_temperature is None else total * (temperature / base_temperature)
