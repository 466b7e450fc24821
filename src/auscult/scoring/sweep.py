"""Every back-end of the sweep on one arm's cached embeddings. Labels are not an input, and nothing is trained."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from auscult.evaluation.metrics import Floats
from auscult.scoring import BACKENDS, table
from auscult.scoring.banks import Scope
from auscult.scoring.fusion import Bound, fold_scores, fused, standardised
from auscult.scoring.knn import LEFT_OUT
from auscult.settings.backends import BackendSettings, FusionSettings, NativeSettings
from auscult.settings.schema import BackendSweep, Score

COLUMNS = [*table.COLUMNS, "standardised"]


def sweep_table(embeddings: Path, sweep: BackendSweep, score: Score, domains: bool) -> pd.DataFrame:
    """Scores of the test clips under each back-end of the sweep; long form, columns `COLUMNS`.

    `standardised` is filled in for the back-ends that a fusion or an ensemble needs (see fusion.py), else NaN. An arm
    without own scores has no `native` rows; a folder without clips gives a table without rows.

    Args:
        embeddings: folder of one arm and seed, as the stage `embed` writes it.
        sweep: back-ends and their knobs.
        score: whose `scope` and `domain_banks` hold where a back-end says nothing.
        domains: whether the profile's rules know domains.

    Raises:
        AuscultError: a score that is not finite, or test clips of units without training clips.
    """
    of = table.read_embeddings(embeddings)
    banks = table.bank_rules(score, domains)
    wanted = {name for one in sweep.sweep.values() if isinstance(one, FusionSettings) for name in one.of}
    wanted |= {one.backend for one in sweep.ensembles.values()}
    scores: dict[str, np.ndarray] = {}
    even: dict[str, Floats] = {}
    for name, settings in sweep.sweep.items():
        if isinstance(settings, NativeSettings):
            scores |= of.own
        elif not isinstance(settings, FusionSettings):
            backend = bound(settings, score.scope, banks)
            scores[name] = backend(of.train, of.train_meta, of.test, of.test_meta)
            if name in wanted:
                left_out = left_out_by(settings, of.train, of.train_meta, sweep, score.scope, banks)
                even[name] = standardised(scores[name], of.test_meta, left_out, of.train_meta)
    for name, settings in sweep.sweep.items():
        if isinstance(settings, FusionSettings):
            scores[name] = even[name] = fused([even[member] for member in settings.of])
    place = list(sweep.sweep)
    scores = dict(sorted(scores.items(), key=lambda item: place.index(item[0] if item[0] in place else "native")))
    if not scores:  # of an arm without own scores, by a sweep of nothing else
        return pd.DataFrame(columns=COLUMNS)
    nothing = np.full(len(of.test), np.nan)
    rows = table.long_form(of, scores, embeddings)
    return rows.assign(standardised=np.concatenate([even.get(name, nothing) for name in scores]))[COLUMNS]


def bound(settings: BackendSettings, scope: Scope, domains: bool) -> Bound:
    """A back-end with all its knobs set; `scope` and `domains` hold where it says nothing."""
    knobs = settings.model_dump(exclude={"kind", *_SHARED})
    return partial(BACKENDS[settings.kind], **_shared(settings, scope, domains), **knobs)


def left_out_by(
    settings: BackendSettings,
    train: np.ndarray,
    train_meta: pd.DataFrame,
    sweep: BackendSweep,
    scope: Scope,
    domains: bool,
) -> Floats:
    """Score of each training clip as if it were none: exact for nearest neighbours, for the others by a seeded split."""
    if settings.kind in LEFT_OUT:
        return LEFT_OUT[settings.kind](train, train_meta, **_shared(settings, scope, domains))
    backend = bound(settings, scope, domains)
    return fold_scores(backend, train, train_meta, sweep.folds, sweep.seed, settings.scope or scope)


_SHARED = ("k", "scope", "domain_banks")


def _shared(settings: BackendSettings, scope: Scope, domains: bool) -> dict[str, Any]:
    own = getattr(settings, "domain_banks", None)
    return {
        "k": getattr(settings, "k", 1),
        "domains": domains if own is None else own,
        "scope": settings.scope or scope,
    }
