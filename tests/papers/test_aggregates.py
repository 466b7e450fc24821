"""Every average the papers print against the cells it is an average of: which mean it is, and where it is not."""

from __future__ import annotations

import pandas as pd
import pytest

from auscult.evaluation.aggregation import official_score
from auscult.papers import MISPRINTS, printed
from auscult.settings.rules import MetricRules

TABLES = ["os_scl_table5", *(f"anopatch_table{n}" for n in (1, 2, 3)), *(f"han_table{n:02d}" for n in range(1, 12))]
TOLERANCE = 0.02

Aggregate = tuple[str, str, str]  # table, row, split

# Printed averages that do not follow from the printed cells -> what does. Of "all" the cells are the averages of both sets.
EXCEPTIONS: dict[Aggregate, float] = {
    ("os_scl_table5", "AnoPatch(ATST)", "all"): 86.71,
    ("os_scl_table5", "AnoPatch(AST)", "all"): 85.71,
    ("os_scl_table5", "AnoPatch(BEATS)", "all"): 92.61,
    ("anopatch_table1", "MFN", "all"): 90.42,
    ("anopatch_table1", "AnoPatch (Ours)", "all"): 92.61,
    ("han_table01", "CNN10", "dev"): 60.91,
    ("han_table01", "MobileNet", "dev"): 58.46,
    ("han_table01", "Wav2Vec 2.0", "dev"): 58.83,
    ("han_table01", "UniSpeech", "dev"): 56.94,
    ("han_table01", "HuBERT-Base", "dev"): 56.83,
    ("han_table01", "HuBERT-Large", "dev"): 56.50,
    ("han_table01", "WavLM-Base", "dev"): 56.62,
    ("han_table01", "WavLM-Large", "dev"): 55.74,
    ("han_table01", "AST", "dev"): 59.94,
    ("han_table01", "ATST", "dev"): 60.33,
    ("han_table01", "CED", "dev"): 60.56,
    ("han_table01", "CLAP-LAION", "dev"): 58.40,
    ("han_table01", "Imagebind", "dev"): 61.09,
    ("han_table02", "CNN10", "eval"): 56.85,
    ("han_table02", "MobileNet", "eval"): 55.43,
    ("han_table02", "Wav2Vec 2.0", "eval"): 58.77,
    ("han_table02", "UniSpeech", "eval"): 57.12,
    ("han_table02", "HuBERT-Base", "eval"): 56.55,
    ("han_table02", "HuBERT-Large", "eval"): 56.31,
    ("han_table02", "WavLM-Base", "eval"): 55.74,
    ("han_table02", "WavLM-Large", "eval"): 58.69,
    ("han_table02", "AST", "eval"): 54.22,
    ("han_table02", "ATST", "eval"): 57.03,
    ("han_table02", "CED", "eval"): 61.48,
    ("han_table02", "CLAP-LAION", "eval"): 56.23,
    ("han_table02", "Imagebind", "eval"): 59.47,
    ("han_table03", "AutoEncoder", "all"): 56.02,
    ("han_table03", "CNN10", "all"): 58.38,
    ("han_table04", "Multi-Branch LoRA, rank=32, branches=8, frozen=true, fc=false", "all"): 64.51,
    ("han_table06", "MFN", "all"): 90.42,
    ("han_table06", "Glow aff", "dev"): 79.00,
    ("han_table08", "MFNV2", "dev"): 56.51,
    ("han_table08", "AE", "dev"): 55.97,
    ("han_table08", "STgram", "dev"): 61.89,
    ("han_table08", "TWFRGMM", "dev"): 70.18,
    ("han_table09", "AL", "eval"): 68.63,
    ("han_table10", "2024 No.1", "all"): 67.02,
    ("han_table10", "2024 No.2", "all"): 66.55,
    ("han_table10", "2024 No.3", "all"): 59.99,
    ("han_table11", "+ PL", "all"): 62.93,
}


def averages(table: str) -> dict[Aggregate, tuple[float, float]]:
    """(printed, recomputed) of every average of a table whose cells are all printed."""
    frame = printed(table)
    frame = frame[frame["metric"].isin(["mean_auc_pauc", "hmean_auc_pauc"])]
    (dataset,) = frame["dataset"].unique()
    rules = MetricRules(scheme="dcase2020" if dataset == "dcase2020" else "dcase2022")
    total = frame["machine"].isin(["mean", "hmean"])
    machines = frame[~total].groupby("split")["machine"].nunique()
    found: dict[Aggregate, tuple[float, float]] = {}
    for row, cells in frame.groupby("row"):
        tops = cells[total.loc[cells.index]].set_index("split")["value"]
        for split in ("dev", "eval"):
            parts = cells.loc[~total.loc[cells.index] & (cells["split"] == split), "value"]
            if split in tops and len(parts) and len(parts) == machines[split]:
                found[table, str(row), split] = (float(tops[split]), float(official_score(parts, rules)))
        if {"dev", "eval", "all"} <= set(tops.index):
            sets = tops[["dev", "eval"]].to_numpy()
            found[table, str(row), "all"] = (float(tops["all"]), float(official_score(sets, rules)))
    return found


