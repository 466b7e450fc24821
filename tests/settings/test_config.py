"""Settings: nothing unknown passes, nothing typed is without effect, and no default hides from DVC."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from auscult.errors import AuscultError
from auscult.methods import METHODS, load_method
from auscult.settings.params import Params, arm_settings, checked, load_params, load_profile
from auscult.settings.profile import Profile
from auscult.settings.project import Project
from auscult.settings.schema import PIPELINE
from auscult.settings.section import validated
from auscult.settings.sections import SHARED
from auscult.settings.training import MethodSettings

ROOT = Path(__file__).parents[2]
PARAMS: dict[str, Any] = yaml.safe_load((ROOT / "params.yaml").read_text())
PROFILES = sorted(path.stem for path in (ROOT / "profiles").glob("*.yaml"))
PLAIN: dict[str, Any] = {
    "name": "plain", "dataset": "d", "title": "t", "licence": "l", "source": {"kind": "local", "path": "x"},
    "grammar": "dcase2020", "sets": {"dev": "."}, "clip_seconds": 1.0, "rules": {"scheme": "dcase2020"},
}  # fmt: skip


def plain(**changes: Any) -> Profile:
    return Profile.model_validate({**PLAIN, **changes})


ALL = load_params(ROOT)  # with the studies
ARMS = ALL.root["arms"]


def changed(**changes: Any) -> dict[str, Any]:
    """params.yaml with sections changed key by key."""
    return {**PARAMS, **{name: {**PARAMS.get(name, {}), **values} for name, values in changes.items()}}


def with_params(**changes: Any) -> Params:
    return checked({"": ("params.yaml", changed(**changes))})


def refused(study: dict[str, Any] | None = None, **changes: Any) -> str:
    """The message with which a changed params.yaml, or one with a study beside it, is refused."""
    files = {"": ("params.yaml", {**PARAMS, **changes})}
    with pytest.raises(AuscultError) as caught:
        checked(files | ({"s": ("studies/s/params.yaml", study)} if study is not None else {}))
    return str(caught.value)


# ------------------------------------------------------------------------------------------------------ the files we ship
def test_every_section_is_accepted() -> None:
    for name in {**PIPELINE, **SHARED}:
        ALL.section(name)
    for arm in ALL.arms:
        arm_settings(ALL, plain(), arm)


@pytest.mark.parametrize("name", [*PIPELINE, *SHARED])
def test_every_field_stands_in_params_yaml(name: str) -> None:
    """A default that is not written there could change in the code without DVC noticing."""
    assert set(PARAMS[name]) == set({**PIPELINE, **SHARED}[name].model_fields)


@pytest.mark.parametrize("method", METHODS)
def test_method_sections_hold_known_keys_only(method: str) -> None:
    model = load_method(method).settings
    layers = [values for arm in ALL.arms.values() if arm.method == method for _, values in arm.layers]
    for values in (PARAMS[method], *layers):
        assert set(values) <= set(model.model_fields) - {"method"}


@pytest.mark.parametrize("method", METHODS)
def test_params_yaml_holds_the_values_the_code_calls_the_papers(method: str) -> None:
    """Method and shared sections equal the models' defaults: else the profile-override rule would misfire."""
    model = load_method(method).settings
    shared = {name: PARAMS[name] for name in SHARED if name in model.model_fields}
    own = {name: {**shared.get(name, {}), **v} if name in shared else v for name, v in PARAMS[method].items()}
    assert validated(model, {**shared, **own}, method) == model(method=method)


@pytest.mark.parametrize("name", PROFILES)
def test_every_profile_loads_and_fits_every_arm(name: str) -> None:
    profile = load_profile(name, ROOT / "profiles")
    for arm in ALL.arms:
        arm_settings(ALL, profile, arm)


def tracked_profile_keys() -> set[str]:
    keys: set[str] = set()
    for stage in yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"].values():
        for entry in stage.get("params", []):
            if isinstance(entry, dict):
                keys |= {key for names in entry.values() for key in names}
    return keys


@pytest.mark.parametrize("name", PROFILES)
def test_every_profile_holds_each_key_that_dvc_tracks(name: str) -> None:
    """DVC refuses a tracked key that is absent, and a default left to the code would not be tracked at all."""
    there = yaml.safe_load((ROOT / "profiles" / f"{name}.yaml").read_text())
    assert len(tracked_profile_keys()) > 8
    assert tracked_profile_keys() - set(there) == set()
    # Words, which change no number; and what the stage `digests` puts into the inputs of each arm.
    untracked = {"title", "licence", "class_label", "overrides"}
    assert set(Profile.model_fields) - untracked <= tracked_profile_keys()


# --------------------------------------------------------------------------------------------------------- params.yaml
def test_unknown_section_with_a_suggestion(tmp_path: Path) -> None:
    assert "unknown section `evalute` (did you mean `evaluate`?)" in refused(evalute={})
    (tmp_path / "params.yaml").write_text((ROOT / "params.yaml").read_text() + "\non: {}\n")  # YAML 1.1: the key true
    with pytest.raises(AuscultError, match="unknown section `True`") as caught:
        load_params(tmp_path)
    assert str(tmp_path / "params.yaml") in str(caught.value)


def test_misspelt_key_is_refused_on_opening_with_a_suggestion() -> None:
    message = refused(score={**PARAMS["score"], "backend": ["native"]})
    assert "score.backend: unknown key (did you mean `backends`?)" in message


def test_all_problems_of_a_section_are_reported_at_once() -> None:
    message = refused(train={**PARAMS["train"], "seed": 1, "threads": 0, "precision": "float16"})
    assert "train.seed: unknown key (did you mean `seeds`?)" in message
    assert "train.threads: " in message
    assert "train.precision: " in message


