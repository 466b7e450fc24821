"""`auscult evaluate`."""

from __future__ import annotations

import json
import math
from argparse import ArgumentParser, Namespace
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from auscult.commands import Command, print_table

if TYPE_CHECKING:
    import pandas as pd

    from auscult.results.evaluated import Evaluation

_YEARS = tuple(str(year) for year in range(2020, 2027))


def evaluate(parser: ArgumentParser) -> Command:
    """numbers of anybody's score files, in the challenge's format

    A SYSTEM is a folder of anomaly_score_*.csv (and decision_result_*.csv) of any year, 2020 to 2026. Judged are all of them
    on the same clips: the official score, AUC per unit and pooled, intervals, paired differences to a reference, and what the
    decisions are worth. Labels come from the names of the clips (normal, anomaly), from the tables of 2020 to 2022 in this
    package, or from --labels. A clip without a score is refused; a unit or machine type without any leaves the averages over
    it undefined.

    Example: auscult evaluate teams/ours teams/theirs --reference theirs --out evaluation
    """
    parser.add_argument("systems", metavar="SYSTEM", nargs="+", help="a folder of score files; NAME=FOLDER names it")
    parser.add_argument(
        "--rules", "--year", choices=_YEARS, default="", help="year whose rules judge; default: as the files are named"
    )
    parser.add_argument(
        "--labels",
        default="",
        metavar="LIST",
        help="a csv with the columns machine,file,anomaly[,domain], a list or folder of the challenge's, a table of this package "
        "(dcase2020 to dcase2022), or `names`",
    )
    parser.add_argument("--reference", default="", metavar="NAME", help="differences are to it; default: the last")
    parser.add_argument("--out", type=Path, metavar="FOLDER", help="write tables and pictures, replaced as a whole")
    parser.add_argument("--html", type=Path, metavar="FOLDER", help="write the page of results, likewise")
    parser.add_argument("--json", action="store_true", help="every number, for programs")
    return _run


def _run(arguments: Namespace) -> int:
    from auscult.detector.places import require_folder

    systems = _systems(arguments.systems)
    for folder in systems.values():
        require_folder(folder, "score files", "name a folder of anomaly_score_*.csv")
    from auscult.results.evaluated import evaluate_systems
    from auscult.settings.schema import Evaluate

    found = evaluate_systems(
        systems,
        arguments.rules,
        arguments.labels,
        Evaluate(reference=arguments.reference),
        arguments.out,
        arguments.html,
    )
    if arguments.json:
        print(json.dumps(found.facts(), indent=1, allow_nan=False))
        return 0
    _print(found)
    for path in (arguments.out and arguments.out / "table.md", arguments.html and arguments.html / "index.html"):
        if path:
            print(f"written: {path}")
    return 0


def _systems(texts: list[str]) -> dict[str, Path]:
    """Name -> folder."""
    from auscult.data.names.encoding import safe
    from auscult.errors import AuscultError

    found: dict[str, Path] = {}
    for text in texts:
        name, mark, folder = text.partition("=")
        path = Path(folder if mark and not Path(text).exists() else text)
        name = safe(name if mark and path == Path(folder) else path.absolute().name)
        if name in found:
            what = f"two systems are called `{name}`"
            raise AuscultError(what, f"{found[name]}, {path}", "give one another name: NAME=FOLDER")
        found[name] = path
    return found


def _print(found: Evaluation) -> None:
    from auscult.results.names import CONVENTIONS, SETS

    year = f"DCASE {found.year}" if found.year else f"the rules {found.rules.scheme}"
    clips, machines = len(found.truth), found.truth["machine"].nunique()
    units = len(found.truth[["machine", "unit"]].drop_duplicates())
    print(f"{year}; {clips} clips of {units} units of {machines} machine type(s); labels: {found.labels}")
    official = "hmean" if found.rules.domains else "mean"
    metrics = [*found.rules.parts, "official"]
    if not found.rules.domains:
        metrics.insert(2, "mauc")
    for key, rows in found.summary.groupby(["set", "convention"], sort=True):
        which, convention = str(key[0]), str(key[1])
        if which != "all":
            print(f"\n{SETS[which]}, {CONVENTIONS[convention]}; percent")
            print_table(_table(rows, metrics, official, found))
    both = found.summary[(found.summary["set"] == "all") & (found.summary["metric"] == "official")]
    for row in both.itertuples(index=False):
        print(f"\nboth sets, {CONVENTIONS[str(row.convention)]}: {row.arm} {_number(row)}")
    _print_reasons(found)
    if len(found.decisions):
        print("\ndecisions, percent: mean over units and domains")
        shown = ["precision", "recall", "f1", "false_alarms"]
        means = 100 * found.decisions.groupby(["system", "set"], sort=False)[shown].mean()
        words = means.map(lambda share: f"{share:.1f}").reset_index().to_numpy(dtype=str)
        print_table([("system", "set", "precision", "recall", "F1", "false alarms"), *words.tolist()])


def _table(rows: pd.DataFrame, metrics: list[str], official: str, found: Evaluation) -> list[list[str]]:
    """Heading, and a row for each machine type and system; the average last."""
    from auscult.evaluation.evaluate import machine_order
    from auscult.results.names import METRICS, machine_name

    shown = [metric for metric in metrics if metric in set(rows["metric"])]
    cells = {(str(row.machine), row.arm, row.metric): row for row in rows.itertuples(index=False)}
    machines = sorted(
        {machine for machine, *_ in cells} - ({"mean"} if official == "hmean" else set()), key=machine_order
    )
    several = len(found.systems) > 1
    key = ["set", "convention", "machine", "arm", "metric"]
    where = tuple(rows[["set", "convention"]].iloc[0])
    apart = {tuple(row[name] for name in key): row for row in found.differences.to_dict("records")}
    table = [
        ["machine", "system", *(METRICS[metric] for metric in shown), *(["to " + found.reference] if several else [])]
    ]
    for machine in machines:
        for system in found.systems:
            numbers = [_number(cells.get((machine, system, metric))) for metric in shown]
            difference = apart.get((*where, machine, system, "official"))
            table.append([machine_name(machine), system, *numbers, *([_difference(difference)] if several else [])])
    return table


def _number(row: Any) -> str:
    if row is None:
        return ""
    return "undefined" if math.isnan(row.value) else f"{row.value:.2f} [{row.ci_low:.1f}, {row.ci_high:.1f}]"


def _difference(row: Mapping[Any, Any] | None) -> str:
    if row is None:
        return "reference"
    if row["verdict"] == "undefined":
        return "undefined"
    return f"{row['difference']:+.2f} [{row['ci_low']:.1f}, {row['ci_high']:.1f}] {row['verdict']}"


def _print_reasons(found: Evaluation) -> None:
    """Why numbers of machine types are undefined, once each."""
    from auscult.evaluation.aggregation import AGGREGATES
    from auscult.evaluation.evaluate import undefined

    why = undefined(found.summary)
    why = why[~why["machine"].isin(AGGREGATES)]
    lines = [f"undefined: {row.arm}, {row.set}, {row.machine}: {row.reason}" for row in why.itertuples(index=False)]
    if lines:
        print()
    for line in dict.fromkeys(lines):
        print(line)
