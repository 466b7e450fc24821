"""`source.json`, what the download stage leaves for the others: where the recordings lie, and which there are."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from auscult.data.audio import SUFFIXES
from auscult.files import atomic_file
from auscult.settings.paths import project_root


def sizes_below(root: Path, places: Iterable[str] = (".",)) -> dict[str, int]:
    """Bytes of every recording below the `places` of `root`, by path below `root`, each place sorted. Of a link that leads
    nowhere 0, for the manifest reports it."""
    return {
        path.relative_to(root).as_posix(): path.stat().st_size if path.exists() else 0
        for place in places
        for path in sorted((root / place).rglob("*"))
        if path.suffix.lower() in SUFFIXES and not path.is_dir()
    }


def describe(
    raw: Path,
    path: str,
    sizes: dict[str, int],
    labels: dict[str, str] | None = None,
    gains: dict[str, float] | None = None,
) -> None:
    """Write raw/source.json: the root (`.` = `raw` itself, else absolute or relative to the project), files in bytes, and the
    SHA-256 of label lists and gains of machines, if there are any."""
    facts = {
        "path": path,
        "bytes": sizes,
        **({"labels": labels} if labels else {}),
        **({"gains": gains} if gains else {}),
    }
    with atomic_file(raw / "source.json") as out:
        out.write_text(json.dumps(facts, indent=0) + "\n")


def root_of(raw: Path) -> Path:
    """The folder that holds the recordings described in `raw`."""
    path = json.loads((raw / "source.json").read_text())["path"]
    return raw if path == "." else project_root() / path
