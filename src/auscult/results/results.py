"""The results of a report: evaluation of all arms at once, so that differences between them are paired.

Committed (`metrics/<profile>/`), small and the same after equal runs: `summary.csv` (headline numbers), `table.md`, `auc.png`,
`metrics.json`. Cached (`data/<profile>/results/<report>/`): `summary.csv` (every number), `differences.csv`, the tables as CSV
and LaTeX, and `plots/`. Both say what they were made from (`made_from.json`, see stale.py). What differs between equal runs
(seconds, memory) is in neither.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from auscult.errors import AuscultError, listed
from auscult.evaluation.aggregation import AGGREGATES
from auscult.evaluation.comparison import best, differences
from auscult.evaluation.evaluate import SUMMARY_COLUMNS, replicate, summarise, undefined
from auscult.files import atomic_folder
from auscult.results.arms import ArmFiles, arm_costs, history, skipped
from auscult.results.cells import Evidence
from auscult.results.curves import labelled, roc_points, write_curve_points, write_roc_csv
from auscult.results.figures import plot_summary
from auscult.results.names import PROJECT_TITLE, SIZES
from auscult.results.stale import results_settings, write_record
from auscult.results.sweep import plot_sweep
from auscult.results.table import Document, known
from auscult.results.tables import write_tables
from auscult.results.text import markdown
from auscult.settings.profile import Profile
from auscult.settings.schema import Evaluate, Study, Sweep, TableSettings

NOT_RUN = "no scores yet: `dvc repro` makes all that is missing, `dvc repro <stage>` the scores of one arm"
HEADLINE = ("auc", "pauc", "mauc", "auc_source", "auc_target", "official", "pauc_source", "pauc_target")
HANDFUL = {"dev": ("auc", "pauc", "auc_source", "auc_target", "official"), "eval": ("official",)}
"""Of each arm in `metrics.json`, by set: every number is a column of `dvc exp show`."""


@dataclass(frozen=True)
class Folders:
    """Where results go: what is committed, and what DVC caches."""

    committed: Path
    cached: Path


def write_results(
    profile: Profile,
    evaluate: Evaluate,
    arms: dict[str, ArmFiles],
    labels: Path,
    out: Folders,
    tables: dict[str, TableSettings],
    study: Study | None = None,
    title: str = "",
) -> pd.DataFrame:
    """Evaluate all arms against `labels` and write what is committed and what is cached into the two folders `out`.

    An arm without scores keeps its rows, which say so; one whose networks were skipped says why (`skipped` in the
    `config.yaml` of its model folder: "all" or a machine type -> reason). A set without labels, as a challenge leaves it
    until its end, has rows that say so and no pictures; without a single label the summary is empty. Where every arm was
    left out, the reasons are all there is.

    Args:
        profile: whose rules and name the results carry.
        evaluate: replicates, level and reference arm ("" = the last of `arms` that has scores).
        arms: arm -> its files, in the order of the tables' rows.
        labels: parquet of clip_id, set, machine, unit, anomaly, domain.
        out: both are replaced as a whole.
        tables: as for `tables.write_tables`.
        study: whose arms these are; None = the project's. It has the picture of its sweep, if it names one, and no
            training curves of single arms (they are in MLflow).
        title: of table.md, where these are neither.

    Returns:
        Every number, as `evaluation.evaluate` gives them.

    Raises:
        AuscultError: no arm has any scores, the reference is no arm, or the scores cannot be evaluated.
    """
    absent, costs = skipped(arms), arm_costs(arms)
    settings = results_settings(profile, evaluate, arms, tables)
    folders = list(dict.fromkeys(files.scores.parent for files in arms.values()))
    title = title or f"{study.title if study else PROJECT_TITLE}, profile {profile.name}"
    if arms and all((arm, "all") in absent for arm in arms):
        nothing = pd.DataFrame(columns=SUMMARY_COLUMNS)
        with atomic_folder(out.cached) as part, atomic_folder(out.committed) as small:
            write_summaries(nothing, costs.iloc[:0], small, part)
            write_record(small, settings, folders, digests=False)
            write_record(part, settings, folders, digests=True)
            reasons = [f"* `{arm}`: {absent[arm, 'all']}" for arm in arms]
            document = Document(title, ["No arm of this table has been trained here:", "\n".join(reasons)])
            (small / "table.md").write_text(markdown(document), encoding="utf-8")
        return nothing
    scores = all_scores(arms, absent)
    scored = [arm for arm in arms if (scores["arm"] == arm).any()]
    reference = evaluate.reference or (scored or list(arms))[-1]
    if reference not in arms:
        raise AuscultError(
            f"the reference arm `{reference}` is not among the arms:{listed(list(arms))}", "evaluate.reference"
        )
    truth = pd.read_parquet(labels)
    result = replicate(scores, truth, profile.rules, evaluate.replicates, evaluate.seed, absent)
    summary = summarise(result, evaluate.level)
    compared = (reference, headline_backend(scores, reference))
    apart = differences(result, compared, evaluate.level)
    evidence = Evidence(
        arms=list(arms),
        best=best(result, evaluate.level),
        undefined=undefined(summary),
        differences=apart,
        reference=compared,
        costs=costs if costs[list(SIZES)].notna().any(axis=None) else None,
        absent=absent,
        remarks=arm_remarks(arms, scores, absent),
        level=evaluate.level,
        unlabelled=summary.empty,
    )
    with atomic_folder(out.cached) as part, atomic_folder(out.committed) as small:
        write_summaries(summary, costs, small, part)
        write_record(small, settings, folders, digests=False)
        write_record(part, settings, folders, digests=True)
        apart.to_csv(part / "differences.csv", index=False, float_format="%.4f", lineterminator="\n")
        document = write_tables(summary, tables, part, (profile.name, profile.dataset), evidence)
        (small / "table.md").write_text(markdown(replace(document, title=title)), encoding="utf-8")
        table = labelled(scores, truth)
        sets = sorted(table["set"].unique()) or ["dev"]
        (part / "plots").mkdir()
        write_curves(table, arms, sets, part / "plots", each=study is None)
        write_pictures(summary, list(arms), sets, small, part / "plots")
        if study is not None and study.sweep is not None:
            _sweep_plots(part / "plots", study.sweep, summary)
    return summary


# ------------------------------------------------------------------------------------------------------- what is committed
def write_summaries(summary: pd.DataFrame, costs: pd.DataFrame, committed: Path, cached: Path) -> None:
    """`summary.csv`: every number into `cached`, the headline ones into `committed`, and there a few in `metrics.json`."""
    summary.to_csv(cached / "summary.csv", index=False, float_format="%.4f", lineterminator="\n")
    headline(summary).to_csv(committed / "summary.csv", index=False, float_format="%.6g", lineterminator="\n")
    text = json.dumps(headline_metrics(summary, costs), indent=1)
    (committed / "metrics.json").write_text(text + "\n", encoding="utf-8")


def headline(summary: pd.DataFrame) -> pd.DataFrame:
    """The averages over machine types of `HEADLINE`, by every back-end, set and convention."""
    return summary[summary["metric"].isin(HEADLINE) & summary["machine"].isin(AGGREGATES)]


def headline_metrics(summary: pd.DataFrame, costs: pd.DataFrame) -> dict[str, Any]:
    """For `dvc metrics` and `dvc exp show`: arm -> `parameters`, and set -> metric -> percent.

    Averages over machine types, per unit, by the back-end that an arm is judged by; the official score as the challenge forms
    it. Four decimals, None where a number is undefined.
    """
    found: dict[str, Any] = {}
    for cost in costs.to_dict("records"):
        size = cost["parameters"]
        found[str(cost["arm"])] = {} if math.isnan(size) else {"parameters": round(size)}
    few = {(name, metric) for name, metrics in HANDFUL.items() for metric in metrics}
    wanted = [pair in few for pair in zip(summary["set"], summary["metric"], strict=True)]
    numbers = summary[np.array(wanted, bool) & (summary["convention"] == "per_unit")]
    for arm, rows in numbers.groupby("arm", sort=False):
        of = rows[rows["backend"] == headline_backend(rows, str(arm))]
        harmonic = (of["machine"] == "hmean").any()
        official = (of["metric"] == "official") & (of["machine"] == ("hmean" if harmonic else "mean"))
        for row in of[official | ((of["metric"] != "official") & (of["machine"] == "mean"))].itertuples(index=False):
            of_set = found.setdefault(str(arm), {}).setdefault(str(row.set), {})
            value = known(row.value)
            of_set[str(row.metric)] = None if value is None else round(value, 4)
    return found


def all_scores(arms: Mapping[str, ArmFiles], absent: Mapping[tuple[str, str], str]) -> pd.DataFrame:
    """Scores of all arms in one table."""
    frames = [pd.read_parquet(f.scores).assign(arm=arm) for arm, f in arms.items() if f.scores.is_file()]
    frames = [frame for frame in frames if len(frame)]
    if not frames:
        reasons = [f"{arm}, {network}: {reason}" for (arm, network), reason in absent.items()]
        where = str(next(iter(arms.values())).scores.parent) if arms else ""
        raise AuscultError(
            "no arm has any scores" + (f":{listed(reasons)}" if reasons else ""), where, "run `dvc repro`"
        )
    return pd.concat(frames, ignore_index=True)


def headline_backend(scores: pd.DataFrame, arm: str) -> str:
    """The back-end an arm is judged by: its native score, or the first it has."""
    backends = list(dict.fromkeys(scores.loc[scores["arm"] == arm, "backend"]))
    return "native" if "native" in backends or not backends else str(backends[0])


def arm_remarks(
    arms: Mapping[str, ArmFiles], scores: pd.DataFrame, absent: Mapping[tuple[str, str], str]
) -> dict[str, str]:
    """What is to be said of an arm's rows: that it was not run, or that seeds or a whole machine type are missing."""
    seen = scores.groupby("arm")["seed"].unique() if "seed" in scores else pd.Series(dtype=object)
    remarks = {}
    for arm, files in arms.items():
        if not files.scores.is_file():
            remarks[arm] = NOT_RUN
        elif arm in seen.index:
            missing = [seed for seed in files.models if seed not in set(seen[arm])]
            if missing:
                why = absent.get((arm, "all"), "no scores")
                which = ", ".join(str(seed) for seed in missing)
                remarks[arm] = f"{len(seen[arm])} of {len(files.models)} training seeds; {which}: {why}"
    scored = {"all", *scores["machine"]}
    for (arm, machine), why in absent.items():
        if machine not in scored:  # there is no column that could say so
            said = f"{machine}: {why}; no arm has scores of it, and no average holds it"
            remarks[arm] = f"{remarks[arm]}; {said}" if arm in remarks else said
    return remarks


