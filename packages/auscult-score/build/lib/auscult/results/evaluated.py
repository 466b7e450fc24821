"""Score files of anybody, judged as arms of ours are: a folder becomes a table of scores, and `write_results` does the rest.

What is written is that of a study (`summary.csv`, `differences.csv`, tables, pictures), and on request the page of results,
whose arms are the systems.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pandas as pd

from auscult.data.labels.scored import Answers, answers, missing
from auscult.errors import AuscultError, listed
from auscult.evaluation.evaluate import evaluate, undefined
from auscult.files import atomic_folder
from auscult.papers.frontier import SIZES
from auscult.results.arms import ArmFiles
from auscult.results.names import SETS
from auscult.results.page.build import require_replaceable, write_report
from auscult.results.results import Folders, all_scores, write_results
from auscult.scoring.scorefiles import read_system
from auscult.settings.params import Arm, Params
from auscult.settings.paths import Paths
from auscult.settings.profile import Profile
from auscult.settings.project import Project
from auscult.settings.rules import MetricRules
from auscult.settings.schema import Evaluate, TableSettings
from auscult.settings.section import near

BACKEND = "submitted"
MARKER = "evaluation.json"
"""Says that a folder is an evaluation, and may be replaced by another."""
TABLES = {"results": TableSettings(title="Score files", metrics=("auc", "pauc", "mauc", "official"))}
UNIT_COLUMNS = ["system", "set", "machine", "unit", "metric", "value"]
DECISION_COLUMNS = ["system", "set", "machine", "unit", "domain", "precision", "recall", "f1", "false_alarms", "clips"]


@dataclass(frozen=True)
class Evaluation:
    """Numbers of systems.

    Attributes:
        rules, year: by which they are judged; the year is "" where the files do not tell it.
        labels: where the labels come from, in words.
        systems: in the order given; differences are to `reference`.
        truth: `data.labels.scored.COLUMNS`.
        summary: every number, as `evaluation.evaluate` gives them; the arm is the system.
        units: those of each unit, percent, without intervals: columns `UNIT_COLUMNS`.
        differences: as `comparison.differences` gives them; no rows for a single system.
        decisions: precision, recall, F1 and the share of normal clips called anomalies, fractions, where there are decisions;
            columns `DECISION_COLUMNS`. As the evaluators form them: of the clips of each domain where there are domains.
    """

    rules: MetricRules
    year: str
    labels: str
    systems: tuple[str, ...]
    reference: str
    truth: pd.DataFrame
    summary: pd.DataFrame
    units: pd.DataFrame
    differences: pd.DataFrame
    decisions: pd.DataFrame

    def facts(self) -> dict[str, Any]:
        """Everything as JSON has it: numbers in percent, None and a `reason` where one is undefined."""
        why = undefined(self.summary).set_index(list(self.summary.columns[:6]))["reason"].to_dict()
        numbers = [
            row | ({"reason": why[tuple(row.values())[:6]]} if row["value"] is None else {})
            for row in _records(self.summary)
        ]
        return {
            "rules": self.rules.scheme,
            "year": self.year or None,
            "labels": self.labels,
            "systems": list(self.systems),
            "reference": self.reference,
            "clips": len(self.truth),
            "numbers": numbers,
            "units": _records(self.units),
            "differences": _records(self.differences),
            "decisions": _records(self.decisions),
        }


def evaluate_systems(
    systems: Mapping[str, Path],
    year: str = "",
    labels: str = "",
    settings: Evaluate | None = None,
    out: Path | None = None,
    page: Path | None = None,
) -> Evaluation:
    """Judge folders of score files.

    Args:
        systems: name -> folder (see `scorefiles`).
        year: whose rules; "" = those of the year that names its files so.
        labels: as `choice` of `data.labels.scored.answers`.
        settings: replicates, level and reference ("" = the last system).
        out: folder for tables and pictures, replaced as a whole; what is there must be an evaluation, or nothing.
        page: folder for the page of results, likewise.

    Raises:
        AuscultError: something that a user can mend; see `read_system` and `answers`. Also files of different years, clips of
            a unit that a system did not score, a set without normal clips or anomalies, and a place that cannot be written.
    """
    settings = settings or Evaluate()
    if out is not None:
        require_replaceable(out, MARKER, "an evaluation")
    if page is not None:
        require_replaceable(page)
    rows = {name: read_system(folder) for name, folder in systems.items()}
    scheme = _scheme(rows, year)
    all_rows = pd.concat(rows.values(), ignore_index=True)
    found = answers(all_rows, labels, year, scheme)
    truth, source = found.table, found.source
    for name, of_system in rows.items():
        lacking = missing(of_system, truth)
        if lacking:
            what = f"`{name}` has no score of {len(lacking)} clip(s) of units that it scored:{listed(lacking, 10)}"
            raise AuscultError(what, str(systems[name]), f"score every clip (labels: {source})")
    _refuse_one_class(truth)
    reference = settings.reference or list(systems)[-1]
    if reference not in systems:
        what = f"there is no system `{reference}`{near(reference, list(systems))} to compare with"
        raise AuscultError(what, "--reference", f"use: {', '.join(systems)}")
    settings = settings.model_copy(update={"reference": reference})
    dataset = f"dcase{year}" if year else scheme
    profile = Profile(
        name=dataset, dataset=dataset if _whole(truth, dataset, year) else "", licence="that of the score files",
        title=f"Score files by the rules of DCASE {dataset.removeprefix('dcase')}", source={},
        rules=MetricRules(scheme=scheme),  # type: ignore[arg-type]
    )  # fmt: skip
    with TemporaryDirectory() as folder:
        project = _project(Path(folder), profile, rows, found, settings)
        paths = project.paths
        arms = {name: ArmFiles(project.scores_of(name), {}) for name in systems}
        where = Folders(paths.metrics(), paths.results())
        summary = write_results(profile, settings, arms, paths.labels, where, TABLES, title=profile.title)
        apart = pd.read_csv(paths.results() / "differences.csv", dtype={"machine": str})
        judged = pd.concat([_decisions(name, of, truth) for name, of in rows.items()], ignore_index=True)
        units, names = _units(arms, truth, profile.rules), tuple(systems)
        evaluation = Evaluation(profile.rules, year, source, names, reference, truth, summary, units, apart, judged)
        if page is not None:
            write_report(project, page)
        if out is not None:
            _write(evaluation, where, out)
    return evaluation


def _scheme(rows: Mapping[str, pd.DataFrame], year: str) -> str:
    """The rules of a year, or of the year that names its files so."""
    if year:
        return f"dcase{min(year, '2022')}"
    forms = {(scheme, name) for name, of in rows.items() for scheme in of["scheme"].unique()}
    schemes = sorted({scheme for scheme, _ in forms})
    if len(schemes) > 1:
        lines = [f"{name}: as in {scheme[5:]}" for scheme, name in sorted(forms)]
        raise AuscultError(
            f"the files are named as those of several years:{listed(lines)}", fix="say whose rules: --rules"
        )
    return schemes[0]


def _whole(truth: pd.DataFrame, dataset: str, year: str) -> bool:
    """Whether the clips are of every unit of the sets of a year, so that its printed numbers may stand beside.

    Files named as those of 2022 are of that year where their sections are; from 2023 on there is one for each machine type.
    """
    units = truth.drop_duplicates(["set", "machine", "unit"])["set"].value_counts().to_dict()
    known = {name: size[1] for name, size in SIZES[year or dataset.removeprefix("dcase")].items()}
    return all(known[str(name)] == count for name, count in units.items())


def _refuse_one_class(truth: pd.DataFrame) -> None:
    for set_name, of_set in truth.groupby("set"):
        for value, word in ((0, "normal clip"), (1, "anomaly")):
            if not (of_set["anomaly"] == value).any():
                what = f"not one {word} among the {len(of_set)} clips of the {SETS[str(set_name)]}"
                raise AuscultError(what, fix="without both kinds there is no ROC: look at the labels")


def _project(
    root: Path, profile: Profile, rows: Mapping[str, pd.DataFrame], found: Answers, settings: Evaluate
) -> Project:
    """The systems as arms of a project whose files lie below `root`: scores, labels and names of clips."""
    paths = Paths(profile.name, root)
    truth = found.table
    paths.clips.parent.mkdir(parents=True)
    facts = {"clip_id": "int64", "anomaly": "int64"}
    truth.drop(columns="key").astype(facts).to_parquet(paths.labels)
    named = truth.assign(path=truth["machine"] + "/" + truth["key"])
    named[["clip_id", "path"]].to_parquet(paths.clips)
    root_settings = {
        "arms": list(rows), "tables": {name: table.model_dump() for name, table in TABLES.items()},
        "evaluate": settings.model_dump(), "train": {"seeds": [0]},
    }  # fmt: skip
    arms = {name: Arm(name, "", "", (), name, None) for name in rows}
    project = Project(Params(root_settings, {}, arms), profile, paths)
    project.scores().mkdir(parents=True)
    for name, of_system in rows.items():
        keyed = of_system.drop(columns="domain").merge(truth, on=["machine", "unit", "key"])
        scores = keyed[["clip_id", "set", "machine", "unit", "domain", "score"]].assign(backend=BACKEND, seed=0)
        scores.to_parquet(project.scores_of(name))
    return project


def _units(arms: Mapping[str, ArmFiles], truth: pd.DataFrame, rules: MetricRules) -> pd.DataFrame:
    """The numbers of each unit: those of a machine type that has this unit alone."""
    scores = all_scores(arms, {})
    alone = scores.assign(machine=scores["machine"] + "/" + scores["unit"])
    numbers = evaluate(alone, truth[["clip_id", "anomaly", "domain"]], rules, replicates=0)
    numbers = numbers[(numbers["convention"] == "per_unit") & numbers["machine"].str.contains("/")]
    numbers = numbers[~numbers["metric"].isin(["mauc", "mean_auc_pauc"])]
    place = numbers["machine"].str.rsplit("/", n=1, expand=True)
    return numbers.assign(system=numbers["arm"], machine=place[0], unit=place[1])[UNIT_COLUMNS].reset_index(drop=True)


def _decisions(name: str, rows: pd.DataFrame, truth: pd.DataFrame) -> pd.DataFrame:
    """What the decisions of a system are worth, in each unit and domain."""
    judged = rows[rows["decision"].notna()].drop(columns="domain").merge(truth, on=["machine", "unit", "key"])
    found = []
    for place, of in judged.groupby(["set", "machine", "unit", "domain"]):
        said, true = of["decision"].to_numpy() == 1, of["anomaly"].to_numpy() == 1
        hits, alarms, misses = int((said & true).sum()), int((said & ~true).sum()), int((~said & true).sum())
        precision, recall = _share(hits, hits + alarms), _share(hits, hits + misses)
        f1 = _share(2 * hits, 2 * hits + alarms + misses)
        false = alarms / int((~true).sum()) if not true.all() else np.nan
        found.append((name, *place, precision, recall, f1, false, len(of)))
    return pd.DataFrame(found, columns=DECISION_COLUMNS)


def _share(part: int, whole: int) -> float:
    """0 where there is nothing to be right about, as the evaluators have it."""
    return part / whole if whole else 0.0


def _write(evaluation: Evaluation, made: Folders, out: Path) -> None:
    with atomic_folder(out) as part:
        shutil.copytree(made.cached, part, dirs_exist_ok=True)
        for name in ("table.md", "auc.png", "metrics.json"):
            if (made.committed / name).is_file():
                shutil.copyfile(made.committed / name, part / name)
        evaluation.units.to_csv(part / "units.csv", index=False, float_format="%.6f", lineterminator="\n")
        if len(evaluation.decisions):
            evaluation.decisions.to_csv(part / "decisions.csv", index=False, float_format="%.6f", lineterminator="\n")
        text = json.dumps(evaluation.facts(), indent=1, allow_nan=False)
        (part / MARKER).write_text(text + "\n", encoding="utf-8")


def _records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """Rows as JSON has them: None where there is no number."""
    plain = frame.astype(object).where(frame.notna(), None)
    return [{str(name): value for name, value in row.items()} for row in plain.to_dict("records")]
