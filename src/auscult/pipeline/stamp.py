"""Whether the files of inputs.py are up to date, told without reading settings or code: by a stamp of every byte of them.

DVC looks at them in every run; most runs end here, before anything large is imported.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from auscult.files import atomic_file, digest
from auscult.settings.paths import Paths, project_root
from auscult.settings.reading import Loader

SRC = Path(__file__).parents[2]
LATER = ("embed", "score", "evaluate", "submission", "backends", "tables")
"""Sections of params.yaml that no arm is made of: the stages that read them track them as parameters."""


def up_to_date(root: Path = Path(), profile: str = "") -> bool:
    """Whether data/<profile>/digests is what the present sources, settings and checkpoints give.

    Args:
        profile: whose; "" = the one that params.yaml names, the only one whose files can be up to date.
    """
    try:
        paths = _paths(root)
        if profile not in ("", paths.profile):
            return False
        written = json.loads(_file(paths).read_text(encoding="utf-8"))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, yaml.YAMLError):
        return False  # whoever writes them says what is wrong
    there = paths.digests.is_dir() and paths.checkpoints.is_file()
    return there and written == _state(root, paths)


def stamp(root: Path = Path()) -> None:
    """Note that data/<profile>/digests has just been written from what is there now."""
    paths = _paths(root)
    with atomic_file(_file(paths)) as part:
        part.write_text(json.dumps(_state(root, paths)))


def _params(root: Path) -> dict[str, Any]:
    """What params.yaml says of arms; whoever reads it whole checks it."""
    content = yaml.load((root / "params.yaml").read_bytes(), Loader)
    return {key: value for key, value in content.items() if key not in LATER}


def _paths(root: Path) -> Paths:
    return Paths(str(_params(root)["data"]["profile"]), root)


def _file(paths: Paths) -> Path:
    return project_root() / ".cache" / "digests" / f"{paths.profile}.json"


def _state(root: Path, paths: Paths) -> dict[str, str]:
    total = hashlib.sha256()
    total.update(json.dumps(_params(root), sort_keys=True, default=str).encode())
    for top, path in _made_of(root):
        total.update(str(path.relative_to(top)).encode() + hashlib.sha256(path.read_bytes()).digest())
    for path in _checkpoint_files(root):
        facts = path.stat()
        total.update(f"{path.parent.name}/{path.name} {facts.st_size} {facts.st_mtime_ns}".encode())
    known = paths.checkpoints.read_text() if paths.checkpoints.is_file() else ""
    return {"made_of": total.hexdigest(), "checkpoints": known, "files": digest(paths.digests)}


def _made_of(root: Path) -> Iterator[tuple[Path, Path]]:
    """(folder, file in it): a queued experiment runs in a copy of the project, for which the stamp is as good."""
    for top, name in ((SRC, "auscult"), (root, "stages")):
        files = (path for path in (top / name).rglob("*") if path.is_file() and path.suffix != ".pyc")
        yield from ((top, path) for path in sorted(files))
    for pattern in ("checkpoints.yaml", "studies/*/params.yaml", "profiles/*.yaml"):
        yield from ((root, path) for path in sorted(root.glob(pattern)))


def _checkpoint_files(root: Path) -> Iterator[Path]:
    """Files that a user has put in place, which are too large to be read in every run."""
    places = [project_root() / "checkpoints"]
    if os.environ.get("AUSCULT_CHECKPOINTS"):
        places.append(root / Path(os.environ["AUSCULT_CHECKPOINTS"]).expanduser())
    for place in places:
        yield from sorted(path for path in place.glob("*/*") if path.is_file())
