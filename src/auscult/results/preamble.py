"""What is said above every table: how to read its numbers, differences and costs."""

from __future__ import annotations

import pandas as pd

from auscult.papers import table_name
from auscult.results.names import backend_name

_PAIRED = "Bold: better than every other row of the block, by the paired bootstrap interval of the difference."
_APART = "Bold: the best, and its interval overlaps that of no other row of the block."


def preamble(
    cells: pd.DataFrame, level: float, paired: bool, reference: tuple[str, str], costs: pd.DataFrame | None
) -> list[str]:
    """Paragraphs of plain text; `code` stands between back quotes.

    Args:
        cells: of one table.
        level: coverage of the intervals.
        paired: whether bold rests on paired differences.
        reference: (arm, back-end) of the differences; ("", "") when there are none.
        costs: as `tables.Beside.costs`.
    """
    coverage = f"{100 * level:g} %"
    numbers = f"Percent, with the {coverage} bootstrap interval over test clips in brackets."
    if (cells["seeds"] > 1).any():
        numbers += " With ±: mean and sample standard deviation over training seeds, the interval over clips and seeds."
    numbers += " Each block forms its numbers as its title says; numbers of different blocks do not compare."
    lines = [f"{numbers} {_PAIRED if paired else _APART}"]
    if reference[0]:
        lines.append(
            f"Difference: average of the row minus average of `{reference[0]}` ({backend_name(reference[1])}), percentage "
            f"points, paired over test clips, with its {coverage} interval. A tie: the interval contains zero. Each row is "
            "judged by itself; with many rows some differ by chance."
        )
    papers = [table_name(name) for name in dict.fromkeys(cells["printed_table"]) if name]
    if papers:
        lines.append(f"In italics, as printed: {'; '.join(papers)}.")
    if costs is not None:
        lines.append(_costs(costs))
    return lines


def _costs(costs: pd.DataFrame) -> str:
    devices = [str(device) for device in dict.fromkeys(costs["device"].dropna()) if device]
    where = f" on {', '.join(devices)}" if devices else ""
    return (
        "Costs, once per arm: parameters of its networks and multiply-accumulate operations per clip, in millions; seconds "
        f"of training and clips embedded per second, measured{where}. These two differ from run to run. Means over seeds."
    )
