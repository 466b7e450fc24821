"""The pipeline files against the code: a stage that reads what it does not list would silently keep stale results."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

from auscult.methods import METHODS, load_method
from auscult.papers import printed_tables
from auscult.pipeline.digests import SRC, Code
from auscult.pipeline.graph import file_of
from auscult.pipeline.inputs import CHOSEN, PACKAGE, training_code
from auscult.pipeline.writer import files
from auscult.scoring.made_from import scores_settings
from auscult.settings.params import load_params
from auscult.settings.project import Project
from auscult.settings.schema import PIPELINE
from auscult.settings.training import Train

ROOT = SRC.parent
ALL = load_params(ROOT)
DATA = "data/${data.profile}"
FILES = {name: yaml.safe_load(text) for name, text in files(ALL).items()}
# Change no number: how many workers, what is kept where, how often a state is saved. The profile's name is in the paths.
WITHOUT_EFFECT = {"data.workers", "data.profile"}
TRAIN_WITHOUT_EFFECT = {"checkpoint_seconds", "prefetch", "processes", "resident_fraction", "seeds"}
# Stages that read one field of a section: what else is in it does not concern them.
PARTLY = {"download": {"data"}, "manifest": {"data"}, "publish": {"train", "score"}, "submission": {"score"}}
STAGES = [(f"{file}:{name}", stage) for file, content in FILES.items() for name, stage in content["stages"].items()]


def script_of(stage: dict[str, Any]) -> str:
    return str(re.findall(r"stages/(\w+)\.py", stage["cmd"])[0])


def keys(stage: dict[str, Any]) -> set[str]:
    """Every tracked parameter; those of another file as `file:key`."""
    out: set[str] = set()
    for entry in stage.get("params", []):
        out |= (
            {entry} if isinstance(entry, str) else {f"{file}:{key}" for file, names in entry.items() for key in names}
        )
    return out


def test_the_files_are_those_the_parameters_ask_for() -> None:
    """After a change of arms or studies: python -m auscult.pipeline."""
    for name, text in files(ALL).items():
        assert (ROOT / name).read_text() == text, name
    there = [*ROOT.glob("dvc.yaml"), *ROOT.glob("*/dvc.yaml"), *(ROOT / "studies").rglob("dvc.yaml")]
    assert {path.relative_to(ROOT).as_posix() for path in there} == set(FILES)


def test_every_stage_depends_on_the_meaning_of_its_code() -> None:
    for name, stage in STAGES:
        deps = [dep for dep in stage.get("deps", []) if "/digests/" in dep]
        if script_of(stage) == "digests":
            assert stage["always_changed"], name
        elif script_of(stage) == "train":
            assert deps == ["data/${data.profile}/digests/arms/${item.arm}.json"], name
        else:
            assert f"data/${{data.profile}}/digests/stages/{script_of(stage)}.json" in deps, name


def test_what_a_process_loads_is_in_the_digest() -> None:
    """By running it: the modules that training loads for any method, not what the source says."""
    script = """
import json, sys
from auscult.methods import METHODS, load_method
import auscult.training.arm
known, out = set(sys.modules), {}
for method in METHODS:
    load_method(method)
    out[method] = [m.__file__ for n, m in sys.modules.items() if n.split(".")[0] == "auscult" and m.__file__]
    for name in set(sys.modules) - known:
        if name.split(".")[0] == "auscult":
            del sys.modules[name]
