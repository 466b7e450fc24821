"""Which entry of a sweep one would take without a label: the one whose normal scores depend least on the domain.

Cross-validated domain balance, DACo (Mkrtchian, arXiv 2607.04526; code read, MIT). Half of the training clips of each domain of a
unit are held out, the entry is fitted to the rest and scores them; the criterion is the Kolmogorov-Smirnov distance between the
scores of held source and held target clips, mean over splits and units: 0 = one threshold gives one false-alarm rate in both.
It sees no test clip and no anomaly, so it also likes scores that say nothing; a veto for the worst by development score
(results/choice.py) is the source's remedy.

What is written is a registration: the choice, and digests of the criteria and of the scores that it stands for, before any label
is read (the stage that calls this depends on none).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from auscult.scoring.banks import groups
from auscult.scoring.sweep import entries
from auscult.scoring.table import Embedded, bank_rules, read_embeddings
from auscult.settings.schema import BackendSweep, Score

KEYS = ["set", "machine", "unit"]


def balances(of: Embedded, sweep: BackendSweep, score: Score, banks: bool) -> pd.DataFrame:
    """Criterion of each candidate: columns set, machine, unit, backend, balance (in [0, 1], smaller is better).

    Of units with two clips or more of each domain; no rows where there is none.
    """
    from scipy.stats import ks_2samp

    settings, domain = sweep.choice, of.train_meta["domain"].to_numpy()
    units = {key: rows for key, rows in groups(of.train_meta).items() if len(_halves(rows, domain)) == 2}
    draws = {key: np.random.default_rng(settings.seed) for key in units}
    found: dict[tuple[str, str, str], list[float]] = {}
    for _ in range(settings.splits if units else 0):
        held = np.zeros(len(domain), dtype=bool)
        for key, rows in units.items():
            for clips in _halves(rows, domain):
                held[draws[key].permutation(clips)[: len(clips) // 2]] = True
        meta = of.train_meta[held]
        part = Embedded(of.train[~held], of.train_meta[~held], of.train[held], meta, of.rows)
        scores, source = entries(part, sweep, score, banks, settings.of).scores, meta["domain"].to_numpy() != "target"
        places = groups(meta)
        for (machine, unit), name in ((key, name) for key in units for name in settings.of):
            rows = places[machine, unit]
            of_source, of_target = scores[name][rows[source[rows]]], scores[name][rows[~source[rows]]]
            found.setdefault((machine, unit, name), []).append(float(ks_2samp(of_source, of_target).statistic))
    sets = of.train_meta.groupby(["machine", "unit"])["set"].first()
    table = [(sets[machine, unit], machine, unit, name, np.mean(each)) for (machine, unit, name), each in found.items()]
    return pd.DataFrame(table, columns=[*KEYS, "backend", "balance"])


def _halves(rows: np.ndarray, domain: np.ndarray) -> list[np.ndarray]:
    """Source and target clips among the rows of a unit, where there are two or more."""
    parts = rows[domain[rows] != "target"], rows[domain[rows] == "target"]
    return [clips for clips in parts if len(clips) > 1]


def chosen(criteria: pd.DataFrame) -> dict[str, dict[str, str]]:
    """Arm -> set -> the candidate with the smallest mean criterion (the first of equals, as listed).

    Args:
        criteria: rows of `balances` with a column `arm`.
    """
    mean = criteria.groupby(["arm", "set", "backend"], sort=False)["balance"].mean()
    picks = mean.groupby(level=["arm", "set"], sort=False).idxmin()
    found: dict[str, dict[str, str]] = {}
    for arm, set_name, backend in picks:
        found.setdefault(arm, {})[set_name] = backend
    return found


def register(
    folder: Path, arms: Mapping[str, Mapping[int, Path]], sweep: BackendSweep, score: Score, domains: bool
) -> None:
    """Write the choice of each arm into `folder`/choice: criteria.csv, scores.csv (per clip), choice.json with their digests.

    Args:
        folder: holds the sweep tables `<arm>.parquet`.
        arms: arm -> training seed -> folder of its embeddings.
        domains: whether the profile's rules know domains; without them, and without candidates, nothing is written.
    """
    if not domains or not sweep.choice.of:
        return
    parts = [
        balances(read_embeddings(place), sweep, score, bank_rules(score, domains)).assign(arm=arm, seed=seed)
        for arm, seeds in arms.items()
        for seed, place in seeds.items()
    ]
    criteria = pd.concat(parts, ignore_index=True)
    choice, scores = chosen(criteria), []
    for arm, picks in choice.items():
        table = pd.read_parquet(folder / f"{arm}.parquet").assign(arm=arm)
        scores += [table[(table["set"] == name) & (table["backend"] == pick)] for name, pick in picks.items()]
    out = folder / "choice"
    out.mkdir()
    columns = ["arm", *KEYS, "backend", "seed"]
    written = {"criteria.csv": criteria[[*columns, "balance"]]}
    written["scores.csv"] = (
        pd.concat(scores)[[*columns, "clip_id", "score"]] if scores else pd.DataFrame(columns=columns)
    )
    digests = {}
    for name, table in written.items():
        table.to_csv(out / name, index=False, lineterminator="\n")
        digests[name] = hashlib.sha256((out / name).read_bytes()).hexdigest()
    says = {
        "criterion": "cross-validated domain balance",
        **sweep.choice.model_dump(exclude={"veto"}),
        "sha256": digests,
    }
    (out / "choice.json").write_text(json.dumps({**says, "chosen": choice}, indent=1) + "\n")
