"""MemMixup: the few target clips of a bank are joined by mixtures of each with its nearest source clips.

GenRep (Saengthong and Shinozaki, arXiv 2409.05035): for each target clip t and each of its nearest source clips s,

    m = share * s + (1 - share) * t,    share = 0.1,

stands in the target bank beside t; then nearest neighbours in each bank, the smaller distance. Nothing is drawn. No mixture is
ever formed: of 990 source and 10 target clips there are 9,900, and their distances to x follow from products of the clips,

    x m = share x s + (1 - share) x t,    |m|^2 = share^2 |s|^2 + (1 - share)^2 |t|^2 + 2 share (1 - share) s t.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np

from auscult.evaluation.metrics import Floats
from auscult.scoring.banks import DomainSettings, Metric, NearestSettings, per_bank
from auscult.scoring.knn import distances, nearest
from auscult.settings.section import Fraction, Positive

BLOCK = 2**21
"""Products or distances held at once, float64."""


class MemMixupSettings(NearestSettings, DomainSettings):
    """`knn_euclidean` or `knn_cosine` with more target clips."""

    kind: Literal["memmixup"]
    metric: Metric = "euclidean"
    share: Fraction = 0.1
    """Of the source clip in a mixture."""
    neighbours: Positive | None = None
    """Source clips that each target clip is mixed with, the nearest ones; null = all there are, as published."""

    @property
    def one_per_domain(self) -> bool:
        """Banks are parted here, for a mixture is made of both."""
        return False


@dataclass(frozen=True)
class Bank:
    """Source and target clips [clips, D], and the source clips [targets, neighbours] that each target clip is mixed with."""

    source: np.ndarray
    target: np.ndarray
    near: np.ndarray


def fit(clips: np.ndarray, domain: np.ndarray, settings: MemMixupSettings) -> Bank:
    source, target = clips[domain != "target"], clips[domain == "target"]
    count = min(settings.neighbours or len(source), len(source))
    if not count or not len(target):
        return Bank(source, target, np.empty((0, 0), np.int64))
    near = [np.argsort(of, axis=1, kind="stable")[:, :count] for _, of in distances(target, source, settings.metric)]
    return Bank(source, target, np.concatenate(near))


def score(bank: Bank, queries: np.ndarray, settings: MemMixupSettings) -> Floats:
    plain = [clips for clips in (bank.source, bank.target) if len(clips)]
    if not bank.near.size:
        parts = plain if settings.domain_banks else [np.concatenate(plain)]
        return np.min([nearest(part, queries, settings.k, settings.metric) for part in parts], axis=0)
    found = np.empty(len(queries))
    for rows, mixed in _to_mixtures(bank, queries, settings):
        part = queries[rows]
        to_source, to_target = (_smallest(clips, part, settings) for clips in plain)
        in_target = np.concatenate([to_target, mixed], axis=1)
        if settings.domain_banks:
            found[rows] = np.minimum(_mean(to_source, settings.k), _mean(in_target, settings.k))
        else:
            found[rows] = _mean(np.concatenate([to_source, in_target], axis=1), settings.k)
    return found


def _to_mixtures(bank: Bank, queries: np.ndarray, settings: MemMixupSettings) -> Iterator[tuple[slice, Floats]]:
    """(rows of the queries, the smallest of their distances to mixtures [rows, k or more])."""
    a, b = settings.share, 1 - settings.share
    source, target = bank.source.astype(np.float64), bank.target.astype(np.float64)
    s2, t2, st = (source**2).sum(axis=1), (target**2).sum(axis=1), target @ source.T
    squared = [
        np.maximum(a**2 * s2[near] + b**2 * t2[at] + 2 * a * b * st[at, near], 0) for at, near in enumerate(bank.near)
    ]
    step = max(1, BLOCK // (len(source) + len(target)))
    for start in range(0, len(queries), step):
        x = queries[start : start + step].astype(np.float64)
        x2, xs, xt = (x**2).sum(axis=1)[:, None], x @ source.T, x @ target.T
        kept = np.empty((len(x), 0))
        for at, near in enumerate(bank.near):  # target clips, of which there are few
            product = a * xs[:, near] + b * xt[:, [at]]
            if settings.metric == "cosine":
                length = np.sqrt(x2 * squared[at])
                of = np.clip(1 - product / np.where(length > 0, length, 1), 0, 2)
            else:
                of = np.sqrt(np.maximum(x2 + squared[at] - 2 * product, 0))
            kept = _least(np.concatenate([kept, of], axis=1), settings.k)
        yield slice(start, start + len(x)), kept


def _smallest(bank: np.ndarray, queries: np.ndarray, settings: MemMixupSettings) -> Floats:
    """Smallest distances [queries, k, or as many as there are clips]."""
    return np.concatenate([_least(of, settings.k) for _, of in distances(queries, bank, settings.metric)])


def _least(values: np.ndarray, count: int) -> np.ndarray:
    """The `count` smallest of each row, or all, in no order."""
    if count == 1:
        return values.min(axis=1, keepdims=True)
    return values if values.shape[1] <= count else np.partition(values, count - 1, axis=1)[:, :count]


def _mean(values: np.ndarray, k: int) -> Floats:
    mean: Floats = _least(values, k).mean(axis=1, dtype=np.float64)
    return mean


BACKEND = per_bank(MemMixupSettings, fit, score)
