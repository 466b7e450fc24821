"""What `auscult compare` recommends on the real valve, without a fault and with four known ones, and what that costs.

    PYTHONPATH=src python benchmarks/compare_valve.py             # some ten minutes; writes metrics/compare_valve.csv

Of the 100 normal clips 60 are learnt (15 of each of four working patterns, in one folder: a plant does not know of patterns), by
ten seeds; four of the 100 anomalies are known, drawn by the same. The other 40 normal clips and 96 anomalies are the test, which
`compare` never sees: bundles are fitted to the 60 and judge them as `auscult score` does. Every candidate is tested so, too. The
clips are used in place, by links.
"""

from __future__ import annotations

import contextlib
import io
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from auscult.detector import bundle
from auscult.detector.compare import compare
from auscult.detector.score import score_file
from auscult.detector.settings import FitSettings
from auscult.detector.trials import Trial
from common import ROOT, parser_of, valve_clips, write_table

TABLE = ROOT / "metrics" / "compare_valve.csv"
LEARNT, KNOWN, RATE = 15, 4, 0.1  # normal clips of a pattern, anomalies, false alarms


def linked(files: list[Path], folder: Path) -> Path:
    folder.mkdir()
    for file in files:
        (folder / file.name.replace("anomaly", "fault")).symlink_to(file)
    return folder


def tested(trial: Trial, normal: Path, work: Path, files: list[Path]) -> np.ndarray:
    """Which of the files a bundle of this candidate calls anomalous."""
    asked = FitSettings(trial.method, trial.values, rate=RATE)
    made = bundle.fit(normal, work / "b", asked, force=True)
    return np.array([score_file(made, file).anomalous for file in files])


def split(number: int, clips: pd.DataFrame) -> list[dict[str, Any]]:
    """A row per system: what it took, and the shares of test clips that are called anomalous."""
    rng = np.random.default_rng([0, number])
    normal = clips[clips["kind"] == "normal"]
    learnt = pd.concat([of.iloc[rng.permutation(len(of))[:LEARNT]] for _, of in normal.groupby("pattern", sort=True)])
    known = clips[clips["kind"] == "anomaly"].sample(KNOWN, random_state=rng.integers(2**31))
    test = clips.drop(index=[*learnt.index, *known.index])
    faulty = (test["kind"] == "anomaly").to_numpy()
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as name, contextlib.redirect_stderr(io.StringIO()):
        work = Path(name)
        folder, faults = linked(learnt["file"].tolist(), work / "n"), linked(known["file"].tolist(), work / "f")
        found = compare(folder, work, FitSettings(rate=RATE), faults=faults)
        called = [tested(trial, folder, work, test["file"].tolist()) for trial in found.trials]
        blind, seeing = replace(found, faults=None).verdict(), found.verdict()
    assert seeing.worth is not None
    promised = {
        "no fault known": {"promised_alarms": blind.rows[blind.take].alarms},
        "four faults known": {"promised_found": seeing.worth.found, "promised_alarms": seeing.worth.alarms},
    }
    systems = {"no fault known": blind.take, "four faults known": seeing.take}
    systems |= {f"always {trial.name}": place for place, trial in enumerate(found.trials)}
    for system, place in systems.items():
        shares = {"found": called[place][faulty].mean(), "alarms": called[place][~faulty].mean()}
        taken = found.trials[place].name
        rows.append({"system": system, "split": number, "taken": taken, **shares, **promised.get(system, {})})
    return rows


def summed_up(rows: pd.DataFrame) -> pd.DataFrame:
    """A row per system: how often it took what, and percentages of the test clips over the splits."""
    lines = []
    for system, of in rows.groupby("system", sort=False):
        counts = of["taken"].value_counts().sort_index().sort_values(ascending=False, kind="stable")
        line: dict[str, Any] = {"system": system, "splits": len(of)}
        for name in ("found", "alarms"):
            values = 100 * of[name]
            line |= {f"{name}_mean": values.mean(), f"{name}_sd": values.std()}
            line |= {f"{name}_lowest": values.min(), f"{name}_highest": values.max()}
        line |= {name: 100 * of[name].mean() for name in ("promised_found", "promised_alarms")}
        line["taken"] = "; ".join(f"{name}: {count}" for name, count in counts.items())
        lines.append(line)
    return pd.DataFrame(lines)


def main() -> None:
    arguments = parser_of(__doc__, splits=10, csv=TABLE).parse_args()
    torch.set_num_threads(1)
    root = valve_clips()
    official = pd.read_csv(root / "provenance.csv")
    clips = official["official_name"].str.extract(r"_test_(?P<kind>normal|anomaly)_.*(?P<pattern>pat_\d\d)")
    clips["file"] = [(root / path).resolve() for path in official["path"]]
    rows = []
    for number in range(arguments.splits):
        rows += split(number, clips)
        print(f"{number + 1} of {arguments.splits} splits", file=sys.stderr)
    write_table(summed_up(pd.DataFrame(rows)), arguments.csv)


if __name__ == "__main__":
    main()
