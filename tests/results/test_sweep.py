"""The lines of a sweep stand where their numbers say."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from auscult.errors import AuscultError
from auscult.results.sweep import Value, plot_sweep
from auscult.settings.schema import Sweep

COLUMNS = ["arm", "backend", "convention", "set", "machine", "metric", "value", "ci_low", "ci_high", "seeds"]
MACHINES = ["fan", "valve", "ToyCar", "mean"]


def summary(arms: list[str], backends: tuple[str, ...] = ("native", "knn_cosine"), seed: int = 0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    rows = []
    for arm in arms:
        for backend in backends:
            for convention in ("pooled", "per_unit"):
                for set_name in ("dev", "eval"):
                    for machine in MACHINES:
                        for metric in ("auc", "pauc"):
                            value = rng.uniform(60, 90)
                            head = (arm, backend, convention, set_name, machine, metric)
                            rows.append((*head, value, value - rng.uniform(1, 5), value + rng.uniform(1, 5), 1))
    return pd.DataFrame(rows, columns=COLUMNS)


SWEEPS: dict[str, dict[str, Value]] = {
    "powers of two": {"r16": 16, "r32": 32, "r64": 64, "r128": 128},
    "levels": {"a": 20, "b": 10, "c": 0, "d": -10},
    "levels and none": {"z": "clean", "a": 20, "b": 10, "c": 0},
    "one value": {"a": 5},
    "not run": {"a": 1, "missing": 2, "b": 3},
}


def sweep(lines: Mapping[str, Mapping[str, Value]], metric: str = "auc") -> Sweep:
    return Sweep(parameter="x", lines=lines, metric=metric)  # type: ignore[arg-type]


def arms_of(values: Mapping[str, Value]) -> list[str]:
    return [arm for arm in values if arm != "missing"]


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("name", SWEEPS)
def test_drawn_and_twice_the_same(name: str, tmp_path: Path) -> None:
    values = SWEEPS[name]
    for folder in ("one", "two"):
        plot_sweep(summary(arms_of(values)), tmp_path / folder / "sweep.png", sweep({"": values}))
    one, two = ((tmp_path / folder / "sweep.png").read_bytes() for folder in ("one", "two"))
    assert one == two
    assert one.startswith(b"\x89PNG")


def lines(figure: Any) -> dict[str, Any]:
    """Legend text -> line, in order."""
    axis = figure.axes[0]
    names = [text.get_text() for text in figure.legends[0].get_texts()]
    return dict(zip(names, [line for line in axis.lines if line.get_marker() not in (None, "None")], strict=True))


@pytest.mark.parametrize("name", ["powers of two", "levels", "levels and none"])
def test_values_and_intervals(name: str, figures: list[Any], tmp_path: Path) -> None:
    values = SWEEPS[name]
    numbers = summary(list(values))
    plot_sweep(
        numbers,
        tmp_path / "s.png",
        sweep({"": values}, "pauc"),
        convention="pooled",
        backend="knn_cosine",
        set_name="eval",
    )
    axis, drawn = figures[0].axes[0], lines(figures[0])
    assert list(drawn) == ["fan", "valve", "ToyCar", "average"]
    ticks = [text.get_text() for text in axis.get_xticklabels()]
    places = dict(zip(ticks, axis.get_xticks(), strict=True))
    assert ticks == [str(value) for value in values.values()]
    order = sorted(values, key=lambda arm: places[str(values[arm])])
    of = numbers.query("metric == 'pauc' and convention == 'pooled' and backend == 'knn_cosine' and set == 'eval'")
    bars = np.concatenate([c.get_segments() for c in axis.collections if hasattr(c, "get_segments")])
    for machine, line in zip(MACHINES, drawn.values(), strict=True):
        rows = of[of["machine"] == machine].set_index("arm").loc[order]
        np.testing.assert_array_equal(line.get_ydata(), rows["value"])
        gap = np.diff(sorted(places.values())).min()
        assert np.abs(line.get_xdata() - [places[str(values[arm])] for arm in order]).max() < 0.2 * gap
        for x, low, high in zip(line.get_xdata(), rows["ci_low"], rows["ci_high"], strict=True):
            assert (np.abs(bars - [[x, low], [x, high]]).max(axis=(1, 2)) < 1e-9).sum() == 1
    assert drawn["average"].get_linewidth() > 2 * drawn["fan"].get_linewidth()


def spaces(figures: list[Any], values: dict[str, Value], tmp_path: Path) -> np.ndarray:
    plot_sweep(summary(list(values)), tmp_path / "s.png", sweep({"": values}))
    return np.diff(figures[-1].axes[0].get_xticks())


def test_kinds_of_axis(figures: list[Any], tmp_path: Path) -> None:
    np.testing.assert_allclose(spaces(figures, {"a": 500, "b": 1000, "c": 4000}, tmp_path), np.log([2, 4]))
    np.testing.assert_allclose(spaces(figures, {"a": -10, "b": 0, "c": 20}, tmp_path), [10, 20])
    np.testing.assert_allclose(spaces(figures, {"a": 2, "b": 3, "c": 8}, tmp_path), [1, 5])
    np.testing.assert_allclose(spaces(figures, {"z": "off", "a": 500, "b": 4000}, tmp_path), [1, 1])


def test_a_line_per_family(figures: list[Any], tmp_path: Path) -> None:
    values: dict[str, Value] = {"a1": 1, "a2": 2, "b1": 1, "b2": 2}
    families = {
        name: {arm: value for arm, value in values.items() if arm[0] == first}
        for name, first in (("first", "a"), ("second", "b"))
    }
    numbers = summary(list(values))
    numbers = numbers[~(numbers["arm"].str.startswith("b") & (numbers["backend"] == "native"))]  # kNN alone
    plot_sweep(numbers, tmp_path / "s.png", sweep(families), machine="fan")
    drawn = lines(figures[0])
    assert list(drawn) == ["first", "second (kNN (cosine))"]
    of = numbers.query("metric == 'auc' and convention == 'per_unit' and set == 'dev' and machine == 'fan'")
    for (name, line), backend in zip(drawn.items(), ("native", "knn_cosine"), strict=True):
        rows = of[(of["backend"] == backend) & of["arm"].str.startswith("a" if name == "first" else "b")]
        np.testing.assert_array_equal(line.get_ydata(), rows["value"])


def test_a_missing_number_is_a_gap(figures: list[Any], tmp_path: Path) -> None:
    values: dict[str, Value] = {"a": 1, "missing": 2, "b": 3}
    plot_sweep(summary(["a", "b"]), tmp_path / "s.png", sweep({"": values}))
    assert np.isnan(lines(figures[0])["average"].get_ydata()).tolist() == [False, True, False]


def test_nothing_to_draw(figures: list[Any], tmp_path: Path) -> None:
    plot_sweep(summary(["a"]), tmp_path / "s.png", sweep({"": {"missing": 2}}))
    assert [text.get_text() for text in figures[0].axes[0].texts] == ["no arm of this sweep has this number"]


def test_two_arms_in_one_place(tmp_path: Path) -> None:
    with pytest.raises(AuscultError, match="two arms of one line have the value 2"):
        plot_sweep(summary(["a", "b"]), tmp_path / "s.png", sweep({"": {"a": 2, "b": 2}}))
    plot_sweep(summary(["a", "b"]), tmp_path / "s.png", sweep({"one": {"a": 2}, "two": {"b": 2, "a": 3}}))
