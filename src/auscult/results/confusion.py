"""Confusion of units for readers: heat maps, and a short table of the pairs that are confused most."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.patches import Rectangle

from auscult.errors import AuscultError
from auscult.evaluation.evaluate import machine_order
from auscult.evaluation.metrics import Floats
from auscult.files import atomic_file
from auscult.results.style import panels, say
from auscult.scoring.confusion import QUANTITIES, matrix

MAP = matplotlib.colormaps["Blues"]  # one hue, light to dark: reads the same without colour vision, and on paper
_MISSING = "#e2e2e2"
_WORDS = {  # of the colour bar, the rows and the columns
    "accepted": ("clips accepted (%)", "normal test clips of unit", "detector of unit"),
    "nearest": ("false alarms (%)", "false alarms of unit", "nearest other unit"),
    "auc": ("AUC against its own clips (%)", "normal test clips of unit", "distance to unit"),
}


def plot_confusion(table: pd.DataFrame, path: Path, quantity: str = "accepted", title: str = "") -> None:
    """One heat map per machine type, units as rows (whose clips) and columns (whose detector), the diagonal framed.

    Args:
        table: of `scoring.confusion.confusion`, one arm.
        path: PNG.
        quantity: "accepted", "nearest" or "auc".
        title: above the figure, such as the arm.

    Raises:
        AuscultError: an unknown quantity.
    """
    if quantity not in _WORDS:
        raise AuscultError(f"no such quantity: {quantity}", fix=f"one of: {', '.join(_WORDS)}")
    words, table = _WORDS[quantity], table[table["quantity"] == quantity]
    machines = sorted(table["machine"].unique(), key=machine_order)
    most = max((table.loc[table["machine"] == name, "unit"].nunique() for name in machines), default=1)
    side = 0.9 + 0.36 * max(most, 4)
    with panels(len(machines), path, size=(side + 0.2, side)) as (figure, axes):
        if not machines:
            say(axes[0], "no units to compare")
            return
        for axis, machine in zip(axes, machines, strict=True):
            _panel(axis, 100 * matrix(table, machine, quantity))
            axis.set_title(machine)
        scale = matplotlib.cm.ScalarMappable(Normalize(0, 100), MAP)
        figure.colorbar(scale, ax=list(axes), label=words[0], shrink=0.8, aspect=30, pad=0.02)
        figure.supxlabel(words[2], fontsize=11)
        figure.supylabel(words[1], fontsize=11)
        if title:
            figure.suptitle(title, fontsize=12)


def _panel(axis: Axes, percent: pd.DataFrame) -> None:
    units = [str(unit) for unit in percent.index]
    heat_panel(axis, percent.to_numpy(dtype=np.float64), units, units)
    for place in range(len(units)):
        axis.add_patch(Rectangle((place - 0.5, place - 0.5), 1, 1, fill=False, edgecolor="black", linewidth=1.4))


def heat_panel(
    axis: Axes,
    values: Floats,
    rows: list[str],
    columns: list[str],
    limits: tuple[float, float] = (0, 100),
    digits: int = 0,
    size: float = 9.5,
) -> None:
    """Cells [rows, columns] as colours of `MAP` between `limits`, each with its number; grey and a dash for NaN."""
    low, high = limits
    axis.set_facecolor(_MISSING)
    axis.imshow(np.ma.masked_invalid(values), cmap=MAP, vmin=low, vmax=high, interpolation="nearest", aspect="auto")
    for (row, column), value in np.ndenumerate(values):
        number: Any = "-" if np.isnan(value) else f"{value:.{digits}f}"
        colour = "#555555" if np.isnan(value) else "white" if value > low + 0.6 * (high - low) else "black"
        axis.text(column, row, number, ha="center", va="center", fontsize=size, color=colour)
    axis.set_xticks(range(len(columns)), columns, rotation=90 if max(map(len, columns)) > 3 else 0)
    axis.set_yticks(range(len(rows)), rows)
    axis.tick_params(length=0)
    axis.grid(visible=False)
    axis.spines[:].set_visible(False)


def write_confusions(tables: dict[str, pd.DataFrame], out: Path) -> None:
    """Of each arm the confusions as CSV, Markdown and pictures, into the folder `out`."""
    for arm, table in tables.items():
        table.to_csv(out / f"{arm}.csv", index=False, float_format="%.4f", lineterminator="\n")
        write_confusion(table, out / f"{arm}.md", f"Units of a machine type taken for each other by `{arm}`")
        for quantity in ("accepted", "auc"):
            plot_confusion(table, out / f"{arm}_{quantity}.png", quantity, arm)


def write_confusion(table: pd.DataFrame, path: Path, title: str, top: int = 10) -> None:
    """Write `confusion_markdown` to `path`, whole or not at all."""
    with atomic_file(path) as temporary:
        temporary.write_text(confusion_markdown(table, title, top), encoding="utf-8")


def confusion_markdown(table: pd.DataFrame, title: str, top: int = 10) -> str:
    """One row per machine type, then the `top` pairs of units with the highest share accepted by the wrong detector.

    Ties in that share are ordered by AUC, lowest first. Columns of `table` as from `scoring.confusion.confusion`, one arm.
    """
    pair = ["machine", "unit", "other"]
    wide = pd.DataFrame(columns=pair)
    for quantity in QUANTITIES:
        rows = table.loc[table["quantity"] == quantity, [*pair, "value", "clips"]]
        renamed = rows.rename(columns={"value": f"{quantity}_value", "clips": f"{quantity}_clips"})
        wide = wide.merge(renamed, on=pair, how="outer")
    own = wide[wide["unit"] == wide["other"]]
    pairs = wide[wide["unit"] != wide["other"]].merge(
        own[["machine", "unit", "accepted_value"]], on=["machine", "unit"], suffixes=("", "_own")
    )
    lines = [f"# {title}", "", "Normal test clips only, in percent. Means are over units and over pairs.", ""]
    lines += [
        "| machine | units | clips | rejected by their own unit | accepted by another unit | lowest AUC of a pair |"
    ]
    lines += ["|---|---:|---:|---:|---:|---:|"]
    for machine in sorted(own["machine"].unique(), key=machine_order):
        mine, crossed = own[own["machine"] == machine], pairs[pairs["machine"] == machine]
        cells = [1 - mine["accepted_value"].mean(), crossed["accepted_value"].mean(), crossed["auc_value"].min()]
        lines.append(f"| {machine} | {len(mine)} | {mine['accepted_clips'].sum():.0f} | {_cells(cells)} |")

    pairs["place"] = pairs["machine"].map(machine_order)
    worst = (
        pairs[pairs["accepted_value"] > 0]
        .sort_values(
            ["accepted_value", "auc_value", "place", "unit", "other"], ascending=[False, True, True, True, True]
        )
        .head(top)
    )
    lines += ["", "## Strongest confusions", ""]
    if pairs.empty:
        return "\n".join([*lines, "Every machine type has one unit: there is none to take it for.", ""])
    if worst.empty:
        return "\n".join([*lines, "No normal clip was accepted by another unit's detector.", ""])
    lines += [
        "| machine | clips of unit | detector of unit | accepted | accepted by their own | AUC | false alarms | nearest to it |"
    ]
    lines += ["|---|---|---|---:|---:|---:|---:|---:|"]
    for row in worst.itertuples(index=False):
        shares = _cells([row.accepted_value, row.accepted_value_own, row.auc_value])  # type: ignore[list-item]
        nearest = _cells([row.nearest_value])  # type: ignore[list-item]
        lines.append(f"| {row.machine} | {row.unit} | {row.other} | {shares} | {row.nearest_clips:.0f} | {nearest} |")
    return "\n".join([*lines, ""])


def _cells(values: list[float]) -> str:
    return " | ".join("-" if np.isnan(value) else f"{100 * value:.1f}" for value in values)
