"""The methods, by name. A new one is a file beside this one, a section of params.yaml, and its name in this list."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from auscult.methods.base import Method

METHODS = [
    "spectral_knn", "feature_knn", "ae", "dcase_ae", "idnn", "mobilenet_v2", "glow_aff", "sc_adacos", "mfn", "stgram_mfn",
    "clp_scf", "tastgram", "os_scl", "cnn10", "twfr_gmm", "featex", "anopatch", "han", "frozen",
    "logmel_rows", "scac_lora", "multires",
]  # fmt: skip


def load_method(name: str) -> Method:
    """The `METHOD` of auscult/methods/<name>.py; the other methods are not imported."""
    method: Method = importlib.import_module(f"auscult.methods.{name}").METHOD
    return method


def in_a_line(name: str) -> str:
    """What a method is: the first line of its file, which is not imported.

    >>> in_a_line("ae")
    'Autoencoder of the DCASE 2020 Task 2 baseline: five log-mel frames in, the same five out, error as score'
    """
    with Path(__file__).with_name(f"{name}.py").open(encoding="utf-8") as stream:
        return stream.readline().strip().strip('"').removesuffix(".")
