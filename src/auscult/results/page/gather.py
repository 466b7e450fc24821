"""Reads what there is of one profile: scores, labels, tables, costs. Nothing is computed twice that a stage has computed."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from auscult.errors import AuscultError, listed
from auscult.evaluation.evaluate import Key
from auscult.results.arms import arm_costs, arm_files, skipped
from auscult.results.names import PROJECT_TITLE, SIZES
from auscult.results.page.context import Context
from auscult.results.results import NOT_RUN, headline_backend
from auscult.results.stale import stale_arms, stale_results
from auscult.scoring import left_out_kinds
from auscult.scoring.submission import Unit, thresholds
from auscult.scoring.table import bank_rules
from auscult.settings.project import Project
from auscult.settings.section import near

TEXTS = ("set", "machine", "unit", "domain", "backend")
LABELS = ("clip_id", "anomaly", "domain")
ALL = "all"
"""Name of the group that holds the arms of every other one."""


@dataclass(frozen=True)
class Group:
    """The tables of the project, of a study, or of all arms together.

    Attributes:
        name: "project", a study, or `ALL`.
        title: what a reader calls it.
        cells: rows as in the tables' CSV files (`cells.CELL_COLUMNS`).
        reference: arm that differences are to; "" = there are none.
    """

    name: str
    title: str
    cells: pd.DataFrame
    reference: str


def gather(project: Project, arms: Sequence[str] = ()) -> Context:
    """Everything the page is about.

    Args:
        arms: those to show; none = every arm of the project and of the studies.

    Raises:
        AuscultError: an arm that there is not, or no arm with scores.
    """
    params, paths = project.params, project.paths
    wanted = list(dict.fromkeys(arms)) or ordered_arms(project)
    for name in wanted:
        if name not in params.arms:
            what = f"there is no arm `{name}`{near(name, list(params.arms))}"
            raise AuscultError(what, "--arms", "`arms` of params.yaml and of the studies name them")
    scores: dict[str, pd.DataFrame] = {}
    backends: dict[str, str] = {}
    left_out: dict[str, str] = {}
    absent = skipped(arm_files(project, wanted))
    for name in wanted:
        table = _scores(project.scores_of(name))
        reasons = [why if of == "all" else f"{of}: {why}" for (arm, of), why in absent.items() if arm == name]
        if table is None or table.empty:
            left_out[name] = "; ".join(reasons) or NOT_RUN
            continue
        if reasons:
            left_out[name] = "; ".join(reasons)
        scores[name] = table
        backends[name] = headline_backend(table.assign(arm=name), name)
    if not scores:
        reasons = [f"{arm}: {why}" for arm, why in left_out.items()]
        raise AuscultError(f"no arm has any scores:{listed(reasons)}", str(paths.data / "scores"), "run `dvc repro`")
    labels = pd.read_parquet(paths.labels) if paths.labels.is_file() else pd.DataFrame(columns=list(LABELS))
    return Context(
        profile=project.profile,
        params=params,
        paths=paths,
        arms=tuple(scores),
        titles={name: name for name in wanted},
        scores=scores,
        labels=labels,
        backends=backends,
        seeds=project.seeds,
        left_out=left_out,
        stale=tuple(_stale(project, list(scores))),
    )


def _stale(project: Project, arms: Sequence[str]) -> list[str]:
    """Of scores of these arms and of the tables they may stand in; scores that others handed in have no settings of ours."""
    if not project.profile.source:
        return []
    studies = [name for name in ("", *project.params.studies) if set(arms) & set(project.params.rows(name))]
    return [*stale_arms(project, arms), *(line for name in studies for line in stale_results(project, name))]


def ordered_arms(project: Project) -> list[str]:
    """Every arm: first the rows of the project's tables, then those of each study, then the others."""
    params = project.params
    of_studies = [row for study in params.studies for row in params.rows(study)]
    return list(dict.fromkeys([*params.rows(), *of_studies, *params.arms]))


def _scores(path: Path) -> pd.DataFrame | None:
    if not path.is_file():
        return None
    table = pd.read_parquet(path)
    return table.astype({name: "category" for name in TEXTS})


def costs(project: Project, arms: Sequence[str]) -> pd.DataFrame:
    """`results.arm_costs` of arms."""
    return arm_costs(arm_files(project, arms))


