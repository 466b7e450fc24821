"""Every study as it stands in the repository: arms valid on the data they are for, tables and checkpoints that exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from auscult.encoders import MODULES
from auscult.encoders.checkpoints import load_checkpoints
from auscult.methods import load_method
from auscult.papers import PRINTED_ROW, printed
from auscult.results.names import METRICS
from auscult.settings.params import arm_settings, load_params, load_profile
from auscult.settings.profile import Profile

ROOT = Path(__file__).parents[2]
PARAMS = load_params(ROOT)
CHECKPOINTS = load_checkpoints(ROOT)
STUDIES = sorted(PARAMS.studies)
# The data that a study without printed numbers is for, beside the default profile.
MEANT = {
    "random_encoder": ("dcase2023_valve",),
    "frozen_encoders": ("dcase2020", "dcase2023", "dcase2024"),
    "missing_labels": ("synthetic_shift", "dcase2024", "dcase2025", "dcase2026"),
    "lora_scac": ("dcase2020", "dcase2021", "dcase2022", "dcase2023", "dcase2024", "dcase2026"),
}
each_study = pytest.mark.parametrize("study", STUDIES)


def profile(name: str) -> Profile:
    return load_profile(name, ROOT / "profiles")


def papers(study: str) -> list[str]:
    tables = PARAMS.studies[study].tables.values()
    return [name.strip() for table in tables for name in table.printed.split(",") if name.strip()]


def profiles(study: str) -> list[str]:
    """The default one, and those of the data that its printed numbers are of."""
    years = sorted({str(year) for name in papers(study) for year in printed(name)["dataset"].unique()})
    return ["synthetic", *dict.fromkeys([*years, *MEANT.get(study, ())])]


@each_study
def test_arms_have_valid_settings_on_their_data(study: str) -> None:
    for name in profiles(study):
        for row in PARAMS.rows(study):
            assert arm_settings(PARAMS, profile(name), row).method == PARAMS.arm(row).method


@each_study
def test_tables_are_known(study: str) -> None:
    settings = PARAMS.studies[study]
    assert settings.tables
    for table in settings.tables.values():
        assert set(table.metrics) <= set(METRICS)
    assert set(papers(study)) <= set(PRINTED_ROW)
    if settings.sweep:
        assert settings.sweep.metric in METRICS
        assert {arm for line in settings.sweep.lines.values() for arm in line} <= set(settings.rows)


@each_study
def test_arms_are_rows(study: str) -> None:
    assert set(PARAMS.studies[study].arms) <= set(PARAMS.rows(study))


@each_study
def test_printed_rows_of_the_arms_are_those_of_their_tables(study: str) -> None:
    """Every row of ours in a printed table is in a study that shows it; the other way round, in `test_printed`."""
    for name in papers(study):
        assert set(PRINTED_ROW[name]) & set(PARAMS.rows(study)), name
    for name, rows in PRINTED_ROW.items():
        assert set(rows) <= set(PARAMS.arms), name


@pytest.mark.parametrize(
    ("study", "table"),
    [
        ("anopatch_encoders", "anopatch_table3"),
        ("han_encoders", "han_table01"),
        ("han_encoders", "han_table02"),
        ("han_pretraining", "han_table03"),
        ("han_lora", "han_table04"),
        ("han_adapter", "han_table05"),
        ("han_dlcl", "han_table11"),
    ],
)
def test_whole_tables_are_regenerated(study: str, table: str) -> None:
    """Where every printed row is an experiment of the paper's own, every one has an arm."""
    of_arm = PRINTED_ROW[table]
    assert {of_arm[arm] for arm in PARAMS.rows(study) if arm in of_arm} == set(printed(table)["row"])


@pytest.mark.parametrize("study", ["han_lora", "han_adapter"])
def test_ablations_are_set_to_what_their_rows_say(study: str) -> None:
    """Rank, branches, position and groups from the printed row's own words."""
    places = {"MHA": "attention", "FFN": "ffn", "Transformer": "layer", "none": "none"}
    for arm, row in PRINTED_ROW[papers(study)[0]].items():
        settings = arm_settings(PARAMS, profile("dcase2024"), arm).model_dump()
        lora, adapter = settings["lora"], settings["group_adapter"]
        says = dict(re.findall(r"(\w+)=(\w+)", row))
        assert settings["unattributed"] == "class", arm
        assert lora["rank"] == int(says.get("rank", 0)), arm
        assert adapter["position"] == places[says.get("position", "none")], arm
        if lora["rank"]:
            assert (lora["branches"], lora["frozen"], lora["connected"]) == (
                int(says["branches"]),
                says["frozen"] == "true",
                says["fc"] == "true",
            ), arm
            assert (lora["init_scale"], lora["lr_scale"], lora["dropout"]) == (1.0, 1.0, 0.0), arm
        if adapter["position"] != "none":
            assert adapter["groups"] == int(says["groups"]), arm


@pytest.mark.parametrize(
    ("control", "branched"), [("lora_single_scaled", "lora_connected"), ("han_small_control", "han_small")]
)
def test_the_control_differs_from_the_branches_by_what_makes_them_equal(control: str, branched: str) -> None:
    """n connected branches = one with A sqrt(n) wider and steps n times longer (tests/models/test_lora.py); all else alike."""
    one, many = (arm_settings(PARAMS, profile("synthetic"), arm).model_dump() for arm in (control, branched))
    n = many["lora"]["branches"]
    assert one["lora"]["branches"] == 1
    assert one["lora"]["init_scale"] ** 2 == pytest.approx(n, rel=1e-15)
    assert one["lora"]["lr_scale"] == n
    assert one["lora"] | {"branches": n, "init_scale": 1.0, "lr_scale": 1.0} == many["lora"]
    assert {**one, "lora": None} == {**many, "lora": None}


def test_checkpoints_are_those_of_their_encoder() -> None:
    named = {arm: PARAMS.encoder(arm) for arm in PARAMS.arms if PARAMS.encoder(arm)[0]}
    assert len(named) > 50
    for arm, (encoder, checkpoint) in named.items():
        assert encoder in MODULES, arm
        if checkpoint:
            assert CHECKPOINTS[checkpoint].encoder == encoder, arm
            settings = arm_settings(PARAMS, profile("synthetic"), arm)
            assert not settings.encoder.size, arm  # type: ignore[attr-defined]


def test_the_random_encoder_study_asks_for_no_checkpoint() -> None:
    for row in PARAMS.rows("random_encoder"):
        assert PARAMS.encoder(row)[1] == ""


@pytest.mark.parametrize("arm", [a for a, of in PARAMS.arms.items() if of.method in ("anopatch", "han", "frozen")])
def test_waveform_encoders_are_not_asked_for_masks_nor_for_a_class_token(arm: str) -> None:
    """What building the network would refuse, without building it."""
    settings = arm_settings(PARAMS, profile("dcase2024"), arm).model_dump()
    speech = MODULES[settings["encoder"]["name"]] == "speech"
    if speech and "specaug" in settings:
        assert settings["specaug"] == {"frequency": 0, "time": 0}
    if settings["pooling"] == "class_token":
        assert settings["encoder"]["name"] in ("ast", "eat", "imagebind", "atst_clip")
    assert load_method(settings["method"]).settings.model_validate(settings)
