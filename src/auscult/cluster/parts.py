"""Results in parts, in a folder or a store: what is there is whole, and says itself what it is about.

    part-<digest>.parquet   rows of up to some thousand recordings; the digest is of their keys and of the bundle
    _bundle/                the bundle as it was when the last run began, from where workers load it
    _run.json               whose output this is: a bundle's, and of the last run alone
    _manifest.json          the parts and their sums, written when a run ends

What a part holds is decided by its name, so a part that is made twice is made of the same bytes. The keys in the parts are the
record of what is done; nothing else is needed to go on. A part of an earlier run, from a worker that nobody has told of its
end, is not taken any more: before it puts a part there, a worker looks whether `_run.json` still names its run.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import secrets
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from auscult.cluster.archive import Clip, is_local, store_of
from auscult.data.audio import printable
from auscult.errors import AuscultError
from auscult.files import digest_of, full_disk_reported

_PUT_WHOLE = {"s3", "s3a", "gs", "gcs", "abfs", "abfss", "az", "adl", "oci", "memory"}
"""Stores in which an object appears when the last byte of it has arrived, and not before."""
_READERS = 16
Row = Mapping[str, Any]


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
            if set(_protocols(self.store)) & _PUT_WHOLE:
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
            yield
        except OSError as error:
            what = f"the output cannot be {done} ({error.strerror or str(error) or type(error).__name__})"
            fix = "check that the place exists and is writable, and the credentials, on this machine and on the workers"
            raise AuscultError(what, printable(self.place), fix) from None

    # --------------------------------------------------------------------------------------------------------------------- runs
    def begin(self, bundle: str, digest: str) -> str:
        """Make this output the bundle's, if it is nobody's, and this run its last one; gives the run's name.

        Raises:
            AuscultError: it holds scores of another bundle.
        """
        run = secrets.token_hex(8)
        owner = json.loads(self.get("_run.json") or b"{}")
        if owner and owner["bundle_digest"] != digest:
            what = f"this holds scores of another bundle ({owner['bundle']}, {owner['bundle_digest'][:16]})"
            raise AuscultError(what, printable(self.place), "give another --out: scores of two bundles do not compare")
        self.put("_run.json", json.dumps({"bundle": bundle, "bundle_digest": digest, "run": run}).encode())
        return run

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
        """What is there; parts that are not whole (after a power cut, say) are removed.

        Raises:
            AuscultError: the store does not give them, or a recording stands in two parts.
        """
        with self._refusals("read"):
            try:
                names = [entry.rpartition("/")[2] for entry in self.store.ls(self.root, detail=False)]
            except FileNotFoundError:
                names = []
            for name in names:
                if name.startswith(".part-") and name.endswith(".part"):
                    self.store.rm_file(f"{self.root}/{name}")
            names = sorted(name for name in names if name.startswith("part-"))
            with ThreadPoolExecutor(_READERS) as pool:
                found = dict(zip(names, pool.map(self.part, names), strict=True))
            torn = [name for name in names if found[name] is None]
            for name in torn:
                self.store.rm_file(f"{self.root}/{name}")
        whole = {name: part for name, part in found.items() if part is not None}
        keys = np.sort(np.frombuffer(b"".join(part.pop("keys") for part in whole.values()), "S16"))
        twice = int((keys[1:] == keys[:-1]).sum())
        if twice:
            what = f"{twice} recordings stand in two parts"
            raise AuscultError(what, printable(self.place), "remove the younger of the parts, or begin another --out")
        return Known(keys, whole, torn)

    def part(self, name: str) -> dict[str, Any] | None:
        """Rows, bytes, verdicts and keys (16 bytes each, joined) of a part; None = it is not whole."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        path = f"{self.root}/{name}"
        try:
            with self._refusals("read"), self.store.open(path, "rb") as file:
                parquet = pq.ParquetFile(file)
                facts = json.loads(parquet.schema_arrow.metadata[b"auscult"])
                keys = parquet.read(["key"])["key"].to_pylist()
                size = file.seek(0, io.SEEK_END)
        except (pa.ArrowInvalid, KeyError, TypeError):
            return None
        return {"rows": len(keys), "bytes": size, "verdicts": facts["verdicts"], "keys": b"".join(keys)}

    def write_manifest(self, facts: Row, parts: Mapping[str, Row]) -> None:
        listed = [{"part": name, **parts[name]} for name in sorted(parts)]
        self.put("_manifest.json", json.dumps({**facts, "parts": listed}, indent=1).encode())


def part_name(clips: Sequence[Clip], digest: str) -> str:
    """Of the part that holds these recordings, scored by the bundle of this digest."""
    total = hashlib.blake2b(digest.encode(), digest_size=10)
    for clip in clips:
        total.update(clip.key)
    return f"part-{total.hexdigest()}.parquet"


def part_bytes(rows: Sequence[Row], facts: Row) -> bytes:
    """A part: a row per recording. Equal rows make equal bytes. `facts` and the verdicts' counts stand in its footer."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    text, number, count = pa.string(), pa.float64(), pa.int64()
    schema = pa.schema(
        {
            "file": text, "seconds": number, "score": number, "p_value": number, "anomalous": pa.bool_(), "start": number,
            "end": number, "windows": count, "above": count, "warning": text, "verdict": text, "expected": number,
            "higher": count, "threshold": number, "size": count, "state": text, "key": pa.binary(16),
        },
        metadata={"auscult": json.dumps({**facts, "verdicts": verdicts(rows)}, sort_keys=True)},
    )  # fmt: skip
    out = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(list(rows), schema), out, compression="zstd")
    return out.getvalue()


def verdicts(rows: Sequence[Row]) -> dict[str, int]:
    return dict(sorted(Counter(row["verdict"] for row in rows).items()))


# ------------------------------------------------------------------------------------------------------------------- the bundle
def put_bundle(output: Output, folder: Path, names: Sequence[str]) -> str:
    """Put a bundle's files below the output, bundle.yaml last; gives the folder's name there.

    Raises:
        AuscultError: the store does not take them.
    """
    inside = f"_bundle/{digest_of((folder / 'bundle.yaml').read_text(encoding='utf-8'))[:16]}"
    if output.get(f"{inside}/bundle.yaml") is None:
        for name in (*names, "bundle.yaml"):
            output.put(f"{inside}/{name}", (folder / name).read_bytes())
    return inside


def get_bundle(output: Output, inside: str, names: Sequence[str], folder: Path) -> None:
    """Copy the bundle's files from there into a folder of this machine."""
    for name in (*names, "bundle.yaml"):
        content = output.get(f"{inside}/{name}")
        if content is not None:  # what is missing is missed when it is loaded
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).write_bytes(content)


def _protocols(store: Any) -> tuple[str, ...]:
    return (store.protocol,) if isinstance(store.protocol, str) else tuple(store.protocol)
