"""The printed tables: complete, and consistent with one another where the papers are."""

from __future__ import annotations

import sys

import pytest
from scipy.stats import hmean

from auscult.errors import AuscultError
from auscult.papers import CONVENTION, PRINTED_ROW, printed, printed_tables

ROWS = {
    "os_scl_table2": 112, "os_scl_table3": 56, "os_scl_table4": 28, "os_scl_table5": 21, "os_scl_table6": 49,
    "anopatch_table1": 67, "anopatch_table2": 62, "anopatch_table3": 112,
    "han_table01": 150, "han_table02": 180, "han_table03": 21, "han_table04": 30, "han_table05": 21, "han_table06": 109,
    "han_table07": 43, "han_table08": 66, "han_table09": 53, "han_table10": 95, "han_table11": 9,
}  # fmt: skip


def test_every_table_is_at_hand_and_complete() -> None:
    assert {name: len(printed(name)) for name in printed_tables()} == ROWS


@pytest.mark.parametrize("name", sorted(ROWS))
def test_values_are_percent(name: str) -> None:
    table = printed(name)
    assert table["value"].between(0, 100).all()
    assert (table["text"].astype(float) == table["value"]).all()
    assert not table.duplicated(["method", "dataset", "split", "machine", "metric", "note"]).any()


def test_printed_averages_follow_from_their_rows() -> None:
    """Arithmetic mean over types in OS-SCL Table II, but for the rows known not to follow from their parts."""
    table = printed("os_scl_table2")
    odd = {("MobileNetV2", "auc"), ("Glow_Aff", "auc"), ("Glow_Aff", "pauc"), ("TFSTgram(OS-SCL)", "pauc")}
    wrong = set()
    for (method, metric), rows in table.groupby(["method", "metric"]):
        parts = rows.loc[rows["machine"] != "mean", "value"]
        mean = rows.loc[rows["machine"] == "mean", "value"].item()
        assert len(parts) == 6
        if abs(parts.mean() - mean) > 0.02:
            wrong.add((method, metric))
    assert wrong == odd


def test_han_table_10_is_harmonic() -> None:
    rows = printed("han_table10").query("method.str.contains('Ours') and split == 'eval'", engine="python")
    parts, mean = rows[rows["machine"] != "hmean"]["value"], rows[rows["machine"] == "hmean"]["value"].item()
    assert len(parts) == 9
    assert hmean(parts) == pytest.approx(mean, abs=0.01)


def test_arms_point_to_rows_of_tables_2_and_4() -> None:
    for table in ("os_scl_table2", "os_scl_table4"):
        assert set(PRINTED_ROW.values()) <= set(printed(table)["method"])
    assert set(CONVENTION) <= set(printed("os_scl_table2")["method"])
    cell = printed("os_scl_table2").query(
        "method == 'TFSTgram(OS-SCL)' and machine == 'ToyConveyor' and metric == 'auc'"
    )
    assert cell["text"].tolist() == ["83.56"]


def test_an_unknown_table_is_refused_with_the_known_ones() -> None:
    with pytest.raises(AuscultError, match="han_table11"):
        printed("os_scl_table1")


def test_reading_needs_no_torch() -> None:
    import subprocess

    code = "import sys, auscult.papers, auscult.evaluation, auscult.reporting.tables, auscult.reporting.figures as f;"
    code += "sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
