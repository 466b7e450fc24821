"""The ledger: complete, its counts exact, its tests there, its page made from it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from auscult.methods import METHODS, load_method
from auscult.papers.fidelity import declared, ledger, pages, parameter_count
from auscult.settings.params import load_params

ROOT = Path(__file__).parents[2]
PARAMS = load_params(ROOT)
LEDGER = ledger()
# Arms of ours that reproduce nobody's row: the same systems with a part off, or hearing less.
OWN = re.compile(r"spectral_knn|tfst_no_.*|tfst_fph_.*|modspec_.*|.*_(lowpass|deaf|snr)_.*|.*_small(_.*)?")


def test_every_arm_that_reproduces_a_row_has_an_entry() -> None:
    """A method whose file declares no source has none to be faithful to, and so its arms need no entry."""
    covered = [arm for name, entry in LEDGER.items() for arm in (name, *entry.get("arms", []))]
    assert len(covered) == len(set(covered))
    sourced = {method for method in METHODS if declared(method).get("fidelity")}
    arms = {arm for arm, found in PARAMS.arms.items() if found.method in sourced and not OWN.fullmatch(arm)}
    assert set(covered) == arms, "say what it follows: below `---` in its method's file, or in papers/fidelity.yaml"


@pytest.mark.parametrize("arm", LEDGER)
def test_parameters_are_the_sources(arm: str) -> None:
    counted = LEDGER[arm].get("parameters")
    if counted:
        assert parameter_count(PARAMS, arm) == counted["source"] - counted["unused"]


def test_parameters_that_the_facts_state() -> None:
    """Independent of the ledger's own numbers: totals of the released code, counted there."""
    stated = {
        "ae": 267_928, "idnn": 185_496, "mobilenet_v2": 696_647, "stgram_mfn": 1_161_279, "stgram_mfn_original": 1_350_335,
        "tastgram_namix": 1_161_855, "clp_scf": 1_361_686, "tfst_os_scl": 1_377_535, "logmel_os_scl": 897_257,
        "sc_adacos": 7 * 766_944 + 127 * 5_248,
    }  # fmt: skip
    for arm, total in stated.items():
        assert LEDGER[arm]["parameters"]["source"] == total, arm


@pytest.mark.parametrize("arm", LEDGER)
def test_golden_vectors_are_compared_where_it_says(arm: str) -> None:
    for name, places in LEDGER[arm]["golden"].items():
        assert (ROOT / "tests" / "golden" / f"{name}.npz").is_file()
        for place in places.split(", "):
            file, _, test = place.partition("::")
            text = (ROOT / file).read_text()
            assert f"def {test}" in text
            assert re.search(rf'["\']{name}["\']', text), (name, file)


@pytest.mark.parametrize("arm", LEDGER)
def test_switches_are_parameters(arm: str) -> None:
    from auscult.settings.sections import SHARED
    from auscult.settings.training import Train

    for item in LEDGER[arm]["deviations"]:
        for switch in filter(None, re.split(r", ", item.get("switch") or "")):
            keys = switch.split(" ")[0].split(".")
            if keys[0] == "train":
                model: Any = Train
            elif keys[0] in SHARED:
                model = SHARED[keys[0]]
            else:
                name = keys[0] if keys[0] in METHODS else PARAMS.arm(keys[0]).method
                model = load_method(name).settings
            for key in keys[1:]:
                assert key in model.model_fields, switch
                model = type(model.model_fields[key].default)


def test_the_pages_are_made_from_it() -> None:
    for name, text in pages(ROOT).items():
        assert (ROOT / "docs" / name).read_text() == text, f"docs/{name} is old: python -m auscult.papers.fidelity"