def write_curves(
    table: pd.DataFrame, arms: Mapping[str, ArmFiles], sets: Iterable[str], folder: Path, each: bool
) -> None:
    """ROC curves of every set, and training curves, as tables that `dvc plots` draws.

    Args:
        table: of `labelled`.
        each: also the training curves of every arm by themselves, with all networks and seeds.
    """
    for set_name in sets:
        write_roc_csv(roc_points(table, set_name=set_name), folder / f"roc{_suffix(set_name)}.csv")
    histories = {arm: history(files) for arm, files in arms.items()}
    write_curve_points(histories, folder / "curves.csv")
    for arm, curves in histories.items():
        if each and len(curves):
            curves.to_csv(folder / f"training_{arm}.csv", index=False)


def write_pictures(summary: pd.DataFrame, arms: list[str], sets: Iterable[str], committed: Path, cached: Path) -> None:
    """The averages of every set: `auc.png` of the first into `committed`, the others into `cached`."""
    for number, set_name in enumerate(sets):
        path = cached / f"auc_{set_name}.png" if number else committed / "auc.png"
        plot_summary(summary, path, set_name=set_name, arms=arms)


def _sweep_plots(folder: Path, sweep: Sweep, summary: pd.DataFrame) -> None:
    """One number against a parameter, per set."""
    for set_name in sorted(set(summary.loc[summary["value"].notna(), "set"]) & {"dev", "eval"}) or ["dev"]:
        plot_sweep(summary, folder / f"sweep{_suffix(set_name)}.png", sweep, set_name=set_name)


def _suffix(set_name: str) -> str:
    return "" if set_name == "dev" else f"_{set_name}"
