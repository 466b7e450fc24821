"""The back-end that would be chosen without labels beside the one that labels pick; a veto by labels of the development set.

For the evaluation set the candidates whose development score is in the worst tenth are left out, as in DACo: a score that says
nothing is balanced. For the development set itself nothing is left out: its labels are those that the number is made of.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from auscult.results.arms import ArmFiles
from auscult.results.names import backend_name, set_name
from auscult.results.table import Cell, Column, Row, Table
from auscult.scoring.choice import chosen
from auscult.settings.schema import BackendSweep


class Choice(NamedTuple):
    """Of an arm and set.

    Attributes:
        chosen, balance: the entry and its criterion.
        vetoed: candidates left out, separated by blanks.
        value: headline number of the choice, percent; NaN where there is none.
        best, best_value: the candidate with the highest number, which labels of these clips picked.
        registered: SHA-256 of the choice.json that was written before a label was read; its pick is the one without veto.
    """

    arm: str
    set: str
    chosen: str
    balance: float
    vetoed: str
    value: float
    best: str
    best_value: float
    registered: str


def choices(arms: Mapping[str, ArmFiles], table: pd.DataFrame, sweep: BackendSweep) -> list[Choice]:
    """What would be chosen for each arm and set that has been registered.

    Args:
        table: of `backends.headline`.
        sweep: its candidates and veto.
    """
    numbers = table[(table["convention"] == "per_unit") & table["backend"].isin(sweep.choice.of)]
    found = []
    for arm, files in arms.items():
        folder = files.scores.parent / "choice"
        if not folder.is_dir():
            continue
        digest = hashlib.sha256((folder / "choice.json").read_bytes()).hexdigest()
        criteria = pd.read_csv(folder / "criteria.csv").query("arm == @arm")
        values = {
            str(name): of.set_index("backend")["value"] for name, of in numbers[numbers["arm"] == arm].groupby("set")
        }
        for name, of in criteria.groupby("set", sort=False):
            here = values.get(str(name), pd.Series(dtype=float)).dropna()
            out = vetoed(values["dev"], sweep.choice.veto) if name != "dev" and "dev" in values else []
            kept = of[~of["backend"].isin(out)]
            pick = chosen(kept)[arm][str(name)]
            balance = float(kept.loc[kept["backend"] == pick, "balance"].mean())
            best = str(here.idxmax()) if len(here) else ""
            number = float(here.get(pick, np.nan))
            found.append(
                Choice(
                    arm, str(name), pick, balance, " ".join(out), number, best, float(here.get(best, np.nan)), digest
                )
            )
    return found


def vetoed(dev: pd.Series, share: float) -> list[str]:
    """Candidates whose development score is no higher than the `share` quantile of all; none where there is one score.

    >>> vetoed(pd.Series({"a": 60.0, "b": 50.0, "c": 55.0}), 0.1)
    ['b']
    """
    dev = dev.dropna()
    return list(dev.index[dev <= dev.quantile(share)]) if dev.nunique() > 1 and share else []


def choice_table(rows: Sequence[Choice]) -> Table:
    """As a block of the table of all back-ends."""
    heads = [
        "arm",
        "set",
        "chosen without labels",
        "balance",
        "left out by dev score",
        "its number",
        "highest, by labels",
    ]
    found = []
    for row in rows:
        number = "" if np.isnan(row.value) else f"{row.value:.2f}"
        highest = f"{row.best_value:.2f} ({backend_name(row.best)})" if row.best else ""
        left_out = ", ".join(map(backend_name, row.vetoed.split()))
        texts = [set_name(row.set, ""), backend_name(row.chosen), f"{row.balance:.3f}", left_out, number, highest]
        found.append(Row([Cell(row.arm, style="code"), *map(Cell, texts)], row.arm))
    caption = "Chosen without labels, by domain balance of training clips (docs/backends.md)"
    return Table(caption, [Column(head, "label") for head in heads], found, ("", "", ""))
