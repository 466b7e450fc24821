"""A digest of meaning: what changes no number leaves it alone, what can change one changes it."""

from __future__ import annotations

import ast
import importlib
import pkgutil
import re
import shutil
from functools import cache
from pathlib import Path

import pytest
from pydantic import BaseModel

import auscult
from auscult.encoders import MODULES
from auscult.errors import AuscultError
from auscult.features import FRONTENDS
from auscult.methods import METHODS
from auscult.pipeline.digests import SRC, Code
from auscult.pipeline.stamp import stamp, up_to_date
from auscult.pipeline.syntax import CHECKED_BY_ANNOTATIONS, without_words


@pytest.fixture
def src(tmp_path: Path) -> Path:
    """A copy of the package's sources."""
    shutil.copytree(SRC / "auscult", tmp_path / "auscult", ignore=shutil.ignore_patterns("__pycache__", "*.csv"))
    return tmp_path


def os_scl(src: Path) -> str:
    start = ("training/arm.py", "methods/os_scl.py", "features/logmel.py")
    return Code(src).digest(*(src / "auscult" / name for name in start))


@cache
def untouched() -> str:
    return os_scl(SRC)


def replaced(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text, (path.name, old)
    path.write_text(text.replace(old, new))


# ------------------------------------------------------------------------------------------------------ what leaves it alone
def test_a_copy_has_the_digest_of_what_it_is_of(src: Path) -> None:
    """What the tests below compare with, computed once."""
    assert os_scl(src) == untouched()


def test_comments_docstrings_annotations_and_wording_leave_it_alone(src: Path) -> None:
    before = untouched()
    for path in Code(src).closure(src / "auscult/training/arm.py", src / "auscult/methods/os_scl.py"):
        text = path.read_text()
        text = re.sub(r"^    return ", "    # a comment\n    return ", text, flags=re.M)
        text = re.sub(r'^"""', '"""Another docstring. ', text, count=1)
        text = text.replace(": Tensor", ": torch.Tensor").replace('AuscultError("', 'AuscultError("Oh, ')
        path.write_text(text + "\n\n# the end\n")
    assert os_scl(src) == before


def test_a_moved_file_leaves_it_alone(src: Path) -> None:
    before = untouched()
    (src / "auscult/losses/arcface.py").rename(src / "auscult/models/angular.py")
    for path in src.rglob("*.py"):
        path.write_text(path.read_text().replace("auscult.losses.arcface", "auscult.models.angular"))
    assert os_scl(src) == before


def test_a_renamed_function_leaves_it_alone(src: Path) -> None:
    before = untouched()
    names = {
        node.name
        for node in ast.parse((src / "auscult/losses/supcon.py").read_text()).body
        if isinstance(node, ast.FunctionDef)
    }
    for path in src.rglob("*.py"):
        text = path.read_text()
        for name in names:
            text = re.sub(rf"(?<![\w.]){name}(?=\()|(?<=import ){name}\b", f"{name}_renamed", text)
        path.write_text(text)
    assert names
    assert os_scl(src) == before


def test_another_method_or_encoder_leaves_it_alone(src: Path) -> None:
    before = untouched()
    (src / "auscult/methods/new.py").write_text("METHOD = 1\n")
    replaced(src / "auscult/methods/__init__.py", '"spectral_knn"', '"new", "spectral_knn"')
    assert os_scl(src) == before


def test_front_ends_are_told_by_their_values() -> None:
    for name, frontend in FRONTENDS.items():
        assert " object at " not in repr(frontend), name
        assert "(" in repr(frontend), name


# --------------------------------------------------------------------------------------------------------- what changes it
def constants(path: Path) -> list[ast.Constant]:
    """Constants of a module that could change a number: on one line, and neither text that is read by people nor None."""
    tree = without_words(ast.parse(path.read_text()))
    values = (node for node in ast.walk(tree) if isinstance(node, ast.Constant) and hasattr(node, "lineno"))
    return [node for node in values if node.value is not None and node.lineno == node.end_lineno]


def with_another(text: str, constant: ast.Constant) -> str:
    lines = text.encode().split(b"\n")
    line = lines[constant.lineno - 1]
    old = line[constant.col_offset : constant.end_col_offset]
    new = b'"another"' if isinstance(constant.value, str) else b"9876"
    lines[constant.lineno - 1] = line[: constant.col_offset] + new + line[constant.end_col_offset :]
    assert old != new
    return b"\n".join(lines).decode()


def test_a_constant_of_any_module_changes_it(src: Path) -> None:
    """Of every module that the training of any method can import, one constant after the other, some three of each."""
    starts = [src / "auscult/training/arm.py"]
    starts += [src / f"auscult/methods/{name}.py" for name in METHODS]
    starts += [src / f"auscult/encoders/{name}.py" for name in set(MODULES.values())]
    code = Code(src)
    whole = code.digest(*starts)
    modules = sorted(path for path in code.closure(*starts) if path.name != "__init__.py")
    assert len(modules) > 60
    tried = 0
    for path in modules:
        text, before = path.read_text(), code.digest(path)
        found = constants(path)
        for constant in found[:: max(1, len(found) // 3)]:
            # What it imports is known already: only this module is read again.
            again = Code(src)
            again._trees = {known: tree for known, tree in code._trees.items() if known != path}
            again._imported = {known: found for known, found in code._imported.items() if known != path}
            again._modules = {known: module for known, module in code._modules.items() if known != path}
            try:
                path.write_text(with_another(text, constant))
                ast.parse(path.read_text())
            except (SyntaxError, AssertionError):
                continue  # inside an f-string, or the same text
            finally:
                changed = path.read_text()
                path.write_text(text)
            path.write_text(changed)
            assert again.digest(path) != before, (path.name, constant.lineno)
            path.write_text(text)
            tried += 1
    assert tried > 200
    assert Code(src).digest(*starts) == whole


@pytest.mark.parametrize(
    ("module", "old", "new"),
    [
        ("files.py", "sha256", "sha1"),
        ("features/logmel.py", "1e-", "3e-"),
        ("losses/supcon.py", "base", "other"),
        ("training/schedule.py", "+ 1", "+ 2"),
        ("models/layers.py", "1", "2"),
    ],
)
def test_a_change_reaches_what_imports_it(src: Path, module: str, old: str, new: str) -> None:
    before = untouched()
    replaced(src / "auscult" / module, old, new)
    assert os_scl(src) != before


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("def f(x, y=1): return x", "def f(x, y=2): return x"),
        ("def f(x): return x + 1", "def f(x): return x - 1"),
        ("a = 1\nb = a\nc = b", "a = 1\nb = a\nc = a"),
        ("from numpy import sin as f\ny = f(1)", "from numpy import cos as f\ny = f(1)"),
        ("def f(g): return g\ndef g(): pass", "def f(h): return g\ndef g(): pass"),
        ("x = [1, 2]\nx.sort()", "x = [1, 2]\nx.reverse()"),
        ("class A:\n    b: int = 1", "class A:\n    b: int = 2"),
        ("class A(Section):\n    b: int = 1", "class A(Section):\n    b: float = 1"),
        ("def f(x):\n    if x: raise ValueError('a')\n    return x", "def f(x):\n    return x"),
        ("x = 1.0", "x = 1"),
        ("x = None", "x = False"),
    ],
)
def test_meaning(tmp_path: Path, old: str, new: str) -> None:
    (tmp_path / "module.py").write_text(old)
    before = Code(tmp_path).digest(tmp_path / "module.py")
    (tmp_path / "module.py").write_text(new)
    assert Code(tmp_path).digest(tmp_path / "module.py") != before


def test_two_functions_that_change_places_between_modules(tmp_path: Path) -> None:
    """Names of imported functions are told apart, though none of them is in the digest."""
    package = tmp_path / "auscult"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "below.py").write_text("def one(x): return x + 1\ndef two(x): return x + 2\n")
    digests = set()
    for body in (
        "from auscult.below import one, two\ny = one(two(1))",
        "from auscult.below import one, two\ny = two(one(1))",
        "from auscult.below import one as two, two as one\ny = one(one(1))",
        "from auscult.below import one, two\ny = one(one(1))",
        "from auscult import below\ny = below.one(below.two(1))\nz = 0",
        "from auscult import below\ny = below.two(below.one(1))\nz = 0",
        "from auscult.below import one as f\nclass A:\n    def f(self): return f(1)",
        "from auscult.below import two as f\nclass A:\n    def f(self): return f(1)",
    ):
        (package / "above.py").write_text(body)
        digests.add(Code(tmp_path).digest(package / "above.py"))
    assert len(digests) == 8


def test_an_installed_package_and_a_checkout_have_one_digest(tmp_path: Path) -> None:
    """In site-packages others lie beside it, some of which import each other in a circle."""
    module = tmp_path / "auscult" / "module.py"
    module.parent.mkdir()
    module.write_text("import numpy\nfrom numpy.random import default_rng\n")
    before = Code(tmp_path).digest(module)
    for name, text in (("__init__", "from numpy import random"), ("random", "import numpy\nx = 1")):
        path = tmp_path / "numpy" / f"{name}.py"
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    assert Code(tmp_path).digest(module) == before


def test_every_model_of_settings_is_known_by_its_base() -> None:
    """The annotations of its fields count."""
    for module in pkgutil.walk_packages(auscult.__path__, "auscult."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    todo, seen = [BaseModel], set()
    while todo:
        for model in todo.pop().__subclasses__():
            if model.__module__.startswith("auscult.") and model not in seen:
                assert model.__bases__[0].__name__.endswith(CHECKED_BY_ANNOTATIONS), model
                seen.add(model)
                todo.append(model)
            elif model.__name__ == "Section":
                todo.append(model)
    assert len(seen) > 40


# -------------------------------------------------------------------------------------------------------------- bad input
def test_code_that_cannot_be_parsed_is_named(src: Path) -> None:
    (src / "auscult/losses/supcon.py").write_text("def f(:\n")
    with pytest.raises(AuscultError, match=r"(?s)cannot be parsed.*supcon\.py"):
        os_scl(src)


def test_a_circle_is_named(src: Path) -> None:
    path = src / "auscult/losses/supcon.py"
    path.write_text(
        "def f():\n    from auscult.methods import os_scl\n"
        + path.read_text().replace("from __future__ import annotations", "")
    )
    with pytest.raises(AuscultError, match=r"import each other: .*supcon"):
        os_scl(src)


def test_no_modules_of_the_package_import_each_other() -> None:
    """In functions, too: a circle that is put off is one."""
    code = Code()
    for path in (SRC / "auscult").rglob("*.py"):
        code.digest(path)


def test_a_stamp_holds_in_a_copy_of_the_project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Queued experiments run in one, and look at the stamp of the checkout."""
    project, copy = tmp_path / "project", tmp_path / "copy"
    monkeypatch.setenv("DVC_ROOT", str(project))
    for name, text in (
        ("params.yaml", "data: {profile: tiny}\nscore: {k: 1}\n"), ("stages/train.py", "train()\n"),
        ("checkpoints/found.json", "{}\n"), ("data/tiny/digests/arms/ae.json", "{}\n"),
    ):  # fmt: skip
        (project / name).parent.mkdir(parents=True, exist_ok=True)
        (project / name).write_text(text)
    assert not up_to_date(project)
    stamp(project)
    shutil.copytree(project, copy)
    assert up_to_date(project)
    assert up_to_date(copy)
    for name, old, new, valid in (
        ("params.yaml", "k: 1", "k: 2", True), ("params.yaml", "k: 2}", "k: 2}\nfph: {reduction: 8}", False),
        ("stages/train.py", "train()", "train(1)", False), ("data/tiny/digests/arms/ae.json", "{}", "[]", False),
    ):  # fmt: skip
        text = (copy / name).read_text()
        replaced(copy / name, old, new)
        assert up_to_date(copy) == valid, name
        if not valid:
            (copy / name).write_text(text)
    assert up_to_date(copy)
