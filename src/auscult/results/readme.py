"""Tables of README.md and of docs/performance.md, from the committed metrics: `python -m auscult.results.readme` writes them."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from auscult.errors import AuscultError
from auscult.files import atomic_file
from auscult.results.names import COSTS, METRICS, UNKNOWN, backend_name
from auscult.results.results import headline_backend
from auscult.results.stale import stale_committed
from auscult.results.table import Cell, Column, Row, Table, amount_text, known, number, plain_table
from auscult.results.text import markdown_table
from auscult.scoring.made_from import RECORD
from auscult.settings.params import load_params, load_profile
from auscult.settings.paths import Paths
from auscult.settings.project import Project

Columns = Sequence[tuple[str, str]]
"""Averages that a table shows: (metric, average over machine types), per unit, of the development set."""


@dataclass(frozen=True)
class Shown:
    """A short table of a profile.

    Attributes:
        study: whose results; "" = the project's.
        rows: (arm, back-end) of each; empty = all arms, by the score they are judged by.
    """

    columns: Columns
    study: str = ""
    rows: tuple[tuple[str, str], ...] = ()


SHOWN = {
    "dcase2020_modspec": Shown(
        [("auc", "mean"), ("pauc", "mean"), ("mauc", "mean")],
        "modspec_components",
        (
            ("modspec_log_unit", "knn_euclidean"),
            ("modspec_arcface", "native"),
            ("modspec_arcface", "knn_cosine"),
            ("modspec_no_supcon", "native"),
            ("modspec_no_supcon", "knn_cosine"),
            ("modspec_os_scl", "native"),
            ("modspec_os_scl", "knn_cosine"),
        ),
    ),
    "dcase2023_valve": Shown([("auc_source", "mean"), ("auc_target", "mean"), ("pauc", "mean"), ("official", "hmean")]),
    "synthetic": Shown([("auc", "mean"), ("pauc", "mean"), ("mauc", "mean")]),
}


def short_table(
    summary: pd.DataFrame,
    columns: Columns,
    parameters: Mapping[str, float] | None = None,
    seconds: Mapping[str, str] | None = None,
    chosen: Sequence[tuple[str, str]] = (),
) -> Table:
    """One row per arm, by its native score or, when it has none, its first back-end; or the rows `chosen`.

    Args:
        summary: long table of `evaluation.evaluate`.
        columns: (metric, machine) of each column; percent, standard deviation over training seeds, interval.
        chosen: (arm, back-end) of each row.
        parameters: arm -> number; also says which arms there are, run or not. None = no such column.
        seconds: arm -> what training took, as it is written. None = no such column.
    """
    rows = summary[(summary["set"] == "dev") & (summary["convention"] == "per_unit")]
    values = {(r.arm, r.backend, r.metric, r.machine): r for r in rows.itertuples(index=False)}
    heads = [Column("arm", "label"), Column("score", "label")]
    heads += [Column(METRICS.get(metric, metric)) for metric, _ in columns]
    heads += [] if parameters is None else [Column(COSTS["parameters"], "cost")]
    heads += [] if seconds is None else [Column(COSTS["train_seconds"], "cost")]
    lines = []
    arms = dict.fromkeys([*(parameters or ()), *rows["arm"]])
    for arm, backend in chosen or [(arm, headline_backend(rows, arm)) for arm in arms]:
        ran = (rows["arm"] == arm).any()
        cells = [Cell(arm, style="code"), Cell(backend_name(backend) if ran else "")]
        for metric, machine in columns:
            cells.append(_cell(values.get((arm, backend, metric, machine))) if ran else Cell("not run"))
        if parameters is not None:
            size = known(parameters.get(arm, math.nan))
            cells.append(Cell(UNKNOWN if size is None else amount_text(size / 1e6)))
        if seconds is not None:
            cells.append(Cell(seconds.get(arm, UNKNOWN)))
        lines.append(Row(cells, arm))
    return Table("", heads, lines)


def _cell(row: Any) -> Cell:
    return Cell("undefined") if row is None or pd.isna(row.value) else number(row)


def rounded(seconds: float) -> str:
    """Two digits: more of them differ between equal runs.

    >>> rounded(0.0612), rounded(57.3), rounded(1187)
    ('0.061', '57', '1200')
    """
    return UNKNOWN if pd.isna(seconds) else f"{float(f'{seconds:.2g}'):.10g}"


FIGURES = ("value", "reference", "ratio")
AGAINST_OTHERS = ("epoch vs authors", "train_step", "loading", "gather", "pack")
"""Benchmarks whose reference is another program; of the others it is a limit or a whole."""


def speed_table(benchmarks: pd.DataFrame) -> Table:
    """What users wait for, next to another program: wall time, with two threads or workers."""
    measured = benchmarks["reference"].notna() & ~benchmarks["unit"].str.contains("processor|of sound")
    measured &= benchmarks["benchmark"].isin(AGAINST_OTHERS)
    rows = benchmarks[measured & ~benchmarks["variant"].str.contains(r"threads 1|1 worker|of 18 s")]
    lines = [
        [f"{row['benchmark']}: {row['variant']}", str(row["unit"]), *(f"{row[key]:g}" for key in FIGURES)]
        for row in rows.to_dict("records")
    ]
    return plain_table(["what", "", "ours", "reference", "ratio"], lines, labels=2)


PAGES = {"README.md": [f"results: {profile}" for profile in SHOWN], "docs/performance.md": ["benchmarks"]}
"""Which tables a page has: each stands between `<!-- NAME -->` and `<!-- end -->`."""


def updated(page: str, root: Path) -> str:
    """The text of one of `PAGES` with its tables made anew.

    Seconds are those of the cached results, or, where these are not at hand, those that the text has.
    """
    text = (root / page).read_text(encoding="utf-8")
    for name in PAGES[page]:
        before, opened, rest = text.partition(f"<!-- {name} -->\n")
        old, closed, after = rest.partition("<!-- end -->")
        if not opened or not closed:
            raise AuscultError(f"{page} has no markers for `{name}`")
        if name == "benchmarks":
            table = speed_table(pd.read_csv(root / "metrics" / "benchmarks.csv"))
        else:
            profile = name.removeprefix("results: ")
            _refuse_stale(profile, root)
            table = _results(Paths(profile, root), old)
        text = "\n".join([f"{before}{opened}" + "\n".join(markdown_table(table)), f"{closed}{after}"])
    return text


def _refuse_stale(profile: str, root: Path) -> None:
    """Results that do not say how they were made are taken, with a word on stderr."""
    project = Project(load_params(root), load_profile(profile, root / "profiles"), Paths(profile, root))
    study = SHOWN[profile].study
    for line in stale_committed(project, study):
        if (project.paths.metrics(study) / RECORD).is_file():
            raise AuscultError(
                "README.md would show numbers of other settings", str(project.paths.metrics(study)), line
            )
        print(f"note: {line}", file=sys.stderr)


def _results(paths: Paths, old: str) -> Table:
    shown = SHOWN[paths.profile]
    committed = paths.metrics(shown.study)
    few = json.loads((committed / "metrics.json").read_text(encoding="utf-8"))
    parameters = {arm: numbers.get("parameters", math.nan) for arm, numbers in few.items()}
    costs = {arm: paths.cost("train", arm, seed) for arm, seed in _trained(paths)}
    rows = [[cell.strip(" `") for cell in line.strip("|").split("|")] for line in old.splitlines()]
    seconds = {row[0]: row[-1] for row in rows}
    for arm, path in costs.items():
        if path.is_file():
            seconds[arm] = rounded(json.loads(path.read_text(encoding="utf-8"))["train_seconds"])
    summary = pd.read_csv(committed / "summary.csv")
    return short_table(summary, shown.columns, parameters, None if shown.study else seconds, shown.rows)


def _trained(paths: Paths) -> Iterator[tuple[str, int]]:
    """Arms, and the first seed of each, that have a model here."""
    for folder in sorted(path for path in paths.models("").glob("*") if path.is_dir()):
        seeds = sorted(int(path.name) for path in folder.iterdir() if path.name.isdigit())
        if seeds:
            yield folder.name, seeds[0]


def main(root: Path = Path()) -> None:
    for page in PAGES:
        text = updated(page, root)
        with atomic_file(root / page) as part:
            part.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
