"""dvc.yaml against the code: a stage that imports a module but does not list it would silently keep stale results."""

from __future__ import annotations

import re
from typing import Any

import pytest
import yaml

from auscult.config import PIPELINE, SHARED
from auscult.methods import METHODS, load_method
from support.imports import SRC, closure

ROOT = SRC.parent
PIPE: dict[str, Any] = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
PARAMS: dict[str, Any] = yaml.safe_load((ROOT / "params.yaml").read_text())
ARMS: dict[str, str] = PARAMS["arms"]

# Carry settings, paths and messages: what they carry is a tracked parameter, and they compute nothing.
PLUMBING = {SRC / "auscult" / name for name in (
    "__init__.py", "config.py", "errors.py", "files.py", "methods/__init__.py", "paths.py", "project.py", "rules.py",
)}  # fmt: skip
# Change no number: how many workers, what is kept where, how often a state is saved.
WITHOUT_EFFECT = {"data.workers", "train.checkpoint_seconds", "train.resident_fraction"}


def expanded() -> list[tuple[str, dict[str, Any], str]]:
    """(name, stage, arm or "") of every stage after its matrix or foreach."""
    out = []
    for name, stage in PIPE.items():
        if "foreach" in stage:
            out += [(f"{name}@{arm}", _filled(stage["do"], arm), arm) for arm in ARMS]
        elif "matrix" in stage:
            out += [(f"{name}@{arm}", _filled(stage, arm), arm) for arm in stage["matrix"]["arm"]]
        else:
            out.append((name, stage, ""))
    return out


def _filled(stage: dict[str, Any], arm: str) -> dict[str, Any]:
    text = yaml.safe_dump(stage)
    for mark, value in (("${key}", arm), ("${item.arm}", arm), ("${item}", ARMS[arm])):
        text = text.replace(mark, value)
    filled: dict[str, Any] = yaml.safe_load(text)
    return filled


STAGES = expanded()
IDS = [name for name, _, _ in STAGES]


@pytest.mark.parametrize(("name", "stage", "arm"), STAGES, ids=IDS)
def test_dependencies_are_the_imports(name: str, stage: dict[str, Any], arm: str) -> None:
    script = ROOT / re.findall(r"stages/\w+\.py", stage["cmd"])[0]
    method = SRC / "auscult" / "methods" / f"{ARMS[arm]}.py" if arm and name.startswith(("train", "embed")) else None
    needed = closure(script, *([method] if method else [])) - PLUMBING | {script}
    if method:
        needed.add(method)
    if name.startswith("embed"):  # what training ran too: a change there changes the weights, which embed depends on
        needed -= {path for path in needed if path.parent.name in ("models", "losses")}
        needed |= {SRC / "auscult" / "losses" / "arcface.py"}  # the score, which training does not run
    listed = [ROOT / dep for dep in stage["deps"] if dep.startswith(("src", "stages"))]
    folders = tuple(path for path in listed if path.is_dir())
    covered = {path for path in needed if path in listed or any(folder in path.parents for folder in folders)}
    assert needed - covered == set(), "imported but not listed"
    idle = {p for p in listed if p not in needed and not (p.is_dir() and any(p in q.parents for q in needed))}
    assert idle == set(), "listed but not imported"


@pytest.mark.parametrize(("name", "stage", "arm"), STAGES, ids=IDS)
def test_parameters_are_those_the_script_reads(name: str, stage: dict[str, Any], arm: str) -> None:
    keys = [key for key in stage.get("params", []) if isinstance(key, str)]
    script = (ROOT / re.findall(r"stages/\w+\.py", stage["cmd"])[0]).read_text()
    read = set(re.findall(r'section\("(\w+)"\)', script))
    for section in read:
        fields = {f"{section}.{field}" for field in PIPELINE[section].model_fields} - WITHOUT_EFFECT
        tracked = section in keys or {key for key in keys if key.startswith(f"{section}.")} >= fields - {"data.profile"}
        assert tracked or not fields - {"data.profile"} or (name, section) in PARTLY, f"{section} is read, not tracked"
    if name.startswith("train"):
        model = load_method(ARMS[arm]).settings
        wanted = {section for section in SHARED if section in model.model_fields} | {ARMS[arm], arm}
        assert wanted <= set(keys)
        assert {key for key in keys if "." not in key} == wanted


# Stages that read one field of a section: what else is in it does not concern them.
PARTLY = {("download", "data"), ("manifest", "data"), ("publish", "train"), ("publish", "score"), *(
    (f"embed@{arm}", "train") for arm in ARMS
)}  # fmt: skip


def test_every_section_is_tracked_by_some_stage() -> None:
    tracked = {key.split(".")[0] for _, stage, _ in STAGES for key in stage.get("params", []) if isinstance(key, str)}
    assert set(PARAMS) - tracked == set()


def test_every_arm_is_trained_once_and_in_the_tables() -> None:
    trained = [arm for name, _, arm in STAGES if name.startswith("train")]
    assert sorted(trained) == sorted(ARMS)
    for arm in ARMS:
        assert f"data/${{data.profile}}/scores/{arm}.parquet" in PIPE["tables"]["deps"]
        assert f"models/${{data.profile}}/{arm}" in PIPE["tables"]["deps"]
    assert set(ARMS.values()) == set(METHODS), "a registered method without an arm"


def test_stages_stay_thin() -> None:
    for path in (ROOT / "stages").glob("*.py"):
        assert len(path.read_text().splitlines()) <= 40, path


@pytest.mark.parametrize("stage", ["score", "tables", "manifest"])
def test_stages_after_the_embeddings_need_no_torch(stage: str) -> None:
    for path in closure(ROOT / "stages" / f"{stage}.py") - PLUMBING:
        if path.parent.name != "methods":
            assert not re.search(r"^(import|from) torch", path.read_text(), re.M), path


def test_mlflow_is_imported_in_one_place() -> None:
    importers = [
        path.name for path in SRC.rglob("*.py") if re.search(r"^\s*(import|from) mlflow", path.read_text(), re.M)
    ]
    assert importers == ["tracking.py"]
