"""Where clips come from: each kind of source puts a tree of recordings in place and says where its root is.

`synthetic` makes it, `local` uses a tree in one of the known layouts, `recordings` cuts your own into clips, `zenodo` fetches
a published data set; `arrays` has no audio, but features that somebody has computed.

The `download` stage calls `fetch`; its output folder holds the recordings themselves (synthetic) or, for audio that is
used in place, only `source.json` with the root and an inventory (and fetched labels). Later stages ask `root_of`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from auscult.data.audio import SUFFIXES, workers_or_cores
from auscult.data.inventory import describe, sizes_below
from auscult.data.labels.groundtruth import label_files
from auscult.errors import AuscultError
from auscult.files import atomic_folder, digest
from auscult.settings.paths import project_root
from auscult.settings.profile import Profile
from auscult.settings.section import Section, validated


class LocalSource(Section):
    """Recordings that are already on this machine, used where they lie."""

    kind: Literal["local"]
    path: str
    """Folder, absolute or relative to the project root."""


def fetch(profile: Profile, raw: Path, workers: int = 0, machines: Sequence[str] = ()) -> None:
    """Put the recordings of `profile.source` in place and describe them in `raw`/source.json.

    Args:
        workers: processes that generate synthetic clips, or archives unpacked at once; 0 = one per core. The bytes do not
            depend on it.
        machines: fetch these alone, ahead of time, and leave `raw` as it is (`zenodo` only).

    Raises:
        AuscultError: unknown kind or key, a folder without recordings, or whatever keeps a file from being fetched.
    """
    source = profile.source
    kind = source.get("kind")
    if machines and kind != "zenodo":
        what = f"nothing is downloaded for a source of kind `{kind}`"
        raise AuscultError(what, f"profile {profile.name}", "leave out --machines")
    if kind == "synthetic":
        from auscult.data.synthetic import SyntheticSource, write_tree

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
        files = sizes_below(folder)
        if not files:
            raise AuscultError(f"no recordings ({', '.join(SUFFIXES)}) below this folder", str(folder))
        # Label lists by content: one label turned round leaves the size as it is.
        labels = {f.relative_to(folder).as_posix(): digest(f) for f in label_files(profile.eval_labels, folder)}
        with atomic_folder(raw) as out:
            describe(out, path, files, labels)
    elif kind == "recordings":
        from auscult.data.own.source import write_clips

        write_clips(profile, raw, workers)
    elif kind == "arrays":
        from auscult.data.arrays.source import write_arrays

        write_arrays(profile, raw)
    elif kind == "zenodo":
        from auscult.data.download.zenodo import ZenodoSource, put_in_place

        put_in_place(profile, validated(ZenodoSource, source, "source"), raw, workers, machines)
    else:
        fix = "use: synthetic, local, recordings, arrays, zenodo"
        raise AuscultError(f"unknown kind of source `{kind}`", "source.kind of the profile", fix)
