"""A metric against a parameter that was swept over arms: head width, noise level, cut-off, anything with a value per arm."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from auscult.errors import AuscultError, listed
from auscult.evaluation.aggregation import AGGREGATES
from auscult.evaluation.evaluate import machine_order
from auscult.evaluation.metrics import Floats
from auscult.results.figures import add_legend, look, panels, say
from auscult.results.names import CONVENTIONS, METRICS, SETS, backend_name, machine_name
from auscult.settings.schema import Sweep

Value = float | str


class _Axis(NamedTuple):
    """Where each value stands on the x axis."""

    at: dict[Value, float]
    step: float  # sideways between two series, so that their bars do not cover each other


def plot_sweep(
    summary: pd.DataFrame,
    path: Path,
    sweep: Sweep,
    *,
    convention: str = "per_unit",
    backend: str = "native",
    set_name: str = "dev",
    machine: str = "mean",
) -> None:
    """Draw the metric of each arm at its value of the parameter, with bootstrap intervals.

    A single line of arms becomes one line per machine type, and their mean in bold with its interval shaded; several
    become one line each, showing `machine`.

    Args:
        summary: long table of `evaluation.evaluate`. An undefined or missing number leaves a gap.
        path: PNG.
        sweep: the parameter, with its unit, the metric, and the lines: name -> arm -> value of the parameter, in the order
            to be shown; an arm may belong to several. Numbers stand where they lie, on a logarithmic axis when they are
            positive and the largest is eight times the smallest or more; if one is a string ("clean", "off"), all are evenly
            spaced in the order given.
        convention, set_name: which number.
        backend: which score; a line none of whose arms has it shows the first back-end its first arm has, and says so.
        machine: of several lines, the machine type or aggregate.

    Raises:
        AuscultError: two arms of one line at one value.
    """
    metric = sweep.metric
    lines: Mapping[str, Mapping[str, Value]] = sweep.lines
    families = len(lines) > 1
    for values in lines.values():
        _one_arm_per_value(values)
    everywhere = list(dict.fromkeys(arm for values in lines.values() for arm in values))
    rows = summary[
        (summary["metric"] == metric)
        & (summary["convention"] == convention)
        & (summary["set"] == set_name)
        & summary["arm"].isin(everywhere)
    ]
    series: dict[str, tuple[pd.DataFrame, Mapping[str, Value]]] = {}
    others = set()
    for family, values in lines.items():
        arms = list(values)
        chosen = _backend(rows[rows["arm"].isin(arms)], arms, backend)
        of = rows[rows["arm"].isin(arms) & (rows["backend"] == chosen)]
        others |= {chosen}
        remark = f" ({backend_name(chosen)})" if families and chosen != backend else ""
        if families:
            series[family + remark] = (of[of["machine"] == machine], values)
        else:
            names = sorted(set(of["machine"]) - set(AGGREGATES), key=machine_order)
            names += ["mean"] if len(names) != 1 else []  # the mean over one type is that type
            series |= {machine_name(name): (of[of["machine"] == name], values) for name in names}
    series = {name: (of, values) for name, (of, values) in series.items() if of["value"].notna().any()}

    place = _axis(list(dict.fromkeys(v for values in lines.values() for v in values.values())), len(series))
    with panels(1, path, size=(7.2, 4.4), legend=list(series)) as (figure, axes):
        axis = axes[0]
        if not series:
            say(axis, "no arm of this sweep has this number")
            return
        drawn: dict[str, Any] = {}
        thin = 0
        for index, (name, (of, values)) in enumerate(series.items()):
            bold = not families and name == machine_name("mean")
            style: dict[str, Any] = {"color": "black", "linewidth": 3.2, "marker": "o", "markersize": 8}
            if not bold:
                style = {**look(thin), "linewidth": 1.4}
                thin += 1
            shift = 0.0 if bold else (index - (len(series) - 1) / 2) * place.step
            drawn[name] = _line(axis, of, values, place, shift, style, bold)
        _dress(axis, place, sweep.parameter)
        shown = f", {machine_name(machine)}" if families else ""
        shown_by = others.pop() if len(others) == 1 else backend
        how = "" if metric == "mauc" else f"{CONVENTIONS[convention].split(':')[0]}; "
        axis.set_ylabel(f"{METRICS.get(metric, metric)} (%){shown}, {SETS.get(set_name, set_name)}")
        note = f"({how}{backend_name(shown_by)}; bars{'' if families else ' and shade'}: bootstrap interval)"
        axis.set_xlabel(f"{sweep.parameter}\n{note}")
        add_legend(figure, drawn, "upper")


def _one_arm_per_value(values: Mapping[str, Value]) -> None:
    at: dict[Value, str] = {}
    for arm, value in values.items():
        if value in at:
            what = f"two arms of one line have the value {value}:{listed([at[value], arm])}"
            raise AuscultError(what, "values of the sweep", "give each a line of its own")
        at[value] = arm


def _backend(rows: pd.DataFrame, arms: list[str], wanted: str) -> str:
    """`wanted`, or the first back-end of the first arm of a line that has no number under it."""
    if rows.empty or (rows["backend"] == wanted).any():
        return wanted
    first = next(arm for arm in arms if (rows["arm"] == arm).any())
    return str(rows.loc[rows["arm"] == first, "backend"].iloc[0])


def _axis(values: list[Value], series: int) -> _Axis:
    distinct = list(dict.fromkeys(values))
    numbers = [value for value in distinct if not isinstance(value, str)]
    if len(numbers) < len(distinct):
        at = {value: float(place) for place, value in enumerate(distinct)}
    elif numbers and min(numbers) > 0 and max(numbers) >= 8 * min(numbers):
        at = {value: float(np.log(value)) for value in numbers}
    else:
        at = {value: float(value) for value in numbers}
    places = sorted(at.values())
    gap = min((high - low for low, high in pairwise(places)), default=1.0)
    return _Axis(at, 0.3 * gap / max(series, 6))


def _line(
    axis: Axes,
    of: pd.DataFrame,
    values: Mapping[str, Value],
    place: _Axis,
    shift: float,
    style: dict[str, Any],
    bold: bool,
) -> Any:
    """One series, from left to right; places without a number break it."""
    by_value = of.assign(at=[values[arm] for arm in of["arm"]]).set_index("at")
    points = by_value.reindex(sorted(set(values.values()), key=place.at.__getitem__))[["value", "ci_low", "ci_high"]]
    x: Floats = np.array([place.at[value] for value in points.index]) + shift
    value, low, high = points.to_numpy(dtype=np.float64).T
    if bold:
        axis.fill_between(x, low, high, color=style["color"], alpha=0.13, linewidth=0, zorder=1)
    axis.vlines(x, low, high, color=style["color"], linewidth=1.6 if bold else 1.0, alpha=0.9 if bold else 0.55)
    (line,) = axis.plot(x, value, **{"markersize": 6, **style}, zorder=4 if bold else 3)
    return line


def _dress(axis: Axes, place: _Axis, parameter: str) -> None:
    """Ticks at the values that were run and nowhere else: nothing is known between them."""
    names = [value if isinstance(value, str) else f"{value:g}" for value in place.at]
    crowded = sum(len(name) + 2 for name in names) > 75
    axis.set_xticks(list(place.at.values()), names, rotation=45 if crowded else 0)
    axis.grid(axis="x", visible=False)
    low, high = axis.get_ylim()
    if low < 50 < high:
        axis.axhline(50, color="#999999", linewidth=1, linestyle=":", zorder=0)
