"""Which modules of the package a file can import, read from its source (inside functions too, but not for types only)."""

from __future__ import annotations

import ast
from pathlib import Path

SRC = Path(__file__).parents[2]
"""The folder that holds the package."""


def module_file(name: str) -> Path | None:
    """File of module `name` below src, or None for modules of other packages."""
    base = SRC / Path(*name.split("."))
    for path in (base.with_suffix(".py"), base / "__init__.py"):
        if path.is_file():
            return path
    return None


def imported(path: Path) -> set[Path]:
    """Files of the package that `path` imports directly."""
    found: set[Path] = set()
    for node in _runtime_nodes(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        else:
            continue
        for name in names:
            parts = name.split(".")
            packages = [module_file(".".join(parts[: i + 1])) for i in range(len(parts))]
            found |= {file for file in packages if file is not None}
    return found


def closure(*start: Path) -> set[Path]:
    """All files of the package reachable from `start`, without empty ones."""
    seen: set[Path] = set()
    todo = list(start)
    while todo:
        path = todo.pop()
        for file in imported(path) - seen:
            seen.add(file)
            todo.append(file)
    return {path for path in seen if path.read_text().strip()}


def _runtime_nodes(tree: ast.AST) -> list[ast.AST]:
    nodes: list[ast.AST] = []
    todo: list[ast.AST] = [tree]
    while todo:
        node = todo.pop()
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        nodes.append(node)
        todo += list(ast.iter_child_nodes(node))
    return nodes
