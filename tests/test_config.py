"""Settings: nothing unknown passes, nothing typed is without effect, and no default hides from DVC."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from auscult.config import (
    PIPELINE,
    SHARED,
    MethodSettings,
    Profile,
    arm_settings,
    load_params,
    load_profile,
    section,
    validated,
)
from auscult.errors import AuscultError
from auscult.methods import METHODS, load_method
from auscult.project import Project

ROOT = Path(__file__).parents[1]
PARAMS: dict[str, Any] = yaml.safe_load((ROOT / "params.yaml").read_text())
PROFILES = sorted(path.stem for path in (ROOT / "profiles").glob("*.yaml"))
PLAIN: dict[str, Any] = {
    "name": "plain", "dataset": "d", "title": "t", "licence": "l", "source": {"kind": "local", "path": "x"},
    "grammar": "dcase2020", "sets": {"dev": "."}, "clip_seconds": 1.0, "rules": {"scheme": "dcase2020"},
}  # fmt: skip


def plain(**changes: Any) -> Profile:
    return Profile.model_validate({**PLAIN, **changes})


def with_params(**changes: Any) -> dict[str, Any]:
    """params.yaml with sections changed key by key."""
    return {**PARAMS, **{name: {**PARAMS.get(name, {}), **values} for name, values in changes.items()}}


def refused(folder: Path, **changes: Any) -> str:
    """The message with which a changed params.yaml is refused."""
    (folder / "params.yaml").write_text(yaml.safe_dump({**PARAMS, **changes}))
    with pytest.raises(AuscultError) as caught:
        load_params(folder / "params.yaml")
    return str(caught.value)


# ------------------------------------------------------------------------------------------------------ the files we ship
def test_every_section_is_accepted() -> None:
    params = load_params(ROOT / "params.yaml")
    for name in {**PIPELINE, **SHARED}:
        section(params, name)
    for arm in params["arms"]:
        arm_settings(params, plain(), arm)


@pytest.mark.parametrize("name", [*PIPELINE, *SHARED])
def test_every_field_stands_in_params_yaml(name: str) -> None:
    """A default that is not written there could change in the code without DVC noticing."""
    assert set(PARAMS[name]) == set({**PIPELINE, **SHARED}[name].model_fields)


@pytest.mark.parametrize("method", METHODS)
def test_method_sections_hold_known_keys_only(method: str) -> None:
    model = load_method(method).settings
    sections = [PARAMS[method], *(PARAMS.get(arm, {}) for arm, its in PARAMS["arms"].items() if its == method)]
    for values in sections:
        assert set(values) <= set(model.model_fields) - {"method"}


@pytest.mark.parametrize("method", METHODS)
def test_params_yaml_holds_the_values_the_code_calls_the_papers(method: str) -> None:
    """Method and shared sections equal the models' defaults: else the profile-override rule would misfire."""
    model = load_method(method).settings
    shared = {name: PARAMS[name] for name in SHARED if name in model.model_fields}
    assert validated(model, {**PARAMS[method], **shared}, method) == model(method=method)


@pytest.mark.parametrize("name", PROFILES)
def test_every_profile_loads_and_fits_every_arm(name: str) -> None:
    profile = load_profile(name, ROOT / "profiles")
    for arm in PARAMS["arms"]:
        arm_settings(PARAMS, profile, arm)


def tracked_profile_keys() -> set[str]:
    keys: set[str] = set()
    for stage in yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"].values():
        for entry in stage.get("do", stage).get("params", []):
            if isinstance(entry, dict):
                keys |= {key for names in entry.values() for key in names}
    return keys


@pytest.mark.parametrize("name", PROFILES)
def test_every_profile_holds_each_key_that_dvc_tracks(name: str) -> None:
    """DVC refuses a tracked key that is absent, and a default left to the code would not be tracked at all."""
    there = yaml.safe_load((ROOT / "profiles" / f"{name}.yaml").read_text())
    assert len(tracked_profile_keys()) > 8
    assert tracked_profile_keys() - set(there) == set()
    untracked = {"title", "licence"}  # words, which change no number
    assert set(Profile.model_fields) - untracked <= tracked_profile_keys()


