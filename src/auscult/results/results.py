"""The results of a report: evaluation of all arms at once, so that differences between them are paired.

Committed (`metrics/<profile>/`), small and the same after equal runs: `summary.csv` (headline numbers), `table.md`, `auc.png`,
`metrics.json`. Cached (`data/<profile>/results/<report>/`): `summary.csv` (every number), `differences.csv`,
the tables as CSV and LaTeX, and `plots/`. What differs between equal runs (seconds, memory) is in neither.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml

from auscult.errors import AuscultError, listed
from auscult.evaluation.aggregation import AGGREGATES
from auscult.evaluation.comparison import best, differences
from auscult.evaluation.evaluate import SUMMARY_COLUMNS, replicate, summarise, undefined
from auscult.files import atomic_folder
from auscult.results.cells import Evidence
from auscult.results.curves import plot_history, plot_roc, read_history, roc_points, write_curves, write_roc_csv
from auscult.results.figures import labelled, plot_histograms, plot_summary
from auscult.results.names import COSTS, SIZES
from auscult.results.sweep import plot_sweep
from auscult.results.table import Document, known
from auscult.results.tables import write_tables
from auscult.results.text import markdown
from auscult.settings.profile import Profile
from auscult.settings.project import Project
from auscult.settings.schema import Evaluate, Study, Sweep, TableSettings

NOT_RUN = "no scores yet: `dvc repro` makes all that is missing, `dvc repro <stage>` the scores of one arm"
COST_COLUMNS = ["arm", *COSTS, "peak_memory_mib", "device", "seeds"]
FEW = ("auc", "pauc", "mauc", "auc_source", "auc_target", "official")
HEADLINE = (*FEW, "pauc_source", "pauc_target")
PROJECT_TITLE = "The project's arms"


@dataclass(frozen=True)
class Folders:
    """Where results go: what is committed, and what DVC caches."""

    committed: Path
    cached: Path


@dataclass(frozen=True)
class ArmFiles:
    """Where an arm's outputs lie; each may be absent.

    Attributes:
        scores: parquet of all its training seeds, columns as for `evaluation.evaluate` and `seed`.
        models: training seed -> model folder (`history.csv`, `config.yaml`).
        embeddings: training seed -> folder of embeddings (`network.json`).
        costs: training seed -> files of what it has cost, which only the machine has that did the work.
    """

    scores: Path
    models: dict[int, Path]
    embeddings: dict[int, Path] = field(default_factory=dict)
    costs: dict[int, tuple[Path, ...]] = field(default_factory=dict)

    def measured(self, seed: int) -> dict[str, Any]:
        """Size of the network, and what training and embedding have cost, as far as it is known here."""
        found: dict[str, Any] = {}
        if seed in self.embeddings:
            found |= _json(self.embeddings[seed] / "network.json")
        for path in self.costs.get(seed, ()):
            found |= _json(path)
        return found


def arm_files(
    project: Project, arms: Iterable[str], scores: Callable[[str], Path] | None = None
) -> dict[str, ArmFiles]:
    """Where the outputs of arms lie, for the seeds in use.

    Args:
        scores: the scores of an arm, where they are not those of its own back-ends.
    """
    paths, found = project.paths, {}
    for name in arms:
        weights = project.params.arm(name).weights
        found[name] = ArmFiles(
            (scores or paths.scores)(name),
            {seed: paths.model(weights, seed) for seed in project.seeds},
            {seed: paths.embeddings(name, seed) for seed in project.seeds},
            {
                seed: (paths.cost("train", weights, seed), paths.cost("embed", name, seed, weights))
                for seed in project.seeds
            },
        )
    return found


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
        labels: parquet of clip_id, anomaly, domain.
        out: both are replaced as a whole.
        tables: as for `tables.write_tables`.
        study: whose arms these are; None = the project's. It has the picture of its sweep, if it names one, and no
            pictures of single arms (their training curves are in MLflow).
        title: of table.md, where these are neither.

    Returns:
        Every number, as `evaluation.evaluate` gives them.

    Raises:
        AuscultError: no arm has any scores, the reference is no arm, or the scores cannot be evaluated.
    """
    absent, costs = skipped(arms), arm_costs(arms)
    title = title or f"{study.title if study else PROJECT_TITLE}, profile {profile.name}"
    if arms and all((arm, "all") in absent for arm in arms):
        nothing = pd.DataFrame(columns=SUMMARY_COLUMNS)
        with atomic_folder(out.cached) as part, atomic_folder(out.committed) as small:
            write_summaries(nothing, costs.iloc[:0], small, part)
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
        apart.to_csv(part / "differences.csv", index=False, float_format="%.4f", lineterminator="\n")
        document = write_tables(summary, tables, part, (profile.name, profile.dataset), evidence)
        (small / "table.md").write_text(markdown(replace(document, title=title)), encoding="utf-8")
        table = labelled(scores, truth)
        _plots(part / "plots", list(arms), table, summary, reference, profile.rules.max_fpr)
        write_picture(summary, list(arms), table["set"].unique(), small)
        write_curves({arm: _history(files) for arm, files in arms.items()}, part / "plots" / "curves.csv")
        if study is None:
            _arm_plots(part / "plots", arms, table)
        elif study.sweep is not None:
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
    numbers = summary[summary["metric"].isin(FEW) & (summary["convention"] == "per_unit")]
    numbers = numbers[numbers["set"].isin(["dev", "eval"])]
    for arm, rows in numbers.groupby("arm", sort=False):
        of = rows[rows["backend"] == headline_backend(rows, str(arm))]
        harmonic = (of["machine"] == "hmean").any()
        official = (of["metric"] == "official") & (of["machine"] == ("hmean" if harmonic else "mean"))
        for row in of[official | ((of["metric"] != "official") & (of["machine"] == "mean"))].itertuples(index=False):
            of_set = found.setdefault(str(arm), {}).setdefault(str(row.set), {})
            value = known(row.value)
            of_set[str(row.metric)] = None if value is None else round(value, 4)
    return found


