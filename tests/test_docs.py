"""The pages under docs/: examples run, quoted messages and parameters exist, links lead somewhere, pictures are small."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from argparse import ArgumentParser
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest
import yaml

from auscult import cli, methods
from auscult.pipeline.graph import is_extra
from auscult.pipeline.writer import plots
from auscult.results.curves import COLUMNS
from auscult.settings.params import Params, load_params

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = [*sorted(path.name for path in DOCS.glob("*.md")), "../README.md"]
SOURCES = "\n".join(path.read_text() for path in (ROOT / "src").rglob("*.py"))
ADDING = ("add-a-method.md", "add-a-back-end.md")
each_page = pytest.mark.parametrize("page", PAGES)


def blocks(page: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", (DOCS / page).read_text(), re.S)


def copy(folder: Path) -> Path:
    """The parts of the project that a new method or back-end is added to, without its results."""
    for name in ("src", "tests", "stages", "profiles"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__", "golden", "*.npz"))
    for name in ("params.yaml", "pyproject.toml", "checkpoints.yaml"):
        shutil.copy(ROOT / name, folder)
    return folder


def put(path: Path, pattern: str, new: str) -> None:
    """Replace the one match of `pattern`; `\\g<0>` in `new` is the match."""
    text, count = re.subn(pattern, new, path.read_text(), flags=re.M)
    assert count == 1, (path, pattern)
    path.write_text(text)


@pytest.fixture(scope="module")
def passed(module_path: Path) -> tuple[Path, Counter[tuple[str, str]]]:
    """The project with the method and the back-end of the pages, where these say; and how many tests passed, by file and page.

    One process runs all commands of both pages, in their order: starting Python and collecting tests took most of the time.
    """
    project = copy(module_path / "project")
    for name in ("docs", "metrics", "studies", "tests/golden"):  # read alone
        (project / name).symlink_to(ROOT / name)
    module, name = blocks("add-a-method.md", "python")
    (section,) = blocks("add-a-method.md", "yaml")
    assert len(module.splitlines()) <= 50
    (project / "src/auscult/methods/band_net.py").write_text(module)
    put(project / "src/auscult/methods/__init__.py", r"^\]  # fmt: skip", f"    {name.strip()},\n\\g<0>")
    put(project / "params.yaml", r"^  - tfst_os_scl\n(?=\n)", "  - band_net\n\\g<0>")
    (project / "params.yaml").write_text((project / "params.yaml").read_text() + "\n" + section)
    module, name = blocks("add-a-back-end.md", "python")
    (project / "src/auscult/scoring/centre.py").write_text(module)
    put(project / "src/auscult/scoring/__init__.py", r"^\]  # fmt: skip", f"    {name.strip()},\n\\g<0>")
    commands = [
        shlex.split(line) for page in ADDING for line in re.findall(r"^pytest (.*)$", (DOCS / page).read_text(), re.M)
    ]
    files = [word for command in commands for word in command if word.endswith(".py")]
    chosen = [command[command.index("-k") + 1] for command in commands if "-k" in command]
    whole = [Path(word).stem for command in commands if "-k" not in command for word in command]
    asked = [*files, "-k", " or ".join(chosen + whole), "-n0", "-p", "no:cacheprovider", "--junitxml=passed.xml"]
    program = (
        "import runpy, sys, pytest; runpy.run_module('auscult.pipeline', run_name='__main__');"
        "from auscult.settings.schema import BackendSweep; BackendSweep(sweep={'x': {'kind': 'centre'}});"
        f"sys.exit(pytest.main({asked!r}))"
    )
    environment = {**os.environ, "PYTHONPATH": str(project / "src"), "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", program], cwd=project, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    cases = ElementTree.parse(project / "passed.xml").iter("testcase")
    of = Counter(
        (case.get("classname", "").split(".")[-1], word)
        for case in cases
        if not len(case)  # neither failed nor left out
        for word in ["", *(word for word in chosen if word in case.get("name", ""))]
    )
    return project, of


def test_the_method_of_the_page_fulfils_the_contract(passed: tuple[Path, Counter[tuple[str, str]]]) -> None:
    project, tests = passed
    train = yaml.safe_load((project / "dvc.yaml").read_text())["stages"]["train"]
    assert train["matrix"]["arm"][-2:] == ["band_net", "tfst_os_scl"]
    assert tests["test_contract", "band_net"] > 5
    assert tests["test_config", "band_net"] > 5
    assert tests["test_fidelity", ""] > 10


def test_the_back_end_of_the_page_passes_the_tests_of_all(passed: tuple[Path, Counter[tuple[str, str]]]) -> None:
    assert passed[1]["test_backends", "centre"] >= 20


def test_quoted_messages_are_the_source_s() -> None:
    text = (DOCS / "troubleshooting.md").read_text()
    own = text.split("## Messages of this project")[1].split("\n## ")[0]
    messages = re.findall(r"^\| `([^`]+)` \|", own, re.M)
    assert len(messages) >= 15
    assert [message for message in messages if message not in SOURCES] == []


@each_page
def test_links_lead_to_files(page: str) -> None:
    targets = re.findall(r"\]\(([^)#\s]+)\)", (DOCS / page).read_text())
    missing = [
        target for target in targets if "://" not in target and not (DOCS / page).parent.joinpath(target).exists()
    ]
    assert missing == []


@each_page
def test_parameters_and_studies_in_commands_exist(page: str) -> None:
    text = (DOCS / page).read_text()
    shown = re.findall(r"-S '?([a-z_]+(?:\.[a-z_]+)+)=", text)
    own = {key for key in shown if not key.startswith("band_net.")}
    missing = []
    for key in own:
        here = params = every_parameter()
        for part in key.split("."):
            here = here.get(part, None) if isinstance(here, dict) else None
        missing += [key] if here is None and key.split(".")[-1] not in params[key.split(".")[0]] else []
    assert missing == []
    for study in re.findall(r"studies/(\w+)/(?:backends/)?dvc\.yaml", text):
        assert study in all_params().studies
    for profile in re.findall(r"data\.profile=(\w+)", text):
        assert (ROOT / "profiles" / f"{profile}.yaml").is_file()


def commands(page: str) -> Iterator[tuple[str, bool]]:
    """Commands of a page, and whether each is whole: a line of a block, not a word in the text."""
    text = (DOCS / page).read_text().replace("\\\n", " ")
    lines = [(line.split("  #")[0], True) for line in re.findall(r"^(?: {4,})?((?:auscult|dvc) .*)$", text, re.M)]
    lines += [(line, False) for line in re.findall(r"`((?:auscult|dvc) [^`]+)`", text.replace("\n", " "))]
    for line, whole in lines:
        yield from ((part.strip(), whole) for part in re.split(r"&&|;|\|", line))


@each_page
def test_commands_are_understood(page: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Those of `auscult` by its own parser; targets of `dvc repro` and `dvc exp run` are pipelines and stages that there are."""
    for command, whole in commands(page):
        program, *words = shlex.split(command, comments=True)
        if program not in ("auscult", "dvc"):
            continue
        if program == "auscult" and words[0] not in ("COMMAND", "--help", "--version"):
            known = understood(words[0])
            asked = {word.split("=")[0] for word in words if word.startswith("--")}
            assert asked <= {*known, "--help"}, (command, asked - set(known))
            if whole and "--help" not in words:
                try:
                    cli._parser().parse_args(words)
                except SystemExit:
                    pytest.fail(f"{command}: {capsys.readouterr().err}")
                if words[0] == "run" and "<" not in command:
                    names = cli._parser().parse_args(words).studies
                    assert {name for name in names if not is_extra(name)} <= set(all_params().studies), command
                    extras = {name.partition(":")[2] for name in names if is_extra(name)}
                    assert extras <= {"", *stages_of("extras/dvc.yaml")}, command
        if program == "dvc" and (words[0] == "repro" or words[:2] == ["exp", "run"]) and "<" not in command:
            for target in targets(words[1:]):
                file, _, stage = target.rpartition(":")
                if target.endswith(".yaml"):
                    file, stage = target, ""
                there = stages_of(file or "dvc.yaml")
                assert not stage or stage.split("@")[0] in there, command


