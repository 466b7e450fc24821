"""The results tables of README.md, from the committed metrics: `python -m auscult.reporting.readme` writes them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from auscult.errors import AuscultError
from auscult.files import atomic_file
from auscult.reporting.names import METRICS, backend_name

# Which numbers a profile's short table shows: (metric, machine), under the per-unit convention of the development set.
SHOWN = {
    "synthetic": [("auc", "mean"), ("pauc", "mean"), ("mauc", "mean")],
    "dcase2023_valve": [("auc_source", "valve"), ("auc_target", "valve"), ("pauc", "valve"), ("official", "valve")],
}


def short_table(summary: pd.DataFrame, columns: list[tuple[str, str]]) -> str:
    """Markdown: one row per arm and back-end, one column per (metric, machine), percent with the interval."""
    rows = summary[(summary["set"] == "dev") & (summary["convention"] == "per_unit")]
    values = {(r.arm, r.backend, r.metric, r.machine): r for r in rows.itertuples(index=False)}
    head = ["arm", "score", *(METRICS.get(metric, metric) for metric, _ in columns)]
    lines = ["| " + " | ".join(head) + " |", "|---|---|" + "---:|" * len(columns)]
    for arm, backend in rows[["arm", "backend"]].drop_duplicates().itertuples(index=False):
        cells = [_cell(values.get((arm, backend, *column))) for column in columns]
        lines.append("| " + " | ".join([f"`{arm}`", backend_name(backend), *cells]) + " |")
    return "\n".join(lines)


def _cell(row: Any) -> str:
    if row is None or pd.isna(row.value):
        return "undefined"
    return f"{row.value:.1f} [{row.ci_low:.1f}, {row.ci_high:.1f}]"


FIGURES = ("value", "reference", "ratio")


def speed_table(benchmarks: pd.DataFrame) -> str:
    """Markdown: what users wait for, that is wall time with two threads or as many workers as measured."""
    rows = benchmarks[~benchmarks["unit"].str.contains("processor") & ~benchmarks["variant"].str.contains("threads 1")]
    lines = ["| what | | ours | reference | ratio |", "|---|---|---:|---:|---:|"]
    for row in rows.to_dict("records"):
        cells = [f"{row['benchmark']}: {row['variant']}", row["unit"], *(f"{row[key]:g}" for key in FIGURES)]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def updated(text: str, metrics: Path) -> str:
    """`text` with the part between `<!-- results: NAME -->` or `<!-- benchmarks -->` and `<!-- end -->` made anew."""
    tables = {
        f"results: {name}": short_table(pd.read_csv(metrics / name / "summary.csv"), columns)
        for name, columns in SHOWN.items()
    }
    tables["benchmarks"] = speed_table(pd.read_csv(metrics / "benchmarks.csv"))
    for name, table in tables.items():
        before, opened, rest = text.partition(f"<!-- {name} -->\n")
        _, closed, after = rest.partition("<!-- end -->")
        if not opened or not closed:
            raise AuscultError(f"README.md has no markers for `{name}`")
        text = f"{before}{opened}{table}\n{closed}{after}"
    return text


def main(root: Path = Path()) -> None:
    text = updated((root / "README.md").read_text(), root / "metrics")
    with atomic_file(root / "README.md") as part:
        part.write_text(text)


if __name__ == "__main__":
    main()
