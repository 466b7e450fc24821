"""Studies are in DVC's graph when they are asked for, with those they rest on."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from auscult.errors import AuscultError
from auscult.pipeline.graph import IGNORE, file_of, include, included, into_graph, needed
from auscult.pipeline.writer import files
from auscult.settings.params import load_params
from support.pipeline import run

ROOT = Path(__file__).parents[2]
PARAMS = load_params(ROOT)


def test_a_study_takes_along_those_whose_outputs_its_stages_read() -> None:
    """As the pipeline files say, which know nothing of how it was found."""
    stages = {name: yaml.safe_load(text)["stages"].values() for name, text in files(PARAMS).items()}
    made: dict[str, str] = {}
    for name, some in stages.items():
        for stage in some:
            for out in stage.get("outs", []):
                path = out if isinstance(out, str) else next(iter(out))
                made |= {path.replace("${item.arm}", arm): name for arm in stage.get("matrix", {}).get("arm", [""])}
    rests = 0
    for study in PARAMS.studies:
        found, todo = set(), [file_of(study)]
        while todo:
            name = todo.pop()
            found.add(name)
            for dep in (dep for stage in stages[name] for dep in stage["deps"]):
                makers = {
                    by for out, by in made.items() if f"{dep}/".startswith(f"{out}/") or out.startswith(f"{dep}/")
                }
                todo += {by for by in makers if by.startswith("studies/")} - found
        assert set(map(file_of, needed(PARAMS, study))) >= found, study
        rests += len(found) - 1
    assert rests, "some studies show arms of others"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """The repository's pipeline files, without anything to run."""
    for name in (*files(PARAMS), "params.yaml", IGNORE, ".gitignore", *(arm.file for arm in PARAMS.arms.values())):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    for study in PARAMS.studies:
        shutil.copy(ROOT / "studies" / study / "params.yaml", tmp_path / "studies" / study)
    shutil.copytree(ROOT / "profiles", tmp_path / "profiles")
    run(tmp_path, "git", "init", "-q")
    run(tmp_path, "dvc", "init", "-q")
    shutil.copy(ROOT / IGNORE, tmp_path / IGNORE)  # `dvc init` has one of its own
    return tmp_path


def listed(project: Path) -> set[str]:
    found = run(project, "dvc", "stage", "list", "--all", "--name-only").stdout.splitlines()
    return {line.rpartition(":")[0] or "dvc.yaml" for line in found}


def test_dvc_knows_the_studies_that_were_asked_for(project: Path) -> None:
    assert listed(project) == {"dvc.yaml"}, "as the repository has them"
    run(project, "auscult", "run", "os_scl_baselines", "--no-run")
    several = {file_of(name) for name in needed(PARAMS, "os_scl_baselines")}
    assert listed(project) == {"dvc.yaml", *several}
    run(project, "auscult", "run", "extras", "--no-run")
    assert listed(project) == {"dvc.yaml", "extras/dvc.yaml", *several}
    assert set(included(project)) == {"extras/dvc.yaml", *several}
    _, new = into_graph(PARAMS, list(PARAMS.studies), backends=True, root=project)
    assert not several & set(new)
    assert listed(project) == set(files(PARAMS)), "all of them, when all are asked for"


def test_asking_twice_changes_nothing(tmp_path: Path) -> None:
    (tmp_path / IGNORE).write_text("*.pyc\n/studies/**/dvc.yaml\n")
    assert include(["studies/a/dvc.yaml", "studies/a/dvc.yaml"], tmp_path) == ["studies/a/dvc.yaml"]
    once = (tmp_path / IGNORE).read_text()
    assert once == "*.pyc\n/studies/**/dvc.yaml\n!/studies/a/dvc.yaml\n"
    assert include(["studies/a/dvc.yaml"], tmp_path) == []
    assert (tmp_path / IGNORE).read_text() == once
    (tmp_path / IGNORE).write_text("*.pyc\n/extras/dvc.yaml\n")
    assert include(["studies/a/dvc.yaml"], tmp_path) == [], "nothing keeps it out"
    assert (tmp_path / IGNORE).read_text() == "*.pyc\n/extras/dvc.yaml\n"


def test_what_cannot_be_taken_in_is_said(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from auscult.cli import main

    before = (project / IGNORE).read_text()
    monkeypatch.chdir(project)
    with pytest.raises(AuscultError, match=r"there is no study `lowpas`.*`lowpass`\?"):
        into_graph(PARAMS, ["band_stack", "lowpas"])
    params = project / "studies" / "lowpass" / "params.yaml"
    params.write_text(params.read_text().replace("\ntables:", "\nconfusion: [tfst_os_scl]\ntables:"))
    (project / file_of("band_stack")).unlink()
    assert main(["run", "unit_confusion", "lowpass", "band_stack"]) == 2
    error = capsys.readouterr().err
    assert f"{file_of('lowpass')}, {file_of('band_stack')} have" in error
    assert "python -m auscult.pipeline" in error
    monkeypatch.chdir(project / "studies")
    assert main(["run"]) == 2
    assert "this is no project" in capsys.readouterr().err
    assert (project / IGNORE).read_text() == before, "nothing was half taken in"


@pytest.mark.parametrize(
    ("words", "dvc"),
    [
        (["lowpass"], "repro studies/lowpass/dvc.yaml"),
        ([], "repro dvc.yaml"),
        (["--backends"], "repro extras/dvc.yaml:backends-project"),
        (["extras"], "repro extras/dvc.yaml"),
        (["extras:report", "lowpass"], "repro extras/dvc.yaml:report studies/lowpass/dvc.yaml"),
        (["lowpass", "--backends"], "repro studies/lowpass/backends/dvc.yaml"),
        (
            ["lowpass", "-S", "score.k=2", "-S", "a.b=[1,2]", "-n", "x", "--temp"],
            "exp run -S score.k=2 -S a.b=[1,2] -n x --temp studies/lowpass/dvc.yaml",
        ),
        (["lowpass", "--queue"], "exp run --queue studies/lowpass/dvc.yaml"),
    ],
)
def test_what_dvc_is_asked(project: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], dvc: str) -> None:
    from auscult.cli import main

    asked: list[list[str]] = []

    def answer(command: list[str], **options: object) -> subprocess.CompletedProcess[bytes]:
        asked.append(command)
        return subprocess.CompletedProcess(command, 255)

    monkeypatch.chdir(project)
    monkeypatch.setattr(subprocess, "run", answer)
    assert main(["run", *words]) == 2, "status 1 is a verdict"
    assert " ".join(asked[0][1:]) == f"-m dvc {dvc}"
    elsewhere = {"--temp", "--queue"} & set(words) or not words
    assert bool(included(project)) != bool(elsewhere), "what runs in a copy of the project leaves it as it is"


def test_a_cluster_trains_what_is_committed(
    project: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    from auscult.cli import main

    monkeypatch.chdir(project)
    for words in (["lowpass", "-S", "score.k=2"], ["extras"]):
        assert main(["run", *words, "--scheduler", "local:1"]) == 2
        assert re.search("--scheduler.*commit other values", capfd.readouterr().err, re.S)
    assert included(project) == []
