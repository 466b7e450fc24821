"""Data sets of Zenodo records: fetched, verified and unpacked, or used where archives or recordings already lie.

    .cache/downloads/<record>/<name>            archives; may be deleted once they are unpacked
    data/<profile>/recordings/<set>/<machine>/  the recordings, used in place by every workspace of the checkout
    data/<profile>/recordings/labels/           labels that are fetched, where the manifest looks for them
    data/<profile>/raw/                         the stage's output: an inventory of the recordings, and a copy of labels/

The output is small and made anew each time; what is expensive lies outside it, so that DVC neither removes nor copies it.
Any interruption loses at most one archive's unpacking.
"""

from __future__ import annotations

import fcntl
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Annotated, Literal, Self
from urllib.parse import urljoin

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError
from tqdm import tqdm

from auscult.data.audio import workers_or_cores
from auscult.data.download.checksums import Checksum, Pins
from auscult.data.download.fetching import Wanted, fault_of, fetch_files, md5_of, part_of
from auscult.data.download.recordings import Archive, Recordings
from auscult.data.download.unzip import unpacked_bytes
from auscult.data.download.web import Patience, Unreachable
from auscult.data.inventory import describe, sizes_below
from auscult.errors import AuscultError, listed
from auscult.files import atomic_folder, require_room
from auscult.settings.paths import project_root
from auscult.settings.profile import Profile
from auscult.settings.section import Positive, Section, near

UNPACKED_RATIO = 1.4
"""Estimated size of the recordings over that of their archive; 1.26 for 2021's `dev_data_fan.zip`."""


class File(Section):
    """One archive. Without `md5` the record is asked, and its answer pinned."""

    name: Annotated[str, Field(pattern=r"^[^/\\]+$")]
    md5: Annotated[str, Field(pattern=r"^([0-9a-f]{32})?$")] = ""
    bytes: Annotated[int, Field(ge=0)] = 0


class Part(Section):
    """Archives of one record: one per machine type."""

    set: Literal["dev", "eval"]
    record: Positive
    files: dict[Annotated[str, Field(pattern=r"^[^/\\.][^/\\]*$")], File]


class LabelFile(Section):
    url: str
    """Absolute, or relative to `labels.base`."""
    to: str = ""
    """Where it goes below labels/; "" = `url`, or the last part of an absolute one."""
    md5: Annotated[str, Field(pattern=r"^([0-9a-f]{32})?$")] = ""

    @property
    def path(self) -> str:
        return self.to or (self.url.rsplit("/", 1)[-1] if "://" in self.url else self.url)

    @model_validator(mode="after")
    def _inside(self) -> Self:
        if self.path.startswith("/") or ".." in PurePosixPath(self.path).parts:
            raise PydanticCustomError("to", "must lead to a place below labels/")
        return self


class Labels(Section):
    """Labels of evaluation clips whose licence forbids shipping them: fetched by whoever uses them."""

    base: str = ""
    files: tuple[LabelFile, ...] = ()


class ZenodoSource(Section):
    kind: Literal["zenodo"]
    base: str = "https://zenodo.org"
    """A mirror serves <base>/records/<record>/files/<name>."""
    parts: Annotated[list[Part], Field(min_length=1)]
    labels: Labels = Labels()
    archives: str = ""
    """Folder of archives that are already here (found by name, also in <record>/): verified and used where they lie."""
    unpacked: str = ""
    """Folder of recordings that are already here, <set's folder>/<machine>/...: used where they lie. Only labels that do
    not lie there in labels/ are fetched, and put there."""
    parallel: Positive = 4
    """Files at once."""
    tries: Positive = 8
    """In a row without one new byte, before the server is given up; about two minutes, or half of one where it never answered."""


@dataclass(frozen=True)
class Item:
    """One archive of the profile: what it holds, where it is had, and what it must be."""

    archive: Archive
    record: int
    name: str
    stated: Checksum


