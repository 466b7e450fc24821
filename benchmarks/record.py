"""The table of all measurements, metrics/benchmarks.csv: who writes a row again replaces it."""

from __future__ import annotations

import csv
import os
import platform
from collections.abc import Sequence
from pathlib import Path

COLUMNS = ("benchmark", "variant", "value", "unit", "reference", "ratio", "machine", "versions")
KEY = ("benchmark", "variant", "unit")
TABLE = Path(os.environ.get("BENCHMARKS_TABLE") or Path(__file__).parents[1] / "metrics" / "benchmarks.csv")
"""Where rows go: `run.py --csv` names another file."""


def record(rows: Sequence[dict[str, object]], path: Path = TABLE) -> None:
    """Put `rows` (columns `COLUMNS`; `machine` and `versions` are filled in) in the place of those with the same `KEY`."""
    rows = [{"machine": machine(), "versions": versions(), **row} for row in rows]
    new = {tuple(str(row[column]) for column in KEY) for row in rows}
    kept: list[dict[str, object]] = []
    if path.exists():
        with path.open(newline="") as file:
            kept = [dict(row) for row in csv.DictReader(file) if tuple(row[column] for column in KEY) not in new]
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(sorted([*kept, *rows], key=lambda row: tuple(str(row[column]) for column in KEY)))


def machine() -> str:
    """Processor and number of cores."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return f"{names[0] if names else platform.processor()}, {os.cpu_count()} cores"


def versions() -> str:
    import torch

    return f"torch {torch.__version__}, Python {platform.python_version()}"
