"""Every back-end of the sweep on one arm's cached embeddings. Labels are not an input, and nothing is trained."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

from auscult.evaluation.metrics import Floats
from auscult.scoring import backends, table
from auscult.scoring.banks import BackendSettings
from auscult.scoring.blind import BlindSettings, blind
from auscult.scoring.calibration import CalibratedSettings, Side, calibrated
from auscult.scoring.fusion import FusionSettings, fold_scores, fused, ranks, standardised
from auscult.settings.schema import BackendSweep, Score

COLUMNS = [*table.COLUMNS, "standardised", "rank"]


def sweep_table(embeddings: Path, sweep: BackendSweep, score: Score, domains: bool) -> pd.DataFrame:
    """Scores of the test clips under each back-end of the sweep; long form, columns `COLUMNS`.

    `standardised` and `rank` are filled in for the entries that another or an ensemble is made of (fusion.py), else NaN. An arm
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
    found = entries(of, sweep, score, table.bank_rules(score, domains))
    place = list(sweep.sweep)
    scores = found.scores | of.native if "native" in place else found.scores
    scores = dict(sorted(scores.items(), key=lambda item: place.index(item[0] if item[0] in place else "native")))
    if not scores:  # of an arm without native scores, by a sweep of nothing else
        return pd.DataFrame(columns=COLUMNS)
    nothing = np.full(len(of.test), np.nan)
    rows = table.long_form(of, scores, embeddings)
    for column, values in (("standardised", found.standardised), ("rank", found.ranks)):
        rows[column] = np.concatenate([values.get(name, nothing) for name in scores])
    return rows[COLUMNS]


@dataclass(frozen=True)
class Entries:
    """Scores of the test clips by name of an entry; standardised and as ranks where an entry or an ensemble needs that."""

    scores: dict[str, Floats]
    standardised: dict[str, Floats]
    ranks: dict[str, Floats]


def entries(
    of: table.Embedded, sweep: BackendSweep, score: Score, banks: bool, names: Sequence[str] | None = None
) -> Entries:
    """Score the test clips of `of` with the entries of a sweep, `native` left out.

    Args:
        score, banks: scope and whether each domain has a bank of its own, where an entry says nothing.
        names: the entries wanted, with those that they are made of; None = all.
    """
    chosen = [*sweep.sweep] if names is None else [*names, *(m for name in names for m in members(sweep.sweep[name]))]
    wanted = {member for name in chosen for member in members(sweep.sweep[name])}
    wanted |= {one.backend for one in sweep.ensembles.values()} if names is None else set()
    found, left_out = Entries({}, {}, {}), {}
    plain = {
        name: one.filled(score.scope, banks, of.rows) for name, one in sweep.sweep.items() if one.kind in backends()
    }
    for name, settings in plain.items():
        if name not in chosen:
            continue
        found.scores[name] = table.scored(settings, of.train, of.train_meta, of.test, of.test_meta)
        if name in wanted:
            left_out[name] = left_out_scores(settings, of.train, of.train_meta, sweep.folds, sweep.seed)
            _scale(found, name, of, left_out[name])
    for name in chosen:
        entry = sweep.sweep[name]
        if isinstance(entry, CalibratedSettings):
            train = Side(of.train, of.train_meta, left_out[entry.of])
            test = Side(of.test, of.test_meta, found.scores[entry.of])
            found.scores[name] = calibrated(train, test, entry, plain[entry.of].scope)
        elif isinstance(entry, BlindSettings):
            found.scores[name] = blind(of, plain[entry.of], left_out[entry.of], entry.standardise)
        elif isinstance(entry, FusionSettings):
            values = found.ranks if entry.how == "rank" else found.standardised
            found.scores[name] = fused([values[member] for member in entry.of], entry.how)
            scaled = ranks if entry.how == "rank" else standardised
            own = [scaled(left_out[one], of.train_meta, left_out[one], of.train_meta) for one in entry.of]
            _scale(found, name, of, fused(own, entry.how))
            found.standardised[name] = found.scores[name]  # of one scale already
    return found


def members(entry: BackendSettings) -> tuple[str, ...]:
    """Entries that an entry of a sweep is made of."""
    of = getattr(entry, "of", ())
    return (of,) if isinstance(of, str) else tuple(of)


def _scale(found: Entries, name: str, of: table.Embedded, left_out: Floats) -> None:
    found.standardised[name] = standardised(found.scores[name], of.test_meta, left_out, of.train_meta)
    found.ranks[name] = ranks(found.scores[name], of.test_meta, left_out, of.train_meta)


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
