"""dvc.yaml against the code: a stage that imports a module but does not list it would silently keep stale results."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from auscult.methods import METHODS, load_method
from auscult.pipeline.imports import SRC, closure
from auscult.pipeline.stages import PLUMBING
from auscult.pipeline.writer import files
from auscult.settings.params import load_params
from auscult.settings.schema import PIPELINE, TableSettings
from auscult.settings.sections import SHARED

ROOT = SRC.parent
ALL = load_params(ROOT)
FILES = [
    ROOT / "dvc.yaml",
    *(ROOT / name / "dvc.yaml" for name in ("backends", "checkpoints", "reports", "submissions")),
    *sorted(ROOT.glob("studies/*/dvc.yaml")),
]
# Change no number: how many workers, what is kept where, how often a state is saved. The profile's name is in the paths.
WITHOUT_EFFECT = {"data.workers", "data.profile", "train.checkpoint_seconds", "train.resident_fraction"}
# Stages that read one field of a section: what else is in it does not concern them.
PARTLY = {"download": {"data"}, "manifest": {"data"}, "publish": {"train", "score"}, "submission": {"score"}}


def stages() -> list[tuple[str, dict[str, Any]]]:
    """(file:name, stage) of every stage; one of a matrix with each arm of its list filled in."""
    out = []
    for file in FILES:
        for name, stage in yaml.safe_load(file.read_text())["stages"].items():
            for arm in stage.get("matrix", {}).get("arm", [""]):
                filled = yaml.safe_load(yaml.safe_dump(stage).replace("${item.arm}", arm))
                out.append((f"{file.parent.name}:{name}@{arm}", {**filled, "arm": arm, "name": name}))
    return out


STAGES = stages()
IDS = [name for name, _ in STAGES]
each_stage = pytest.mark.parametrize(("name", "stage"), STAGES, ids=IDS)


def keys(stage: dict[str, Any]) -> set[str]:
    """Every tracked parameter; those of another file as `file:key`."""
    out: set[str] = set()
    for entry in stage.get("params", []):
        out |= (
            {entry} if isinstance(entry, str) else {f"{file}:{key}" for file, names in entry.items() for key in names}
        )
    return out


def test_the_files_are_those_the_parameters_and_imports_ask_for() -> None:
    """After a change of arms, studies or imports: python -m auscult.pipeline."""
    for name, text in files(ALL).items():
        assert (ROOT / name).read_text() == text, name


@pytest.mark.parametrize("method", METHODS)
def test_what_training_imports_is_listed(method: str) -> None:
    """By running it: the modules that are loaded once a method's network has been built, not what the source says."""
    script = f"""
import json, sys
sys.path.insert(0, "stages")
import train
from auscult.methods import load_method
load_method({method!r})
print(json.dumps([m.__file__ for n, m in sys.modules.items() if n.split(".")[0] == "auscult" and m.__file__]))
"""
    environment = {**os.environ, "PYTHONPATH": str(SRC)}
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    loaded = {Path(path) for path in json.loads(done.stdout.splitlines()[-1])} - PLUMBING
    loaded = {path for path in loaded if path.read_text().strip()}
    assert SRC / "auscult" / "methods" / f"{method}.py" in loaded
    arms = [name for name, arm in ALL.arms.items() if arm.method == method and arm.weights == name]
    blocks = [stage for _, stage in STAGES if re.fullmatch(rf"train-{method}(-.+)?", stage["name"])]
    assert len(blocks) == len(arms) > 0, "a registered method without an arm"
    for stage in blocks:
        listed = [ROOT / dep for dep in stage["deps"]]
        missing = {p for p in loaded if p not in listed and not any(d.is_dir() and d in p.parents for d in listed)}
        assert missing == set()