print(json.dumps(out))
"""
    environment = {**os.environ, "PYTHONPATH": str(SRC)}
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    code = Code()
    for method, loaded in json.loads(done.stdout.splitlines()[-1]).items():
        start = (PACKAGE / "training" / "arm.py", PACKAGE / "methods" / f"{method}.py")
        known = code.closure(*start) | set((PACKAGE / "features").glob("*.py"))
        missing = {path for path in map(Path, loaded) if path not in known and path.name != "__init__.py"}
        assert missing == set(), method
        settings = load_method(method).settings(method=method)
        assert training_code(settings, code) != code.digest(start[0]), method


def test_rooms_whose_modules_are_chosen_by_name_count_whole() -> None:
    """A module that imports another by a name that the source does not tell needs an entry in CHOSEN, or is a chooser."""
    importing = {path for path in PACKAGE.rglob("*.py") if "import_module(f" in path.read_text()}
    assert {path.parent.name for path in importing} <= {"methods", "encoders", *CHOSEN.values()}


def test_settings_of_training_are_tracked_or_without_effect() -> None:
    assert {*Train().decisive(), *TRAIN_WITHOUT_EFFECT} == set(Train.model_fields)
    assert not set(Train().decisive()) & TRAIN_WITHOUT_EFFECT


def test_parameters_are_those_the_scripts_read() -> None:
    for name, stage in STAGES:
        script = script_of(stage)
        text = (ROOT / "stages" / f"{script}.py").read_text()
        tracked = keys(stage)
        for section in set(re.findall(r'section\("(\w+)"\)', text)) - PARTLY.get(script, set()) - {"train"}:
            fields = {f"{section}.{field}" for field in PIPELINE[section].model_fields} - WITHOUT_EFFECT
            assert section in tracked or fields <= tracked, (name, section)
        if script == "embed":
            assert {"train.device", "train.threads", "train.precision"} <= tracked, name
        if script in ("train", "embed"):
            assert stage["matrix"]["seed"] == "${train.seeds}", name
        elif "project.seeds" in text:
            assert "train.seeds" in tracked, name


def test_scores_are_made_again_where_what_they_say_they_were_made_with_changes() -> None:
    """Otherwise they would be called stale, and `dvc repro` would not help. `embed` and `train` reach them by the embeddings."""
    scored = [keys(stage) for _, stage in STAGES if script_of(stage) == "score"]
    said = scores_settings(Project.open(ROOT))
    assert set(said) == {"score", "embed", "train", "rules", "condition", "clips"}
    assert len(scored) > 10
    profile = {f"profiles/${{data.profile}}.yaml:{name}" for name in {*said["clips"], "rules"} - {"input"}}
    assert all({"score", "train.seeds", "data.input", *profile} <= each for each in scored)


def test_every_arm_is_trained_or_tested_once_and_in_its_tables() -> None:
    embedded = [arm for _, stage in STAGES if script_of(stage) == "embed" for arm in stage["cmd"].split()[4:]]
    assert sorted(embedded) == sorted(ALL.arms)
    for study in ("", *ALL.studies):
        stages = FILES[file_of(study) if study else "dvc.yaml"]["stages"]
        own = [name for name, arm in ALL.arms.items() if arm.study == study]
        if own:
            assert {f"{DATA}/embeddings/{arm}" for arm in own} <= set(stages["score"]["deps"]), study
            assert stages["score"]["outs"] == [f"{DATA}/scores/{study or 'project'}"], study
            assert f"{DATA}/scores/{study or 'project'}" in stages["publish"]["deps"], study
        wanted = {f"{DATA}/scores/{ALL.arm(arm).study or 'project'}" for arm in ALL.rows(study)}
        assert wanted <= set(stages["tables"]["deps"]), study
        swept = FILES[file_of(study, backends=True) if study else "extras/dvc.yaml"]["stages"]
        backends = swept["backends" if study else "backends-project"]
        assert {dep.replace("/scores/", "/sweep/") for dep in wanted} <= set(backends["deps"]), study


def test_tables_name_printed_tables_that_are_there() -> None:
    for study in ("", *ALL.studies):
        for table in ALL.tables(study).values():
            assert {name.strip() for name in table.printed.split(",")} <= {"", *printed_tables()}, study


def test_every_study_says_its_question_command_and_cost() -> None:
    for study in ALL.studies:
        text = (ROOT / "studies" / study / "README.md").read_text()
        for word in ("## Question", "## Command", "## Cost", f"\nauscult run {study}"):
            assert word in text, (study, word)


def test_stages_stay_thin() -> None:
    for path in (ROOT / "stages").glob("*.py"):
        assert len(path.read_text().splitlines()) <= 40, path


def test_stages_after_the_embeddings_need_no_torch() -> None:
    code = Code()
    for stage in ("score", "tables", "manifest", "confusion", "submission"):
        for path in code.closure(ROOT / "stages" / f"{stage}.py"):
            assert not re.search(r"^(import|from) torch", path.read_text(), re.M), (stage, path)
    script = "import sys; sys.path.insert(0, 'stages'); import tables, score, confusion, submission, digests\n"
    script += "print('torch' in sys.modules)"
    environment = {**os.environ, "PYTHONPATH": str(SRC)}
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.stdout.strip() == "False", done.stderr


def test_no_method_is_longer_than_one_sitting() -> None:
    for path in (PACKAGE / "methods").glob("*.py"):
        assert len(path.read_text().splitlines()) <= 250, path


def test_mlflow_is_imported_in_one_place() -> None:
    importers = {
        p.parent.name for p in SRC.rglob("*.py") if re.search(r"^\s*(import|from) mlflow", p.read_text(), re.M)
    }
    assert importers == {"tracking"}


def test_few_modules_lie_flat() -> None:
    """Every module has a room, but for the edge of the program."""
    assert {path.name for path in PACKAGE.glob("*.py")} == {
        "__init__.py",
        "cli.py",
        "errors.py",
        "files.py",
        "packages.py",
    }


def test_every_method_has_an_arm() -> None:
    assert {arm.method for arm in ALL.arms.values()} == set(METHODS)
