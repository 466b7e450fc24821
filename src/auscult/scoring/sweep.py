"""Every back-end of the sweep on one arm's cached embeddings. Labels are not an input, and nothing is trained."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

from auscult.evaluation.metrics import Floats
from auscult.scoring import backends, table
from auscult.scoring.banks import BackendSettings
from auscult.scoring.fusion import FusionSettings, NativeSettings, fold_scores, fused, standardised
from auscult.settings.schema import BackendSweep, Score

COLUMNS = [*table.COLUMNS, "standardised"]


def sweep_table(embeddings: Path, sweep: BackendSweep, score: Score, domains: bool) -> pd.DataFrame:
    """Scores of the test clips under each back-end of the sweep; long form, columns `COLUMNS`.

    `standardised` is filled in for the back-ends that a fusion or an ensemble needs (see fusion.py), else NaN. An arm
    without native scores has no `native` rows; a folder without clips gives a table without rows.

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
    standard: dict[str, Floats] = {}
    for name, entry in sweep.sweep.items():
        if isinstance(entry, NativeSettings):
            scores |= of.native
        elif not isinstance(entry, FusionSettings):
            settings = entry.filled(score.scope, banks, of.rows)
            scores[name] = table.scored(settings, of.train, of.train_meta, of.test, of.test_meta)
            if name in wanted:
                left_out = left_out_scores(settings, of.train, of.train_meta, sweep.folds, sweep.seed)
                standard[name] = standardised(scores[name], of.test_meta, left_out, of.train_meta)
    for name, entry in sweep.sweep.items():
        if isinstance(entry, FusionSettings):
            scores[name] = standard[name] = fused([standard[member] for member in entry.of], entry.how)
    place = list(sweep.sweep)
    scores = dict(sorted(scores.items(), key=lambda item: place.index(item[0] if item[0] in place else "native")))
    if not scores:  # of an arm without native scores, by a sweep of nothing else
        return pd.DataFrame(columns=COLUMNS)
    nothing = np.full(len(of.test), np.nan)
    rows = table.long_form(of, scores, embeddings)
    return rows.assign(standardised=np.concatenate([standard.get(name, nothing) for name in scores]))[COLUMNS]


def left_out_scores(
    settings: BackendSettings, train: np.ndarray, train_meta: pd.DataFrame, folds: int = 5, seed: int = 0
) -> Floats:
    """Score of each training clip as if it were none: exact where the back-end knows it, otherwise by a seeded split.

    Args:
        settings: filled in, see `BackendSettings.filled`.
        train, train_meta: embeddings float32 [clips, D] and their machine, unit and domain.
        folds, seed: of the split.
    """
    exact = backends()[settings.kind].left_out
    if exact is not None:
        return exact(train, train_meta, settings)
    return fold_scores(partial(table.scored, settings), train, train_meta, folds, seed, settings.scope or "unit")
