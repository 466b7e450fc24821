"""Global weighted rank pooling (Kolesnikov and Lampert, ECCV 2016): between a mean and a maximum over time, by one number r.

Guan et al. (TWFR-GMM, ICASSP 2023) pool log-mels so and choose r for each machine by its test labels. Here r is chosen by
training clips alone (`told_apart`). The reason: at a good r a clip's vector says what the machine does and not what the room or
the moment did, so that a clip resembles other clips of its own unit, or of its working condition, and not those of the others.
That needs neither anomalies nor test clips, but at least two classes; where there is one, r is `ALONE`.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

GRID = (0.0, 0.2, 0.4, 0.6, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99, 1.0)
"""What r is chosen from: about 1 / (1 - r) frames count, 1 to 100, and all."""
ALONE = 0.9
"""r where nothing tells: ten frames count. Chosen; by no test clip."""


def gwrp(x: Tensor, r: Sequence[float]) -> Tensor:
    """sum_t r^t x_(t) / sum_t r^t of the values x_(0) >= x_(1) >= ... of the last axis, for each r.

    Args:
        x: [..., T].
        r: R numbers from 0 (maximum) to 1 (mean).

    Returns:
        [..., R].

    >>> gwrp(torch.tensor([1.0, 4.0, 2.0]), [0.0, 0.5, 1.0])
    tensor([4.0000, 3.0000, 2.3333])
    """
    rank = torch.arange(x.shape[-1], dtype=torch.float64)
    weights = torch.tensor(list(r), dtype=torch.float64) ** rank[:, None]  # [T, R]; 0^0 = 1
    pooled: Tensor = x.sort(-1, descending=True).values @ (weights / weights.sum(0)).to(x)
    return pooled


def told_apart(pooled: Tensor, labels: Tensor) -> list[float]:
    """How well each pooling tells the classes of the training clips apart; NaN with fewer than two classes of two clips.

    Each clip is left out of the bank that judges it. A class's number is the AUC with which the distance to its nearest clip
    tells clips of the other classes from its own; returned is the mean over classes of two clips or more. Distances are
    Euclidean, every dimension divided by its deviation.

    Args:
        pooled: [clips, D, R].
        labels: int64 [clips].

    Returns:
        R areas, 0 to 1.
    """
    classes = [label for label in labels.unique() if int((labels == label).sum()) > 1]
    if len(labels.unique()) < 2 or not classes:
        return [float("nan")] * pooled.shape[2]
    areas = []
    for x in pooled.unbind(2):
        x = (x - x.mean(0)) / x.std(0, correction=0).clamp(min=1e-6)
        areas.append(float(np.mean([_area(x, labels == label) for label in classes])))
    return areas


def _area(x: Tensor, own: Tensor) -> float:
    """AUC of the distance to the nearest other clip of a class `own` [clips]."""
    distance = torch.cdist(x, x[own])  # [clips, of the class]
    itself = own.nonzero()[:, 0]
    distance[itself, torch.arange(len(itself), device=x.device)] = torch.inf
    from scipy.stats import rankdata  # half a second, and only here

    ranks = rankdata(distance.amin(1).cpu().numpy())
    others = ~own.cpu().numpy()
    n = int(others.sum())
    return float((ranks[others].sum() - n * (n + 1) / 2) / (n * (len(ranks) - n)))


def choose(pooled: Tensor, labels: Tensor) -> tuple[int, str]:
    """The r that tells the classes apart best, of equal ones the last (most frames count); `ALONE` where there is nothing to
    tell apart.

    Args:
        pooled: [clips, D, R] at each r of `GRID`.
        labels: int64 [clips].

    Returns:
        Its place in `GRID`, and words that say how it was found.
    """
    areas = told_apart(pooled, labels)
    if np.isnan(areas).all():
        return GRID.index(ALONE), f"rank-weighted pooling: r = {ALONE:g}; there are no two classes to choose by"
    place = len(areas) - 1 - int(np.argmax(areas[::-1]))
    found = ", ".join(f"{r:g}: {100 * area:.1f}" for r, area in zip(GRID, areas, strict=True))
    return (
        place,
        f"rank-weighted pooling: r = {GRID[place]:g}; AUC of left-out training clips between classes, by r: {found}",
    )