def targets(words: list[str]) -> list[str]:
    """Words of `dvc repro` and `dvc exp run` that are neither options nor their values, nor stand for something."""
    valued = {"-S", "-n", "-j", "--set-param", "--name"}
    pairs = zip(["", *words], words, strict=False)
    return [
        word
        for before, word in pairs
        if word[0] not in "-<&." and before not in valued and word not in ("run", "stage")
    ]


@cache
def stages_of(file: str) -> list[str]:
    return list(yaml.load((ROOT / file).read_text(), yaml.CSafeLoader)["stages"])


@cache
def understood(command: str) -> list[str]:
    """Options of a command of `auscult`."""
    parser = ArgumentParser()
    {one.__name__: one for one in cli.COMMANDS}[command](parser)
    return [name for action in parser._actions for name in action.option_strings]


@cache
def all_params() -> Params:
    return load_params(ROOT)


@cache
def every_parameter() -> dict[str, Any]:
    return yaml.safe_load((ROOT / "params.yaml").read_text())


NOTEBOOKS = sorted((DOCS / "notebooks").glob("*.ipynb"))
each_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def code_cells(path: Path) -> list[dict[str, Any]]:
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    return [cell for cell in cells if cell["cell_type"] == "code"]


def run_cells(path: Path, **parameters: Any) -> dict[str, Any]:
    """The code of a notebook, run here as a kernel would, but with other values than those of its first code cell."""
    names: dict[str, Any] = {}
    for number, cell in enumerate(code_cells(path)):
        exec(compile("".join(cell["source"]), f"{path.name}, cell {number}", "exec"), names)
        if "parameters" in cell["metadata"].get("tags", []):
            assert set(parameters) <= set(names)
            names.update(parameters)
    return names


