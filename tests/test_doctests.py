"""The examples in the docstrings of the package give what they say, and the pages of the API can be made of all of them."""

from __future__ import annotations

import doctest
import importlib
from pathlib import Path

import pytest

SRC = Path(__file__).parents[1] / "src"
MODULES = [
    ".".join(path.relative_to(SRC).with_suffix("").parts).removesuffix(".__init__")
    for path in sorted(SRC.rglob("*.py"))
    if ">>> " in path.read_text(encoding="utf-8")
]


def test_there_are_examples() -> None:
    assert len(MODULES) > 20


@pytest.mark.parametrize("name", MODULES)
def test_examples(name: str) -> None:
    failed, tried = doctest.testmod(importlib.import_module(name))
    assert tried > 0, f"{name}: the examples are not found"
    assert failed == 0


def test_every_docstring_and_annotation_of_the_api_pages_can_be_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("pdoc", reason="pip install -e '.[docs]'")
    import tqdm

    monkeypatch.setattr(
        tqdm.tqdm, "__class_getitem__", None, raising=False
    )  # what make_api sets is taken back afterwards
    monkeypatch.syspath_prepend(str(SRC.parent / "docs"))
    from make_api import read

    assert read("auscult") > 1000
    (tmp_path / "unreadable.py").write_text("from __future__ import annotations\ndef f(x: nowhere) -> None: ...\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(UserWarning, match="nowhere"):
        read("unreadable")