def write_picture(summary: pd.DataFrame, arms: list[str], sets: Iterable[str], committed: Path) -> None:
    """`auc.png`, of the development set where it has labels."""
    plot_summary(summary, committed / "auc.png", set_name=min(sets, default="dev"), arms=arms)


def skipped(arms: Mapping[str, ArmFiles]) -> dict[tuple[str, str], str]:
    """(arm, machine or "all") -> why no network was trained, from the arms' model folders."""
    found: dict[tuple[str, str], str] = {}
    for arm, files in arms.items():
        for folder in files.models.values():
            config = folder / "config.yaml"
            settings: Any = yaml.safe_load(config.read_text(encoding="utf-8")) if config.is_file() else {}
            for network, reason in ((settings or {}).get("skipped") or {}).items():
                found.setdefault((arm, str(network)), f"not trained: {reason}")
    return found


def arm_costs(arms: Mapping[str, ArmFiles]) -> pd.DataFrame:
    """What each arm costs: columns `COST_COLUMNS`, means over its training seeds, NaN where not measured."""
    rows = []
    for arm, files in arms.items():
        measured = [files.measured(seed) for seed in files.models]
        means = []
        for name in (*COSTS, "peak_memory_mib"):
            values = [float(one[name]) for one in measured if isinstance(one.get(name), int | float)]
            means.append(float(np.mean(values)) if values else float("nan"))
        devices = ", ".join(dict.fromkeys(str(one["device"]) for one in measured if one.get("device")))
        rows.append((arm, *means, devices, sum("train_seconds" in one for one in measured)))
    return pd.DataFrame(rows, columns=COST_COLUMNS)


def _json(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    return content


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


def _plots(
    folder: Path,
    arms: list[str],
    table: pd.DataFrame,
    summary: pd.DataFrame,
    reference: str,
    max_fpr: float,
) -> None:
    """ROC curves and the averages, per set that has labels; without any, pictures that say so."""
    folder.mkdir()
    for set_name in sorted(table["set"].unique()) or ["dev"]:
        suffix = "" if set_name == "dev" else f"_{set_name}"
        points = roc_points(table, set_name=set_name)
        write_roc_csv(points, folder / f"roc{suffix}.csv")
        plot_roc(points, folder / f"roc{suffix}.png", max_fpr, reference)
        plot_summary(summary, folder / f"auc{suffix}.png", set_name=set_name, arms=arms)


def _sweep_plots(folder: Path, sweep: Sweep, summary: pd.DataFrame) -> None:
    """One number against a parameter, per set."""
    for set_name in sorted(set(summary.loc[summary["value"].notna(), "set"]) & {"dev", "eval"}) or ["dev"]:
        suffix = "" if set_name == "dev" else f"_{set_name}"
        plot_sweep(summary, folder / f"sweep{suffix}.png", sweep, set_name=set_name)


def _arm_plots(folder: Path, arms: Mapping[str, ArmFiles], table: pd.DataFrame) -> None:
    """Histograms and training curves of each arm."""
    for arm, files in arms.items():
        if arm in set(table["arm"]):
            plot_histograms(table, arm, folder / f"scores_{arm}.png")
        history = _history(files)
        if len(history):
            plot_history(history, folder / f"training_{arm}.png", arm)
            history.to_csv(folder / f"training_{arm}.csv", index=False)


def _history(files: ArmFiles) -> pd.DataFrame:
    """Training curves of all seeds; with several the column `scope` says whose a row is."""
    frames = []
    for seed, folder in files.models.items():
        frame = read_history(folder / "history.csv")
        if len(frame) and len(files.models) > 1:
            scopes = frame["scope"].astype(str) if "scope" in frame else ["all"] * len(frame)
            frame["scope"] = [f"seed {seed}" if scope == "all" else f"{scope}, seed {seed}" for scope in scopes]
        frames.append(frame)
    frames = [frame for frame in frames if len(frame)]
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame()
