"""The papers' results as printed: read, never corrected.

The tables are `os_scl_table2` ... `os_scl_table6` (Huang, Fang, He, arXiv 2509.13853), `anopatch_table1` ... `3` (Jiang
et al., Interspeech 2024) and `han_table01` ... `11` (Han et al., arXiv 2508.12230). Some printed aggregates do not follow
from their rows; the misprints stay, so that a difference to the paper is a difference to what the paper says.
"""

from __future__ import annotations

from importlib.resources import files

import pandas as pd

from auscult.errors import AuscultError, listed

# arm -> row of OS-SCL Tables II and IV. Arms that no paper prints are absent.
PRINTED_ROW = {
    "stgram_mfn": "STgram-MFN",
    "logmel_os_scl": "Log-Mel(OS-SCL)",
    "tfst_os_scl": "TFSTgram(OS-SCL)",
}

# How a row of OS-SCL Table II forms the AUC of a machine type, from the code behind it; the table puts both kinds side by
# side. For a row that is not listed it is not known. (mAUC, Table IV, is per unit in every row.)
CONVENTION = {
    "Log-Mel(OS-SCL)": "pooled",
    "TFSTgram(OS-SCL)": "pooled",
    "TASTgram(NAMix)": "pooled",
    "IDNN": "per_unit",
    "CLP-SCF": "per_unit",
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
        settings of the row, "" if none). Cells printed as "-" have no row.

    Raises:
        AuscultError: there is no such table.
    """
    if table not in printed_tables():
        raise AuscultError(f"no printed table {table!r}; there are:{listed(printed_tables(), 40)}")
    with files(__package__).joinpath(f"{table}.csv").open(encoding="utf-8") as stream:
        frame = pd.read_csv(stream, dtype=str, keep_default_na=False)
    frame["text"] = frame["value"]
    frame["value"] = frame["value"].astype(float)
    frame["params"] = pd.to_numeric(frame["params"], errors="coerce")
    return frame