# --------------------------------------------------------------------------------------------------------- params.yaml
def test_unknown_section_with_a_suggestion(tmp_path: Path) -> None:
    message = refused(tmp_path, evalute={})
    assert "unknown section `evalute` (did you mean `evaluate`?)" in message
    assert str(tmp_path / "params.yaml") in message
    (tmp_path / "params.yaml").write_text((ROOT / "params.yaml").read_text() + "\non: {}\n")  # YAML 1.1: the key true
    with pytest.raises(AuscultError, match="unknown section `True`"):
        load_params(tmp_path / "params.yaml")


def test_misspelt_key_is_refused_on_opening_with_a_suggestion(tmp_path: Path) -> None:
    message = refused(tmp_path, score={**PARAMS["score"], "backend": ["native"]})
    assert "score.backend: unknown key (did you mean `backends`?)" in message


def test_all_problems_of_a_section_are_reported_at_once() -> None:
    with pytest.raises(AuscultError) as caught:
        section(with_params(train={"seeds": 1, "threads": 0, "precision": "float16"}), "train")
    message = str(caught.value)
    assert "train.seeds: unknown key (did you mean `seed`?)" in message
    assert "train.threads: " in message
    assert "train.precision: " in message


@pytest.mark.parametrize("value", [None, 3, []])
def test_a_section_that_is_no_mapping(tmp_path: Path, value: object) -> None:
    assert "evaluate" in refused(tmp_path, evaluate=value)


def test_arms_are_checked(tmp_path: Path) -> None:
    assert "unknown method `os_sc` (did you mean `os_scl`?)" in refused(tmp_path, arms={"a": "os_sc"})
    assert "mapping of arm to method" in refused(tmp_path, arms=["ae"])
    assert "already names a section" in refused(tmp_path, arms={"train": "ae"})
    assert "already names a section" in refused(tmp_path, arms={"ae": "os_scl"})


def test_a_key_that_stands_twice(tmp_path: Path) -> None:
    text = (ROOT / "params.yaml").read_text()
    (tmp_path / "params.yaml").write_text(text + "\nfph:\n  reduction: 16\n")
    with pytest.raises(AuscultError, match="`fph` stands twice"):
        load_params(tmp_path / "params.yaml")


@pytest.mark.parametrize("content", [b"a: [1", b"- a\n", b"", b"a: \xff\xfe\n"])
def test_unreadable_yaml_names_the_file(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "params.yaml").write_bytes(content)
    with pytest.raises(AuscultError) as caught:
        load_params(tmp_path / "params.yaml")
    assert str(tmp_path / "params.yaml") in str(caught.value)


def test_no_params_here(tmp_path: Path) -> None:
    with pytest.raises(AuscultError, match=r"no params\.yaml") as caught:
        load_params(tmp_path / "params.yaml")
    assert "run from the root" in str(caught.value)