def put_in_place(
    profile: Profile,
    source: ZenodoSource,
    raw: Path,
    workers: int = 0,
    machines: Sequence[str] = (),
    patience: Patience | None = None,
) -> None:
    """Leave the recordings in place and describe them in `raw`.

    Args:
        workers: archives unpacked at once; 0 = one per core.
        machines: fetch and unpack these alone, ahead of time, and leave `raw` as it is.
        patience: with the server; None = `source.tries`.

    Raises:
        AuscultError: everything that keeps a file from being had, verified or unpacked. What was done by then is kept.
    """
    patience = patience or Patience(tries=source.tries)
    source = source.model_copy(update={"base": source.base.rstrip("/")})
    items = _chosen(profile, source, machines)
    cache = project_root() / ".cache" / "downloads"
    with _alone(cache):
        pins = Pins(profile.name)
        root = source.unpacked or f"data/{profile.name}/recordings"
        if source.unpacked:
            sizes = _found(project_root() / root, items)
        else:
            recordings = Recordings(project_root() / root)
            recordings.forget_all_but({_key(part, file) for part in source.parts for file in part.files.values()})
            _obtain(items, source, recordings, cache, pins, workers_or_cores(workers), patience)
            sizes = recordings.sizes([item.archive for item in items])
        if machines:
            return
        places = _labels(source, project_root() / root / "labels", pins, patience)
        with atomic_folder(raw) as out:
            for place, path in places.items():
                (out / "labels" / place).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path, out / "labels" / place)
            describe(out, root, sizes)


def _chosen(profile: Profile, source: ZenodoSource, machines: Sequence[str]) -> list[Item]:
    """The archives of the profile's sets and machines, or of `machines` alone."""
    known = list(dict.fromkeys(machine for part in source.parts for machine in part.files))
    wanted = machines or profile.machines
    for machine in wanted:
        if machine not in known:
            what = f"the data set has no machine type `{machine}`{near(machine, known)}"
            raise AuscultError(what, f"profile {profile.name}", f"use: {', '.join(known)}")
    return [
        Item(
            Archive(profile.sets[part.set], machine, _key(part, file), file.md5),
            part.record,
            file.name,
            Checksum(file.md5, file.bytes),
        )
        for part in source.parts
        if part.set in profile.sets
        for machine, file in part.files.items()
        if not wanted or machine in wanted
    ]


def _key(part: Part, file: File) -> str:
    """Names an archive: two records may have files of one name."""
    return f"{part.record}-{file.name}"


# ------------------------------------------------------------------------------------------------------------- recordings
def _obtain(
    items: list[Item], source: ZenodoSource, recordings: Recordings, cache: Path, pins: Pins, workers: int,
    patience: Patience,
) -> None:  # fmt: skip
    """Fetch and unpack the archives that are not unpacked yet."""
    known = {item.archive.key: pins.of(f"{item.record}/{item.name}", item.stated) for item in items}
    todo = [item for item in items if not recordings.whole(replace(item.archive, md5=known[item.archive.key].md5))]
    folder = project_root() / source.archives if source.archives else None
    here = {item.archive.key: path for item in todo if (path := _local(folder, item))}
    for record in dict.fromkeys(item.record for item in todo):
        of_record = [item for item in todo if item.record == record]
        known |= _checksums(of_record, known, here, source, pins, patience)
    for key, path in here.items():
        if fault := fault_of(path, known[key].md5, known[key].bytes):
            fix = "it is left as it is; move it out of `source.archives`, and it is fetched"
            raise AuscultError(f"an archive that lies here is not the right one: {fault}", str(path), fix)
    missing: dict[str, Wanted] = {}
    for item in todo:
        if (key := item.archive.key) not in here:
            url = f"{source.base}/records/{item.record}/files/{item.name}"
            missing[key] = Wanted(url, cache / str(item.record) / item.name, known[key].md5, known[key].bytes)
    _check_room(list(missing.values()), list(here.values()), cache, recordings.folder)
    fetch_files(list(missing.values()), source.parallel, patience)
    paths = here | {key: file.path for key, file in missing.items()}
    archives = [replace(item.archive, md5=known[item.archive.key].md5) for item in todo]
    recordings.unpack([(archive, paths[archive.key]) for archive in archives], workers)


