"""Columns of the papers: printed numbers stand below ours, and the average has its distance to the paper's."""

from __future__ import annotations

import math

import pandas as pd

from auscult.results.cells import CELL_COLUMNS
from auscult.results.names import COSTS
from auscult.results.page.gather import Group
from auscult.results.page.tables import blocks


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
    own[0] |= {"parameters": 5.0}
    group = Group("project", "Ours", pd.DataFrame(own + printed + other), "mine")
    measured = pd.DataFrame([("mine", 5.0, math.nan, 3.0, math.nan)], columns=["arm", *COSTS])
    ((choice, found),) = blocks(group, measured, {"mine": "native"})
    assert choice.key == "project.dev.pooled.auc"
    heads = [column.title for column in found.table.columns]
    assert heads[:6] == ["arm", "score", "fan", "average", "difference", "to the paper"]
    assert heads[6:] == [COSTS["parameters"], COSTS["train_seconds"]], "what nobody knows has no column"
    mine, theirs = found.table.rows
    assert [c.printed for c in mine.cells[2:4]] == ["85.1", "84.25"]
    difference, gap = mine.cells[4:6]
    assert (difference.text, difference.interval, difference.mark) == ("-1.2", (-2.0, -0.5), "better")
    assert (gap.text, gap.value, gap.difference) == ("-1.8", 82.5 - 84.25, "of 84.25")
    assert found.is_headline(mine)
    assert theirs.arm == ""
    assert theirs.cells[1].text.startswith("Other (")
    assert [c.text for c in theirs.cells[2:4]] == ["90.0", "90.0"]