@pytest.fixture
def small_notebook(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder to run a notebook in."""
    from matplotlib import pyplot

    pyplot.switch_backend("agg")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(methods, "__path__", [*methods.__path__])
    monkeypatch.setitem(sys.modules, "auscult.methods.band_net", None)
    del sys.modules["auscult.methods.band_net"]
    yield tmp_path
    sys.modules.pop("auscult.methods.band_net", None)
    pyplot.close("all")


@each_notebook
def test_notebooks_are_committed_as_they_ran_and_small(path: Path) -> None:
    cells = code_cells(path)
    assert [cell["execution_count"] for cell in cells] == list(range(1, len(cells) + 1))
    kinds = {output["output_type"] for cell in cells for output in cell["outputs"]}
    assert kinds <= {"stream", "display_data"}  # no error
    assert path.stat().st_size < 200_000


def test_the_notebook_of_a_folder_says_what_it_said(small_notebook: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = DOCS / "notebooks" / "own_machine.ipynb"
    run_cells(path)
    outputs = [output for cell in code_cells(path) for output in cell["outputs"] if output["output_type"] == "stream"]
    assert capsys.readouterr().out == "".join("".join(output["text"]) for output in outputs)


def test_the_notebook_of_an_ablation_makes_its_figure(small_notebook: Path) -> None:
    path = DOCS / "notebooks" / "ablation.ipynb"
    names: dict[str, Any] = {}
    exec("".join(code_cells(path)[0]["source"]), names)
    cached = small_notebook / "data" / names["PROFILE"]
    scored = cached / "scores" / names["STUDY"]
    scored.mkdir(parents=True)
    (cached / "manifest").mkdir()
    (small_notebook / "profiles").symlink_to(ROOT / "profiles")
    rng = np.random.default_rng(0)
    clips = pd.DataFrame({"clip_id": range(40), "set": "dev", "machine": ["fan", "pump"] * 20, "unit": "00"})
    labels = clips.assign(domain="unknown", anomaly=np.arange(40) // 2 % 2)
    labels.to_parquet(cached / "manifest" / "labels.parquet")
    for number, arm in enumerate([names["REFERENCE"], *names["PARTS"].values()]):
        score = number * labels["anomaly"] + rng.normal(size=40)  # each part is better than the one before
        table = labels.drop(columns="anomaly").assign(backend=names["BACKEND"], seed=1, score=score)
        table.to_parquet(scored / f"{arm}.parquet")
    found = run_cells(path, PROJECT=str(small_notebook), REPLICATES=50)["found"]
    assert found["all of OS-SCL"].verdict == "better"
    assert {file.suffix for file in small_notebook.glob("ablation.*")} == {".pdf", ".svg", ".png"}


def test_the_notebook_of_a_method_trains_the_one_of_the_page(small_notebook: Path) -> None:
    path = DOCS / "notebooks" / "own_method.ipynb"
    names = run_cells(path, PROJECT=str(ROOT), UNITS=["00", "02"], TRAIN=6, TEST=4, EPOCHS=2)
    assert names["MODULE"] == blocks("add-a-method.md", "python")[0]
    assert set(names["rows"]["arm"]) == {"spectral_knn", "band_net"}
    assert names["rows"]["value"].between(0, 100).all()


def test_every_study_of_a_paper_has_its_cost() -> None:
    """A study that prints a paper's numbers is in the table of what reproducing takes."""
    table = (DOCS / "reproduce.md").read_text()
    listed = set(re.findall(r"\.\./studies/(\w+)\)", table))
    studies = all_params().studies
    of_papers = {name for name, study in studies.items() if any(t.printed for t in study.tables.values())}
    assert of_papers <= listed <= set(studies)


def test_the_page_of_results_leads_to_every_study_and_every_committed_table() -> None:
    text = (DOCS / "results.md").read_text()
    tables = [
        path.relative_to(ROOT)
        for path in (*ROOT.glob("metrics/*/table.md"), *ROOT.glob("studies/*/metrics/*/table.md"))
    ]
    assert len(tables) > 20
    assert [str(path) for path in tables if f"(../{path})" not in text] == []
    assert [study for study in all_params().studies if f"(../studies/{study}/README.md)" not in text] == []


def test_pictures_are_shown_and_small() -> None:
    text = "".join(path.read_text() for path in [*DOCS.glob("*.md"), ROOT / "README.md"])
    for picture in (DOCS / "pictures").glob("*.png"):
        assert picture.stat().st_size < 300_000, picture
        assert f"pictures/{picture.name}" in text, picture


def test_templates_of_dvc_plots_draw_the_tables_columns() -> None:
    declared = [entry for entry in plots("metrics/x", "data/x/results/project") if isinstance(entry, dict)]
    columns = {"roc.csv": {"arm", "backend", "machine", "fpr", "tpr"}, "curves.csv": set(COLUMNS)}
    assert len(declared) == len(columns)
    for entry in declared:
        ((path, settings),) = entry.items()
        template = json.loads((ROOT / ".dvc" / "plots" / f"{settings['template']}.json").read_text())
        made = {step["as"] for step in template.get("transform", []) if "as" in step}
        facets = [template["facet"]] if "field" in template["facet"] else [*template["facet"].values()]
        fields = {facet["field"] for facet in facets}
        assert {settings["x"], settings["y"], *fields} - made <= columns[Path(path).name]
        # Sorted by appearance, Vega puts panels under each other's headings where some are missing.
        assert not any("sort" in facet for facet in facets)
        assert template["data"] == {"values": "<DVC_METRIC_DATA>"}
        assert template["spec"]["encoding"]["color"] == "<DVC_METRIC_COLOR>"
