"""Scores and decisions of one arm as the files that the challenge's evaluators read. Labels are not an input.

    2020        anomaly_score_<machine>_id_<ii>.csv                          (no decisions)
    2021        anomaly_score_<machine>_section_<ss>_<domain>_test.csv       and decision_result_...
    2022 on     anomaly_score_<machine>_section_<ss>_test.csv                and decision_result_...

One row per test clip, `<file name>,<value>`, without a heading: the score with all its digits, or 1 for an anomaly and 0
for none. The evaluators match rows to the truth by the order of the file names, so that a file must hold all of its clips.

A clip is called an anomaly when its score exceeds what a share `rate` of the unit's own training clips would exceed; no
test clip has a say in it. For a method's native score that is the quantile of a gamma distribution fitted to the scores of
the training clips, as in the challenge's baselines; where the distribution does not fit (the share of training clips
beyond it is not within a factor of two of `rate`), and for the nearest-neighbour scores, each training clip being left out
in turn, it is the empirical quantile. A network has seen these clips in training: of unheard normal clips more than `rate`
may be called anomalies.
"""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath
from typing import Literal

import numpy as np
import pandas as pd

from auscult.detector.thresholds import gamma_quantile
from auscult.errors import AuscultError, listed
from auscult.files import atomic_folder
from auscult.scoring import NEIGHBOURS, backends, left_out_kinds
from auscult.scoring.banks import groups
from auscult.scoring.table import bank_rules, knobs
from auscult.settings.rules import MetricRules
from auscult.settings.schema import Score, Submission

Unit = tuple[str, str]


def write_submission(
    embeddings: Path,
    scores: Path,
    clips: Path,
    out: Path,
    rules: MetricRules,
    seed: int,
    settings: Submission,
    score: Score,
) -> list[str]:
    """Write the files of one arm into the folder `out`, replaced as a whole.

    Args:
        embeddings: folder of the arm's embeddings with this seed, as the stage `embed` writes it.
        scores: the arm's score table.
        clips: table of the manifest; names come from its `path`.
        rules: of the profile; their scheme decides on names and, where `score.domain_banks` does not, on banks.
        seed: training seed whose scores are submitted.
        settings: which set, by which back-end (an arm without `native` scores is submitted with its first), and the share of
            the training clips that the threshold calls anomalies.
        score: the section that the scores were made with.

    Returns:
        Machine types of the set that the arm has no scores of: nothing is written for them.

    Raises:
        AuscultError: no clips in the set or no scores, a back-end that is not known or not allowed, clips without a score,
            or two clips of one name.
    """
    table = pd.read_parquet(scores)
    table = table[(table["seed"] == seed) & (table["set"] == settings.set)]
    known = list(dict.fromkeys(table["backend"]))
    if not known:
        what = f"no scores of the {settings.set} set with seed {seed}"
        raise AuscultError(what, str(scores), "set `submission.set` to a set of the profile, or run `dvc repro score`")
    backend = known[0] if settings.backend == "native" and "native" not in known else settings.backend
    usable = [name for name in known if name in left_out_kinds() or name.startswith("native")]
    if backend not in usable:
        what = f"no submission by the back-end `{backend}`"
        raise AuscultError(what, "submission.backend", f"use: {', '.join(usable)}")
    index = pd.read_parquet(clips)
    index = index[(index["partition"] == "test") & (index["set"] == settings.set)]
    scored = index[["clip_id", "path", "machine", "unit"]].merge(
        table.loc[table["backend"] == backend, ["clip_id", "score"]], on="clip_id", how="left"
    )
    absent = sorted(set(scored["machine"]) - set(table["machine"]))
    scored = scored[~scored["machine"].isin(absent)]
    if scored["score"].isna().any():
        lacking = list(scored.loc[scored["score"].isna(), "path"])
        raise AuscultError(f"{len(lacking)} clips have no score:{listed(lacking, 5)}", fix="run `dvc repro score`")
    train, meta = np.load(embeddings / "train.npy"), pd.read_parquet(embeddings / "train.parquet")
    banks = bank_rules(score, rules.domains)
    limits = thresholds(train, meta, backend, settings.rate, score.k, banks, score.scope)
    with atomic_folder(out) as part:
        for name, text in submission(scored, limits, rules).items():
            (part / name).write_text(text, encoding="utf-8")
    return absent