def test_seeds() -> None:
    assert "a seed stands twice" in refused(train={"seeds": [1, 2, 1]})
    assert "train.seeds: " in refused(train={"seeds": []})


@pytest.mark.parametrize("value", [None, 3, []])
def test_a_section_that_is_no_mapping(value: object) -> None:
    assert "evaluate" in refused(evaluate=value)


def test_arms_are_checked() -> None:
    assert "a list of arms" in refused(arms={"ae": "ae"})
    assert "two arms are called `ae`" in refused(arms=["ae", "ae"])
    assert "already names a section" in refused(arms=["train"])
    assert "no method" in refused(arms=["a"])
    assert "unknown method `os_sc` (did you mean `os_scl`?)" in refused(arms=["a"], a={"method": "os_sc"})
    assert "unknown section `a`" in refused(a={"epochs": 3})
    assert "there is no arm `tfst`" in refused(arms=["a"], a={"base": "tfst"})
    circle = {"a": {"base": "b"}, "b": {"base": "a"}}
    assert "leads back" in refused(arms=["a", "b"], **circle)
    assert "needs trained weights" in refused(arms=["a"], a={"method": "ae", "condition": {"snr_db": 0}})
    assert "`epochs` beside `weights`" in refused(arms=["ae", "a"], a={"weights": "ae", "epochs": 3})


def test_an_arm_that_is_not_listed_is_not_run() -> None:
    params = checked({"": ("params.yaml", {**PARAMS, "arms": ["ae"]})})
    assert set(params.arms) == {"ae"}


def test_studies_are_checked() -> None:
    good = {"title": "t", "rows": ["ae", "a"], "arms": ["a"], "a": {"base": "ae"}}
    arm = checked({"": ("params.yaml", PARAMS), "s": ("studies/s/params.yaml", good)}).arm("a")
    assert (arm.method, arm.study, arm.file) == ("ae", "s", "studies/s/params.yaml")
    twice = refused({**good, "arms": ["ae"]})
    assert "two arms are called `ae`" in twice
    assert "params.yaml and studies/s/params.yaml" in twice
    assert "there is no arm `aa` (did you mean `a`?)" in refused({**good, "rows": ["aa"]})
    assert "there is no arm `x`" in refused({**good, "confusion": ["x"]})
    assert "there is no arm `x`" in refused({**good, "reference": "x"})
    assert "there is no arm `x`" in refused({**good, "sweep": {"parameter": "p", "lines": {"l": {"x": 1}}}})
    assert "unknown section `b`" in refused({**good, "b": {}})
    assert "title: Field required" in refused({"rows": ["ae"]})
    tested = {"title": "t", "rows": ["b"], "arms": ["b"], "b": {"weights": "ae", "condition": {"snr": 3}}}
    assert "b.condition.snr: unknown key (did you mean `snr_db`?)" in refused(tested)


def test_an_arm_of_a_study_is_based_on_another() -> None:
    study = {
        "title": "t", "rows": ["b"], "arms": ["a", "b"], "a": {"base": "tfst_os_scl", "fph": {"reduction": 8}},
        "b": {"base": "a", "epochs": 7},
    }  # fmt: skip
    params = checked({"": ("params.yaml", PARAMS), "s": ("studies/s/params.yaml", study)})
    settings = arm_settings(params, plain(), "b").model_dump()
    assert (settings["inputs"], settings["fph"]["reduction"], settings["epochs"]) == ("tfst", 8, 7)
    assert settings["arcface"]["margin"] == 0.4
    with pytest.raises(AuscultError, match=r"`b\.epochs` is 7 in studies/s/params\.yaml"):
        arm_settings(params, plain(overrides={"os_scl": {"epochs": 2}}), "b")


def test_a_key_that_stands_twice(tmp_path: Path) -> None:
    text = (ROOT / "params.yaml").read_text()
    (tmp_path / "params.yaml").write_text(text + "\nfph:\n  reduction: 16\n")
    with pytest.raises(AuscultError, match="`fph` stands twice"):
        load_params(tmp_path)


@pytest.mark.parametrize("content", [b"a: [1", b"- a\n", b"", b"a: \xff\xfe\n"])
def test_unreadable_yaml_names_the_file(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "params.yaml").write_bytes(content)
    with pytest.raises(AuscultError) as caught:
        load_params(tmp_path)
    assert str(tmp_path / "params.yaml") in str(caught.value)


def test_no_params_here(tmp_path: Path) -> None:
    with pytest.raises(AuscultError, match=r"no params\.yaml") as caught:
        load_params(tmp_path)
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
        ({"clip_seconds": 0}, "audio needs `clip_seconds` (not empty, greater than 0)"),
        ({"clip_seconds": -1}, "clip_seconds: Input should be greater than or equal to 0"),
        ({"grammar": None, "sets": None, "sample_rate": 0}, "audio needs `grammar`, `sets`, `sample_rate`"),
        ({"source": {"kind": "arrays"}}, "arrays have no names to read: leave `grammar` and `eval_labels` empty"),
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
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(changed(data={"profile": "plain"})))
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
        ALL, plain(overrides={"os_scl": {"epochs": 2}, "ema": {"decay": 0.5}}), "tfst_os_scl"
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
    settings = arm_settings(ALL, plain(), "ae")
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
        arm_settings(ALL, plain(overrides={"os_scl": {"epoch": 1}}), "tfst_os_scl")
    assert "profiles/plain.yaml: overrides.epoch: unknown key (did you mean `epochs`?)" in str(caught.value)


def test_unknown_arm() -> None:
    with pytest.raises(AuscultError, match="did you mean `tfst_os_scl`"):
        arm_settings(ALL, plain(), "tfst_osscl")


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
        arm_settings(ALL, profile, "tfst_os_scl")


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
