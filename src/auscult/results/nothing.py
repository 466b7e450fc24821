"""Results of a study of which no arm was trained: the reasons, and no table."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

import pandas as pd

from auscult.evaluation.evaluate import SUMMARY_COLUMNS
from auscult.files import atomic_folder
from auscult.results.tables import write_arm_json


def all_left_out(arms: Iterable[str], absent: Mapping[tuple[str, str], str]) -> bool:
    """Whether every arm has said why none of its networks was trained."""
    return all((arm, "all") in absent for arm in arms)


def write_nothing(arms: Iterable[str], absent: Mapping[tuple[str, str], str], out: Path) -> None:
    """Write an empty summary.csv, an empty <arm>.json each, and not_trained.md with the reasons into the folder `out`.

    A study that waits for a checkpoint or a GPU must not stop the others in one `dvc repro -P`.
    """
    summary = pd.DataFrame(columns=SUMMARY_COLUMNS)
    lines = ["# No arm of this table has been trained here", ""]
    with atomic_folder(out) as part:
        summary.to_csv(part / "summary.csv", index=False, lineterminator="\n")
        for arm in arms:
            write_arm_json(summary, arm, part / f"{arm}.json")
            lines.append(f"* `{arm}`: {absent[arm, 'all']}")
        (part / "not_trained.md").write_text("\n".join(lines) + "\n", encoding="utf-8")
