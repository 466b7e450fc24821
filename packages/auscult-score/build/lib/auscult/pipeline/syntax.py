"""Syntax trees without what changes no number, and their text with names replaced: the tools of digests.py.

The text is our own, not `ast.dump`'s: that one differs between versions of Python.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)
COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)
CHECKED_BY_ANNOTATIONS = ("Section", "Settings", "BaseModel")
"""How the bases of settings are called: a test holds every model of pydantic to it."""
WITHOUT_MEANING = {"ctx", "kind", "type_comment", "type_ignores"}
INSIDE = {"body", "elt", "key", "value", "generators"}
"""Fields that are evaluated in a node's own scope; defaults, decorators and base classes are not."""


# ---------------------------------------------------------------------------------------------------------- without words
def module_without_words(source: str) -> ast.Module:
    """The tree without docstrings, annotations, what is there for type checkers only, and the wording of errors.

    Raises:
        SyntaxError: not Python.

    >>> a, b = (module_without_words(text) for text in ("def f(x: int):\\n  'Doc.'\\n  return x", "def f(x): return x"))
    >>> text_of(a) == text_of(b)
    True
    """
    tree = ast.parse(source)
    _WithoutWords().visit(tree)
    return tree


class _WithoutWords(ast.NodeTransformer):
    def visit_Expr(self, node: ast.Expr) -> ast.AST | None:
        text = isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
        return None if text else self.generic_visit(node)

    def visit_If(self, node: ast.If) -> ast.AST | list[ast.stmt]:
        self.generic_visit(node)
        return node.orelse if "TYPE_CHECKING" in ast.unparse(node.test) else node

    def visit_ImportFrom(self, node: ast.ImportFrom) -> ast.AST | None:
        return None if node.module == "__future__" else node

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AST:
        node.annotation = ast.Constant(None)
        return self.generic_visit(node)

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.AST:
        # Settings are checked and converted by the annotations of their fields: these have a meaning.
        settings = any(ast.unparse(base).endswith(CHECKED_BY_ANNOTATIONS) for base in node.bases)
        fields = [(line, line.annotation) for line in node.body if isinstance(line, ast.AnnAssign)] if settings else []
        self.generic_visit(node)
        for line, annotation in fields:
            line.annotation = annotation
        return node

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        node.returns = None
        self.generic_visit(node)
        node.body = _without_unused_texts(node)
        return node

    def visit_arg(self, node: ast.arg) -> ast.AST:
        node.annotation = None
        return node

    def visit_Raise(self, node: ast.Raise) -> ast.AST:
        raised = node.exc.func if isinstance(node.exc, ast.Call) else node.exc
        return ast.Raise(exc=raised, cause=None)

    def visit_Assert(self, node: ast.Assert) -> ast.AST:
        node.msg = None
        return self.generic_visit(node)


def _without_unused_texts(function: ast.FunctionDef) -> list[ast.stmt]:
    """The body without `what = "..."` whose name nothing reads any more, now that errors have no wording."""
    read = {node.id for node in ast.walk(function) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)}

    class Drop(ast.NodeTransformer):
        def visit_Assign(self, node: ast.Assign) -> ast.AST | None:
            names = {target.id for target in node.targets if isinstance(target, ast.Name)}
            text = isinstance(node.value, ast.JoinedStr) or (
                isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
            )
            return None if text and len(names) == len(node.targets) and not names & read else node

    return [line for line in (Drop().visit(line) for line in function.body) if line is not None]


# ------------------------------------------------------------------------------------------------------------------ names
def bound(body: Iterable[ast.AST]) -> list[str]:
    """Names that statements bind in their own scope, in order of appearance; imported ones are not among them.

    >>> bound(ast.parse("import os\\ndef f(x): y = 1\\nfor i in z: a = b = 2").body)
    ['f', 'i', 'a', 'b']
    """
    return list(dict.fromkeys(name for node in body for name in _bound(node)))