def _checksums(
    items: list[Item], known: dict[str, Checksum], here: dict[str, Path], source: ZenodoSource, pins: Pins,
    patience: Patience,
) -> dict[str, Checksum]:  # fmt: skip
    """What is to be expected of the archives of one record. Archives that lie here need no network."""
    record, local = items[0].record, all(item.archive.key in here for item in items)
    if local and all(known[item.archive.key].md5 for item in items):
        return {}
    try:
        stated = {item.name: known[item.archive.key] for item in items}
        complete = pins.complete(record, stated, source.base, patience)
    except Unreachable:
        if not local:
            raise
        tqdm.write(f"warning: no network, so the archives of record {record} that lie here are taken to be right")
        paths = {item.name: here[item.archive.key] for item in items}
        complete = {name: Checksum(md5_of(path), path.stat().st_size) for name, path in paths.items()}
        pins.pin({f"{record}/{name}": checksum for name, checksum in complete.items()})
    return {item.archive.key: complete[item.name] for item in items}


def _local(folder: Path | None, item: Item) -> Path | None:
    """The archive in the user's own folder, if it lies there."""
    if folder is None:
        return None
    if not folder.is_dir():
        raise AuscultError(
            "the folder of archives is not there", str(folder), "put it there, or mend `source.archives`"
        )
    places = (folder / item.name, folder / str(item.record) / item.name)
    return next((path for path in places if path.is_file()), None)


def _check_room(missing: list[Wanted], here: list[Path], cache: Path, recordings: Path) -> None:
    """Before anything is fetched: room for the archives and for what is in them, where sizes are known."""
    fetched = sum(file.bytes for file in missing)
    arrived = sum(
        min(file.bytes, p.stat().st_size) for file in missing for p in (file.path, part_of(file.path)) if p.is_file()
    )
    unpacked = int(UNPACKED_RATIO * fetched) + sum(unpacked_bytes(path) for path in here)
    need = {cache: fetched - arrived, recordings: unpacked}
    for folder in need:
        folder.mkdir(parents=True, exist_ok=True)
    if cache.stat().st_dev == recordings.stat().st_dev:
        need = {recordings: sum(need.values())}
    fix = "free some, choose fewer `machines`, or make .cache/downloads or data/ a link to a larger disk"
    for folder, wanted in need.items():
        require_room(folder, wanted, "not enough room: about {wanted} needed, {free} free", fix)


def _found(folder: Path, items: list[Item]) -> dict[str, int]:
    """Bytes of every recording of a tree that is already here."""
    places = list(dict.fromkeys(f"{item.archive.folder}/{item.archive.machine}" for item in items))
    missing = [str(folder / place) for place in places if not (folder / place).is_dir()]
    if missing:
        fix = "mend `source.unpacked`, `sets` (folders of dev and eval below it) or `machines`"
        raise AuscultError(f"{len(missing)} folder(s) of recordings are not there:{listed(missing)}", fix=fix)
    return sizes_below(folder, sorted(places))


# ----------------------------------------------------------------------------------------------------------------- labels
def _labels(source: ZenodoSource, folder: Path, pins: Pins, patience: Patience) -> dict[str, Path]:
    """Place below labels/ -> the file in `folder`, fetched unless it lies there, right; an MD5 not known is pinned."""
    wanted: dict[str, Wanted] = {}
    for label in source.labels.files:
        url = urljoin(f"{(source.labels.base or source.base).rstrip('/')}/", label.url)
        known = pins.of(url, Checksum(label.md5))
        wanted[label.path] = Wanted(url, folder / label.path, known.md5, known.bytes, most=2**26)
    for path in sorted(folder.rglob("*")):
        file = wanted.get(path.relative_to(folder).as_posix())
        if source.unpacked and file and (fault := fault_of(path, file.md5, file.bytes)):
            fix = "it is left as it is; move it away, and it is fetched"
            raise AuscultError(f"a file of labels that lies here is not the right one: {fault}", str(path), fix)
        if not source.unpacked and not path.is_dir() and not (file and file.md5):
            path.unlink()  # of another version of the profile
    fetch_files(list(wanted.values()), source.parallel, patience)
    pins.pin({file.url: Checksum(md5_of(file.path), file.path.stat().st_size) for file in wanted.values()})
    return {place: file.path for place, file in wanted.items()}


@contextmanager
def _alone(cache: Path) -> Iterator[None]:
    """One process of a checkout at a time: a second experiment waits, and then finds everything there."""
    cache.mkdir(parents=True, exist_ok=True)
    with open(cache / "lock", "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            tqdm.write(f"another run is downloading into {cache}: waiting for it")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield
