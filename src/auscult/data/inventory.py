"""`source.json`, what the download stage leaves for the others: where the recordings lie, and which there are."""

from __future__ import annotations

import json
from pathlib import Path

from auscult.files import atomic_file
from auscult.paths import project_root


def describe(raw: Path, path: str, sizes: dict[str, int], labels: dict[str, str] | None = None) -> None:
    """Write raw/source.json: the root (`.` = `raw` itself, else absolute or relative to the project), files in bytes, and the
    SHA-256 of label lists, if there are any."""
    facts = {"path": path, "bytes": sizes, **({"labels": labels} if labels else {})}
    with atomic_file(raw / "source.json") as out:
        out.write_text(json.dumps(facts, indent=0) + "\n")


def root_of(raw: Path) -> Path:
    """The folder that holds the recordings described in `raw`."""
    path = json.loads((raw / "source.json").read_text())["path"]
    return raw if path == "." else project_root() / path
