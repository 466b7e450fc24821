"""One look for every figure: off-screen, colour-blind safe, same bytes for the same numbers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from auscult.files import atomic_file

# Okabe and Ito's palette without its yellow, which is too pale on white.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
LINES = ("-", "--", "-.", ":")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
NORMAL, ANOMALY = COLOURS[0], COLOURS[1]

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
}


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
    """A figure with `count` panels of `size` inches, and room for the entries of a legend, saved as PNG on success."""
    count = max(1, count)
    across = min(columns, count)
    down = -(-count // across)
    width = max(across * size[0], 4.6)
    rows = -(-len(legend) // _legend_columns(legend, width)) if legend else 0
    with plt.rc_context(_SETTINGS):
        figure, axes = plt.subplots(down, across, squeeze=False, figsize=(width, down * size[1] + 0.15 + 0.24 * rows))
        flat = list(axes.flat)
        for unused in flat[count:]:
            unused.set_visible(False)
        try:
            yield figure, flat[:count]
            with atomic_file(path) as temporary:
                # Without its software entry the file holds nothing but pixels.
                figure.savefig(temporary, dpi=150, metadata={"Software": None})
        finally:
            plt.close(figure)


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
