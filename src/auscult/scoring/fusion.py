"""Score fusion: the mean of several scores after each has been given mean 0 and deviation 1 on normal clips.

The normal clips are training clips, scored as if they were none: nearest neighbours with each clip left out in turn, every
other back-end on the part of a seeded split that it was not fitted to. No test clip has a say, so that a fused score judges
each clip alone, as the challenge demands. A network has seen all of these clips, held out here or not.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import reduce
from typing import TYPE_CHECKING, Annotated, Literal

import numpy as np
from pydantic import Field

from auscult.errors import AuscultError
from auscult.evaluation.metrics import Floats
from auscult.scoring.banks import BackendSettings, Scope, groups

if TYPE_CHECKING:
    import pandas as pd

ScoreBy = Callable[[np.ndarray, "pd.DataFrame", np.ndarray, "pd.DataFrame"], Floats]
"""A back-end with all its knobs set: (train, train_meta, test, test_meta) -> scores [test clips]."""


class NativeSettings(BackendSettings):
    """The scores that the method itself gives, as an entry of a sweep."""

    kind: Literal["native"]


class FusionSettings(BackendSettings):
    """An entry of a sweep that stands for several others."""

    kind: Literal["fusion"]
    of: Annotated[tuple[str, ...], Field(min_length=2)]
    """Back-ends of the same sweep."""
    how: Literal["mean", "min"] = "mean"
    """Of the standardised scores; min: only what every back-end calls strange is (arXiv 2606.19269)."""


def fold_scores(
    backend: ScoreBy, train: np.ndarray, train_meta: pd.DataFrame, folds: int = 5, seed: int = 0, scope: Scope = "unit"
) -> Floats:
    """Score of each training clip by `backend` fitted to the other parts of a split.

    Args:
        train, train_meta: embeddings float32 [clips, D] and their table, as for `banks.Backend`.
        folds: parts; each holds the same share of the clips of a unit and domain, but for rounding.
        seed: of the split.
        scope: of the back-end.

    Returns:
        float64 [training clips]; NaN for a clip whose unit (or type) has no clip in the other parts.
    """
    part = _parts(train_meta, folds, seed)
    scores = np.full(len(train), np.nan)
    group = np.full(len(train), -1)
    for number, rows in enumerate(groups(train_meta, scope).values()):
        group[rows] = number
    for fold in range(folds):
        rest = part != fold
        here = ~rest & np.isin(group, group[rest])
        if here.any():
            scores[here] = backend(train[rest], train_meta[rest], train[here], train_meta[here])
    return scores


def _parts(train_meta: pd.DataFrame, folds: int, seed: int) -> np.ndarray:
    """Number of the part of each clip."""
    rng = np.random.default_rng(seed)
    part = np.empty(len(train_meta), dtype=np.int64)
    table = train_meta.reset_index(drop=True)
    # One clip after the other, across units and domains: a part gets its share of each, and small ones do not all
    # end up in the first.
    rows = [of[rng.permutation(len(of))] for of in table.groupby(["machine", "unit", "domain"]).indices.values()]
    if rows:
        part[np.concatenate(rows)] = np.arange(len(part)) % folds
    return part


def standardised(scores: Floats, test_meta: pd.DataFrame, left_out: Floats, train_meta: pd.DataFrame) -> Floats:
    """Scores minus the mean of the unit's left-out scores, divided by their deviation.

    Args:
        scores: [test clips].
        left_out: [training clips]; those that are not finite take no part.

    Returns:
        float64 [test clips]. Where a unit has fewer than two left-out scores, or equal ones, those of its machine type
        count, then those of all clips; where these too are all alike, the scores themselves.
    """
    scale = [_scales(left_out, train_meta, columns) for columns in (["machine", "unit"], ["machine"], [])]
    out = np.array(scores, dtype=np.float64)
    for (machine, unit), rows in groups(test_meta).items():
        for level, key in enumerate(((machine, unit), (machine,), ())):
            if key in scale[level]:
                mean, deviation = scale[level][key]
                out[rows] = (out[rows] - mean) / deviation
                break
    return out


def _scales(left_out: Floats, meta: pd.DataFrame, columns: list[str]) -> dict[tuple[str, ...], tuple[float, float]]:
    """Key -> mean and deviation of its left-out scores, where there are two that differ."""
    keys = list(meta[columns].itertuples(index=False, name=None)) if columns else [()] * len(meta)
    found: dict[tuple[str, ...], list[float]] = {}
    for key, value in zip(keys, left_out.tolist(), strict=True):
        if np.isfinite(value):
            found.setdefault(key, []).append(value)
    scales = {key: (float(np.mean(values)), float(np.std(values))) for key, values in found.items()}
    return {key: (mean, std) for key, (mean, std) in scales.items() if std > 1e-12 * max(1.0, abs(mean))}


def fused(parts: Sequence[Floats], how: Literal["mean", "min"] = "mean") -> Floats:
    """Mean or minimum of standardised scores, [test clips] each.

    >>> fused([np.array([0.0, 2.0]), np.array([1.0, 4.0])]).tolist()
    [0.5, 3.0]
    >>> fused([np.array([0.0, 5.0]), np.array([1.0, 4.0])], "min").tolist()
    [0.0, 4.0]
    """
    of = np.stack(parts)
    one: Floats = of.mean(axis=0) if how == "mean" else of.min(axis=0)
    return one


def ensemble(tables: Sequence[pd.DataFrame], backend: str) -> pd.DataFrame:
    """Several arms as one: the mean of their standardised scores under one back-end, clip by clip and seed by seed.

    Args:
        tables: sweep tables of the arms (columns of `sweep.COLUMNS` and `seed`).
        backend: one whose standardised scores they hold.

    Returns:
        A table of the same columns, of the machine types, seeds and clips that all arms have.

    Raises:
        AuscultError: an arm has no standardised scores of this back-end.
    """
    keys = ["clip_id", "set", "machine", "unit", "domain", "seed"]
    parts = []
    for number, table in enumerate(tables):
        rows = table[(table["backend"] == backend) & table["standardised"].notna()]
        if rows.empty:
            raise AuscultError(f"no standardised scores by `{backend}`", "backends.ensembles", "run the sweep again")
        parts.append(rows[[*keys, "standardised"]].rename(columns={"standardised": str(number)}))
    joined = reduce(lambda left, right: left.merge(right, on=keys), parts)
    mean = fused([joined[str(number)].to_numpy() for number in range(len(tables))])
    return joined[keys].assign(backend=backend, score=mean, standardised=mean)
