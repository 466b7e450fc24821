"""Linter, formatter and type checker, as part of the tests: what CI runs is what a contributor runs."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize(
    "command", [("ruff", "check", "."), ("ruff", "format", "--check", "."), ("mypy",)], ids=" ".join
)
def test_clean(command: tuple[str, ...]) -> None:
    result = subprocess.run([sys.executable, "-m", *command], cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr


def test_no_conditional_expression_stands_in_another() -> None:
    for path in (ROOT / "src").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.IfExp):
                inner = [part for part in ast.walk(node) if isinstance(part, ast.IfExp) and part is not node]
                assert not inner, f"{path.relative_to(ROOT)}:{node.lineno}"


def test_no_function_takes_more_than_eight_parameters() -> None:
    """But one whose list PyTorch dictates: a function with a backward pass of its own."""
    for path in (ROOT / "src").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef):
                names = [part.arg for part in (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs)]
                own = [name for name in names if name not in ("self", "cls", "ctx")]
                assert len(own) <= 8, f"{path.relative_to(ROOT)}: {node.name}"
