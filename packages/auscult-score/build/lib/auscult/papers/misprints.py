"""Printed numbers that contradict other printed numbers: what is said with them, never a correction."""

from __future__ import annotations

from typing import NamedTuple


class Misprint(NamedTuple):
    """A printed cell that cannot be right, or a row to read with care.

    Attributes:
        table, row, split, machine, metric: the cell, as `printed` names it; an empty `machine`, `split` or `metric` means all
            of the row's.
        text: what is wrong, for readers of a table that shows the cell.
    """

    table: str
    row: str
    split: str
    machine: str
    metric: str
    text: str


def _average(cells: str) -> str:
    return f"the printed cells of this row average {cells}"


_FAN_OR_PUMP = (
    "the paper prints 87.12 for fan and for pump; with the printed average the fan value would be 94.01, so it is "
    "probably a copy of the pump's"
)
_SHIFTED = "the paper's columns of this row are probably in another order than its heading; only the average is of use"
_PERHAPS_SHIFTED = "the paper's columns of this row may be in another order than its heading, as those of 2024 No.2"
_ROWS_SLIPPED = "the paper's `all` values of ATST and AST seem to have slipped a row"
_ELSEWHERE = "the average seems to come from a source that averages in another way; "
_PARTS = "the averages of this table differ from those of their rows more than rounding explains; "
_ARITHMETIC = "an arithmetic mean in a column of harmonic ones; "
_OTHER_ARITHMETIC = "an arithmetic mean in a column of harmonic ones: Tables I, II and X print {}, the harmonic one"
_TABLE_II = "Table II prints 56.73 for the same number, and the printed `all` follows from that"
_TABLE_II_ALL = "follows from an evaluation score of 56.73, as Table II prints it; "
_ALL_TYPES = "the harmonic mean over all sixteen types, not of the two sets as in the other rows; "
_HALVES = (
    "the official baseline's published run: each type's cell is the mean of pAUC and the harmonic mean of both AUC, not the "
    "harmonic mean of the three, by which this set scores 56.51"
)
_WRONG_LIST = "near chance, as no other system is: perhaps scored with the label list that is wrong for this type"
_ON_IT = "with ToyCar and ToyTrain near chance, perhaps scored with the label list that is wrong for them"
_OTHER_STGRAM = "OS-SCL, Tables 2 and 3, prints other values for this system on every machine type"
_MOVED = "AnoPatch, Table 2, prints this number for FeatEx, which is empty here; this row has no other value to combine"
_NSCALE = "AnoPatch, Table 2, prints 84.92, from which the printed average of this row follows"
_UNITS = "the average is close to one over the 23 units instead of the 6 types; "

