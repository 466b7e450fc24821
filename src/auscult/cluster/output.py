"""Results in parts, in a folder or a store: what is there is whole, and says itself what it is about.

    part-<digest>.parquet   rows of up to some thousand recordings; the digest is of their keys and of the bundle
    _bundle/                the bundle as it was when the last run began, from where workers load it
    _run.json               whose output this is: a bundle's, by one threshold and one program, and of the last run alone
    _manifest.json          the parts and their sums, written when a run ends

What a part holds is decided by its name, so a part that is made twice is made of the same bytes. The keys in the parts are the
record of what is done; nothing else is needed to go on. A part of an earlier run, from a worker that nobody has told of its
end, is not taken any more: before it puts a part there, a worker looks whether `_run.json` still names its run.
"""

from __future__ import annotations

import json
import os
import re
import secrets
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from auscult.cluster.archive import Clip, is_local, protocols, store_errors, store_of
from auscult.cluster.parts import Row, part_facts
from auscult.data.audio import printable
from auscult.errors import AuscultError
from auscult.files import full_disk_reported

_PUT_WHOLE = {"s3", "s3a", "gs", "gcs", "abfs", "abfss", "az", "adl", "oci", "memory"}
"""Stores in which an object appears when the last byte of it has arrived, and not before."""
_READERS = 16
_PART = re.compile(r"part-[0-9a-f]{20}\.parquet")
_BESIDE = re.compile(r"\.part-[0-9a-f]{20}\.parquet\.[0-9a-f]{8}\.part")
"""Of a worker that was killed while it wrote."""


@dataclass
class Known:
    """What is in an output.

    Attributes:
        keys: ascending, of all recordings that have a row.
        parts: name -> rows, bytes and how many of each verdict.
        torn: parts that were not whole, and are removed.
    """

    keys: np.ndarray
    parts: dict[str, dict[str, Any]] = field(default_factory=dict)
    torn: list[str] = field(default_factory=list)

    def holds(self, clips: Sequence[Clip]) -> np.ndarray:
        """Whether each recording has a row, [n]."""
        keys = np.array([clip.key for clip in clips], "S16")
        at = np.searchsorted(self.keys, keys)
        found = at < len(self.keys)
        found[found] = self.keys[at[found]] == keys[found]
        return found


@dataclass(frozen=True)
class Owner:
    """Whose scores an output holds: the bundle, the threshold of the verdicts, the program, and the last run."""

    bundle: str
    bundle_digest: str
    threshold: float
    program: dict[str, str]
    run: str = ""

    @property
    def facts(self) -> dict[str, Any]:
        """What parts and the manifest say of it."""
        return {"bundle": self.bundle, "bundle_digest": self.bundle_digest, "program": self.program}


