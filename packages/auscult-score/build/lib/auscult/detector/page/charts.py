"""Charts of scores as SVG in the colours of the page, drawn twice: for a wide window and for a phone."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape

import numpy as np

from auscult.evaluation.metrics import Floats

_WIDE, _NARROW, _HEIGHT = 1100, 360, 250
_LEFT, _RIGHT, _TOP, _BOTTOM = 58, 14, 16, 40
_POINTS = 1200
"""Of a curve; each stands for the highest of some windows where there are more."""
MARKS = {"normal": "normal", "ANOMALOUS": "alarm", "check recording": "check"}
"""Verdict -> class of its mark."""


@dataclass(frozen=True)
class Scale:
    """What all charts of a page are drawn against.

    Attributes:
        threshold: score.
        normal: scores of normal sound [n].
        low, high: of the axis of scores; what is higher is drawn at its end.
    """

    threshold: float
    normal: np.ndarray
    low: float
    high: float


def scale(threshold: float, normal: np.ndarray, scores: Sequence[float]) -> Scale:
    """The axis ends three times as far above the lowest score as the threshold or all normal scores, if scores go so far."""
    low = min([float(normal.min()), threshold, *scores])
    usual = max(float(normal.max()), threshold)
    highest = max([usual, *scores])
    span = usual - float(min(normal.min(), threshold)) or 1.0
    high = min(highest, usual + 2 * span)
    room = 0.05 * (high - low)
    return Scale(threshold, normal, low - room, high + room)


# ------------------------------------------------------------------------------------------------------------- the charts
def over_recordings(at: Scale, points: Sequence[tuple[float, str, str]], label: str) -> str:
    """A mark for each recording in the order given.

    Args:
        points: score, verdict and what is said of it; NaN leaves its place empty.
    """

    def draw(plot: _Plot) -> str:
        marks = []
        for place, (score, verdict, words) in enumerate(points, 1):
            if not math.isnan(score):
                title = f"<title>{escape(words)}</title>"
                marks.append(mark(MARKS.get(verdict, "check"), plot.x(place), plot.y(min(score, at.high)), title))
        return plot.background(at) + "".join(sorted(marks, key=lambda one: 'class="normal"' not in one))

    ticks = [tick for tick in nice(1, len(points), 8) if tick == int(tick)]
    return _both(draw, label, (0.5, len(points) + 0.5), at, ("recordings, in the order they were given", ticks))


def over_time(at: Scale, start: Floats, score: Floats, label: str) -> str:
    """The scores of a recording's windows [n] from their beginnings [n] in seconds; NaN leaves a gap."""
    unit, name = next((pair for pair in ((3600, "hours"), (60, "minutes")) if start[-1] > 2 * pair[0]), (1, "seconds"))
    time, values = thinned(start / unit, score)

    def draw(plot: _Plot) -> str:
        lines, pen = [], "M"
        for second, value in zip(time, values, strict=True):
            if np.isfinite(value):
                lines.append(f"{pen}{plot.x(second):.1f} {plot.y(min(value, at.high)):.1f}")
            pen = "L" if np.isfinite(value) else "M"
        return f'{plot.background(at)}<path class="curve" d="{"".join(lines)}"/>'

    return _both(draw, label, (0.0, float(time[-1]) or 1.0), at, (f"{name} from its beginning", nice(0, time[-1], 8)))


def distribution(at: Scale, scores: Sequence[tuple[float, str]], label: str) -> str:
    """How many windows of normal sound have which score; below, a mark for each recording (score, verdict)."""
    bins = np.linspace(at.low, at.high, 41)
    counts = np.histogram(np.minimum(at.normal, at.high), bins)[0]
    top = max(int(counts.max()), 1)
    room = 0.12 * top if scores else 0.0

    def draw(plot: _Plot) -> str:
        bars = "".join(
            f'<rect class="bar" x="{plot.x(left):.1f}" y="{plot.y(count):.1f}" width="{plot.x(right) - plot.x(left) - 1:.1f}" '
            f'height="{plot.y(0) - plot.y(count):.1f}"/>'
            for left, right, count in zip(bins[:-1], bins[1:], counts, strict=True)
            if count
        )
        line = f'<path class="limit" d="M{plot.x(at.threshold):.1f} {_TOP}V{_HEIGHT - _BOTTOM}"/>'
        marks = [
            mark(MARKS.get(verdict, "check"), plot.x(min(score, at.high)), plot.y(-room / 2))
            for score, verdict in scores
        ]
        return bars + line + "".join(marks)

    levels = [tick for tick in nice(0, top, 5) if tick == int(tick)]
    return _both(
        draw, label, (at.low, at.high), Scale(at.threshold, at.normal, -room, 1.05 * top),
        ("distance from normal sound", nice(at.low, at.high, 8)), ("windows of normal sound", levels),
    )  # fmt: skip