# ------------------------------------------------------------------------------------------------------------- profiles
def write_profile(folder: Path, **changes: Any) -> Path:
    values = {key: value for key, value in {**PLAIN, **changes}.items() if value is not None}
    (folder / f"{PLAIN['name']}.yaml").write_text(yaml.safe_dump(values))
    return folder


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": "other"}, "the profile calls itself `other`"),
        ({"machine": ["fan"]}, "machine: unknown key (did you mean `machines`?)"),
        ({"licence": None}, "licence: Field required"),
        ({"rules": {"scheme": "dcase2020", "max_fp": 0.1}}, "rules.max_fp: unknown key (did you mean `max_fpr`?)"),
        ({"sets": {"test": "."}}, "sets.test"),
        ({"holdout": 1.0}, "holdout: Input should be less than 1"),
        ({"clip_seconds": 0}, "clip_seconds: Input should be greater than 0"),
        ({"overrides": {"os_sl": {}}}, "unknown section `os_sl` (did you mean `os_scl`?)"),
    ],
)
def test_bad_profiles(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    write_profile(tmp_path, **changes)
    with pytest.raises(AuscultError) as caught:
        load_profile("plain", tmp_path)
    assert message in str(caught.value)
    assert "plain" in str(caught.value)


def test_unknown_profile_lists_those_there(tmp_path: Path) -> None:
    write_profile(tmp_path)
    with pytest.raises(AuscultError) as caught:
        load_profile("plane", tmp_path)
    assert "did you mean `plain`?" in str(caught.value)
    assert "choose: plain" in str(caught.value)


def test_project_opens_with_its_profile_and_paths(tmp_path: Path) -> None:
    (tmp_path / "profiles").mkdir()
    write_profile(tmp_path / "profiles")
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(with_params(data={"profile": "plain"})))
    project = Project.open(tmp_path)
    assert project.profile.name == "plain"
    assert project.paths.clips == tmp_path / "data" / "plain" / "manifest" / "clips.parquet"
    assert project.section("score").k == PARAMS["score"]["k"]
    shutil.rmtree(tmp_path / "profiles")
    with pytest.raises(AuscultError, match="no profile `plain`"):
        Project.open(tmp_path)


# ------------------------------------------------------------------------------------------------------ settings of an arm
def test_layers_of_an_arm_in_order() -> None:
    params = with_params(tfst_os_scl={"fph": {"reduction": 8}, "epochs": 7})
    settings = arm_settings(params, plain(), "tfst_os_scl").model_dump()
    assert settings["method"] == "os_scl"
    assert settings["epochs"] == 7  # the arm's
    assert settings["fph"] == {"reduction": 8, "activation": "relu"}  # the arm's key, the shared section's other
    assert settings["arcface"] == {"scale": 30, "margin": 0.4}
    assert settings["weight_decay"] == PARAMS["os_scl"]["weight_decay"]  # the method's
    over = arm_settings(
        PARAMS, plain(overrides={"os_scl": {"epochs": 2}, "ema": {"decay": 0.5}}), "tfst_os_scl"
    ).model_dump()
    assert over["epochs"] == 2
    assert over["ema"] == {"enabled": True, "decay": 0.5, "shrink": 2e-6}
    assert over["arcface"] == settings["arcface"]


def test_shared_sections_reach_every_arm_that_reads_them() -> None:
    params = with_params(arcface={"scale": 12})
    for arm in ("stgram_mfn", "logmel_os_scl", "tfst_os_scl"):
        assert arm_settings(params, plain(), arm).model_dump()["arcface"]["scale"] == 12
    assert "arcface" not in type(arm_settings(params, plain(), "ae")).model_fields


