"""The papers' results as printed: read, never corrected.

The tables are `os_scl_table2` ... `os_scl_table6` (Huang, Fang, He, arXiv 2509.13853), `anopatch_table1` ... `3` (Jiang
et al., Interspeech 2024) and `han_table01` ... `11` (Han et al., arXiv 2508.12230). Some printed aggregates do not follow
from their rows; the misprints stay, so that a difference to the paper is a difference to what the paper says. What is
known to be wrong is said with the number (`misprints`).
"""

from __future__ import annotations

from functools import cache
from importlib.resources import files

import pandas as pd

from auscult.errors import AuscultError, listed
from auscult.papers.misprints import misprint

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

_ENCODERS = {
    "cnn10": "CNN10",
    "mobilenet_v2_across": "MobileNet",
    "dcase_ae": "AutoEncoder",
    "tuned_wav2vec2": "Wav2Vec 2.0",
    "tuned_unispeech": "UniSpeech",
    "tuned_hubert_base": "HuBERT-Base",
    "tuned_hubert_large": "HuBERT-Large",
    "tuned_wavlm_base": "WavLM-Base",
    "tuned_wavlm_large": "WavLM-Large",
    "tuned_ast": "AST",
    "tuned_atst": "ATST",
    "tuned_ced": "CED",
    "tuned_clap": "CLAP-LAION",
    "tuned_imagebind": "Imagebind",
    "tuned_beats": "BEATs",
}


def _lora(rank: int = 32, branches: int = 8, frozen: str = "true", connected: str = "true", more: str = "") -> str:
    """Row of Han et al. Table IV."""
    return f"Multi-Branch LoRA, rank={rank}, branches={branches}, frozen={frozen}, fc={connected}{more}"


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
    "os_scl_table5": {
        **{arm: _OS_SCL[arm] for arm in ("logmel_os_scl", "tfst_os_scl")},
        "anopatch_wavlm": "AnoPatch(WavLM)",
        "anopatch_atst": "AnoPatch(ATST)",
        "anopatch_ast": "AnoPatch(AST)",
        "anopatch_2020": "AnoPatch(BEATS)",
    },
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
        "anopatch_2020": "AnoPatch (Ours)",
    },
    "anopatch_table2": {"featex": "FeatEx", "anopatch_2023": "AnoPatch (Ours)"},
    "anopatch_table3": {
        "anopatch_wav2vec2": "Wav2Vec 2.0",
        "anopatch_hubert": "HuBERT",
        "anopatch_unispeech": "UniSpeech",
        "anopatch_wavlm": "WavLM",
        "anopatch_ast": "AST",
        "anopatch_imagebind": "Imagebind",
        "anopatch_atst": "ATST",
        "anopatch_beats": "BEATs",
    },
    "han_table01": _ENCODERS,
    "han_table02": _ENCODERS,
    "han_table03": {
        **{arm: _ENCODERS[arm] for arm in ("dcase_ae", "cnn10", "mobilenet_v2_across")},
        "wav2vec2_random": "Wav2Vec 2.0, pretrained=false",
        "tuned_wav2vec2": "Wav2Vec 2.0, pretrained=true",
        "beats_random": "BEATs, pretrained=false",
        "tuned_beats": "BEATs, pretrained=true",
    },
    "han_table04": {
        "tuned_beats": "Full Finetune",
        **{f"lora_rank_{rank}": _lora(rank=rank) for rank in (8, 16, 64)},
        "lora_single": _lora(branches=1, more=", lora_baseline=true"),
        "lora_branches_4": _lora(branches=4),
        "lora_branches_16": _lora(branches=16),
        "lora_unfrozen": _lora(frozen="false"),
        "lora_unconnected": _lora(connected="false"),
        "lora_connected": _lora(),
    },
    "han_table05": {
        "tuned_beats": "w/o Adapter",
        "adapter_layer_32": "Group Adapter, position=Transformer, groups=32",
        "adapter_ffn_32": "Group Adapter, position=FFN, groups=32",
        **{f"adapter_attention_{n}": f"Group Adapter, position=MHA, groups={n}" for n in (8, 16, 64, 32)},
    },
    "han_table06": {
        "idnn": "IDNN",
        "glow_aff": "Glow aff",
        "stgram_mfn_original": "STgram",
        "stgram_mfn": "STgram",
        "mfn": "MFN",
        "sc_adacos": "SCAdaCos",
        "han": "Ours",
    },
    "han_table07": {"han": "Ours"},
    "han_table08": {
        "ae": "AE",
        "mobilenet_v2": "MFNV2",
        "stgram_mfn_original": "STgram",
        "stgram_mfn": "STgram",
        "twfr_gmm_printed": "TWFRGMM",
        "twfr_gmm": "TWFRGMM",
        "han": "Ours",
    },
    "han_table09": {"featex": "FeatEx", "han": "Ours"},
    "han_table10": {"dcase_ae": "AE", "han": "Ours"},
    "han_table11": {"tuned_beats": "Baseline", "dlcl_pseudo": "+ PL", "dlcl_contrast": "+ DLCL"},
}