def thinned(time: Floats, score: Floats, most: int = _POINTS) -> tuple[Floats, Floats]:
    """At most about `most` points: the highest of each group of neighbours, NaN where none is known.

    >>> [values.tolist() for values in thinned(np.arange(6.0), np.array([1, 5, 2, 2, 3, 9.0]), 3)]
    [[1.0, 2.0, 5.0], [5.0, 2.0, 9.0]]
    """
    size = -(-len(time) // most)
    if size == 1:
        return time, score
    kept = []
    for first in range(0, len(time), size):
        part = score[first : first + size]
        kept.append(first + (int(np.nanargmax(part)) if np.isfinite(part).any() else 0))
    return time[kept], score[kept]


# ------------------------------------------------------------------------------------------------------- what they are made of
def mark(kind: str, x: float, y: float, title: str = "") -> str:
    """A dot for normal, a cross for an alarm, a triangle for what is to be checked: told apart without colour, too."""
    shapes = {
        "normal": f"M{x:.1f} {y:.1f}h0",
        "alarm": f"M{x - 4:.1f} {y - 4:.1f}l8 8m0-8l-8 8",
        "check": f"M{x - 4:.1f} {y + 3.5:.1f}h8l-4-7z",
    }
    return f'<path class="{kind}" d="{shapes[kind]}">{title}</path>'


def nice(low: float, high: float, most: int) -> list[float]:
    """Round numbers between two, about `most` of them.

    >>> nice(0, 23.4, 5), nice(1, 60, 6)
    ([0.0, 5.0, 10.0, 15.0, 20.0], [10.0, 20.0, 30.0, 40.0, 50.0, 60.0])
    """
    span = max(float(high - low), 1e-12)
    power = 10.0 ** math.floor(math.log10(span / most))
    step = next(power * factor for factor in (1, 2, 5, 10) if span / (power * factor) <= most)
    return [round(number * step, 12) for number in range(math.ceil(low / step), math.floor(high / step + 1e-9) + 1)]


@dataclass(frozen=True)
class _Plot:
    width: int
    across: tuple[float, float]
    up: tuple[float, float]

    def x(self, value: float) -> float:
        low, high = self.across
        return _LEFT + (self.width - _LEFT - _RIGHT) * (value - low) / (high - low)

    def y(self, value: float) -> float:
        low, high = self.up
        return _HEIGHT - _BOTTOM - (_HEIGHT - _TOP - _BOTTOM) * (value - low) / (high - low)

    def background(self, at: Scale) -> str:
        """The range of normal scores, and the threshold."""
        top, bottom, limit = self.y(min(float(at.normal.max()), at.high)), self.y(at.normal.min()), self.y(at.threshold)
        inner = self.width - _LEFT - _RIGHT
        return (
            f'<rect class="band" x="{_LEFT}" y="{top:.1f}" width="{inner}" height="{bottom - top:.1f}"/>'
            f'<path class="limit" d="M{_LEFT} {limit:.1f}h{inner}"/>'
        )


def _both(
    draw: Callable[[_Plot], str],
    label: str,
    across: tuple[float, float],
    at: Scale,
    x_axis: tuple[str, list[float]],
    y_axis: tuple[str, list[float]] | None = None,
) -> str:
    """The chart for wide windows and for narrow ones; the page shows one of them."""
    y_name, y_ticks = y_axis or ("distance from normal sound", nice(at.low, at.high, 6))
    found = []
    for kind, width in (("wide", _WIDE), ("narrow", _NARROW)):
        plot, bottom = _Plot(width, across, (at.low, at.high)), _HEIGHT - _BOTTOM
        parts = [f'<path class="axis" d="M{_LEFT} {_TOP}V{bottom}H{width - _RIGHT}"/>']
        x_ticks = x_axis[1][:: 2 if kind == "narrow" and len(x_axis[1]) > 5 else 1]
        parts += [f'<text class="mid" x="{plot.x(tick):.1f}" y="{bottom + 16}">{tick:g}</text>' for tick in x_ticks]
        parts += [f'<text class="end" x="{_LEFT - 6}" y="{plot.y(tick) + 4:.1f}">{tick:g}</text>' for tick in y_ticks]
        middle = (_LEFT + width - _RIGHT) / 2
        parts.append(f'<text class="mid" x="{middle}" y="{_HEIGHT - 6}">{escape(x_axis[0])}</text>')
        up = (_TOP + bottom) / 2
        parts.append(f'<text class="mid" x="13" y="{up}" transform="rotate(-90 13 {up})">{escape(y_name)}</text>')
        found.append(
            f'<svg class="chart {kind}" viewBox="0 0 {width} {_HEIGHT}" role="img" aria-label="{escape(label)}">'
            f"{draw(plot)}{''.join(parts)}</svg>"
        )
    return "".join(found)