@each_stage
def test_parameters_are_those_the_script_reads(name: str, stage: dict[str, Any]) -> None:
    script = re.findall(r"stages/(\w+)\.py", stage["cmd"])[0]
    text = (ROOT / "stages" / f"{script}.py").read_text()
    tracked = keys(stage)
    read = set(re.findall(r'section\("(\w+)"\)', text)) - PARTLY.get(script, set())
    for section in read - {"train"}:
        fields = {f"{section}.{field}" for field in PIPELINE[section].model_fields} - WITHOUT_EFFECT
        assert section in tracked or fields <= tracked, section
    if script in ("train", "embed"):
        assert {"train.device", "train.threads", "train.precision"} <= tracked  # seeds make stages of their own
        assert stage["matrix"]["seed"] == "${train.seeds}"
    elif "project.seeds" in text:
        assert "train.seeds" in tracked
    if script == "train":
        arm = ALL.arm(stage["arm"])
        model = load_method(arm.method).settings
        wanted = {section for section in SHARED if section in model.model_fields} | {arm.method}
        for layer, _ in arm.layers:
            home = ALL.arm(layer).file
            wanted.add(layer if home == "params.yaml" else f"{home}:{layer}")
        assert {key for key in tracked if "." not in key} | {key for key in tracked if "studies" in key} >= wanted
        extra = {key for key in tracked if "." not in key} - wanted
        assert extra == set() or len(ALL.studies) > 0


def test_every_section_is_tracked_by_some_stage() -> None:
    tracked = {key.split(".")[0] for _, stage in STAGES for key in keys(stage)}
    sections = set(yaml.safe_load((ROOT / "params.yaml").read_text()))
    assert sections - tracked == set()


def test_every_arm_is_trained_or_tested_once_and_in_its_tables() -> None:
    embedded = [stage["arm"] for _, stage in STAGES if stage["name"].startswith(("embed", "test-"))]
    scored = [stage["arm"] for _, stage in STAGES if stage["name"] == "score"]
    assert sorted(embedded) == sorted(scored) == sorted(ALL.arms)
    for name, stage in STAGES:
        if stage["name"] == "tables":
            rows = ALL.rows("" if name.startswith(f"{ROOT.name}:") else name.split(":")[0])
            assert {f"data/${{data.profile}}/scores/{arm}.parquet" for arm in rows} <= set(stage["deps"])


def test_tables_name_printed_tables_that_are_there() -> None:
    from auscult.papers import printed_tables

    for study in ("", *ALL.studies):
        for table in ALL.tables(study).values():
            assert isinstance(table, TableSettings)
            assert {name.strip() for name in table.printed.split(",")} <= {"", *printed_tables()}


def test_every_study_says_its_question_command_and_cost() -> None:
    for study in ALL.studies:
        text = (ROOT / "studies" / study / "README.md").read_text()
        for word in ("## Question", "## Command", "## Cost", f"dvc repro studies/{study}/dvc.yaml"):
            assert word in text, (study, word)


def test_stages_stay_thin() -> None:
    for path in (ROOT / "stages").glob("*.py"):
        assert len(path.read_text().splitlines()) <= 40, path


@pytest.mark.parametrize("stage", ["score", "tables", "manifest", "confusion", "submission"])
def test_stages_after_the_embeddings_need_no_torch(stage: str) -> None:
    for path in closure(ROOT / "stages" / f"{stage}.py") - PLUMBING:
        if path.parent.name != "methods":
            assert not re.search(r"^(import|from) torch", path.read_text(), re.M), path


def test_tables_do_not_import_torch() -> None:
    """By running it, whatever the sources say."""
    script = "import sys; sys.path.insert(0, 'stages'); import tables, score, confusion, submission\n"
    script += "print('torch' in sys.modules)"
    environment = {**os.environ, "PYTHONPATH": str(SRC)}
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.stdout.strip() == "False", done.stderr


def test_no_method_is_longer_than_one_sitting() -> None:
    for path in (SRC / "auscult" / "methods").glob("*.py"):
        assert len(path.read_text().splitlines()) <= 250, path


def test_mlflow_is_imported_in_one_place() -> None:
    importers = [
        path.name for path in SRC.rglob("*.py") if re.search(r"^\s*(import|from) mlflow", path.read_text(), re.M)
    ]
    assert importers == ["tracking.py"]


def test_dvc_finds_every_file() -> None:
    """It looks away from folders that git ignores, with the pipelines in them."""
    listed = subprocess.run(["dvc", "stage", "list", "--all", "--name-only"], cwd=ROOT, capture_output=True, text=True)
    found = {line.rpartition(":")[0] or "dvc.yaml" for line in listed.stdout.splitlines()}
    assert found == {file.relative_to(ROOT).as_posix() for file in FILES}, listed.stderr