def submission(scored: pd.DataFrame, limits: dict[Unit, float], rules: MetricRules) -> dict[str, str]:
    """File name -> content.

    Args:
        scored: path, machine, unit and score of each test clip.
        limits: (machine, unit) -> score above which a clip is an anomaly.
        rules: their scheme decides on the names.

    Raises:
        AuscultError: two clips of one file share a name, or a name of 2021 does not tell the domain.
    """
    rows = scored.assign(name=[PurePosixPath(path).name for path in scored["path"]])
    rows["place"] = [
        _place(machine, unit, name, rules)
        for machine, unit, name in zip(rows["machine"], rows["unit"], rows["name"], strict=True)
    ]
    twice = rows[rows.duplicated(["place", "name"])]
    if len(twice):
        raise AuscultError(f"clips that share a name with another of their unit:{listed(list(twice['path']), 5)}")
    files: dict[str, str] = {}
    for place, of_file in rows.sort_values("name").groupby("place"):
        names, values = list(of_file["name"]), of_file["score"].to_numpy(dtype=np.float64)
        files[f"anomaly_score_{place}.csv"] = _csv(names, [repr(float(value)) for value in values])
        if rules.domains:
            limit = limits[of_file["machine"].iloc[0], of_file["unit"].iloc[0]]
            decisions = [str(int(value > limit)) for value in values]
            files[f"decision_result_{place}.csv"] = _csv(names, decisions)
    return files


def thresholds(
    train: np.ndarray,
    meta: pd.DataFrame,
    backend: str,
    rate: float,
    k: int = NEIGHBOURS,
    domains: bool = False,
    scope: Literal["unit", "machine"] = "unit",
) -> dict[Unit, float]:
    """(machine, unit) -> the score that a share `rate` of its training clips would exceed; infinity if it has but one.

    Args:
        train: embeddings [training clips, D].
        meta: machine, unit, domain and the method's native scores of the same clips.
        backend: "native", "native_<name>" or one of `left_out_kinds`.
        rate: in (0, 1).
        k, domains, scope: neighbours, one bank per domain, and whose clips count; as in the section `score`.
    """
    exact = backends()[backend].left_out if backend in backends() else None
    if exact is None:
        values = meta[backend].to_numpy(np.float64)
    else:
        values = exact(train, meta, knobs(backend, Score(k=k, scope=scope, domain_banks=domains), domains))
    found: dict[Unit, float] = {}
    for unit, rows in groups(meta).items():
        of_unit = values[rows]
        if len(of_unit) < 2:
            limit = np.inf
        else:
            limit = gamma_quantile(of_unit, rate) if exact is None else np.nan
            share = float(np.mean(of_unit > limit))
            if not rate / 2 <= share <= 2 * rate:
                limit = float(np.quantile(of_unit, 1 - rate))
        found[unit] = limit
    return found


def _place(machine: str, unit: str, name: str, rules: MetricRules) -> str:
    """What the files of a clip's unit are called, after `anomaly_score_` or `decision_result_`."""
    if not rules.domains:
        return f"{machine}_id_{unit}"
    if rules.scheme != "dcase2021":
        return f"{machine}_section_{unit}_test"
    domain = re.search(r"_(source|target)_", name)
    if domain is None:
        raise AuscultError("the name does not tell the domain, which 2021 asks for", name)
    return f"{machine}_section_{unit}_{domain[1]}_test"


def _csv(names: list[str], values: list[str]) -> str:
    return "".join(f"{name},{value}\n" for name, value in zip(names, values, strict=True))