METRIC = {"hmean_auc_pauc": "official"}
"""Printed metric -> the block of ours that it stands in: from 2021 on both papers say "harmonic mean of the AUC and pAUC", which
is the challenge's official score, of a machine type as of a set. Where Han et al. can be checked it is not (`OTHERWISE`)."""

OTHERWISE = (
    "may be formed otherwise than the official score: where it can be checked (autoencoder, evaluation set of 2024) this paper's "
    "number of a machine type is (harmonic mean of both AUC + pAUC) / 2"
)
"""Said of every printed row of Han et al. from 2021 on. All nine cells of that row follow so from the numbers that the organisers
publish of their baseline, and not one by the official rule. TWFR-GMM (Table VIII) is half the sum of the *arithmetic* mean of
both AUC and pAUC, as its authors print them; the winners of 2023 and 2024 have their official scores (tests/papers)."""

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
    names = (item.name for item in files(__package__).iterdir())
    return sorted(name.removesuffix(".csv") for name in names if name.endswith(".csv") and "_table" in name)


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


def comparable(table: str, dataset: str) -> pd.DataFrame:
    """The cells of a printed table whose data are `dataset`, called as `evaluation.evaluate` calls its numbers.

    Returns:
        As `printed`, with `metric` by our name, and the columns `table` and `misprint` (what is known to be wrong with a cell,
        else ""). Empty where the data are others.
    """
    cells = printed(table)
    cells = cells[cells["dataset"] == dataset]
    keys = cells[["row", "split", "machine", "metric"]].itertuples(index=False, name=None)
    wrong = [misprint(table, *(str(part) for part in key)) for key in keys]
    return cells.assign(table=table, misprint=wrong, metric=cells["metric"].replace(METRIC))


def table_name(table: str) -> str:
    """What readers call a table: "OS-SCL, Table 2" for os_scl_table2."""
    paper, _, number = table.rpartition("_table")
    return f"{_PAPERS.get(paper, paper)}, Table {number.lstrip('0')}"


def convention(table: str, method: str, metric: str) -> str:
    """How a printed number combines the units of a machine type: "pooled", "per_unit", or "" when it is not known."""
    if table in ("han_table07", "han_table08"):  # 2021, 2022: they take the sections of evaluation clips for unknown
        return "pooled" if method == "Ours" else ""
    if metric == "mauc" or not table.startswith("os_scl"):
        return "per_unit"  # AnoPatch and Han et al. on 2020; later years have one unit per type
    return CONVENTION.get(method, "")


def remark(table: str, method: str, metric: str) -> str:
    """What is to be said of all cells of a printed row: how they are formed, if that is not known or not as ours."""
    said = (
        [] if convention(table, method, metric) else ["the paper does not say how the units of a machine were combined"]
    )
    said += [OTHERWISE] if table.startswith("han") and metric == "official" else []
    return "; ".join(said)


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
