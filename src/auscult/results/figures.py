"""Pictures of results with one look: off-screen, colour-blind safe, same bytes for the same numbers; PNG, PDF or SVG by name."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from auscult.evaluation.metrics import Floats
from auscult.files import atomic_file
from auscult.results.names import CONVENTIONS, METRICS, SETS, backend_name

# Okabe and Ito's palette without its yellow, which is too pale on white.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
LINES = ("-", "--", "-.", ":")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
MAP = matplotlib.colormaps["Blues"]  # one hue, light to dark: reads the same without colour vision, and on paper
_MISSING = "#e2e2e2"

_SETTINGS: Any = {
    "font.family": "DejaVu Sans",  # shipped with matplotlib: the same on every machine
    "font.size": 11,
    "axes.titlesize": 12,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#e4e4e4",
    "grid.linewidth": 0.8,
    "axes.axisbelow": True,
    "legend.frameon": False,
    "lines.linewidth": 1.8,
    "figure.constrained_layout.use": True,
    "pdf.fonttype": 42,  # letters stay letters, as publishers ask
    "svg.fonttype": "none",
    "svg.hashsalt": "auscult",
}
FORMATS: dict[str, Any] = {
    ".png": {"dpi": 150, "metadata": {"Software": None}},
    ".pdf": {"metadata": {"CreationDate": None, "Producer": None, "Creator": None}},
    ".svg": {"metadata": {"Date": None, "Creator": None}},
}
"""Suffix -> how it is saved: with neither a date nor the version of the software."""


def look(index: int) -> dict[str, Any]:
    """Colour, line style and marker of the `index`-th series; distinguishable without colour, never the same twice in 28."""
    return {
        "color": COLOURS[index % len(COLOURS)],
        "linestyle": LINES[(index + index // len(COLOURS)) % len(LINES)],
        "marker": MARKERS[index % len(MARKERS)],
    }


@contextmanager
def panels(
    count: int,
    path: Path,
    size: tuple[float, float] = (3.4, 3.0),
    columns: int = 3,
    legend: Sequence[str] = (),
) -> Iterator[tuple[Figure, Sequence[Axes]]]:
    """A figure with `count` panels of `size` inches, and room for the entries of a legend, saved on success in the format
    that the name of `path` says, of `FORMATS`."""
    count = max(1, count)
    across = min(columns, count)
    down = -(-count // across)
    width = max(across * size[0], 4.6)
    rows = -(-len(legend) // _legend_columns(legend, width)) if legend else 0
    with matplotlib.rc_context(_SETTINGS):
        figure = Figure(figsize=(width, down * size[1] + 0.15 + 0.24 * rows))
        flat = list(figure.subplots(down, across, squeeze=False).flat)
        for unused in flat[count:]:
            unused.set_visible(False)
        yield figure, flat[:count]
        with atomic_file(path) as temporary:
            figure.savefig(temporary, **FORMATS[path.suffix.lower()])


def add_legend(figure: Figure, entries: Mapping[str, Any], where: str = "lower") -> None:
    """One legend for all panels, "lower" or "upper", in as many columns as the width of the figure allows."""
    columns = _legend_columns(list(entries), figure.get_figwidth())
    loc: Any = f"outside {where} center"
    figure.legend(list(entries.values()), list(entries), loc=loc, ncols=columns)


def say(axis: Axes, text: str) -> None:
    """Say on an empty panel why it is empty."""
    axis.set_axis_off()
    axis.text(0.5, 0.5, text, transform=axis.transAxes, ha="center", va="center", color="#555555", wrap=True)


def _legend_columns(entries: Sequence[str], width: float) -> int:
    longest = max((len(entry) for entry in entries), default=1)
    return max(1, min(len(entries), int(width / (0.085 * longest + 0.75))))


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
        number, colour = f"{value:.{digits}f}", "black"
        if np.isnan(value):
            number, colour = "-", "#555555"
        elif value > low + 0.6 * (high - low):
            colour = "white"
        axis.text(column, row, number, ha="center", va="center", fontsize=size, color=colour)
    axis.set_xticks(range(len(columns)), columns, rotation=90 if max(map(len, columns)) > 3 else 0)
    axis.set_yticks(range(len(rows)), rows)
    axis.tick_params(length=0)
    axis.grid(visible=False)
    axis.spines[:].set_visible(False)


def plot_summary(
    summary: pd.DataFrame,
    path: Path,
    metric: str = "auc",
    convention: str = "per_unit",
    set_name: str = "dev",
    machine: str = "mean",
    arms: Sequence[str] = (),
    backends: Sequence[str] = (),
) -> None:
    """One row per arm from top to bottom: one number with its interval, by each back-end.

    Args:
        summary: long table of `evaluation.evaluate`.
        path: of the picture.
        metric, convention, set_name, machine: which number.
        arms: arms to show, in this order; empty: those of `summary`. One without a number says so.
        backends: to show, in this order; empty: the native score and all others, variants of the native score left out.
    """
    rows = summary[
        (summary["metric"] == metric)
        & (summary["convention"] == convention)
        & (summary["set"] == set_name)
        & (summary["machine"] == machine)
    ]
    found = list(dict.fromkeys(rows["backend"]))
    others = [backend for backend in found if not backend.startswith("native")]
    shown = list(backends) or (["native"] if "native" in found else []) + others
    arms = list(arms) or list(dict.fromkeys(summary["arm"]))
    rows = rows[rows["backend"].isin(shown) & rows["arm"].isin(arms) & rows["value"].notna()]
    names = [backend_name(backend) for backend in shown]
    with panels(1, path, size=(8.0, 1.2 + (0.12 + 0.16 * max(2, len(shown))) * len(arms)), legend=names) as (
        figure,
        axes,
    ):
        axis = axes[0]
        if rows.empty:
            say(axis, "no arm has this number")
            return
        points: dict[str, Any] = {}
        for index, (backend, name) in enumerate(zip(shown, names, strict=True)):
            of = rows[rows["backend"] == backend]
            offset = (index - (len(shown) - 1) / 2) * 0.8 / max(2, len(shown))
            y = np.array([arms.index(arm) for arm in of["arm"]], dtype=np.float64) + offset
            value = of["value"].to_numpy(dtype=np.float64)
            bounds = of[["ci_low", "ci_high"]].to_numpy(dtype=np.float64)
            colour, marker = COLOURS[index % len(COLOURS)], MARKERS[index % len(MARKERS)]
            axis.hlines(y, bounds[:, 0], bounds[:, 1], color=colour, linewidth=2.2)
            (points[name],) = axis.plot(value, y, linestyle="none", color=colour, marker=marker, markersize=6)
            for where, number, right in zip(y, value, np.fmax(bounds[:, 1], value), strict=True):
                axis.annotate(
                    f"{number:.1f}", (right, where), (6, 0), textcoords="offset points", va="center", fontsize=8.5
                )
        for place in [place for place, arm in enumerate(arms) if arm not in set(rows["arm"])]:
            axis.text(
                0.01, place, "not run, or undefined", transform=axis.get_yaxis_transform(), va="center", color="#555555"
            )
        axis.set_yticks(range(len(arms)), arms)
        axis.set_ylim(len(arms) - 0.5, -0.5)
        axis.grid(axis="y", visible=False)
        for place in range(len(arms) - 1):
            axis.axhline(place + 0.5, color="#e4e4e4", linewidth=0.8)
        axis.margins(x=0.09)
        which = {"mean": "average over machine types", "hmean": "harmonic mean over machine types"}.get(
            machine, machine
        )
        how = "" if metric == "mauc" else CONVENTIONS[convention].split(":")[0] + "; "
        axis.set_xlabel(
            f"{METRICS.get(metric, metric)} (%), {which}, {SETS.get(set_name, set_name)}\n({how}bars: bootstrap interval)"
        )
        add_legend(figure, points, "upper")
