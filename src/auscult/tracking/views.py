"""What MLflow's pages open with: saved views of an experiment, as its page keeps them in tags, and links to them.

A view is a filter, charts and columns. MLflow 3 has no way to save one but by hand, and keeps it in the experiment's tag
`mlflow.sharedViewState.<name>`; written here, it is listed under "Saved views" and opens by the links of `publish`. Should
another version of MLflow read that tag otherwise, it ignores it or says so: runs and their numbers do not depend on it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote

TAG = "mlflow.sharedViewState."
SIDE = "workflowType=machine_learning"
"""MLflow's pages have two sides and open on the other one, that of language models."""
PROJECT = "project"
"""Name of the group of runs that no study owns."""
UNTOLD = ("train.", "score.", "profile", "arm")
"""Params that say where and with which seeds a run was made, not what it is."""
MOST_AXES = 4  # params of a parallel-coordinates chart, beside three metrics; more cannot be read
AXIS = (
    8  # letters of a value on an axis: of a longer one MLflow cuts out the middle, and the panel's edge the beginning
)
HEADLINES = ("auc/mean", "pauc/mean", "official/mean", "official/hmean")
MOST_COLUMNS = 4  # params of the table, beside three metrics
COLUMN = 13  # letters of a value in a column
MOST_CURVES = 6
CURVES = ("curve/train_loss", "curve/valid_loss", "curve/lr")
AS_THEY_ARE: dict[str, Any] = {"lineSmoothness": 0, "useGlobalLineSmoothing": False, "xAxisKey": "step"}
"""MLflow smooths lines unless told otherwise."""

Run = tuple[Mapping[str, str], Mapping[str, float]]
"""Params and metrics of a run."""


def rows_of(study: str) -> str:
    """MLflow's filter for every run that is a row of a study's tables, whichever study owns its arm."""
    return f"tags.`auscult.rows` LIKE '%,{study or PROJECT},%'"


def differing(runs: Sequence[Run]) -> list[str]:
    """Params that tell `runs` apart: those that most runs have first, then by the number of their values.

    A param that some runs lack does not count unless two others differ in it.
    """
    values: dict[str, list[str]] = {}
    for params, _ in runs:
        for name, value in params.items():
            if not name.startswith(UNTOLD):
                values.setdefault(name, []).append(value)
    apart = [name for name, seen in values.items() if len(set(seen)) > 1]
    apart.sort(key=lambda name: (-len(values[name]), -len(set(values[name])), name))
    return apart


def readable(runs: Sequence[Run], letters: int) -> list[str]:
    """Of `differing`, those whose values have at most so many letters."""
    return [name for name in differing(runs) if all(len(params.get(name, "")) <= letters for params, _ in runs)]


def views(study: str, runs: Sequence[Run]) -> dict[str, tuple[str, str]]:
    """Key -> (title, content of the tag) of the views of a study's runs, or of the project's (`study` = "").

    Args:
        runs: the study's runs so far, of all its arms.
    """
    name = study or PROJECT
    metrics = set().union(*(measured for _, measured in runs)) if runs else set()
    headlines = [metric for metric in HEADLINES if metric in metrics][:3]
    axes = readable(runs, AXIS)[:MOST_AXES]
    columns = [f"metrics.`{metric}`" for metric in headlines]
    columns += [f"params.`{param}`" for param in readable(runs, COLUMN)[:MOST_COLUMNS]]
    curves = sorted(
        (metric for metric in metrics if metric.startswith("curve/")),
        key=lambda metric: (CURVES.index(metric) if metric in CURVES else len(CURVES), metric.count("."), metric),
    )
    bars = [_chart("BAR", f"{name}-bars", metricKey=metric) for metric in (*headlines, "cost/train_seconds")]
    lines = [
        _chart("LINE", f"{name}-curves", metricKey=metric, selectedMetricKeys=[metric], **AS_THEY_ARE)
        for metric in curves[:MOST_CURVES]
    ]
    across = {"selectedParams": axes, "selectedMetrics": headlines, "showAllRuns": True}
    of = {
        "compare": (f"{name}: settings and results", [_chart("PARALLEL", f"{name}-compare", **across), *bars]),
        "curves": (f"{name}: training curves", lines),
    }
    if not axes:
        of["compare"] = (f"{name}: results", bars)
    return {
        f"{name}-{kind}": (title, _envelope(title, _state(name, charts, columns)))
        for kind, (title, charts) in of.items()
        if charts
    }


def _chart(kind: str, section: str, **settings: Any) -> dict[str, Any]:
    label = settings.get("metricKey", "parallel")
    base = {
        "uuid": f"{section}-{label}",
        "type": kind,
        "metricSectionId": section,
        "deleted": False,
        "isGenerated": False,
    }
    return {**base, "runsCountToCompare": 100, **settings}


def _state(name: str, charts: list[dict[str, Any]], columns: list[str]) -> dict[str, Any]:
    order = next((column for column in columns if column.startswith("metrics.")), "metrics.`cost/parameters`")
    titles = {"bars": "Results", "compare": "What differs", "curves": "Training curves"}
    sections = list(dict.fromkeys(chart["metricSectionId"] for chart in charts))
    return {
        "searchFilter": rows_of("" if name == PROJECT else name),
        # By a metric: sorted by time, the page hides the runs below their study's.
        "orderByKey": order,
        "orderByAsc": False,
        "selectedColumns": columns,
        "compareRunCharts": charts,
        "compareRunSections": [
            {
                "uuid": uuid, "name": titles[uuid.rsplit("-", 1)[1]], "display": True, "isReordered": True,
                "deleted": False, "isGenerated": False, "columns": 1 if uuid.endswith("-compare") else 3, "cardHeight": 380,
            }
            for uuid in sections
        ],
        "isAccordionReordered": True,
        "runsHiddenMode": "SHOW_ALL",
    }  # fmt: skip


def _envelope(title: str, state: dict[str, Any]) -> str:
    # A constant for the time: equal runs make equal tags.
    return json.dumps({"name": title, "createdAt": 0, "state": json.dumps(state)})


def view_link(experiment: str, key: str) -> str:
    """Where the page of an experiment opens with a view; to be put after the server's address."""
    return f"#/experiments/{experiment}/runs?{SIDE}&compareRunsMode=CHART&viewStateShareKey={quote(key)}"


def compare_link(experiment: str, runs: Sequence[str]) -> str:
    """Runs (their ids) side by side, with parallel coordinates, scatter and box plots over any param."""
    ids = quote(json.dumps(list(runs), separators=(",", ":")))
    return f"#/compare-runs?runs={ids}&experiments={quote(json.dumps([experiment]))}&{SIDE}"


def overview(links: Mapping[str, str]) -> str:
    """Markdown for the experiment's description: a line per study. Folded, the page shows the first alone: the project's."""
    lines: dict[str, list[str]] = {PROJECT: []}
    for title, link in links.items():
        study, _, kind = title.partition(": ")
        lines.setdefault(study, []).append(f"[{kind}]({link})")
    return "\n\n".join(f"{study}: {', '.join(found)}" for study, found in lines.items() if found)
