"""The papers' results as printed: read, never corrected.

The tables are `os_scl_table2` ... `os_scl_table6` (Huang, Fang, He, arXiv 2509.13853), `anopatch_table1` ... `3` (Jiang
et al., Interspeech 2024) and `han_table01` ... `11` (Han et al., arXiv 2508.12230). Some printed aggregates do not follow
from their rows; the misprints stay, so that a difference to the paper is a difference to what the paper says. What is
known to be wrong is said beside the number (`misprints`).
"""

from __future__ import annotations

from functools import cache
from importlib.resources import files

import pandas as pd

from auscult.errors import AuscultError, listed

_PAPERS = {"os_scl": "OS-SCL", "anopatch": "AnoPatch", "han": "Han et al."}

_OS_SCL = {
    "idnn": "IDNN",
    "mobilenet_v2": "MobileNetV2",
    "glow_aff": "Glow_Aff",
    "stgram_mfn_original": "STgram-MFN",
    "stgram_mfn": "STgram-MFN",
    "clp_scf": "CLP-SCF",
    "tastgram_namix": "TASTgram(NAMix)",
    "logmel_os_scl": "Log-Mel(OS-SCL)",
    "tfst_os_scl": "TFSTgram(OS-SCL)",
}

# printed table -> arm -> row (column `row` of `printed`). Arms that a table does not print are absent; two arms may share a
# row, such as the two widths of MobileFaceNet that STgram-MFN has had.
PRINTED_ROW = {
    "os_scl_table2": _OS_SCL,
    "os_scl_table3": {
        "stgram_arcface": "STgram(ArcFace)",
        "tfst_arcface": "TFSTgram(ArcFace)",
        "stgram_os_scl": "STgram(OS-SCL)",
        "tfst_os_scl": "TFSTgram(OS-SCL)",
    },
    "os_scl_table4": {
        arm: _OS_SCL[arm] for arm in ("stgram_mfn_original", "stgram_mfn", "clp_scf", "logmel_os_scl", "tfst_os_scl")
    },
    "os_scl_table5": {arm: _OS_SCL[arm] for arm in ("logmel_os_scl", "tfst_os_scl")},
    "os_scl_table6": {
        "tfst_fph_0": "TFSTgram(OS-SCL), reduction=none, fph=false",
        **{f"tfst_fph_{width}": f"TFSTgram(OS-SCL), reduction={width}, fph=true" for width in (128, 32, 16, 8, 4)},
        "tfst_os_scl": "TFSTgram(OS-SCL), reduction=64, fph=true",
    },
    "anopatch_table1": {
        "stgram_mfn_original": "STgram",
        "stgram_mfn": "STgram",
        "mfn": "MFN",
        "sc_adacos": "Sub-Cluster AdaCos",
    },
    "han_table06": {
        "idnn": "IDNN",
        "glow_aff": "Glow aff",
        "stgram_mfn_original": "STgram",
        "stgram_mfn": "STgram",
        "mfn": "MFN",
        "sc_adacos": "SCAdaCos",
    },
}

# How a row of the OS-SCL paper forms the AUC of a machine type, from the code or the rules behind it; its tables put both
# kinds side by side. For a row that is not listed it is not known: STgram-MFN (STgram(ArcFace) is the same row again) is
# neither the published result nor said to be a re-run, and no code of MobileNetV2 and Glow_Aff is public. (mAUC, Table IV,
# is per unit in every row.)
CONVENTION = {
    "Log-Mel(OS-SCL)": "pooled",
    "TFSTgram(OS-SCL)": "pooled",
    "STgram(OS-SCL)": "pooled",
    "TFSTgram(ArcFace)": "pooled",
    "TASTgram(NAMix)": "pooled",
    "IDNN": "per_unit",
    "CLP-SCF": "per_unit",
    "No. 1": "per_unit",
    "AnoPatch(WavLM)": "per_unit",
    "AnoPatch(ATST)": "per_unit",
    "AnoPatch(AST)": "per_unit",
    "AnoPatch(BEATS)": "per_unit",
}


def printed_tables() -> list[str]:
    """Names of the tables at hand, sorted."""
    return sorted(item.name.removesuffix(".csv") for item in files(__package__).iterdir() if item.name.endswith(".csv"))


def printed(table: str) -> pd.DataFrame:
    """One printed table in long form.

    Args:
        table: its name, e.g. "os_scl_table2".

    Returns:
        Columns method (row label), dataset, split (dev / eval / all), machine (or `mean` / `hmean`), metric, value
        (percent, float), text (the same with the digits as printed), params (millions or NaN), note (`key=value;...`,
        settings of the row, "" if none) and row: the method, with the settings behind it where the table has several rows
        of this method. Cells printed as "-" have no row.

    Raises:
        AuscultError: there is no such table.
    """
    if table not in printed_tables():
        raise AuscultError(f"no printed table {table!r}; there are:{listed(printed_tables(), 40)}")
    return _read(table).copy()


def table_name(table: str) -> str:
    """What readers call a table: "OS-SCL, Table 2" for os_scl_table2."""
    paper, _, number = table.rpartition("_table")
    return f"{_PAPERS.get(paper, paper)}, Table {number.lstrip('0')}"


def convention(table: str, method: str, metric: str) -> str:
    """How a printed number combines the units of a machine type: "pooled", "per_unit", or "" when it is not known."""
    if metric == "mauc" or not table.startswith("os_scl"):
        return "per_unit"  # AnoPatch and Han et al. follow the challenge's rules
    return CONVENTION.get(method, "")


@cache
def _read(table: str) -> pd.DataFrame:
    with files(__package__).joinpath(f"{table}.csv").open(encoding="utf-8") as stream:
        frame = pd.read_csv(stream, dtype=str, keep_default_na=False)
    frame["text"] = frame["value"]
    frame["value"] = frame["value"].astype(float)
    frame["params"] = pd.to_numeric(frame["params"], errors="coerce")
    several = frame.groupby("method")["note"].transform("nunique") > 1
    frame["row"] = frame["method"].where(~several, frame["method"] + ", " + frame["note"].str.replace(";", ", "))
    return frame
