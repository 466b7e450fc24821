"""What is said where a package is missing, and that pyproject.toml and the README have what is said."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from pathlib import Path
from types import SimpleNamespace

import pytest

from auscult import cli, packages
from auscult.errors import AuscultError
from support.projects import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
OTHER_NAMES = {
    "sklearn": "scikit-learn",
    "yaml": "pyyaml",
    "PIL": "pillow",
    "imblearn": "imbalanced-learn",
    "paho": "paho-mqtt",
}
WITH = {"distributed": "dask"}
"""Module -> the package that brings it as a group of its own."""


def names(requirements: list[str]) -> set[str]:
    return {re.split(r"[\[<>=~ ]", each)[0] for each in requirements}


def test_every_module_is_in_the_group_that_is_named() -> None:
    groups = {name: names(each) for name, each in PROJECT["optional-dependencies"].items()}
    for module, group in packages.EXTRAS.items():
        assert WITH.get(module, OTHER_NAMES.get(module, module)) in groups[group], module
    base = names(PROJECT["dependencies"])
    for module in packages._BASE:
        assert OTHER_NAMES.get(module, module) in base, module


def test_every_import_of_another_package_is_known_or_in_the_base() -> None:
    """A package that only an extra brings, and that nobody would name, cannot be used."""
    known = {*packages.EXTRAS, *packages._BASE, "numpy", "soundfile", "auscult", *sys.stdlib_module_names}
    beside = {"pydantic_core": "pydantic", "threadpoolctl": "sklearn", "urllib3": "requests", "sqlalchemy": "mlflow"}
    for path in (ROOT / "src" / "auscult").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            modules = [each.name for each in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and node.module:
                modules = [node.module]
            for module in modules:
                top = module.partition(".")[0]
                assert beside.get(top, top) in known, f"{path}: {module}"


@pytest.mark.parametrize(("module", "said"), [("av", "PyAV, which is not installed"), ("torch", "the whole program")])
def test_the_command_is_exact(
    module: str, said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, module, None)  # importing it raises ModuleNotFoundError
    with pytest.raises(AuscultError, match=said) as caught:
        packages.require(module, "this")
    group = f"[{packages.EXTRAS[module]}]" if module in packages.EXTRAS else ""
    assert caught.value.fix == f"pip install -c '{ROOT}/constraints.txt' -e '{ROOT}{group}'"
    monkeypatch.setattr(packages, "_SOURCE", Path("/usr/lib/python3"))
    assert packages.command("listen") == "pip install 'auscult[listen]'"

    def run(arguments: object) -> None:
        __import__(module)

    monkeypatch.setattr(cli, "_parser", lambda: SimpleNamespace(parse_args=lambda argv: SimpleNamespace(run=run)))
    assert cli.main([]) == 2
    err = capsys.readouterr().err
    assert said in err
    assert "Traceback" not in err


def test_another_missing_module_is_a_bug() -> None:
    error = ModuleNotFoundError("No module named 'auscult.nothing'", name="auscult.nothing")
    assert packages.missing(error) is None


def test_the_two_commands_and_the_small_package() -> None:
    readme = (ROOT / "README.md").read_text()
    assert "pip install -c constraints.txt -e '.[experiments]' && dvc repro" in readme
    assert "pip install -c constraints.txt -e '.[test]' && pytest" in readme
    assert "auscult[experiments]" in PROJECT["optional-dependencies"]["test"]
    small = tomllib.loads((ROOT / "packages" / "auscult-score" / "pyproject.toml").read_text())["project"]
    assert names(small["dependencies"]) == {"numpy", "soundfile", "onnxruntime"}
    assert small["scripts"] == PROJECT["scripts"]
    assert small["requires-python"] == PROJECT["requires-python"]
