"""What a release is made of: the version, the package's data files, tools and Pythons that are named in two places."""

from __future__ import annotations

import importlib.metadata
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.version import Version

import auscult

ROOT = Path(__file__).parents[1]
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())
WORKFLOWS = sorted((ROOT / ".github/workflows").glob("*.yml"))


def test_the_version_is_the_installed_package_s(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.metadata, "version", {"auscult": "1.2.3.dev4+g0123456"}.__getitem__)
    assert auscult.__version__ == "1.2.3.dev4+g0123456"

    def absent(name: str) -> str:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "version", absent)
    assert Version(auscult.__version__) < Version("0.1")  # below every release


def test_every_data_file_of_the_package_is_in_the_wheel() -> None:
    """Also of one built from an archive, where setuptools cannot ask git."""
    package = ROOT / "src/auscult"
    (patterns,) = PROJECT["tool"]["setuptools"]["package-data"].values()
    shipped = {path for pattern in patterns for path in package.glob(pattern) if path.is_file()}
    files = {path for path in package.rglob("*") if path.is_file() and path.suffix not in (".py", ".pyc")}
    assert {path.suffix for path in files} >= {".csv", ".yaml", ".j2", ".css", ".js", ".typed"}
    assert files == shipped


def test_the_ruff_of_a_commit_is_that_of_the_tests() -> None:
    constraints = dict(re.findall(r"^([\w.-]+)==(\S+)$", (ROOT / "constraints.txt").read_text(), re.M))
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"][0]["hooks"]
    pinned = {name for hook in hooks for name in hook.get("additional_dependencies", [])}
    assert {name for name in pinned if name.startswith("ruff")} == {f"ruff=={constraints['ruff']}"}
    assert all("==" in name for name in pinned)


def test_the_pythons_of_the_workflows_are_those_that_are_promised() -> None:
    promised = re.findall(r"Python :: (3\.\d+)", "\n".join(PROJECT["project"]["classifiers"]))
    jobs = yaml.safe_load((ROOT / ".github/workflows/tests.yml").read_text())["jobs"]
    assert promised[0] == PROJECT["project"]["requires-python"].removeprefix(">=")
    matrices = [job["strategy"]["matrix"]["python"] for job in jobs.values() if "strategy" in job]
    assert matrices == [promised, promised]


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_actions_are_pinned_and_rights_are_given_job_by_job(path: Path) -> None:
    text = path.read_text()
    uses = re.findall(r"uses: (\S+)", text)
    assert uses
    assert [each for each in uses if not re.fullmatch(r"[\w./-]+@[0-9a-f]{40}", each)] == []
    assert yaml.safe_load(text)["permissions"] == {}
