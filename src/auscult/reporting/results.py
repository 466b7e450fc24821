"""Everything under metrics/<profile>/: evaluation of all arms at once, so that differences between them are paired."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from auscult.config import Evaluate, Profile
from auscult.errors import AuscultError
from auscult.evaluation import best, replicate, summarise, undefined
from auscult.files import atomic_folder
from auscult.reporting.figures import (
    plot_histograms,
    plot_history,
    plot_roc,
    plot_summary,
    roc_points,
    write_roc_csv,
)
from auscult.reporting.tables import write_arm_json, write_tables


def write_results(
    profile: Profile, evaluate: Evaluate, scores: dict[str, Path], labels: Path, histories: dict[str, Path], out: Path
) -> None:
    """Evaluate the arms in `scores` (arm -> parquet) against `labels` and write summary, tables, JSON and plots into `out`.

    Args:
        histories: arm -> history.csv of its training.

    Raises:
        AuscultError: the score file of an arm is missing.
    """
    missing = [arm for arm, path in scores.items() if not path.is_file()]
    if missing:
        raise AuscultError(
            f"arms without scores: {', '.join(missing)}", str(next(iter(scores.values())).parent), "dvc repro"
        )
    table = pd.concat([pd.read_parquet(path).assign(arm=arm) for arm, path in scores.items()], ignore_index=True)
    truth = pd.read_parquet(labels)
    result = replicate(table, truth, profile.rules, evaluate.replicates, evaluate.seed)
    summary = summarise(result, evaluate.level)
    with atomic_folder(out) as part:
        summary.to_csv(part / "summary.csv", index=False, float_format="%.4f", lineterminator="\n")
        tops, reasons = best(result, evaluate.level), undefined(summary)
        write_tables(summary, profile.name, profile.dataset, part, list(scores), tops, reasons)
        plots = part / "plots"
        plots.mkdir()
        for arm in scores:
            write_arm_json(summary, arm, part / f"{arm}.json")
        for set_name in sorted(table["set"].unique()):
            suffix = "" if set_name == "dev" else f"_{set_name}"
            points = roc_points(table, truth, set_name=set_name)
            write_roc_csv(points, plots / f"roc{suffix}.csv")
            plot_roc(points, plots / f"roc{suffix}.png", profile.rules.max_fpr)
            plot_summary(summary, plots / f"auc{suffix}.png", set_name=set_name)
            for arm in scores:
                plot_histograms(table, truth, arm, plots / f"scores{suffix}_{arm}.png", set_name=set_name)
        for arm, path in histories.items():
            history = pd.read_csv(path)
            if len(history):
                plot_history(history, plots / f"training_{arm}.png", arm)
                history.to_csv(plots / f"training_{arm}.csv", index=False)
