"""What each year's official evaluator computes, written down again from its description, in plain loops over files.

Nothing here shares code with the package: areas are scikit-learn's, harmonic means SciPy's, and scores and answers are read
from files and put side by side by the order of the file names, as the evaluators do.

    2020  https://github.com/y-kawagu/dcase2020_task2_evaluator
    2021  https://github.com/y-kawagu/dcase2021_task2_evaluator
    2022  https://github.com/Kota-Dohi/dcase2022_evaluator
    2023  https://github.com/nttcslab/dcase2023_task2_evaluator, and 2024 likewise with 2022's numbers
"""

from __future__ import annotations

import csv
import sys
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.stats import hmean
from sklearn.metrics import roc_auc_score

Numbers = dict[tuple[str, str, str], float]  # (machine, unit, metric) -> fraction


def read(path: Path) -> np.ndarray:
    """Second column of a headless csv, rows in the order of the first."""
    with path.open(newline="") as stream:
        rows = sorted(csv.reader(stream))
    assert all(len(row) == 2 for row in rows)
    return np.array([float(value) for _, value in rows])


def write_answers(truth: pd.DataFrame, folder: Path, scheme: str) -> None:
    """Answers as the evaluators keep them: `data/` (1 = anomaly) and `domain/` (1 = target), one file per scored file.

    Args:
        truth: name, machine, unit, anomaly (0/1), domain.
    """
    by = ["machine", "unit", "domain"] if scheme == "dcase2021" else ["machine", "unit"]
    for kind in ("data", "domain"):
        (folder / kind).mkdir(parents=True)
    for key, rows in truth.groupby(by):
        stem = f"{key[0]}_id_{key[1]}" if scheme == "dcase2020" else f"{key[0]}_section_{'_'.join(key[1:])}_test"
        for kind, values in (("data", rows["anomaly"]), ("domain", (rows["domain"] == "target").astype(int))):
            lines = [f"{name},{value}\n" for name, value in zip(rows["name"], values, strict=True)]
            (folder / kind / f"{stem}.csv").write_text("".join(lines))


def numbers(scores: Path, answers: Path, scheme: str) -> Numbers:
    """Every number that enters a score, from folders of files.

    Args:
        scores: `anomaly_score_*.csv`.
        answers: as `write_answers` leaves them.
    """
    found: Numbers = {}
    for truth in sorted((answers / "data").iterdir()):
        machine, _, unit, *domain = truth.stem.split("_")
        y, target = read(truth), read(answers / "domain" / truth.name)
        s = read(scores / f"anomaly_score_{truth.name}")
        assert len(s) == len(y)
        if scheme == "dcase2022":
            for name, is_target in (("source", 0), ("target", 1)):
                keep = (target == is_target) | (y != 0)
                found[machine, unit, f"auc_{name}"] = float(roc_auc_score(y[keep], s[keep]))
            found[machine, unit, "pauc"] = float(roc_auc_score(y, s, max_fpr=0.1))
        else:
            suffix = f"_{domain[0]}" if scheme == "dcase2021" else ""
            found[machine, unit, f"auc{suffix}"] = float(roc_auc_score(y, s))
            found[machine, unit, f"pauc{suffix}"] = float(roc_auc_score(y, s, max_fpr=0.1))
    return found


def official(found: Numbers, scheme: str, machine: str = "") -> float:
    """Official score of a set, or of one machine type of it.

    Of 2020 there is no single one (the challenge ranked): the mean over machine types of the evaluator's averages over ids
    of AUC and pAUC.
    """
    machines = [machine] if machine else sorted({key[0] for key in found})
    if scheme == "dcase2020":
        averages = []
        for name in machines:
            per_id = [[v for (m, _, metric), v in found.items() if (m, metric) == (name, k)] for k in ("auc", "pauc")]
            averages.append(np.mean(per_id, axis=1))
        return float(np.mean(averages))
    values = [value for key, value in found.items() if key[0] in machines]
    return float(hmean(np.maximum(values, sys.float_info.epsilon)))
