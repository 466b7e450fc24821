"""Heat maps and table of confused units: the numbers shown are those of the table."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from auscult.errors import AuscultError
from auscult.results.confusion import confusion_document, plot_confusion, write_confusions
from auscult.results.text import markdown
from auscult.scoring.confusion import CONFUSION_COLUMNS


def table(sizes: dict[str, int], seed: int = 0) -> pd.DataFrame:
    """A confusion table of the shape `scoring.confusion` gives, with random values."""
    rng = np.random.default_rng(seed)
    rows = []
    for machine, count in sizes.items():
        units = [f"{2 * unit:02d}" for unit in range(count)]
        for unit in units:
            alarms = int(rng.integers(0, 3))
            for other in units:
                rows.append((machine, unit, other, "accepted", rng.uniform(), 20))
                if unit != other:
                    rows.append((machine, unit, other, "nearest", rng.uniform() if alarms else np.nan, alarms))
                    rows.append((machine, unit, other, "auc", rng.uniform(), 40))
    return pd.DataFrame(rows, columns=CONFUSION_COLUMNS)


CASES = {
    "usual": {"fan": 4, "ToyCar": 7, "valve": 3},
    "one type of one unit": {"fan": 1},
    "one unit each": {"fan": 1, "pump": 1},
    "nothing": {},
}


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    ("case", "quantity"),
    [("usual", "accepted"), ("usual", "nearest"), ("one type of one unit", "accepted"), ("one type of one unit", "auc"),
     ("one unit each", "accepted"), ("nothing", "accepted")],
)  # fmt: skip
def test_drawn_and_twice_the_same(case: str, quantity: str, tmp_path: Path) -> None:
    for folder in ("one", "two"):
        plot_confusion(table(CASES[case]), tmp_path / folder / "map.png", quantity, "tfst_os_scl")
    one, two = ((tmp_path / folder / "map.png").read_bytes() for folder in ("one", "two"))
    assert one == two
    assert one.startswith(b"\x89PNG")


def test_cells_show_the_table(figures: list[Any], tmp_path: Path) -> None:
    parts = table(CASES["usual"])
    for quantity in ("accepted", "nearest"):
        plot_confusion(parts, tmp_path / "map.png", quantity)
    for figure, quantity in zip(figures, ("accepted", "nearest"), strict=True):
        maps = [axis for axis in figure.axes if axis.images]
        assert [axis.get_title() for axis in maps] == ["fan", "valve", "ToyCar"]
        for axis in maps:
            units = [text.get_text() for text in axis.get_yticklabels()]
            assert units == [text.get_text() for text in axis.get_xticklabels()]
            shown = {tuple(round(x) for x in text.get_position()): text.get_text() for text in axis.texts}
            of = parts[(parts["machine"] == axis.get_title()) & (parts["quantity"] == quantity)]
            values = of.set_index(["unit", "other"])["value"].to_dict()
            assert len(shown) == len(units) ** 2
            for row, unit in enumerate(units):
                for column, other in enumerate(units):
                    value = values.get((unit, other), np.nan)
                    assert shown[column, row] == ("-" if np.isnan(value) else f"{100 * value:.0f}")


def confusion_markdown(parts: pd.DataFrame, top: int = 10) -> str:
    return markdown(confusion_document({"arm": parts}, top))


def rows(text: str, heading: str) -> list[list[str]]:
    """Cells of the table whose header line starts with `heading`."""
    lines = text.splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith(heading))
    out = []
    for line in lines[start + 2 :]:
        if not line.startswith("|"):
            break
        out.append([cell.strip() for cell in line.strip("|").split("|")])
    return out


def test_strongest_pairs_first() -> None:
    parts = table(CASES["usual"])
    text = confusion_markdown(parts, 5)
    found = rows(text, "| machine | clips of unit")
    values = parts.set_index(["machine", "unit", "other", "quantity"])["value"]
    crossed = parts[(parts["quantity"] == "accepted") & (parts["unit"] != parts["other"])]
    expected = crossed.nlargest(5, "value")
    assert [row[:4] for row in found] == [
        [row.machine, row.unit, row.other, f"{100 * row.value:.1f}"] for row in expected.itertuples()
    ]
    for machine, unit, other, _, own, auc, _, _ in found:
        assert own == f"{100 * values[machine, unit, unit, 'accepted']:.1f}"
        assert auc == f"{100 * values[machine, unit, other, 'auc']:.1f}"


def test_one_row_per_machine_type() -> None:
    parts = table({"valve": 3, "fan": 1})
    found = rows(confusion_markdown(parts), "| machine | units")
    assert [row[:3] for row in found] == [["fan", "1", "20"], ["valve", "3", "60"]]
    accepted = parts[(parts["machine"] == "valve") & (parts["quantity"] == "accepted")]
    own = accepted["unit"] == accepted["other"]
    assert found[1][3] == f"{100 * (1 - accepted.loc[own, 'value'].mean()):.1f}"
    assert found[1][4] == f"{100 * accepted.loc[~own, 'value'].mean():.1f}"
    assert found[0][4:] == ["-", "-"]


def test_when_there_is_nothing_to_confuse(tmp_path: Path) -> None:
    write_confusions({"ae": table({"fan": 1})}, tmp_path / "out")
    text = (tmp_path / "out" / "table.md").read_text()
    assert "\n## `ae`\n" in text
    assert "one unit: there is none" in text
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        "table.md",
        "ae.csv",
        "ae_accepted.png",
        "ae_auc.png",
    }
    parts = table({"fan": 2})
    parts.loc[(parts["quantity"] == "accepted") & (parts["unit"] != parts["other"]), "value"] = 0.0
    assert "No normal clip was accepted" in confusion_markdown(parts)


def test_an_unknown_quantity(tmp_path: Path) -> None:
    with pytest.raises(AuscultError, match="no such quantity: recall"):
        plot_confusion(table({"fan": 2}), tmp_path / "map.png", "recall")
