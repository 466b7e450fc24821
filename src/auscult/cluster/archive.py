"""Recordings anywhere fsspec reaches (folders, s3://, gs://, sftp://, ...): found folder by folder, so that a list of all of them
is never held, and read ahead of the one that is being scored.
"""

from __future__ import annotations

import hashlib
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from datetime import datetime
from errno import EIO, ESTALE
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

from auscult.data.audio import NOT_READ, READ, printable
from auscult.errors import AuscultError

_STATES = ("ETag", "etag", "md5Hash", "mtime", "LastModified", "last_modified", "modified", "updated", "created")
"""Where stores say which state of a file this is; the first one counts."""
_CLIENTS = {"aiobotocore", "aiohttp", "azure", "botocore", "gcsfs", "google", "paramiko", "s3fs"}
"""Packages that talk to stores."""
_AHEAD = 8
"""Recordings on their way from a store while one is scored."""


class Clip(NamedTuple):
    """A recording in one state: its path or address, bytes, and what the store says of its content or its time."""

    path: str
    size: int
    state: str

    @property
    def key(self) -> bytes:
        """16 bytes that tell one state of one file from all others.

        >>> Clip("a.wav", 44, "1").key == Clip("a.wav", 44, "2").key
        False
        """
        text = f"{self.size}\0{self.state}\0{self.path}".encode("utf-8", "surrogatepass")
        return hashlib.blake2b(text, digest_size=16).digest()


def store_of(place: str) -> tuple[Any, str]:
    """The file system of a path or an address, which remembers no listings, and the path on it.

    Raises:
        AuscultError: no such kind of store, or what it needs is not installed.
    """
    import fsspec

    try:
        store, path = fsspec.core.url_to_fs(place, use_listings_cache=False)
    except (ImportError, ValueError) as error:
        fix = 's3:// comes with "auscult[cluster]"; for others install what fsspec names'
        raise AuscultError(f"no store of this kind can be opened ({error})", place, fix) from None
    return store, path


def protocols(store: Any) -> set[str]:
    return {store.protocol} if isinstance(store.protocol, str) else set(store.protocol)


def is_local(store: Any) -> bool:
    return "file" in protocols(store)


@contextmanager
def store_errors() -> Iterator[None]:
    """What a store's client raises as an OSError: missing credentials, say, are none by themselves."""
    try:
        yield
    except OSError:
        raise
    except Exception as error:
        if type(error).__module__.partition(".")[0] in _CLIENTS:
            raise OSError(EIO, str(error).partition("\n")[0] or type(error).__name__) from error
        raise


def find(sources: Sequence[str]) -> Iterator[Clip]:
    """The recordings (by their suffix) below folders, of patterns with `*`, and files as they are; each once, in a fixed order.

    Holds 16 bytes of each, in a set that takes 100, where sources may overlap: patterns, or one within another.

    Raises:
        AuscultError: nothing is there, or it cannot be listed.
    """
    seen: set[bytes] | None = None if _apart(sources) else set()
    for source in sources:
        found = False
        for clip in _find(source):
            found = True
            if seen is not None:
                if clip.key in seen:
                    continue
                seen.add(clip.key)
            yield clip
        if not found:
            fix = "give a folder, a pattern or files of recordings"
            raise AuscultError("no recordings here", printable(source), fix)


def _apart(sources: Sequence[str]) -> bool:
    """Whether no recording can be in two of them.

    >>> _apart(["/a/2025", "/a/2025-1", "/b"]), _apart(["/a/2025", "/a/2026", "/a"]), _apart(["/a/*"]), _apart(["/a/*", "/b"])
    (True, False, True, False)
    """
    if len(sources) > 1 and any("*" in source for source in sources):
        return False
    places = sorted(source.rstrip("/") + "/" for source in sources)
    return not any(second.startswith(first) for first, second in pairwise(places))


def _find(source: str) -> Iterator[Clip]:
    store, path = store_of(source)
    with _listing(source):
        if "*" in source:
            entries: Iterable[dict[str, Any]] = sorted(store.glob(path, detail=True).values(), key=_name)
            entries = filter(_is_recording, entries)
        elif store.isdir(path):
            entries = _below(store, path)
        else:
            entries = [store.info(path)]
        for entry in entries:
            yield Clip(_address(store, source, path, _name(entry)), *_size_and_state(store, entry))


@contextmanager
def _listing(place: str) -> Iterator[None]:
    try:
        with store_errors():
            yield
    except FileNotFoundError:
        raise AuscultError("there is no such file or folder", printable(place), "mend the path") from None
    except OSError as error:
        what = f"the store does not let itself be read ({error.strerror or error})"
        raise AuscultError(what, printable(place), "check the credentials and permissions on this machine") from None


def _below(store: Any, root: str) -> Iterator[dict[str, Any]]:
    """Recordings, without hidden entries and links to folders, as `detector.stream.below`."""
    todo = [root]
    while todo:
        folder = todo.pop()
        with _listing(folder):
            listed = store.ls(folder, detail=True)
        entries = [entry for entry in listed if _name(entry).rstrip("/") != folder.rstrip("/")]
        entries = sorted((entry for entry in entries if not _last(entry).startswith(".")), key=_name)
        yield from filter(_is_recording, entries)
        inside = [_name(entry) for entry in entries if entry["type"] == "directory" and not entry.get("islink")]
        todo += reversed(inside)


