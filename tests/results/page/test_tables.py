"""Columns of the papers: printed numbers stand below ours, and the average has its distance to the paper's."""

from __future__ import annotations

import math

import pandas as pd

from auscult.results.page.gather import Group
from auscult.results.page.tables import block, choices
from auscult.results.tables import CELL_COLUMNS


def cell(arm: str, machine: str, value: float, **more: object) -> dict[str, object]:
    empty = dict.fromkeys(CELL_COLUMNS, math.nan) | dict.fromkeys(
        ("verdict", "printed_table", "printed_row", "printed", "note", "row_note", "arm"), ""
    )
    given = {"set": "dev", "convention": "pooled", "metric": "auc", "backend": "native", "best": False}
    return empty | given | {"arm": arm, "machine": machine, "value": value} | more


def test_printed_numbers_stand_beside_ours() -> None:
    own = [cell("mine", "fan", 80.0), cell("mine", "mean", 82.5, verdict="better", difference=-1.25)]
    own[1] |= {"difference_low": -2.0, "difference_high": -0.5}
    paper = {"printed_table": "os_scl_2", "printed_row": "Theirs"}
    printed = [cell("mine", m, math.nan, printed=text, **paper) for m, text in (("fan", "85.1"), ("mean", "84.25"))]
    other = [cell("", m, math.nan, printed="90.0", **{**paper, "printed_row": "Other"}) for m in ("fan", "mean")]
    group = Group("project", "Ours", pd.DataFrame(own + printed + other), "mine")
    ((choice, cells),) = choices(group)
    found = block(group, choice, cells, {"mine": "native"})
    assert found.columns[:4] == ["fan", "average", "difference", "to the paper"]
    mine, theirs = found.rows
    assert [c.printed for c in mine.cells[:2]] == ["85.1", "84.25"]
    assert (mine.cells[2].value, mine.cells[2].interval) == ("\u22121.2", "\u22122.0 to \u22120.5")
    assert (mine.cells[3].value, mine.cells[3].sort, mine.cells[3].interval) == ("\u22121.8", 82.5 - 84.25, "of 84.25")
    assert theirs.arm == ""
    assert theirs.score.startswith("Other")
    assert [c.value for c in theirs.cells[:2]] == ["90.0", "90.0"]
