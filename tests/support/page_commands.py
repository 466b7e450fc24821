"""The commands of the pages: every line of a block of shell, and what is indented as one, without comments and prompts."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
PROGRAMS = ("auscult", "dvc", "pip")
"""Whose lines are commands where they are indented by four, too; the README and some pages write them so."""


def pages() -> list[Path]:
    return [*sorted((ROOT / "docs").glob("*.md")), ROOT / "README.md"]


def page_commands() -> dict[str, list[str]]:
    """Each command -> the pages that have it. What stands behind `&&`, `;` or `|` is a command of its own."""
    found: dict[str, list[str]] = {}
    for page in pages():
        for command in _commands(page.read_text(encoding="utf-8").replace("\\\n", " ")):
            found.setdefault(command, []).append(page.name)
    return found


def _commands(text: str) -> list[str]:
    """The commands of a page, in its order."""
    lines: list[str] = []
    language, block = "", list[str]()
    inside = False
    for line in text.splitlines():
        if line.startswith("```"):
            if inside and language in ("", "bash"):
                lines += block[1:2] if block and block[0].startswith("#!") else block  # a script is one command
            language, block, inside = line[3:], [], not inside
        elif inside:
            block.append(line)
        elif line.startswith("    ") and line.split()[:1] and line.split()[0] in PROGRAMS:
            lines.append(line)
    bare = [re.sub(r"(^|\s+)#(?!SBATCH).*", "", line) for line in lines]
    parts = [part for line in bare for part in re.split(r"\s(?:&&|\|)(?:\s|$)|;\s", line)]
    return [" ".join(part.split()) for part in parts if part.strip()]