MISPRINTS = (
    Misprint("os_scl_table2", "MobileNetV2", "dev", "mean", "auc", _ELSEWHERE + _average("84.00")),
    Misprint("os_scl_table2", "Glow_Aff", "dev", "mean", "auc", _UNITS + _average("84.67")),
    Misprint("os_scl_table2", "Glow_Aff", "dev", "mean", "pauc", _UNITS + _average("73.33")),
    Misprint("os_scl_table2", "TFSTgram(OS-SCL)", "dev", "mean", "pauc", _average("90.26")),
    Misprint("os_scl_table3", "TFSTgram(OS-SCL)", "dev", "mean", "pauc", _average("90.26")),
    Misprint("os_scl_table3", "STgram(OS-SCL)", "dev", "fan", "pauc", _FAN_OR_PUMP),
    Misprint("os_scl_table3", "STgram(OS-SCL)", "dev", "pump", "pauc", _FAN_OR_PUMP),
    Misprint("os_scl_table3", "STgram(OS-SCL)", "dev", "mean", "pauc", _average("88.19")),
    Misprint(
        "os_scl_table5", "AnoPatch(ATST)", "all", "mean", "mean_auc_pauc", _ROWS_SLIPPED + "; " + _average("86.71")
    ),
    Misprint(
        "os_scl_table5", "AnoPatch(AST)", "all", "mean", "mean_auc_pauc", _ROWS_SLIPPED + "; " + _average("85.71")
    ),
    Misprint("os_scl_table5", "AnoPatch(BEATS)", "all", "mean", "mean_auc_pauc", _average("92.61")),
    Misprint("anopatch_table1", "STgram", "", "", "mean_auc_pauc", _OTHER_STGRAM),
    Misprint("anopatch_table1", "MFN", "all", "mean", "mean_auc_pauc", _average("90.42")),
    Misprint("anopatch_table1", "AnoPatch (Ours)", "all", "mean", "mean_auc_pauc", _average("92.61")),
    Misprint("han_table01", "CNN10", "dev", "hmean", "hmean_auc_pauc", _PARTS + _average("60.91")),
    Misprint("han_table01", "MobileNet", "dev", "hmean", "hmean_auc_pauc", _PARTS + _average("58.46")),
    Misprint("han_table01", "Wav2Vec 2.0", "dev", "hmean", "hmean_auc_pauc", _PARTS + _average("58.83")),
    Misprint("han_table01", "UniSpeech", "dev", "hmean", "hmean_auc_pauc", _PARTS + _average("56.94")),
    Misprint("han_table01", "HuBERT-Base", "dev", "hmean", "hmean_auc_pauc", _PARTS + _average("56.83")),
    Misprint("han_table01", "HuBERT-Large", "dev", "hmean", "hmean_auc_pauc", _PARTS + _average("56.50")),
    Misprint("han_table01", "WavLM-Base", "dev", "hmean", "hmean_auc_pauc", _PARTS + _average("56.62")),
    Misprint("han_table01", "WavLM-Large", "dev", "hmean", "hmean_auc_pauc", _PARTS + _average("55.74")),
    Misprint("han_table01", "AST", "dev", "hmean", "hmean_auc_pauc", _PARTS + _average("59.94")),
    Misprint("han_table01", "ATST", "dev", "hmean", "hmean_auc_pauc", _PARTS + _average("60.33")),
    Misprint("han_table01", "CED", "dev", "hmean", "hmean_auc_pauc", _PARTS + _average("60.56")),
    Misprint("han_table01", "CLAP-LAION", "dev", "hmean", "hmean_auc_pauc", _PARTS + _average("58.40")),
    Misprint("han_table01", "Imagebind", "dev", "hmean", "hmean_auc_pauc", _PARTS + _average("61.09")),
    Misprint("han_table01", "AutoEncoder", "dev", "", "hmean_auc_pauc", _PERHAPS_SHIFTED),
    Misprint("han_table02", "AutoEncoder", "eval", "", "hmean_auc_pauc", _HALVES),
    Misprint("han_table02", "CNN10", "eval", "hmean", "hmean_auc_pauc", _PARTS + _average("56.85")),
    Misprint("han_table02", "MobileNet", "eval", "hmean", "hmean_auc_pauc", _PARTS + _average("55.43")),
    Misprint("han_table02", "Wav2Vec 2.0", "eval", "hmean", "hmean_auc_pauc", _PARTS + _average("58.77")),
    Misprint("han_table02", "UniSpeech", "eval", "hmean", "hmean_auc_pauc", _PARTS + _average("57.12")),
    Misprint("han_table02", "HuBERT-Base", "eval", "hmean", "hmean_auc_pauc", _PARTS + _average("56.55")),
    Misprint("han_table02", "HuBERT-Large", "eval", "hmean", "hmean_auc_pauc", _PARTS + _average("56.31")),
    Misprint("han_table02", "WavLM-Base", "eval", "hmean", "hmean_auc_pauc", _PARTS + _average("55.74")),
    Misprint("han_table02", "WavLM-Large", "eval", "hmean", "hmean_auc_pauc", _PARTS + _average("58.69")),
    Misprint("han_table02", "AST", "eval", "hmean", "hmean_auc_pauc", _PARTS + _average("54.22")),
    Misprint("han_table02", "ATST", "eval", "hmean", "hmean_auc_pauc", _PARTS + _average("57.03")),
    Misprint("han_table02", "CED", "eval", "hmean", "hmean_auc_pauc", _PARTS + _average("61.48")),
    Misprint("han_table02", "CLAP-LAION", "eval", "hmean", "hmean_auc_pauc", _PARTS + _average("56.23")),
    Misprint("han_table02", "Imagebind", "eval", "hmean", "hmean_auc_pauc", _PARTS + _average("59.47")),
    Misprint("han_table03", "AutoEncoder", "dev", "hmean", "hmean_auc_pauc", _OTHER_ARITHMETIC.format("55.83")),
    Misprint("han_table03", "AutoEncoder", "eval", "hmean", "hmean_auc_pauc", _OTHER_ARITHMETIC.format("55.63")),
    Misprint("han_table03", "AutoEncoder", "all", "hmean", "hmean_auc_pauc", _average("56.02")),
    Misprint("han_table03", "CNN10", "eval", "hmean", "hmean_auc_pauc", _TABLE_II),
    Misprint("han_table03", "CNN10", "all", "hmean", "hmean_auc_pauc", _TABLE_II_ALL + _average("58.38")),
    Misprint(
        "han_table04",
        "Multi-Branch LoRA, rank=32, branches=8, frozen=true, fc=false",
        "all",
        "hmean",
        "hmean_auc_pauc",
        _average("64.51"),
    ),
    Misprint("han_table06", "STgram", "", "", "mean_auc_pauc", _OTHER_STGRAM),
    Misprint("han_table06", "MFN", "all", "mean", "mean_auc_pauc", _average("90.42")),
    Misprint("han_table06", "Glow aff", "dev", "mean", "mean_auc_pauc", _average("79.00")),
    Misprint("han_table06", "ASD-AFPA", "", "", "", _SHIFTED),
    Misprint("han_table06", "PAE", "", "", "", _SHIFTED),
    Misprint("han_table08", "MFNV2", "dev", "hmean", "hmean_auc_pauc", _ARITHMETIC + _average("56.51")),
    Misprint("han_table08", "AE", "dev", "hmean", "hmean_auc_pauc", _ARITHMETIC + _average("55.97")),
    Misprint("han_table08", "STgram", "dev", "hmean", "hmean_auc_pauc", _ARITHMETIC + _average("61.89")),
    Misprint("han_table08", "TWFRGMM", "dev", "hmean", "hmean_auc_pauc", _ARITHMETIC + _average("70.18")),
    Misprint("han_table08", "Ours", "eval", "ToyCar", "hmean_auc_pauc", _WRONG_LIST),
    Misprint("han_table08", "Ours", "eval", "ToyTrain", "hmean_auc_pauc", _WRONG_LIST),
    Misprint("han_table08", "Ours", "eval", "hmean", "hmean_auc_pauc", _ON_IT),
    Misprint("han_table08", "Ours", "all", "hmean", "hmean_auc_pauc", _ON_IT),
    Misprint("han_table09", "2023 No.1", "eval", "ToyNscale", "hmean_auc_pauc", _NSCALE),
    Misprint("han_table09", "AL", "eval", "hmean", "hmean_auc_pauc", _average("68.63")),
    Misprint("han_table09", "AL", "all", "hmean", "hmean_auc_pauc", _MOVED),
    Misprint("han_table10", "2024 No.1", "all", "hmean", "hmean_auc_pauc", _average("67.02")),
    Misprint("han_table10", "2024 No.2", "all", "hmean", "hmean_auc_pauc", _ALL_TYPES + _average("66.55")),
    Misprint("han_table10", "2024 No.3", "all", "hmean", "hmean_auc_pauc", _ALL_TYPES + _average("59.99")),
    Misprint("han_table10", "2024 No.2", "dev", "", "hmean_auc_pauc", _SHIFTED),
    Misprint("han_table10", "2024 No.3", "dev", "", "hmean_auc_pauc", _PERHAPS_SHIFTED),
    Misprint("han_table10", "AE", "eval", "", "hmean_auc_pauc", _HALVES),
    Misprint("han_table10", "AE", "dev", "", "hmean_auc_pauc", _PERHAPS_SHIFTED),
    Misprint("han_table11", "+ PL", "all", "hmean", "hmean_auc_pauc", _average("62.93")),
)


def misprint(table: str, row: str, split: str, machine: str, metric: str) -> str:
    """What is known to be wrong with a printed cell, as `printed` names it; "" when nothing is."""
    for known in MISPRINTS:
        cell = (split, machine, metric)
        if (known.table, known.row) == (table, row) and all(
            stated in ("", asked) for stated, asked in zip(known[2:5], cell, strict=True)
        ):
            return known.text
    return ""
