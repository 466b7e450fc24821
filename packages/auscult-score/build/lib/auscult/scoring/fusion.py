"""Score fusion: several scores as one, after each has been put on the scale that it has on normal clips.

Mean or minimum of scores with mean 0 and deviation 1 there, or mean of ranks: of the place that a score has among those of
normal clips (calibration.quantile_map). Ranks among the test clips, as challenge entries take them, would be transductive.

The normal clips are training clips, scored as if they were none: nearest neighbours with each clip left out in turn, every
other back-end on the part of a seeded split that it was not fitted to. No test clip has a say, so that a fused score judges
each clip alone, as the challenge demands. A network has seen all of these clips, held out here or not.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import reduce
from typing import TYPE_CHECKING, Annotated, Literal

import numpy as np
from pydantic import Field

from auscult.errors import AuscultError
from auscult.evaluation.metrics import Floats
from auscult.scoring.banks import BackendSettings, Scope, groups
from auscult.scoring.calibration import quantile_map

if TYPE_CHECKING:
    import pandas as pd

ScoreBy = Callable[[np.ndarray, "pd.DataFrame", np.ndarray, "pd.DataFrame"], Floats]
"""A back-end with all its knobs set: (train, train_meta, test, test_meta) -> scores [test clips]."""


How = Literal["mean", "min", "rank"]
"""Mean or minimum of standardised scores (min: only what every back-end calls strange is; arXiv 2606.19269), or mean of ranks
among the unit's training clips."""


class NativeSettings(BackendSettings):
    """The scores that the method itself gives, as an entry of a sweep."""

    kind: Literal["native"]


class FusionSettings(BackendSettings):
    """An entry of a sweep that stands for several others."""

    kind: Literal["fusion"]
    of: Annotated[tuple[str, ...], Field(min_length=2)]
    """Back-ends of the same sweep."""
    how: How = "mean"


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
    out = np.array(scores, dtype=np.float64)
    for rows, normal in _normal(test_meta, left_out, train_meta):
        if len(normal):
            out[rows] = (out[rows] - normal.mean()) / normal.std()
    return out


def ranks(scores: Floats, test_meta: pd.DataFrame, left_out: Floats, train_meta: pd.DataFrame) -> Floats:
    """Place of each score among its unit's left-out scores, in [0, 1); arguments and fallbacks as for `standardised`.

    0.5 where all left-out scores are alike: nothing to compare with.
    """
    out = np.full(len(scores), 0.5)
    for rows, normal in _normal(test_meta, left_out, train_meta):
        if len(normal):
            out[rows] = quantile_map(normal)(scores[rows])
    return out


def _normal(
    test_meta: pd.DataFrame, left_out: Floats, train_meta: pd.DataFrame
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """(rows of the test clips of a unit, left-out scores to compare them with); none where no two differ."""
    units, types, everything = (groups(train_meta, scope) for scope in ("unit", "machine", "all"))
    for (machine, unit), rows in groups(test_meta).items():
        for level in (units.get((machine, unit)), types.get(machine), everything.get("all")):
            normal = left_out[level] if level is not None else left_out[:0]
            normal = normal[np.isfinite(normal)]
            if len(normal) and normal.std() > 1e-12 * max(1.0, abs(normal.mean())):
                break
        else:
            normal = left_out[:0]
        yield rows, normal


def fused(parts: Sequence[Floats], how: How = "mean") -> Floats:
    """Mean or minimum of standardised scores, or mean of ranks, [test clips] each.

    >>> fused([np.array([0.0, 2.0]), np.array([1.0, 4.0])]).tolist()
    [0.5, 3.0]
    >>> fused([np.array([0.0, 5.0]), np.array([1.0, 4.0])], "min").tolist()
    [0.0, 4.0]
    """
    of = np.stack(parts)
    one: Floats = of.min(axis=0) if how == "min" else of.mean(axis=0)
    return one


def ensemble(tables: Sequence[pd.DataFrame], backend: str, how: How = "mean") -> pd.DataFrame:
    """Several arms as one: their scores under one back-end fused, clip by clip and seed by seed.

    Args:
        tables: sweep tables of the arms (columns of `sweep.COLUMNS` and `seed`).
        backend: one whose standardised scores and ranks they hold.

    Returns:
        A table of the columns that scores have, of the machine types, seeds and clips that all arms have.

    Raises:
        AuscultError: an arm has no standardised scores of this back-end.
    """
    keys, column = ["clip_id", "set", "machine", "unit", "domain", "seed"], "rank" if how == "rank" else "standardised"
    parts = []
    for number, table in enumerate(tables):
        rows = table[(table["backend"] == backend) & table[column].notna()]
        if rows.empty:
            raise AuscultError(f"no {column} scores by `{backend}`", "backends.ensembles", "run the sweep again")
        parts.append(rows[[*keys, column]].rename(columns={column: str(number)}))
    joined = reduce(lambda left, right: left.merge(right, on=keys), parts)
    one = fused([joined[str(number)].to_numpy() for number in range(len(tables))], how)
    return joined[keys].assign(backend=backend, score=one)
