"""The results tables of README.md, from the committed metrics: `python -m auscult.results.readme` writes them."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from auscult.errors import AuscultError
from auscult.files import atomic_file
from auscult.results.names import COSTS, METRICS, UNKNOWN, backend_name
from auscult.results.render import amount_text

# Which numbers a profile's short table shows: (metric, machine), under the per-unit convention of the development set.
SHOWN = {
    "synthetic": [("auc", "mean"), ("pauc", "mean"), ("mauc", "mean")],
    "dcase2023_valve": [("auc_source", "valve"), ("auc_target", "valve"), ("pauc", "valve"), ("official", "valve")],
}

SHOWN_COSTS = ("parameters", "train_seconds")


def short_table(summary: pd.DataFrame, columns: list[tuple[str, str]], costs: pd.DataFrame | None = None) -> str:
    """Markdown: one row per arm, by its own score or, when it has none, its first back-end.

    Args:
        summary: long table of `evaluation.evaluate`.
        columns: (metric, machine) of each column; percent, standard deviation over training seeds, interval.
        costs: of `results.arm_costs`; also says which arms there are, run or not.
    """
    rows = summary[(summary["set"] == "dev") & (summary["convention"] == "per_unit")]
    values = {(r.arm, r.backend, r.metric, r.machine): r for r in rows.itertuples(index=False)}
    amounts = {} if costs is None else {row["arm"]: row for row in costs.to_dict("records")}
    head = ["arm", "score", *(METRICS.get(metric, metric) for metric, _ in columns)]
    head += [COSTS[name] for name in SHOWN_COSTS] if amounts else []
    lines = ["| " + " | ".join(head) + " |", "|---|---|" + "---:|" * (len(head) - 2)]
    for arm in dict.fromkeys([*amounts, *rows["arm"]]):
        backends = list(dict.fromkeys(rows.loc[rows["arm"] == arm, "backend"]))
        if backends:
            backend = "native" if "native" in backends else backends[0]
            cells = [backend_name(backend), *(_cell(values.get((arm, backend, *column))) for column in columns)]
        else:
            cells = ["", *["not run"] * len(columns)]
        cells += [_amount(amounts.get(arm, {}), name) for name in SHOWN_COSTS] if amounts else []
        lines.append("| " + " | ".join([f"`{arm}`", *cells]) + " |")
    return "\n".join(lines)


def _cell(row: Any) -> str:
    if row is None or pd.isna(row.value):
        return "undefined"
    spread = "" if pd.isna(getattr(row, "std", None)) else f" ± {row.std:.1f}"
    return f"{row.value:.1f}{spread} [{row.ci_low:.1f}, {row.ci_high:.1f}]"


def _amount(amounts: Mapping[Hashable, Any], name: str) -> str:
    amount = float(amounts.get(name, float("nan")))
    return UNKNOWN if pd.isna(amount) else amount_text(amount / (1e6 if "(M)" in COSTS[name] else 1))


FIGURES = ("value", "reference", "ratio")
BESIDE = ("epoch vs authors", "train_step", "loading", "gather", "pack")
"""Benchmarks whose reference is another program; of the others it is a limit or a whole."""


def speed_table(benchmarks: pd.DataFrame) -> str:
    """Markdown: what users wait for, beside another program: wall time, with two threads or workers."""
    measured = benchmarks["reference"].notna() & ~benchmarks["unit"].str.contains("processor|of sound")
    measured &= benchmarks["benchmark"].isin(BESIDE)
    rows = benchmarks[measured & ~benchmarks["variant"].str.contains(r"threads 1|1 worker|of 18 s")]
    lines = ["| what | | ours | reference | ratio |", "|---|---|---:|---:|---:|"]
    for row in rows.to_dict("records"):
        cells = [f"{row['benchmark']}: {row['variant']}", row["unit"], *(f"{row[key]:g}" for key in FIGURES)]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _costs(folder: Path) -> pd.DataFrame | None:
    path = folder / "costs.csv"
    return pd.read_csv(path) if path.is_file() else None


def updated(text: str, metrics: Path) -> str:
    """`text` with the part between `<!-- results: NAME -->` or `<!-- benchmarks -->` and `<!-- end -->` made anew."""
    tables = {
        f"results: {name}": short_table(pd.read_csv(metrics / name / "summary.csv"), columns, _costs(metrics / name))
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