class Output:
    """A folder or a store's prefix that holds the parts of one bundle's scores.

    Raises:
        AuscultError: no such kind of store.
    """

    def __init__(self, place: str) -> None:
        self.place = place
        self.store, self.root = store_of(place)
        self.root = self.root.rstrip("/")

    # ------------------------------------------------------------------------------------------------------------- whole files
    def put(self, name: str, content: bytes) -> None:
        """Write a file that is whole or absent.

        Raises:
            AuscultError: the store does not take it.
        """
        path = f"{self.root}/{name}"
        with self._refusals("written to"), full_disk_reported(Path(path)):
            if protocols(self.store) & _PUT_WHOLE:
                self.store.pipe_file(path, content)
                return
            folder, _, last = path.rpartition("/")
            self.store.makedirs(folder, exist_ok=True)
            beside = f"{folder}/.{last}.{secrets.token_hex(4)}.part"
            try:
                with self.store.open(beside, "wb") as file:
                    file.write(content)
                    if is_local(self.store):
                        file.flush()
                        os.fsync(file.fileno())
                self.store.mv(beside, path)
            except BaseException:
                with suppress(Exception):
                    self.store.rm_file(beside)
                raise

    def get(self, name: str) -> bytes | None:
        """A file's content; None = there is none.

        Raises:
            AuscultError: the store does not give it.
        """
        with self._refusals("read"):
            try:
                content: bytes = self.store.cat_file(f"{self.root}/{name}")
            except (FileNotFoundError, NotADirectoryError):
                return None
            return content

    @contextmanager
    def _refusals(self, done: str) -> Iterator[None]:
        try:
            with store_errors():
                yield
        except OSError as error:
            what = f"the output cannot be {done} ({error.strerror or str(error) or type(error).__name__})"
            fix = "check that the place exists and is writable, and the credentials, on this machine and on the workers"
            raise AuscultError(what, printable(self.place), fix) from None

    def names(self) -> list[str]:
        """Of what lies directly in it, sorted.

        Raises:
            AuscultError: the store does not list it.
        """
        with self._refusals("read"):
            try:
                paths = [path.rstrip("/") for path in self.store.ls(self.root, detail=False)]
            except FileNotFoundError:
                return []
        return sorted(path.rpartition("/")[2] for path in paths if path != self.root)

    # --------------------------------------------------------------------------------------------------------------------- runs
    def begin(self, owner: Owner) -> Owner:
        """Make this output the owner's, if it is nobody's and empty, and this run its last one; gives the owner with the run.

        Raises:
            AuscultError: it holds something else, or scores of another bundle, threshold or program.
        """
        owner = replace(owner, run=secrets.token_hex(8))
        try:
            before = Owner(**json.loads(self.get("_run.json") or b"{}"))
        except (ValueError, TypeError):
            before = None
        if before is None:
            others = [name for name in self.names() if not name.startswith(".") and name != "_bundle"]
            if others:
                what = f"this holds other files than scores ({', '.join(map(printable, others[:3]))})"
                raise AuscultError(what, printable(self.place), "give another --out: a new folder, or an empty one")
        else:
            _require_same(before, owner, printable(self.place))
        self.put("_run.json", json.dumps(asdict(owner)).encode())
        return owner

    def check_run(self, run: str) -> None:
        """Refuse to go on with a run that is not the last one of this output.

        Raises:
            AuscultError: another one has begun, or this machine does not see the output.
        """
        found = self.get("_run.json")
        if found is None:
            fix = "give an --out that all machines share (s3://..., or a folder mounted on all of them)"
            raise AuscultError("the output that the run began with is not seen here", printable(self.place), fix)
        if json.loads(found)["run"] != run:
            raise AuscultError("another run has taken this output over", printable(self.place), "let one of them go on")

    # -------------------------------------------------------------------------------------------------------------------- parts
    def known(self) -> Known:
        """What is there; parts that are not whole (after a power cut, say) are removed, and files of no part left alone.

        Raises:
            AuscultError: the store does not give them, or a recording stands in two parts.
        """
        names = self.names()
        self._remove(name for name in names if _BESIDE.fullmatch(name))
        names = [name for name in names if _PART.fullmatch(name)]
        parts: dict[str, dict[str, Any]] = {}
        joined = bytearray()  # grows in place, where a list of the parts' keys and their sum would hold all twice
        with ThreadPoolExecutor(_READERS) as pool:
            for name, part in zip(names, pool.map(self.part, names), strict=True):
                if part is not None:
                    joined += part.pop("keys")
                    parts[name] = part
        torn = [name for name in names if name not in parts]
        self._remove(torn)
        keys = np.frombuffer(joined, "S16")
        keys.sort()
        twice = keys[1:][keys[1:] == keys[:-1]]
        if len(twice):
            what = f"{len(twice)} recordings stand in two of the parts {', '.join(self._parts_of(twice, names))}"
            fix = "remove those that _manifest.json does not list, or one of two: what is missing then is scored again"
            raise AuscultError(what, printable(self.place), fix)
        return Known(keys, parts, torn)

    def _parts_of(self, keys: np.ndarray, names: Sequence[str]) -> list[str]:
        parts = ((name, self.part(name)) for name in names)
        return [name for name, part in parts if part and np.isin(np.frombuffer(part["keys"], "S16"), keys).any()]

    def _remove(self, names: Iterable[str]) -> None:
        for name in names:
            with self._refusals("written to"), suppress(FileNotFoundError):
                self.store.rm_file(f"{self.root}/{name}")

    def part(self, name: str) -> dict[str, Any] | None:
        """As `part_facts`; None = there is none, or it is not whole.

        Raises:
            AuscultError: it is whole and not ours.
        """
        content = self.get(name)
        return None if content is None else part_facts(content, printable(f"{self.place}/{name}"))

    def write_manifest(self, facts: Row, parts: Mapping[str, Row]) -> None:
        listed = [{"part": name, **parts[name]} for name in sorted(parts)]
        self.put("_manifest.json", json.dumps({**facts, "parts": listed}, indent=1).encode())


def _require_same(before: Owner, now: Owner, where: str) -> None:
    """One output holds scores that compare."""
    if before.bundle_digest != now.bundle_digest:
        what = f"this holds scores of another bundle ({before.bundle}, {before.bundle_digest[:16]})"
        raise AuscultError(what, where, "give another --out: scores of two bundles do not compare")
    if before.threshold != now.threshold:
        what = f"this holds verdicts by another threshold ({before.threshold:.6g}, and now {now.threshold:.6g})"
        fix = "give another --out; or set that threshold again, and compare the scores with the new one yourself"
        raise AuscultError(what, where, fix)
    if before.program != now.program:
        names = sorted({*before.program, *now.program})
        pairs = [(name, before.program.get(name), now.program.get(name)) for name in names]
        other = ", ".join(f"{name} {old} (here: {new})" for name, old, new in pairs if old != new)
        what, fix = f"this holds scores of another program: {other}", "give another --out, or install those versions"
        raise AuscultError(what, where, fix)
