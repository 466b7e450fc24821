"""SMOTE: target clips are multiplied by interpolation before nearest neighbours are looked for.

Chawla et al. (JAIR 2002), as the leaders of DCASE 2024 use it: between a target clip and one of its nearest target clips
new embeddings are drawn, until there are a fifth as many as source clips. imbalanced-learn draws them.
"""

from __future__ import annotations

import logging
from functools import cache
from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from auscult.evaluation.metrics import Floats
from auscult.scoring.banks import DomainSettings, Metric, NearestSettings, Seed, per_bank
from auscult.scoring.knn import fit, nearest
from auscult.settings.section import Positive

log = logging.getLogger(__name__)


class SmoteSettings(NearestSettings, DomainSettings):
    """`knn_cosine` or `knn_euclidean` with more target clips."""

    kind: Literal["smote"]
    metric: Metric = "cosine"
    ratio: Annotated[float, Field(gt=0, le=1)] = 0.2
    """Target clips are filled up to this share of the source clips of their unit (or type); where there are as many
    already, and where there is no target clip, nothing is added."""
    neighbours: Positive = 2
    """Of a target clip, among which the other end is drawn: fewer where there are fewer other target clips (said once), and
    of a single target clip nothing is made (said once)."""
    seed: Seed = 0
    """Of the drawing."""


def score(bank: np.ndarray, queries: np.ndarray, settings: SmoteSettings) -> Floats:
    return nearest(bank, queries, settings.k, settings.metric)


def enlarge(clips: np.ndarray, domain: np.ndarray, settings: SmoteSettings) -> tuple[np.ndarray, np.ndarray]:
    """Clips [clips, D] and domains [clips] of a unit (or type) with the new target clips behind them."""
    wanted = int(settings.ratio * (domain != "target").sum())
    more = synthetic(clips[domain == "target"], wanted, settings.neighbours, settings.seed)
    return np.concatenate([clips, more]), np.concatenate([domain, np.full(len(more), "target")])


def synthetic(target: np.ndarray, wanted: int, neighbours: int = 2, seed: int = 0) -> np.ndarray:
    """New embeddings [max(0, wanted - clips), D] on the lines between target clips [clips, D]; none of fewer than two."""
    from imblearn.over_sampling import SMOTE

    nothing = target[:0]
    if not len(target) or wanted <= len(target):
        return nothing
    if len(target) == 1:
        _say_once(
            "a single target clip has none to draw a line to: SMOTE adds nothing, and its unit has plain kNN scores"
        )
        return nothing
    if len(target) <= neighbours:
        _say_once(
            f"SMOTE takes fewer than {neighbours} neighbours where there are no more than {neighbours} target clips"
        )
    # The other class only has to exist: new clips are made of target clips alone.
    clips = np.concatenate([target, np.zeros((1, target.shape[1]), target.dtype)])
    of_class = np.r_[np.ones(len(target), dtype=int), 0]
    sampler = SMOTE(
        sampling_strategy={1: wanted}, k_neighbors=min(neighbours, len(target) - 1), random_state=seed
    )  # fmt: skip
    filled: np.ndarray = sampler.fit_resample(clips, of_class)[0]
    return filled[len(clips) :].astype(target.dtype)


@cache
def _say_once(text: str) -> None:
    log.warning(text)


BACKEND = per_bank(SmoteSettings, fit, score, enlarge=enlarge)
