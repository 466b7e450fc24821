"""What code means, as a digest: DVC, the model folder and the states of interrupted runs all go by it.

A comment, a docstring, an annotation, the wording of an error, a moved file or a renamed function leave it alone; what can
change a number changes it: a constant, a default, an operator, the order of statements, a call into another module. It
covers a module and everything that this can import, as the source says, without running it.

How: the syntax tree of a module is written down with every name that the module defines replaced by its position among the
definitions, and every name of another module of the package by that module's digest and the position there. So neither the
names of functions nor the paths of files are in it, and a change anywhere below reaches every module above.
"""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from auscult.errors import AuscultError
from auscult.pipeline.syntax import bound, module_without_words, text_of

SRC = Path(__file__).parents[2]
"""The folder that holds the package."""
CHOOSERS = ("auscult.methods", "auscult.encoders", "auscult.features.frontends", "auscult.scoring")
"""Modules that only say which names there are: what a name stands for is counted by whoever asks (inputs.py), so that a new
method, encoder or front-end is no change of the others."""


@dataclass(frozen=True)
class Module:
    """One module as others see it: its digest, and the tokens that stand for the names it defines or passes on."""

    digest: str
    names: dict[str, str]


class Code:
    """The package's source below `src`, each file read once."""

    def __init__(self, src: Path = SRC) -> None:
        self.src = src
        self._trees: dict[Path, ast.Module] = {}
        self._modules: dict[Path, Module] = {}

    def check(self) -> None:
        """Read every module of the package.

        Raises:
            AuscultError: one cannot be parsed.
        """
        for path in sorted((self.src / "auscult").rglob("*.py")):
            self._tree(path)

    def digest(self, *start: Path) -> str:
        """Digest (16 hex digits) of the modules `start` and all that they can import.

        Raises:
            AuscultError: a module cannot be parsed, or modules import each other in a circle.
        """
        return _sha256(sorted({self._module(path.resolve(), ()).digest for path in start}))[:16]

    def closure(self, *start: Path) -> set[Path]:
        """`start` and every module of the package that can be imported from there, but choosers and empty ones."""
        seen: set[Path] = set()
        todo = [path.resolve() for path in start]
        while todo:
            path = todo.pop()
            if path not in seen:
                seen.add(path)
                todo += (file for _, file, _ in self._imports(path))
        return {path for path in seen if self._tree(path).body}

    def _tree(self, path: Path) -> ast.Module:
        if path not in self._trees:
            try:
                self._trees[path] = module_without_words(path.read_text(encoding="utf-8"))
            except (SyntaxError, UnicodeDecodeError) as error:
                raise AuscultError(f"this code cannot be parsed: {error}", str(path), "mend it and run again") from None
        return self._trees[path]

    def _module(self, path: Path, above: tuple[Path, ...]) -> Module:
        if path in above:
            circle = " -> ".join(file.name for file in (*above[above.index(path) :], path))
            raise AuscultError(f"modules import each other: {circle}", str(path), "move what both need into a third")
        if path not in self._modules:
            tree = self._tree(path)
            tokens: dict[str, str] = {}
            members: dict[str, dict[str, str]] = {}
            below: set[str] = set()
            for alias, file, name in self._imports(path):
                module = self._module(file, (*above, path))
                below.add(module.digest)
                tokens[alias] = module.digest if name is None else module.names.get(name, f"{module.digest}.{name}")
                if name is None:
                    members[alias] = module.names
            own = {name: f"#{position}" for position, name in enumerate(bound(tree.body))}
            digest = _sha256([text_of(tree, {**tokens, **own}, members), *_other_imports(tree), *sorted(below)])
            self._modules[path] = Module(digest, {**tokens, **{name: digest + token for name, token in own.items()}})
        return self._modules[path]

    def _imports(self, path: Path) -> Iterator[tuple[str, Path, str | None]]:
        """(alias, file, name) of every import from the package; name is None where the alias stands for the module."""
        for node in ast.walk(self._tree(path)):
            if isinstance(node, ast.Import):
                for alias in node.names:
                    file = self._file(alias.name)
                    if file is not None:
                        yield alias.asname or alias.name, file, None
            elif isinstance(node, ast.ImportFrom):
                for alias in node.names:
                    file = self._file(f"{node.module}.{alias.name}")
                    if file is not None:
                        yield alias.asname or alias.name, file, None
                    elif (parent := self._file(str(node.module))) is not None:
                        yield alias.asname or alias.name, parent, alias.name

    def _file(self, name: str) -> Path | None:
        """File of module `name`; None for modules of other packages and for choosers."""
        base = self.src / Path(*name.split("."))
        for path in (base.with_suffix(".py"), base / "__init__.py"):
            if path.is_file() and name not in CHOOSERS:
                return path
        return None


def _other_imports(tree: ast.Module) -> list[str]:
    """Imports from other packages, in an order of their own: sorting them anew is no change."""
    out = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            out += [f"{alias.name} as {alias.asname}" for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            out += [f"{node.module} {alias.name} as {alias.asname}" for alias in node.names]
    return sorted(line for line in out if not line.startswith("auscult"))


def _sha256(parts: Iterable[str]) -> str:
    total = hashlib.sha256()
    for part in parts:
        total.update(hashlib.sha256(part.encode()).digest())
    return total.hexdigest()
