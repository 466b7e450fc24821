"""The printed tables: complete, and consistent with one another where the papers are."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from scipy.stats import hmean

from auscult.errors import AuscultError
from auscult.papers import CONVENTION, MISPRINTS, PRINTED_ROW, convention, misprint, printed, printed_tables, table_name
from auscult.papers.printed import OTHERWISE, comparable, remark
from auscult.settings.params import load_profile

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


def test_arms_point_to_rows_that_exist() -> None:
    for table, rows in PRINTED_ROW.items():
        assert set(rows.values()) <= set(printed(table)["row"]), table
    assert set(CONVENTION) <= {m for n in range(2, 7) for m in printed(f"os_scl_table{n}")["method"]}
    cell = printed("os_scl_table2").query("row == 'TFSTgram(OS-SCL)' and machine == 'ToyConveyor' and metric == 'auc'")
    assert cell["text"].tolist() == ["83.56"]


def test_rows_of_one_method_are_told_apart_by_their_settings() -> None:
    table = printed("os_scl_table6")
    assert table["method"].nunique() == 1
    assert table["row"].nunique() == 7
    for table_of_one in (name for name in printed_tables() if name != "os_scl_table6"):
        rows = printed(table_of_one)
        assert not rows.duplicated(["row", "dataset", "split", "machine", "metric"]).any(), table_of_one
    # By the numbers: the arm that is the paper's own system carries Table II's AUC in Table VI.
    row = PRINTED_ROW["os_scl_table6"]["tfst_os_scl"]
    again = (
        printed("os_scl_table2").query("method == 'TFSTgram(OS-SCL)' and metric == 'auc'").set_index("machine")["value"]
    )
    assert table[table["row"] == row].set_index("machine")["value"].to_dict() == again.to_dict()
    of_arm = {
        arm: table.loc[(table["row"] == row) & (table["machine"] == "mean"), "value"].item()
        for arm, row in PRINTED_ROW["os_scl_table6"].items()
    }
    assert of_arm == {
        "tfst_fph_0": 94.94, "tfst_fph_128": 93.80, "tfst_os_scl": 95.71, "tfst_fph_32": 95.46, "tfst_fph_16": 94.55,
        "tfst_fph_8": 86.22, "tfst_fph_4": 48.30,
    }  # fmt: skip


def test_conventions() -> None:
    assert convention("os_scl_table4", "Log-Mel(OS-SCL)", "mauc") == "per_unit"
    assert convention("os_scl_table3", "STgram(OS-SCL)", "auc") == "pooled"
    assert convention("os_scl_table2", "MobileNetV2", "auc") == ""
    assert convention("anopatch_table1", "MFN", "mean_auc_pauc") == "per_unit"
    assert table_name("han_table06") == "Han et al., Table 6"


# The organisers' autoencoder on the evaluation set of 2024: AUC of source and target, pAUC (README of their evaluator).
BASELINE = {
    "3DPrinter": (0.7912, 0.4796, 0.49421), "AirCompressor": (0.65, 0.4824, 0.55474), "Scanner": (0.6916, 0.5374, 0.50105),
    "ToyCircuit": (0.7658, 0.5266, 0.5), "HoveringDrone": (0.8602, 0.4388, 0.50211), "HairDryer": (0.6224, 0.4598, 0.51632),
    "ToothBrush": (0.7504, 0.6948, 0.52737), "RoboticArm": (0.6596, 0.4152, 0.51158), "BrushlessMotor": (0.707, 0.6352, 0.55579),
}  # fmt: skip
# TWFR-GMM on the development set of 2022, as its authors print it: arithmetic mean of both AUC, and pAUC.
TWFR_GMM = {
    "ToyCar": (80.65, 58.12), "ToyTrain": (67.81, 59.07), "fan": (71.44, 62.13), "gearbox": (80.23, 64.69),
    "bearing": (69.41, 54.74), "slider": (87.96, 73.33), "valve": (92.61, 70.23),
}  # fmt: skip


@pytest.mark.parametrize(("table", "row"), [("han_table02", "AutoEncoder"), ("han_table10", "AE")])
def test_han_et_al_form_the_autoencoders_cells_otherwise_than_the_challenge(table: str, row: str) -> None:
    cells = printed(table).query("row == @row and split == 'eval' and metric == 'hmean_auc_pauc'").set_index("machine")
    official = []
    for machine, (source, target, pauc) in BASELINE.items():
        stated = cells.loc[machine, "value"]
        assert stated == pytest.approx(50 * (hmean([source, target]) + pauc), abs=0.011), machine
        official.append(abs(stated - 100 * hmean([source, target, pauc])) < 0.011)
    assert not any(official)


def test_their_row_of_twfr_gmm_is_the_authors_own_average() -> None:
    cells = printed("han_table08").query("row == 'TWFRGMM' and machine != 'hmean'").set_index("machine")["value"]
    assert cells.to_dict() == pytest.approx(
        {name: (auc + pauc) / 2 for name, (auc, pauc) in TWFR_GMM.items()}, abs=0.0051
    )


def test_what_is_said_of_a_printed_row() -> None:
    assert remark("han_table10", "AE", "official") == OTHERWISE
    assert remark("han_table08", "AE", "official").endswith(f"combined; {OTHERWISE}")
    assert remark("han_table08", "Ours", "official") == OTHERWISE
    assert remark("han_table06", "Ours", "mean_auc_pauc") == remark("anopatch_table2", "FeatEx", "official") == ""
    assert (convention("han_table07", "Ours", "official"), convention("han_table07", "FitEX", "official")) == (
        "pooled",
        "",
    )


def broken_averages() -> dict[tuple[str, str, str, str], float]:
    """(table, method, split, metric) -> recomputed average, for the averages over types that differ from the printed one."""
    found = {}
    for table in ("os_scl_table2", "os_scl_table3", "os_scl_table4", "anopatch_table1", "han_table06"):
        for (row, split, metric), cells in printed(table).groupby(["row", "split", "metric"]):
            parts, mean = cells[cells["machine"] != "mean"]["value"], cells[cells["machine"] == "mean"]["value"]
            if len(parts) == 6 and len(mean) and abs(parts.mean() - mean.item()) > 0.02:
                found[table, str(row), str(split), str(metric)] = float(parts.mean())
    return found


def broken_sets() -> dict[tuple[str, str, str, str], float]:
    """The same for the averages of dev and eval."""
    found = {}
    for table in ("os_scl_table5", "anopatch_table1", "han_table06"):
        for row, cells in printed(table)[printed(table)["machine"] == "mean"].groupby("row"):
            of = cells.set_index("split")["value"]
            if {"dev", "eval", "all"} <= set(of.index) and abs((of["dev"] + of["eval"]) / 2 - of["all"]) > 0.02:
                found[table, str(row), "all", "mean_auc_pauc"] = float((of["dev"] + of["eval"]) / 2)
    return found


def test_every_average_that_does_not_follow_says_so_and_no_other() -> None:
    broken = broken_averages() | broken_sets()
    assert len(broken) > 8
    noted = {(m.table, m.row, m.split, m.metric): m.text for m in MISPRINTS if m.machine == "mean"}
    assert set(noted) == set(broken)
    for key, recomputed in broken.items():
        stated = float(noted[key].rsplit(" ", 1)[1])
        assert stated == pytest.approx(recomputed, abs=0.0051), key


def test_misprints_point_to_printed_cells() -> None:
    for known in MISPRINTS:
        rows = printed(known.table).query("row == @known.row")
        for column in ("split", "machine", "metric"):
            rows = rows[(rows[column] == getattr(known, column)) | (getattr(known, column) == "")]
        assert len(rows), known
    same = [misprint("os_scl_table3", "STgram(OS-SCL)", "dev", machine, "pauc") for machine in ("fan", "pump")]
    assert same[0] == same[1] != ""
    assert misprint("os_scl_table3", "STgram(OS-SCL)", "dev", "fan", "auc") == ""
    assert misprint("han_table06", "PAE", "dev", "valve", "mean_auc_pauc") != ""


def test_a_remark_on_one_row_of_a_method_is_not_made_on_the_others() -> None:
    rows = comparable("han_table04", "dcase2024").query("split == 'all'").set_index("row")["misprint"]
    assert rows[rows != ""].index.tolist() == ["Multi-Branch LoRA, rank=32, branches=8, frozen=true, fc=false"]


@pytest.mark.parametrize("table", sorted(ROWS))
def test_cells_are_called_as_ours_where_the_data_agree(table: str) -> None:
    """Metrics and machine types as evaluation.evaluate names them, on the profile of the table's year."""
    (dataset,) = printed(table)["dataset"].unique()
    profile = load_profile(dataset, Path(__file__).parents[2] / "profiles")
    cells = comparable(table, profile.dataset)
    assert len(cells) == ROWS[table]
    assert set(cells["machine"]) <= {*profile.machines, "hmean" if profile.rules.domains else "mean"}
    ours = {"auc", "pauc", "mauc", "mean_auc_pauc"} if dataset == "dcase2020" else {"official", *profile.rules.metrics}
    assert set(cells["metric"]) <= ours
    assert comparable(table, "synthetic").empty
    assert cells["value"].tolist() == printed(table)["value"].tolist()


def test_the_system_on_2024_stands_where_our_official_score_does() -> None:
    cells = comparable("han_table10", "dcase2024")
    mine = cells[cells["row"] == PRINTED_ROW["han_table10"]["han"]].set_index(["split", "machine", "metric"])["text"]
    assert mine["all", "hmean", "official"] == "65.50"
    assert mine["eval", "HoveringDrone", "official"] == "66.22"


def test_an_unknown_table_is_refused_with_the_known_ones() -> None:
    with pytest.raises(AuscultError, match="han_table11"):
        printed("os_scl_table1")


def test_reading_needs_no_torch() -> None:
    import subprocess

    code = "import sys, auscult.papers, auscult.results.results, auscult.results.readme;"
    code += "sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
