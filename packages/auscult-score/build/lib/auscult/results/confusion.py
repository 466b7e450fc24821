"""Confusion of units for readers: heat maps, and short tables of the pairs that are confused most."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
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
from auscult.files import atomic_folder
from auscult.results.figures import MAP, heat_panel, panels, say
from auscult.results.table import Document, Table, plain_table
from auscult.results.text import markdown
from auscult.scoring.confusion import QUANTITIES, matrix

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


def write_confusions(tables: Mapping[str, pd.DataFrame], out: Path) -> None:
    """Of each arm the confusions as CSV and pictures, and table.md of all arms, into the folder `out`, replaced as a whole."""
    with atomic_folder(out) as part:
        for arm, table in tables.items():
            table.to_csv(part / f"{arm}.csv", index=False, float_format="%.4f", lineterminator="\n")
            for quantity in ("accepted", "auc"):
                plot_confusion(table, part / f"{arm}_{quantity}.png", quantity, arm)
        (part / "table.md").write_text(markdown(confusion_document(tables)), encoding="utf-8")


def confusion_document(tables: Mapping[str, pd.DataFrame], top: int = 10) -> Document:
    """Of each arm a table of one row per machine type, then the `top` pairs of units that are confused most.

    Pairs are ordered by the share accepted by the wrong detector; ties by AUC, lowest first.

    Args:
        tables: arm -> its confusions, columns as from `scoring.confusion.confusion`.
    """
    said = ["Normal test clips only, in percent. Means are over units and over pairs."]
    sections = [(f"`{arm}`", _tables(table, top)) for arm, table in tables.items()]
    return Document("Units of a machine type taken for each other", said, sections)


def _tables(table: pd.DataFrame, top: int) -> list[Table]:
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
    by_type = []
    for machine in sorted(own["machine"].unique(), key=machine_order):
        mine, crossed = own[own["machine"] == machine], pairs[pairs["machine"] == machine]
        shares = [1 - mine["accepted_value"].mean(), crossed["accepted_value"].mean(), crossed["auc_value"].min()]
        by_type.append([machine, str(len(mine)), f"{mine['accepted_clips'].sum():.0f}", *map(_percent, shares)])
    heads = [
        "machine",
        "units",
        "clips",
        "rejected by their own unit",
        "accepted by another unit",
        "lowest AUC of a pair",
    ]
    first = replace(plain_table(heads, by_type), caption="Machine types")

    pairs["place"] = pairs["machine"].map(machine_order)
    worst = (
        pairs[pairs["accepted_value"] > 0]
        .sort_values(
            ["accepted_value", "auc_value", "place", "unit", "other"], ascending=[False, True, True, True, True]
        )
        .head(top)
    )
    if pairs.empty:
        return [first, Table("Every machine type has one unit: there is none to take it for", [], [])]
    if worst.empty:
        return [first, Table("No normal clip was accepted by another unit's detector", [], [])]
    heads = ["machine", "clips of unit", "detector of unit", "accepted", "accepted by their own", "AUC", "false alarms"]
    strongest = [
        [
            str(row.machine), str(row.unit), str(row.other), _percent(row.accepted_value), _percent(row.accepted_value_own),
            _percent(row.auc_value), f"{row.nearest_clips:.0f}", _percent(row.nearest_value),
        ]
        for row in worst.itertuples(index=False)
    ]  # fmt: skip
    second = plain_table([*heads, "nearest to it"], strongest, labels=3)
    return [first, replace(second, caption="Strongest confusions")]


def _percent(value: Any) -> str:
    return "-" if np.isnan(value) else f"{100 * value:.1f}"
