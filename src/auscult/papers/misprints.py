"""Printed numbers that contradict other printed numbers: what is said beside them, never a correction."""

from __future__ import annotations

from typing import NamedTuple


class Misprint(NamedTuple):
    """A printed cell that cannot be right, or a row to read with care.

    Attributes:
        table, method, split, machine, metric: the cell, as `printed` names it; an empty `machine`, `split` or `metric`
            means all of the row's.
        text: what is wrong, for readers of a table that shows the cell.
    """

    table: str
    method: str
    split: str
    machine: str
    metric: str
    text: str


def _average(cells: str) -> str:
    return f"the printed cells of this row average {cells}"


_FAN_OR_PUMP = (
    "the paper prints 87.12 for fan and for pump; with the printed average the fan value would be 94.01, so it is "
    "probably a copy of the pump's"
)
_SHIFTED = "the paper's columns of this row are probably in another order than its heading; only the average is of use"
_ROWS_SLIPPED = "the paper's `all` values of ATST and AST seem to have slipped a row"
_ELSEWHERE = "the average seems to come from a source that averages in another way; "
_UNITS = "the average is close to one over the 23 units instead of the 6 types; "

MISPRINTS = (
    Misprint("os_scl_table2", "MobileNetV2", "dev", "mean", "auc", _ELSEWHERE + _average("84.00")),
    Misprint("os_scl_table2", "Glow_Aff", "dev", "mean", "auc", _UNITS + _average("84.67")),
    Misprint("os_scl_table2", "Glow_Aff", "dev", "mean", "pauc", _UNITS + _average("73.33")),
    Misprint("os_scl_table2", "TFSTgram(OS-SCL)", "dev", "mean", "pauc", _average("90.26")),
    Misprint("os_scl_table3", "TFSTgram(OS-SCL)", "dev", "mean", "pauc", _average("90.26")),
    Misprint("os_scl_table3", "STgram(OS-SCL)", "dev", "fan", "pauc", _FAN_OR_PUMP),
    Misprint("os_scl_table3", "STgram(OS-SCL)", "dev", "pump", "pauc", _FAN_OR_PUMP),
    Misprint("os_scl_table3", "STgram(OS-SCL)", "dev", "mean", "pauc", _average("88.19")),
    Misprint(
        "os_scl_table5", "AnoPatch(ATST)", "all", "mean", "mean_auc_pauc", _ROWS_SLIPPED + "; " + _average("86.71")
    ),
    Misprint(
        "os_scl_table5", "AnoPatch(AST)", "all", "mean", "mean_auc_pauc", _ROWS_SLIPPED + "; " + _average("85.71")
    ),
    Misprint("os_scl_table5", "AnoPatch(BEATS)", "all", "mean", "mean_auc_pauc", _average("92.61")),
    Misprint("anopatch_table1", "MFN", "all", "mean", "mean_auc_pauc", _average("90.42")),
    Misprint("anopatch_table1", "AnoPatch (Ours)", "all", "mean", "mean_auc_pauc", _average("92.61")),
    Misprint("han_table06", "MFN", "all", "mean", "mean_auc_pauc", _average("90.42")),
    Misprint("han_table06", "Glow aff", "dev", "mean", "mean_auc_pauc", _average("79.00")),
    Misprint("han_table06", "ASD-AFPA", "", "", "", _SHIFTED),
    Misprint("han_table06", "PAE", "", "", "", _SHIFTED),
)


def misprint(table: str, method: str, split: str, machine: str, metric: str) -> str:
    """What is known to be wrong with a printed cell; "" when nothing is."""
    for known in MISPRINTS:
        cell = (split, machine, metric)
        if (known.table, known.method) == (table, method) and all(
            stated in ("", asked) for stated, asked in zip(known[2:5], cell, strict=True)
        ):
            return known.text
    return ""