def test_settings_cannot_be_changed_afterwards() -> None:
    settings = arm_settings(PARAMS, plain(), "ae")
    with pytest.raises(ValueError, match="frozen"):
        settings.epochs = 3


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"os_scl": {"epoch": 3}}, "os_scl.epoch: unknown key (did you mean `epochs`?)"),
        (
            {"tfst_os_scl": {"fph": {"reducton": 3}}},
            "tfst_os_scl.fph.reducton: unknown key (did you mean `reduction`?)",
        ),
        ({"os_scl": {"lr": -1}}, "os_scl.lr: Input should be greater than 0"),
        ({"os_scl": {"batch_size": 1}}, "os_scl.batch_size: Input should be greater than or equal to 2"),
        ({"os_scl": {"valid_fraction": 1}}, "os_scl.valid_fraction: Input should be less than 1"),
        ({"fph": {"reducton": 3}}, "fph.reducton: unknown key (did you mean `reduction`?)"),
    ],
)
def test_misspelt_method_keys_name_the_section_they_stand_in(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(AuscultError) as caught:
        arm_settings(with_params(**changes), plain(), "tfst_os_scl")
    assert message in str(caught.value)


def test_misspelt_override_names_the_profile() -> None:
    with pytest.raises(AuscultError) as caught:
        arm_settings(PARAMS, plain(overrides={"os_scl": {"epoch": 1}}), "tfst_os_scl")
    assert "profiles/plain.yaml: overrides.epoch: unknown key (did you mean `epochs`?)" in str(caught.value)


def test_unknown_arm() -> None:
    with pytest.raises(AuscultError, match="did you mean `tfst_os_scl`"):
        arm_settings(PARAMS, plain(), "tfst_osscl")


OVER = {"os_scl": {"epochs": 2}, "ema": {"decay": 0.5}}


@pytest.mark.parametrize(
    ("changes", "key", "value"),
    [
        ({"os_scl": {"epochs": 5}}, "os_scl.epochs", 5),
        ({"ema": {"decay": 0.9}}, "ema.decay", 0.9),
    ],
)
def test_a_typed_value_is_never_silently_overridden(changes: dict[str, Any], key: str, value: float) -> None:
    profile = plain(overrides=OVER)
    with pytest.raises(AuscultError) as caught:
        arm_settings(with_params(**changes), profile, "tfst_os_scl")
    assert f"`{key}` is {value} in params.yaml" in str(caught.value)
    assert f"-S 'profiles/plain.yaml:overrides.{key}={value}'" in str(caught.value)
    arm_settings(with_params(**changes), profile, "ae")  # reads neither


def test_an_arms_own_value_is_never_silently_overridden() -> None:
    """Even one that equals the paper's: it stands there to set this row apart."""
    for epochs in (300, 5):
        with pytest.raises(AuscultError, match=rf"`tfst_os_scl.epochs` is {epochs} in params.yaml"):
            arm_settings(with_params(tfst_os_scl={"epochs": epochs}), plain(overrides=OVER), "tfst_os_scl")
    profile = plain(overrides={"arcface": {"margin": 0.5}})
    with pytest.raises(AuscultError, match=r"`tfst_os_scl\.arcface\.margin` is 0\.4"):
        arm_settings(PARAMS, profile, "tfst_os_scl")


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"os_scl": {"epochs": 2}},
        {"tfst_os_scl": {"epochs": 2}},
        {"os_scl": {"epochs": "300"}},
        {"ema": {"shrink": 0}},
    ],
)
def test_values_that_agree_or_are_not_overridden_pass(changes: dict[str, Any]) -> None:
    settings = arm_settings(with_params(**changes), plain(overrides=OVER), "tfst_os_scl")
    assert settings.epochs == 2


def test_numbers_are_compared_as_numbers() -> None:
    """YAML 1.1 reads 1e-4 as a string and a list is no tuple: neither makes a value differ from itself."""
    over = {"os_scl": {"lr": 0.01}, "spectral_knn": {"pooling": ["max"]}}
    typed = with_params(os_scl={"lr": "1e-4"}, spectral_knn={"pooling": ["mean", "std", "max"]})
    assert arm_settings(typed, plain(overrides=over), "tfst_os_scl").lr == 0.01
    assert arm_settings(typed, plain(overrides=over), "spectral_knn").model_dump()["pooling"] == ("max",)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    "field", ["epochs", "batch_size", "lr", "lr_min", "schedule_delay", "weight_decay", "valid_fraction"]
)
def test_ranges_hold_for_every_method(method: str, field: str) -> None:
    """A method declares fields again for its defaults; the ranges of the base must survive that."""
    with pytest.raises(AuscultError, match=rf"{method}\.{field}: Input should be greater than"):
        validated(load_method(method).settings, {field: -1}, method)


def test_every_method_has_defaults_for_every_field() -> None:
    """Each layer is validated by itself, and a model folder written today must load when a field is added."""
    for name in METHODS:
        assert isinstance(load_method(name).settings(method=name), MethodSettings)
