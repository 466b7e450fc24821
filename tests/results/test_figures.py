"""Figures: every one is drawn, and drawn alike twice."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from auscult.evaluation.evaluate import Replicates, summarise
from auscult.results.figures import add_legend, look, panels, plot_summary

DRAW: dict[str, Callable[[Replicates, Path], None]] = {
    "summary": lambda result, path: plot_summary(summarise(result), path),
    "summary with an arm not run": lambda result, path: plot_summary(
        summarise(result), path, arms=["ae", "stgram_mfn"]
    ),
    "summary of nothing": lambda result, path: plot_summary(summarise(result), path, machine="hmean"),
}


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("name", DRAW)
def test_every_figure_is_drawn_and_twice_the_same(name: str, result: Replicates, tmp_path: Path) -> None:
    for folder in ("one", "two"):
        DRAW[name](result, tmp_path / folder / "figure.png")
    one, two = ((tmp_path / folder / "figure.png").read_bytes() for folder in ("one", "two"))
    assert one == two
    assert one.startswith(b"\x89PNG")
    assert b"tEXt" not in one  # neither a date nor the version of the software
    assert [path.name for path in (tmp_path / "one").iterdir()] == ["figure.png"]


def test_legends_lie_inside_the_figure(tmp_path: Path) -> None:
    """Long names in a narrow figure take more rows, not more width."""
    names = [f"tfst_os_scl_with_a_long_name_{i}" for i in range(7)]
    with panels(1, tmp_path / "figure.png", legend=names) as (figure, axes):
        add_legend(figure, {name: axes[0].plot([0, 1], **look(i))[0] for i, name in enumerate(names)})
    box = figure.legends[0].get_window_extent()
    assert len(figure.legends[0].get_texts()) == 7
    assert figure.bbox.x0 <= box.x0 < box.x1 <= figure.bbox.x1
    assert figure.bbox.y0 <= box.y0 < box.y1 <= figure.bbox.y1
