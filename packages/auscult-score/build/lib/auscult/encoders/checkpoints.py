"""Checkpoints of pre-trained encoders: what checkpoints.yaml says of them, and whether their files are in place and right.

Nothing is downloaded: licences are accepted by people, and some sources have no stable address. A user puts the files into
checkpoints/<name>/ (docs/checkpoints.md); here they are found, looked at and hashed.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from auscult.encoders.weights import check_file
from auscult.errors import AuscultError
from auscult.files import atomic_file
from auscult.settings.paths import project_root
from auscult.settings.reading import read_yaml
from auscult.settings.section import Section, near, validated

State = Literal["present", "missing", "wrong", "unverified"]
FileName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.\-]*$")]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class CheckpointFile(Section):
    name: FileName
    sha256: Sha256 | Literal[""] = ""
    """"" = nobody has told us."""
    mib: Annotated[float, Field(gt=0)] | None = None
    """Approximate size."""
    instead: tuple[FileName, ...] = ()
    """Names under which the same weights are accepted in its place; never compared with `sha256`."""
    optional: bool = False


class Checkpoint(Section):
    encoder: str
    """An entry of auscult.encoders."""
    title: str
    source: Annotated[str, Field(pattern=r"^https://")]
    """Page from which it is downloaded."""
    revision: str = ""
    licence: str
    files: Annotated[tuple[CheckpointFile, ...], Field(min_length=1)]
    """What is expected in checkpoints/<name>/."""
    size: dict[str, int | float] = Field(default_factory=dict)
    """`encoder.size` of this checkpoint, where it differs from the encoder's published sizes."""
    unchecked: tuple[str, ...] = ()
    """Keys of this entry that are recalled, not read at the source."""
    remarks: tuple[str, ...] = ()


class _File(Section):
    checkpoints: dict[Annotated[str, Field(pattern=r"^[a-z0-9_]+$")], Checkpoint]


@dataclass(frozen=True)
class CheckpointStatus:
    """What is in place of a checkpoint.

    Attributes:
        state: "present" (every digest as expected), "unverified" (in place, but a digest to compare with is not known: it
            may be used), "missing", or "wrong" (empty, cut off, a web page, another file).
        path: what an encoder loads: the file, or the folder if the checkpoint has several files.
        sha256: digest of each file that is there.
        reason: why it is not "present", without paths of this machine; "" if it is.
    """

    name: str
    state: State
    path: Path
    sha256: dict[str, str]
    reason: str

    @property
    def usable(self) -> bool:
        return self.state in ("present", "unverified")


def load_checkpoints(root: Path | None = None) -> dict[str, Checkpoint]:
    """Every entry of checkpoints.yaml, by name.

    Args:
        root: folder of the project; None = the working folder.

    Raises:
        AuscultError: no such file, or not valid; every problem is named.
    """
    path = (root or Path()) / "checkpoints.yaml"
    if not path.is_file():
        raise AuscultError(
            "there is no checkpoints.yaml here", str(path.absolute()), "run from the root of the project"
        )
    return validated(_File, read_yaml(path), "checkpoints.yaml").checkpoints


def find(name: str, root: Path | None = None) -> Checkpoint:
    """The entry of this name.

    Raises:
        AuscultError: there is none.
    """
    known = load_checkpoints(root)
    if name not in known:
        fix = f"use: {', '.join(known)}; or add it to checkpoints.yaml"
        raise AuscultError(f"there is no checkpoint `{name}`{near(name, list(known))}", "checkpoints.yaml", fix)
    return known[name]


def folder_of(name: str, root: Path | None = None) -> Path:
    """Where the files of a checkpoint belong: below $AUSCULT_CHECKPOINTS, or checkpoints/ of the project.

    The project is the user's own checkout, also in a queued experiment, which runs in a copy without large files.
    """
    base = root or project_root()
    shared = os.environ.get("AUSCULT_CHECKPOINTS", "")
    return (base / Path(shared).expanduser() if shared else base / "checkpoints") / name


