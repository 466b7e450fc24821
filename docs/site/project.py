"""What the site has beside the pages of docs/ (a hook of mkdocs.yml): README.md as its first page, notebooks as pages, every file
of the project that a page links to, the pages of `auscult report` that are at hand, and the API.

A link leads to the same file on the site as in a checkout. One that leads nowhere is left as it is, and stops the build.
"""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files, InclusionLevel
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[2]
LINK = re.compile(r"(\]\()([^)#\s:]+)((?:#[^)\s]*)?\))")  # no address
SEARCHED_NOT = "---\nsearch:\n  exclude: true\n---\n"
SOURCES: dict[str, str] = {}
"""Page of the site -> file of the project that it is made of."""


def target(link: str, source: str) -> str:
    """File of the project that a link of `source` leads to; "" = none.

    >>> target("../studies/lowpass", "docs/scores.md"), target("gone.md", "README.md")
    ('studies/lowpass/README.md', '')
    """
    path = os.path.normpath(PurePosixPath(source).parent / link)
    if (ROOT / path).is_dir():
        path = f"{path}/README.md"
    return path if (ROOT / path).is_file() else ""


def place(path: str) -> str:
    """Where the site has a file of the project.

    >>> place("README.md"), place("docs/scores.md"), place("params.yaml"), place("docs/notebooks/ablation.ipynb")
    ('index.md', 'scores.md', 'project/params.yaml.txt', 'notebooks/ablation.md')
    """
    if path == "README.md":
        return "index.md"
    if path.endswith(".ipynb"):
        path = path.removesuffix("ipynb") + "md"
    if path.startswith("docs/"):
        return path.removeprefix("docs/")
    return f"project/{path}" if path.endswith((".md", ".png")) else f"project/{path}.txt"


def notebook(path: Path) -> str:
    """A notebook as Markdown: its cells, and below each what it printed and drew."""
    parts = []
    for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
        text = "".join(cell["source"])
        parts.append(f"```python\n{text}\n```" if cell["cell_type"] == "code" else text)
        parts += [_shown(output) for output in cell.get("outputs", [])]
    return "\n\n".join([*parts, f'<p><a href="{path.name}">This page as a notebook</a></p>\n'])


def _shown(output: dict[str, Any]) -> str:
    data = output.get("data", {"text/plain": output.get("text", "")})
    if "image/png" in data:
        return f"![](data:image/png;base64,{''.join(data['image/png']).strip()})"
    return f"``` {{.text .output}}\n{''.join(data['text/plain']).rstrip()}\n```"


def text_of(path: str) -> str:
    """Markdown of a page, from its file of the project."""
    if path.endswith(".ipynb"):
        return notebook(ROOT / path)
    text = (ROOT / path).read_text(encoding="utf-8")
    if path.endswith("/table.md"):  # a search for a word should not find every table
        picture = (ROOT / path).with_name("auc.png")
        return SEARCHED_NOT + text + ("\n![](auc.png)\n" if picture.is_file() else "")
    return text


def on_files(files: Files, config: MkDocsConfig) -> Files:
    own = [f"docs/{file.src_uri}" for file in files.documentation_pages()]
    waiting = ["README.md", *own, *(str(path.relative_to(ROOT)) for path in ROOT.glob("docs/notebooks/*.ipynb"))]
    seen = set(waiting)
    while waiting:
        path = waiting.pop()
        where, made = place(path), not path.startswith("docs/") or path.endswith(".ipynb")
        in_menu = InclusionLevel.UNDEFINED if not where.startswith("project/") else InclusionLevel.NOT_IN_NAV
        if not where.endswith(".md"):
            if made:
                files.append(File.generated(config, where, abs_src_path=str(ROOT / path), inclusion=in_menu))
            continue
        SOURCES[where] = path
        text = text_of(path)
        if made:
            files.append(File.generated(config, where, content=text, inclusion=in_menu))
        found = {target(link, path) for _, link, _ in LINK.findall(text)} - seen - {""}
        seen |= found
        waiting += found
    for page, file in reports():
        files.append(File.generated(config, page, abs_src_path=str(file), inclusion=InclusionLevel.NOT_IN_NAV))
    return files


def reports() -> Iterator[tuple[str, Path]]:
    """Files of the pages of results at hand, and where the site has each."""
    for index in sorted(ROOT.glob("data/*/report/index.html")):
        for file in sorted(path for path in index.parent.rglob("*") if path.is_file()):
            yield f"reports/{index.parts[-3]}/{file.relative_to(index.parent).as_posix()}", file


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    here = page.file.src_uri
    source = SOURCES[here]

    def on_the_site(match: re.Match[str]) -> str:
        path = target(match[2], source)
        to = os.path.relpath(place(path), PurePosixPath(here).parent) if path else match[2]
        return f"{match[1]}{to}{match[3]}"

    markdown = LINK.sub(on_the_site, markdown)
    if here == "api.md":
        markdown += '\n<p><a href="reference/auscult.html">Every module, class and function</a></p>\n'
    if here == "results.md":
        for index in sorted(ROOT.glob("data/*/report/index.html")):
            profile = index.parts[-3]
            markdown += f"\n\n## {profile}: the page of `auscult report`\n\n"
            markdown += f'<iframe class="report" src="reports/{profile}/index.html"></iframe>\n'
    return markdown


def on_post_build(config: MkDocsConfig) -> None:
    if config.extra["api"]:
        sys.path.insert(0, str(ROOT / "docs"))
        from make_api import main

        main(Path(config.site_dir) / "reference")