@pytest.mark.parametrize("table", TABLES)
def test_averages_follow_from_their_cells_but_for_the_known_ones(table: str) -> None:
    wrong = {key: again for key, (stated, again) in averages(table).items() if abs(stated - again) > TOLERANCE}
    known = {key: value for key, value in EXCEPTIONS.items() if key[0] == table}
    assert set(wrong) == set(known)
    for key, again in wrong.items():
        assert again == pytest.approx(known[key], abs=0.0051), key


def test_every_such_average_says_so_where_it_is_shown_and_no_other() -> None:
    said = {
        (m.table, m.row, m.split): float(m.text.rsplit(" ", 1)[1])
        for m in MISPRINTS
        if m.table in TABLES and m.machine in ("mean", "hmean") and "of this row average" in m.text
    }
    assert set(said) == set(EXCEPTIONS)
    for key, again in said.items():
        assert again == pytest.approx(EXCEPTIONS[key], abs=0.0051), key


def test_how_many_averages_are_checked() -> None:
    found = {key for table in TABLES for key in averages(table)}
    assert set(EXCEPTIONS) <= found
    assert len(found) == 163


def test_the_other_mean_is_told_apart() -> None:
    """Arithmetic for 2020 and harmonic later is a finding, not a matter of rounding: the other one is off more often."""

    def off(table: str, scheme: str) -> int:
        frame = printed(table)
        count = 0
        for _, cells in frame[frame["machine"] != frame["metric"]].groupby(["row", "split"]):
            top = cells.loc[cells["machine"].isin(["mean", "hmean"]), "value"]
            parts = cells.loc[~cells["machine"].isin(["mean", "hmean"]), "value"]
            if len(top) == 1 and len(parts) >= 6:
                count += abs(official_score(parts, MetricRules(scheme=scheme)) - top.item()) > TOLERANCE  # type: ignore[arg-type]
        return count

    assert off("han_table06", "dcase2020") < off("han_table06", "dcase2022")
    assert off("han_table10", "dcase2022") < off("han_table10", "dcase2020")


def test_the_autoencoder_of_2024_is_the_official_run_in_another_convention() -> None:
    """AUC of source and target, pAUC of the baseline's MSE run as the challenge's evaluator publishes them (rounded)."""
    official = {
        "3DPrinter": (0.7912, 0.4796, 0.494211), "AirCompressor": (0.6500, 0.4824, 0.554737),
        "Scanner": (0.6916, 0.5374, 0.501053), "ToyCircuit": (0.7658, 0.5266, 0.500000),
        "HoveringDrone": (0.8602, 0.4388, 0.502105), "HairDryer": (0.6224, 0.4598, 0.516316),
        "ToothBrush": (0.7504, 0.6948, 0.527368), "RoboticArm": (0.6596, 0.4152, 0.511579),
        "BrushlessMotor": (0.7070, 0.6352, 0.555789),
    }  # fmt: skip
    rules = MetricRules(scheme="dcase2022")
    everything = [value for numbers in official.values() for value in numbers]
    assert 100 * official_score(everything, rules) == pytest.approx(56.508, abs=0.001)
    for table, row in (("han_table02", "AutoEncoder"), ("han_table10", "AE")):
        frame = printed(table)
        mine = (frame["row"] == row) & (frame["split"] == "eval") & (frame["metric"] == "hmean_auc_pauc")
        cells = frame[mine].set_index("machine")["value"]
        for machine, (source, target, pauc) in official.items():
            half = (official_score([source, target], rules) + pauc) / 2
            assert 100 * half == pytest.approx(cells[machine], abs=0.011)
        apart = [abs(100 * official_score(numbers, rules) - cells[machine]) for machine, numbers in official.items()]
        assert max(apart) > 1
        assert cells["hmean"] == pytest.approx(55.63, abs=0.001)


def test_two_rows_of_2024_average_all_sixteen_types_instead() -> None:
    """Which is not the harmonic mean of the two sets' scores: the sets have seven and nine types."""
    frame = printed("han_table10")
    rules = MetricRules(scheme="dcase2022")
    cells = frame[frame["machine"] != "hmean"]
    for row, stated in (("2024 No.2", 66.40), ("2024 No.3", 60.23)):
        values = cells.loc[cells["row"] == row, "value"]
        assert len(values) == 16
        assert official_score(values, rules) == pytest.approx(stated, abs=0.011)


def test_arithmetic_means_in_a_column_of_harmonic_ones() -> None:
    frame = printed("han_table08")
    for row in ("MFNV2", "AE", "STgram", "TWFRGMM"):
        cells = frame[(frame["row"] == row) & (frame["split"] == "dev")].set_index("machine")["value"]
        assert pd.Series(cells.drop("hmean")).mean() == pytest.approx(cells["hmean"], abs=0.006)