def _bound(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
        yield node.id
    if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
        yield node.name
        return
    if isinstance(node, ast.ExceptHandler) and node.name:
        yield node.name
    if isinstance(node, (ast.MatchAs, ast.MatchStar)) and node.name:
        yield node.name
    if isinstance(node, (ast.Lambda, *COMPREHENSIONS)):
        return
    for child in ast.iter_child_nodes(node):
        yield from _bound(child)


def _own_names(node: ast.AST) -> set[str]:
    """Names that a function, lambda, class or comprehension binds in its own scope."""
    if isinstance(node, COMPREHENSIONS):
        return {name for part in node.generators for name in _bound(part.target)}
    if isinstance(node, ast.ClassDef):
        return set(bound(node.body))
    if isinstance(node, ast.Lambda):
        return _argument_names(node.args)
    if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
        inside = [part for line in node.body for part in ast.walk(line)]
        outer = {name for part in inside if isinstance(part, (ast.Global, ast.Nonlocal)) for name in part.names}
        return (_argument_names(node.args) | set(bound(node.body))) - outer
    return set()


def _argument_names(arguments: ast.arguments) -> set[str]:
    every = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs, arguments.vararg, arguments.kwarg]
    return {argument.arg for argument in every if argument is not None}


# ------------------------------------------------------------------------------------------------------------------- text
@dataclass(frozen=True)
class Scope:
    """Where a piece of the tree stands.

    Attributes:
        module: whether what is bound here is bound in the module.
        functions: names bound by the functions around it, which hide those of the module.
        here: names bound by the class around it, which functions in it do not see.
    """

    module: bool = True
    functions: frozenset[str] = frozenset()
    here: frozenset[str] = frozenset()

    def hides(self, name: str) -> bool:
        return name in self.functions or name in self.here

    def inside(self, node: ast.AST) -> Scope:
        """The scope of what is in the body of `node`."""
        if isinstance(node, ast.ClassDef):
            return Scope(False, self.functions, frozenset(_own_names(node)))
        if isinstance(node, COMPREHENSIONS):
            return Scope(False, self.functions | _own_names(node), self.here)
        if isinstance(node, FUNCTIONS):
            return Scope(False, self.functions | _own_names(node))
        return self


class Text:
    """A tree as text, the same in every version of Python.

    Args:
        tokens: name of the module's scope -> what stands in its place.
        members: alias of an imported module -> the tokens of its names, for `alias.name`.
    """

    def __init__(self, tokens: Mapping[str, str], members: Mapping[str, Mapping[str, str]]) -> None:
        self.tokens, self.members = tokens, members

    def of(self, node: object, scope: Scope) -> str:
        if isinstance(node, list):
            return f"[{' '.join(self.of(item, scope) for item in node)}]"
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            return ""  # what is imported stands where it is used, or is listed apart
        if isinstance(node, ast.Name):
            return self._name(node.id, scope)
        if isinstance(node, ast.Global):
            return f"global {' '.join(self.tokens.get(name, name) for name in node.names)}"
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and not scope.hides(node.value.id):
            token = self.members.get(node.value.id, {}).get(node.attr)
            if token is not None:
                return token
        if isinstance(node, ast.AST):
            return f"({type(node).__name__} {' '.join(self._fields(node, scope))})"
        return f"{type(node).__name__}:{node!r}"

    def _name(self, name: str, scope: Scope) -> str:
        return name if scope.hides(name) else self.tokens.get(name, name)

    def _fields(self, node: ast.AST, scope: Scope) -> Iterator[str]:
        inside = scope.inside(node)
        defines = isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)) and scope.module
        for field, value in ast.iter_fields(node):
            if field in WITHOUT_MEANING or value == [] or (value is None and not isinstance(node, ast.Constant)):
                continue
            if field == "name" and defines:
                yield f"name={self.tokens.get(str(value), str(value))}"
            else:
                yield f"{field}={self.of(value, inside if field in INSIDE else scope)}"


def text_of(
    tree: ast.AST, tokens: Mapping[str, str] | None = None, members: Mapping[str, Mapping[str, str]] | None = None
) -> str:
    """The text of a module's tree; see `Text`."""
    return Text(tokens or {}, members or {}).of(tree, Scope())
