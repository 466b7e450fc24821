"""Where audio comes from: each kind of source puts a tree of recordings in place and says where its root is.

The `download` stage calls `fetch`; its output folder holds the recordings themselves (synthetic) or, for audio that is
used in place, only `source.json` with the root and an inventory. Later stages ask `root_of`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from auscult.config import Profile, Section, validated
from auscult.data.audio import SUFFIXES, workers_or_cores
from auscult.data.inventory import describe
from auscult.errors import AuscultError
from auscult.files import atomic_folder, remove_leftovers
from auscult.paths import project_root


class LocalSource(Section):
    """Recordings that are already on this machine, used where they lie."""

    kind: Literal["local"]
    path: str
    """Folder, absolute or relative to the project root."""


def fetch(profile: Profile, raw: Path, workers: int = 0) -> None:
    """Put the recordings of `profile.source` in place and describe them in `raw`/source.json.

    Args:
        workers: processes that generate synthetic clips; 0 = one per core. The bytes do not depend on it.

    Raises:
        AuscultError: unknown kind or key, or a folder without recordings.
    """
    source = profile.source
    kind = source.get("kind")
    if kind == "synthetic":
        from auscult.data.synthetic import SyntheticSource, write_tree

        remove_leftovers(raw.parent, f".{raw.name}.", ".part")
        length = {"sample_rate": profile.sample_rate, "clip_seconds": profile.clip_seconds}
        processes = workers_or_cores(workers)
        write_tree(validated(SyntheticSource, {**length, **source}, "source"), raw, processes if processes > 1 else 0)
        describe(raw, ".", {})
    elif kind == "local":
        path = validated(LocalSource, source, "source").path
        folder = project_root() / path
        if not folder.is_dir():
            raise AuscultError(
                "the folder of recordings is not there", str(folder), "put it there, or mend `source.path`"
            )
        files = {
            f.relative_to(folder).as_posix(): f.stat().st_size if f.exists() else 0  # the manifest reports dead links
            for f in sorted(folder.rglob("*"))
            if f.suffix.lower() in SUFFIXES and not f.is_dir()
        }
        if not files:
            raise AuscultError(f"no recordings ({', '.join(SUFFIXES)}) below this folder", str(folder))
        with atomic_folder(raw) as out:
            describe(out, path, files)
    else:
        raise AuscultError(f"unknown kind of source `{kind}`", "source.kind of the profile", "use: synthetic, local")
