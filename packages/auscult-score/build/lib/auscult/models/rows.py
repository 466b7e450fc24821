"""Tokens of each frequency row pooled over time by themselves: means, maxima, and weights that favour what is unusual.

Symbols as in the sources; x_t is the vector of a row at time t, [D]. RDP, relative deviation pooling, and RDP with GeM: arXiv
2603.04605, where whole frames are weighted; row by row: the band stack of 2026 (kasahart/asd-experiments). GeM: Radenovic et
al. (TPAMI 2018). GWRP: models/gwrp.py.
"""

from __future__ import annotations

import torch
from torch import Tensor

from auscult.models.gwrp import gwrp
from auscult.settings.sections import RowPooling as RowPooling

LEAST = 1e-12
"""A row whose tokens are all this close to their mean has no unusual ones."""


def rdp_weights(x: Tensor, gamma: float) -> Tensor:
    """w_t = (1 + u_t)^gamma / sum, where u_t = d_t / max_t d_t and d_t = |x_t - mean_t x_t|.

    Args:
        x: [B, T, F, D].

    Returns:
        [B, T, F]; the weights of a row sum to 1, and are equal where all its tokens are.

    >>> rdp_weights(torch.tensor([0.0, 0.0, 3.0]).view(1, 3, 1, 1), 1.0).flatten()
    tensor([0.3000, 0.3000, 0.4000])
    """
    d = (x - x.mean(1, keepdim=True)).norm(dim=-1)  # [B, T, F]
    largest = d.amax(1, keepdim=True)
    u = torch.where(largest > LEAST, d / largest.clamp(min=LEAST), torch.zeros_like(d))
    w = ((1 + u) / 2) ** gamma  # halved, which no share changes: a large gamma would overflow
    return w / w.sum(1, keepdim=True)


def gem(x: Tensor, p: float, w: Tensor | None = None) -> Tensor:
    """(sum_t w_t max(x_t, 0)^p)^(1/p), of [B, T, F, D]: [B, F, D]. Without weights `w` [B, T, F] the mean.

    >>> round(gem(torch.tensor([3.0, -5.0]).view(1, 2, 1, 1), 2.0).item() ** 2, 4)
    4.5
    """
    positive = x.clamp(min=0)
    # By the largest value of each channel: a high power of a large number would overflow.
    largest = positive.amax(1, keepdim=True).clamp(min=LEAST)
    powers = (positive / largest) ** p
    total = powers.mean(1) if w is None else (w[..., None] * powers).sum(1)
    return total ** (1 / p) * largest[:, 0]


def pool_rows(x: Tensor, settings: RowPooling) -> Tensor:
    """[B, T, F, D] -> [B, F, D].

    >>> x = torch.tensor([[[[1.0], [10.0]], [[3.0], [30.0]]]])  # two times, two rows
    >>> pool_rows(x, RowPooling()).flatten()
    tensor([ 2., 20.])
    >>> pool_rows(x, RowPooling(how="max")).flatten()
    tensor([ 3., 30.])
    >>> pool_rows(x, RowPooling(how="first")).flatten()
    tensor([ 1., 10.])
    """
    x = x.to(torch.promote_types(x.dtype, torch.float32))
    if settings.how == "mean":
        return x.mean(1)
    if settings.how == "first":
        return x[:, 0]
    if settings.how == "max":
        return x.amax(1)
    if settings.how == "gem":
        return gem(x, settings.p)
    if settings.how == "gwrp":
        return gwrp(x.movedim(1, -1), [settings.r])[..., 0]
    w = rdp_weights(x, settings.gamma)
    if settings.how == "rdp_gem":
        return gem(x, settings.p, w)
    return (w[..., None] * x).sum(1)


def grid(tokens: Tensor, rows: int, class_token: bool) -> Tensor:
    """Tokens [B, T * F, D], time-major, behind a class token if there is one -> [B, T, F, D].

    >>> grid(torch.arange(5.0).view(1, 5, 1), rows=2, class_token=True)[0, :, :, 0]
    tensor([[1., 2.],
            [3., 4.]])
    """
    return tokens[:, int(class_token) :].unflatten(1, (-1, rows))
