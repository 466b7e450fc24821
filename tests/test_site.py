"""The site of docs/: all that pages link to is there, nothing comes from a network, and what is broken stops the build."""

from __future__ import annotations

import doctest
import re
from pathlib import Path

import pytest

pytest.importorskip("mkdocs", reason="pip install -e '.[docs]'")
from mkdocs.commands.build import build
from mkdocs.config import load_config
from mkdocs.exceptions import Abort

ROOT = Path(__file__).parents[1]
CONFIG = str(ROOT / "docs" / "site" / "mkdocs.yml")


@pytest.fixture(scope="module")
def site(module_path: Path) -> Path:
    """Built as the one command does, but for the API, which tests/test_doctests.py reads."""
    folder = module_path / "site"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AUSCULT_SITE_API", "false")
        build(load_config(CONFIG, site_dir=str(folder)))
    return folder


def test_every_page_stands_in_one_of_four_groups(site: Path) -> None:
    groups: list[dict[str, list[object]]] = load_config(CONFIG).nav
    assert [name for group in groups for name in group] == ["Start", "Own machine", "Research", "Extend"]
    listed = re.findall(r"[\w/-]+\.md", str(groups))
    pages = {path.name for path in (ROOT / "docs").glob("*.md")} | {"index.md"}
    pages |= {f"notebooks/{path.stem}.md" for path in (ROOT / "docs" / "notebooks").glob("*.ipynb")}
    assert sorted(listed) == sorted(pages)
    assert all((site / name).with_suffix(".html").is_file() for name in listed)


def test_nothing_comes_from_a_network(site: Path) -> None:
    for page in site.rglob("*.html"):
        text = page.read_text(encoding="utf-8")
        assert re.findall(r'<(?:script|img|iframe|source)[^>]+src="(?:https?:)?//', text) == [], page
        assert re.findall(r'<link[^>]+rel="(?:stylesheet|preconnect|icon)"[^>]+href="(?:https?:)?//', text) == [], page
    for style in site.rglob("*.css"):
        assert not re.search(r"url\(\"?(?:https?:)?//", style.read_text(encoding="utf-8")), style


def test_it_is_searched_and_shows_results_and_notebooks(site: Path) -> None:
    index = (site / "search" / "search_index.js").read_text(encoding="utf-8")
    assert index.startswith("var __index")  # read without a server
    assert "your-own-machine.html" in index
    assert "metrics/synthetic/table.html" not in index  # numbers, found by nobody
    table = (site / "project" / "metrics" / "synthetic" / "table.html").read_text(encoding="utf-8")
    assert "<table>" in table
    notebook = (site / "notebooks" / "ablation.html").read_text(encoding="utf-8")
    assert "data:image/png;base64," in notebook
    assert 'href="ablation.ipynb"' in notebook
    assert (site / "notebooks" / "ablation.ipynb").is_file()


def test_the_examples_of_its_hook_give_what_they_say() -> None:
    hook = load_config(CONFIG).hooks["project.py"]
    assert doctest.testmod(hook) == (0, 2)


@pytest.mark.parametrize("broken", ["[x](gone.md)", "![x](gone.png)", "[x](#gone)", "[x](../gone.yaml)", "[x](/gone)"])
def test_what_is_broken_stops_the_build(broken: str, tmp_path: Path) -> None:
    (tmp_path / "docs").mkdir()
    page = tmp_path / "docs" / "index.md"
    own = {"docs_dir": str(page.parent), "site_dir": str(tmp_path / "site"), "nav": ["index.md"]}
    plain = {**own, "hooks": [], "plugins": [], "theme": {"name": None, "custom_dir": str(page.parent)}}
    page.write_text("# Page\n\nnothing\n")
    (page.parent / "main.html").write_text("{{ page.content }}")
    build(load_config(CONFIG, **plain))
    page.write_text(f"# Page\n\n{broken}\n")
    with pytest.raises(Abort):
        build(load_config(CONFIG, **plain))