def _name(entry: dict[str, Any]) -> str:
    return str(entry["name"])


def _last(entry: dict[str, Any]) -> str:
    return _name(entry).rstrip("/").rpartition("/")[2]


def _is_recording(entry: dict[str, Any]) -> bool:
    """By its name; links to files are, and whoever reads one that leads nowhere says so."""
    named = os.path.splitext(_last(entry))[1].lower() in (*READ, *NOT_READ)
    return named and entry["type"] != "directory" and not (entry.get("islink") and os.path.isdir(_name(entry)))


def _address(store: Any, source: str, path: str, name: str) -> str:
    """Of a file, for another machine: with the host, where a store's paths (`path` is that of `source`) leave it out."""
    if is_local(store):
        return name
    source, path = source.rstrip("/"), path.rstrip("/")
    if name.startswith("/") and source.endswith(path):
        return source[: len(source) - len(path)] + name
    return str(store.unstrip_protocol(name))


def _size_and_state(store: Any, entry: dict[str, Any]) -> tuple[int, str]:
    if entry.get("islink"):
        with suppress(OSError):
            found = os.stat(_name(entry))
            entry = {**entry, "size": found.st_size, "mtime": found.st_mtime}
    if entry.get("size") is None:  # a web server's list has none
        entry = store.info(_name(entry))
    return int(entry.get("size") or 0), _state(entry)


def _state(entry: dict[str, Any]) -> str:
    """Alike from a list and from a file by itself: of those, Azure puts quotes around one, and other stores have a time as number
    and as date.

    >>> _state({"etag": "0x8D"}) == _state({"etag": '"0x8D"'})
    True
    """
    state = next((entry[name] for name in _STATES if entry.get(name) is not None), "")
    return str(state.timestamp() if isinstance(state, datetime) else state).strip('"')


def in_parts(clips: Iterable[Clip], most: int, most_bytes: int) -> Iterator[list[Clip]]:
    """At most `most` in a row, and at most `most_bytes` of them unless one alone has more.

    >>> [len(part) for part in in_parts([Clip(name, 6, "") for name in "abcde"], 3, 15)]
    [2, 2, 1]
    """
    part: list[Clip] = []
    size = 0
    for clip in clips:
        if part and (len(part) == most or size + clip.size > most_bytes):
            yield part
            part, size = [], 0
        part.append(clip)
        size += clip.size
    if part:
        yield part


# ------------------------------------------------------------------------------------------------------------------- reading
def read_ahead(clips: Sequence[Clip], folder: Path) -> Iterator[tuple[Clip, Path | OSError]]:
    """Each recording as a file of this machine: where it lies, or a copy in `folder` that is removed when the next one is asked
    for; an error where the store does not give it, or gives another one than was listed.

    What lies on this machine may change after that: `check_unchanged` when it has been read."""

    def fetch(clip: Clip) -> Path | OSError:
        try:
            with store_errors():
                return _fetched(clip, folder)
        except OSError as error:
            return error
        except AuscultError as error:
            return OSError(EIO, error.what)
        except Exception as error:
            return OSError(EIO, f"a bug: {type(error).__name__}: {error}")

    with ThreadPoolExecutor(_AHEAD) as pool:
        for clip, place in zip(clips, _in_order(pool, fetch, clips), strict=True):
            yield clip, place
            if isinstance(place, Path) and place.parent == folder:
                place.unlink()


def _fetched(clip: Clip, folder: Path) -> Path:
    store, path = store_of(clip.path)
    place = Path(path)
    if not is_local(store):
        place = folder / (clip.key.hex() + os.path.splitext(clip.path)[1])
        store.get_file(path, str(place))
    elif not os.access(place, os.R_OK):
        place.stat()
        raise PermissionError("no permission to read it")
    check_unchanged(clip)
    if place.stat().st_size != clip.size:
        raise OSError(EIO, f"{place.stat().st_size} bytes came, and it has {clip.size}")
    return place


def check_unchanged(clip: Clip) -> None:
    """Whether a recording is still the one that was listed.

    Raises:
        OSError: it has another size or state, or is gone.
    """
    store, path = store_of(clip.path)
    if _size_and_state(store, store.info(path)) != (clip.size, clip.state):
        raise OSError(ESTALE, "it has changed since it was listed")


def _in_order(pool: ThreadPoolExecutor, work: Callable[[Clip], Any], clips: Sequence[Clip]) -> Iterator[Any]:
    """As `pool.map`, but no more than `_AHEAD` are begun before the first is taken."""
    begun: deque[Future[Any]] = deque()
    for clip in clips:
        begun.append(pool.submit(work, clip))
        if len(begun) > _AHEAD:
            yield begun.popleft().result()
    while begun:
        yield begun.popleft().result()