# ------------------------------------------------------------------------------------------------------------ thresholds
def thresholds_of(context: Context, arm: str) -> dict[Unit, float]:
    """(machine, unit) -> the score beyond which a clip is called an anomaly (`submission.rate`), for the first seed of an arm.

    Raises:
        AuscultError: the back-end gives training clips no score.
        OSError: the embeddings of the training clips are not there.
    """
    score, backend = context.params.section("score"), context.backends[arm]
    folder = context.paths.embeddings(arm, context.seed(arm))
    meta = pd.read_parquet(folder / "train.parquet")
    if backend not in left_out_kinds() and backend not in meta:
        what = f"back-end `{backend}` gives training clips no score, so there is no threshold"
        raise AuscultError(what, str(folder / "train.parquet"))
    train = np.empty((len(meta), 0), np.float32)  # native scores stand in the table: nobody needs the vectors
    if backend in left_out_kinds():
        train = np.load(folder / "train.npy")
    domains = bank_rules(score, context.profile.rules.domains)
    rate = context.params.section("submission").rate
    return thresholds(train, meta, backend, rate, score.k, domains, score.scope)


def thresholds_or_none(context: Context, arm: str) -> dict[Unit, float]:
    """`thresholds_of`; none where there are no embeddings, or, with the reason on stderr, no scores of training clips."""
    try:
        return thresholds_of(context, arm)
    except FileNotFoundError:
        return {}
    except AuscultError as error:
        print(f"{arm}: no thresholds: {error}", file=sys.stderr)
        return {}


# --------------------------------------------------------------------------------------------------------------- the tables
def groups(project: Project, arms: Sequence[str], studies: Sequence[str] | None = None) -> list[Group]:
    """The tables of the project and of `studies` (None = all) as far as they hold two of `arms`, or every row they have; and
    one of all arms last."""
    params = project.params
    found = []
    for study in ("", *(params.studies if studies is None else studies)):
        cells = _cells(project.paths.results(study), list(params.tables(study)))
        ours = cells["arm"].isin(arms) & (cells["printed_row"] == "")
        present = cells.loc[ours, "arm"].nunique()
        if not present or present < min(2, len(params.rows(study))):
            continue
        cells = cells[cells["arm"].isin(arms) | (cells["arm"] == "")]
        references = cells.loc[cells["verdict"] == "reference", "arm"]
        title = params.studies[study].title if study else PROJECT_TITLE
        found.append(Group(study or "project", title, cells, str(references.iloc[0]) if len(references) else ""))
    if len(found) > 1:
        found.append(_everything(found, arms))
    return found


def _everything(found: Sequence[Group], arms: Sequence[str]) -> Group:
    """All arms in one table. Differences are left out: those of different tables are to different arms."""
    union = pd.concat([group.cells for group in found], ignore_index=True)
    union = union.drop_duplicates([*Key._fields, "printed_table", "printed_row"])
    union = union.assign(verdict="", difference=float("nan"), difference_low=float("nan"), difference_high=float("nan"))
    order = {name: place for place, name in enumerate(arms)}
    union = union.assign(best=False).sort_values(
        "arm", key=lambda names: names.map(order).fillna(len(order)), kind="stable"
    )
    return Group(ALL, "All arms", union, "")


def _cells(folder: Path, tables: Sequence[str]) -> pd.DataFrame:
    """Rows of all tables of a folder of results; a metric that stands in two tables is taken once."""
    frames = []
    for name in tables:
        path = folder / f"{name}.csv"
        if path.is_file():
            frames.append(pd.read_csv(path, dtype={name: str for name in _TEXT_COLUMNS}))
    frames = [frame for frame in frames if len(frame)]
    if not frames:
        return pd.DataFrame(columns=[*_TEXT_COLUMNS, "value", *SIZES])
    cells = pd.concat(frames, ignore_index=True)
    cells[list(_TEXT_COLUMNS)] = cells[list(_TEXT_COLUMNS)].fillna("")
    return cells.drop_duplicates([*Key._fields, "printed_table", "printed_row"], ignore_index=True)


_TEXT_COLUMNS = (
    "set", "convention", "metric", "arm", "backend", "machine", "verdict", "printed_table", "printed_row", "printed", "note",
    "row_note",
)  # fmt: skip
