"""MemMixup: the few target clips of a bank are joined by mixtures of each with its nearest source clips.

GenRep (Saengthong and Shinozaki, arXiv 2409.05035): for each target clip t and each of its nearest source clips s,

    share * s + (1 - share) * t,    share = 0.1,

stands in the target bank beside t; then nearest neighbours in each bank, the smaller distance. Nothing is drawn.
"""

from __future__ import annotations

from typing import Literal

import numpy as np

from auscult.evaluation.metrics import Floats
from auscult.scoring.banks import DomainSettings, Metric, NearestSettings, per_bank
from auscult.scoring.knn import distances, fit, nearest
from auscult.settings.section import Fraction, Positive


class MemMixupSettings(NearestSettings, DomainSettings):
    """`knn_euclidean` or `knn_cosine` with more target clips."""

    kind: Literal["memmixup"]
    metric: Metric = "euclidean"
    share: Fraction = 0.1
    """Of the source clip in a mixture."""
    neighbours: Positive | None = None
    """Source clips that each target clip is mixed with, the nearest ones; null = all there are, as published."""


def score(bank: np.ndarray, queries: np.ndarray, settings: MemMixupSettings) -> Floats:
    return nearest(bank, queries, settings.k, settings.metric)


def enlarge(clips: np.ndarray, domain: np.ndarray, settings: MemMixupSettings) -> tuple[np.ndarray, np.ndarray]:
    """Clips [clips, D] and domains [clips] of a unit (or type) with the mixtures behind them; none without both domains."""
    more = mixtures(clips[domain != "target"], clips[domain == "target"], settings)
    return np.concatenate([clips, more]), np.concatenate([domain, np.full(len(more), "target")])


def mixtures(source: np.ndarray, target: np.ndarray, settings: MemMixupSettings) -> np.ndarray:
    """[target clips * neighbours, D] of source clips [sources, D] and target clips [targets, D]."""
    if not len(source) or not len(target):
        return target[:0]
    count = min(settings.neighbours or len(source), len(source))
    near = np.concatenate(
        [
            np.argsort(distance, axis=1, kind="stable")[:, :count]
            for _, distance in distances(target, source, settings.metric)
        ]
    )  # [targets, count]
    mixed = settings.share * source[near] + (1 - settings.share) * target[:, None]
    flat: np.ndarray = mixed.reshape(-1, target.shape[1]).astype(target.dtype)
    return flat


BACKEND = per_bank(MemMixupSettings, fit, score, enlarge=enlarge)