def status(name: str, root: Path | None = None) -> CheckpointStatus:
    """Look at the files of a checkpoint. The first look reads them whole; their digests are kept for the next.

    Args:
        root: folder of the project; None = checkpoints.yaml of the working folder, files of the user's checkout.

    Raises:
        AuscultError: there is no such entry.
    """
    entry, folder = find(name, root), folder_of(name, root)
    digests: dict[str, str] = {}
    wrong, missing, unknown = [], [], []
    for file in entry.files:
        # safetensors first: whoever converted a file may have kept the one it was made from.
        names = sorted((file.name, *file.instead), key=lambda each: not each.endswith(".safetensors"))
        found = next((folder / each for each in names if os.path.lexists(folder / each)), None)
        if found is None:
            missing += [] if file.optional else [file]
            continue
        try:
            check_file(found)
        except AuscultError as error:
            wrong.append(f"{found.name}: {error.what}")
            continue
        digests[found.name] = _sha256(found, (root or project_root()) / ".cache" / "checkpoints.json")
        if found.name != file.name or not file.sha256:
            unknown.append(found.name)
        elif digests[found.name] != file.sha256:
            wrong.append(f"{found.name}: another file than expected (sha256 {digests[found.name]}, not {file.sha256})")
    path = folder / next(iter(digests), entry.files[0].name) if len(entry.files) == 1 else folder
    if wrong:
        return CheckpointStatus(name, "wrong", path, digests, f"checkpoint `{name}` is wrong: {'; '.join(wrong)}")
    if missing:
        reason = f"checkpoint `{name}` is missing: {to_do(name, entry, missing)}"
        return CheckpointStatus(name, "missing", path, digests, reason)
    if unknown:
        reason = f"checkpoint `{name}` cannot be compared: no digest is known of {', '.join(unknown)}"
        return CheckpointStatus(name, "unverified", path, digests, reason)
    return CheckpointStatus(name, "present", path, digests, "")


def path_of(name: str, root: Path | None = None) -> Path:
    """What an encoder loads: the file of a checkpoint, or its folder if it has several.

    Raises:
        AuscultError: there is no such entry, or its files are missing or wrong.
    """
    found = status(name, root)
    if found.usable:
        return found.path
    entry = find(name, root)
    what = f"checkpoint `{name}` is not in place" if found.state == "missing" else found.reason
    raise AuscultError(what, str(found.path), to_do(name, entry, list(entry.files), str(folder_of(name, root))))


def to_do(name: str, entry: Checkpoint, files: list[CheckpointFile], folder: str = "") -> str:
    """Which files to put where, and where they come from."""
    names = [
        file.name + (f" (or {' or '.join(file.instead)})" if file.instead else "")
        for file in files
        if not file.optional
    ]
    listed = " and ".join(filter(None, (", ".join(names[:-1]), names[-1])))
    revision = f", revision {entry.revision}" if entry.revision else ""
    return f"put {listed} into {folder or f'checkpoints/{name}'} (from {entry.source}{revision})"


def _sha256(path: Path, cache: Path) -> str:
    """Digest of a file; taken from `cache` if the file has not changed since it was put there."""
    before = path.stat()
    stamp = [before.st_size, before.st_mtime_ns, before.st_ctime_ns]
    key = str(path.absolute())
    known = _cached(cache)
    if isinstance(known.get(key), list) and known[key][:-1] == stamp:
        return str(known[key][-1])
    with open(path, "rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    after = path.stat()
    if stamp == [after.st_size, after.st_mtime_ns, after.st_ctime_ns]:  # otherwise it is still being copied
        # Only speed is lost where nothing can be written.
        with contextlib.suppress(OSError, AuscultError), atomic_file(cache) as part:
            part.write_text(json.dumps({**_cached(cache), key: [*stamp, digest]}, indent=1))
    return digest


def _cached(cache: Path) -> dict[str, list[int | str]]:
    try:
        content = json.loads(cache.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}
