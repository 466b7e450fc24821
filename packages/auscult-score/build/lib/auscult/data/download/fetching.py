"""Files over HTTP: several at once, continued where they were cut, checked by size and MD5.

A file arrives as `<name>.part`, beside it `<name>.part.json` with the version (ETag, size) it belongs to; only a complete
and verified one gets its name. So whatever ends a run, the next one continues it.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Lock, Thread
from typing import Any

import requests
import urllib3
from tqdm import tqdm

from auscult.data.download.web import AGAIN, Patience, Trouble, Unreachable, answer, patiently, refuse
from auscult.errors import AuscultError, listed
from auscult.files import DiskFull, atomic_file, full_disk_reported

BLOCK = 2**18
LONGEST_GOODBYE = 1.0
"""Seconds that all connections together get to end when the run does."""


@dataclass(frozen=True)
class Wanted:
    """One file to fetch. An empty `md5` and `bytes` 0 mean: not known."""

    url: str
    path: Path
    md5: str = ""
    bytes: int = 0
    most: int = 2**35
    """Bytes that are taken where nobody states a size."""


@dataclass
class _Work:
    """What the threads of one call share."""

    patience: Patience
    bar: tqdm[Any]
    lock: Lock = field(default_factory=Lock)

    def advance(self, count: int) -> None:
        self.patience.check()
        with self.lock:
            self.bar.update(count)


def fetch_files(files: Sequence[Wanted], parallel: int, patience: Patience) -> None:
    """Fetch every file that is not there yet, complete and right.

    A file that cannot be had does not keep the others from arriving; a full disk or no network ends the run at once.

    Raises:
        AuscultError: every file that cannot be had (no such file, wrong checksum) with its reason.
        Unreachable: no connection, `patience.tries` times in a row.
        DiskFull: there is no room.
    """
    if not files:
        return
    failed: list[AuscultError] = []
    total = sum(file.bytes for file in files) if all(file.bytes for file in files) else None
    with tqdm(total=total, desc="download", unit="B", unit_scale=True) as bar:
        for outcome in _outcomes(files, parallel, _Work(patience, bar)):
            if outcome is not None:
                if isinstance(outcome, DiskFull | Unreachable) or not isinstance(outcome, AuscultError):
                    raise outcome
                failed.append(outcome)
    if len(failed) == 1:
        raise failed[0]
    if failed:
        reasons = sorted(f"{error.where}: {error.what}" for error in failed)
        fix = "; ".join(dict.fromkeys(error.fix for error in failed))
        raise AuscultError(f"{len(failed)} files cannot be had:{listed(reasons)}", fix=fix)


def _outcomes(files: Sequence[Wanted], parallel: int, work: _Work) -> Iterator[BaseException | None]:
    """What became of each file, in the order in which they end; None = it is there.

    In threads that nobody waits for: one that hears nothing from its server notices Ctrl-C after a minute, and what it leaves
    is continued by the next run.
    """
    left, ended = SimpleQueue[Wanted](), SimpleQueue[BaseException | None]()
    for file in files:
        left.put(file)

    def fetch_what_is_left() -> None:
        while not work.patience.stop.is_set():
            try:
                file = left.get_nowait()
            except Empty:
                return
            try:
                _fetch(file, work)
                ended.put(None)
            except BaseException as error:
                ended.put(error)

    threads = [Thread(target=fetch_what_is_left, daemon=True) for _ in range(min(parallel, len(files)))]
    for thread in threads:
        thread.start()
    done = False
    try:
        for _ in files:
            yield ended.get()
        done = True
    finally:
        if not done:
            work.patience.stop.set()
            for thread in threads:
                thread.join(LONGEST_GOODBYE / len(threads))


def fault_of(path: Path, md5: str = "", size: int = 0) -> str:
    """What is wrong with a complete file; "" = nothing."""
    if size and _size(path) != size:
        return f"it has {_size(path)} bytes, not {size}"
    if md5 and (found := md5_of(path)) != md5:
        return f"the checksum is wrong: md5 {found}, not {md5}"
    return ""


def md5_of(path: Path) -> str:
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "md5").hexdigest()


def part_of(path: Path) -> Path:
    """Where what has arrived of `path` lies until it is complete."""
    return path.with_name(f"{path.name}.part")


# ------------------------------------------------------------------------------------------------------------ one file
def _fetch(file: Wanted, work: _Work) -> None:
    if file.path.is_file():
        if not fault_of(file.path, file.md5, file.bytes):
            work.advance(_size(file.path))
            return
        tqdm.write(f"{file.path} is not what it was: deleted and fetched again")
        file.path.unlink()
    file.path.parent.mkdir(parents=True, exist_ok=True)
    part = part_of(file.path)
    resumed = _size(part) > 0
    work.advance(_size(part))
    while True:
        if not file.bytes or _size(part) != file.bytes:
            patiently(lambda: _transfer(file, part, work), file.url, work.patience, lambda: _size(part))
        fault = fault_of(part, file.md5, file.bytes)
        if not fault:
            break
        _drop(part, work)
        if not resumed:
            fix = f"the bad file was deleted; {AGAIN}; if it stays so, compare the checksum with the data set's page"
            raise AuscultError(fault, file.url, fix)
        resumed = False  # its first half may be another version's: once more, from the start
    os.replace(part, file.path)
    _note(part).unlink(missing_ok=True)


def _transfer(file: Wanted, part: Path, work: _Work) -> None:
    """Ask for what is missing of `part` and append it; whole when it returns."""
    start, facts = _size(part), _facts(part)
    headers = {"Accept-Encoding": "identity"}
    if start:
        headers["Range"] = f"bytes={start}-"
        if str(facts.get("etag", "")).startswith('"'):  # only a strong tag promises equal bytes
            headers["If-Range"] = facts["etag"]
    with answer(file.url, headers, work.patience) as response:
        total = _total(response)
        if response.status_code == 416 and total == start:
            return  # nothing is missing
        changed = response.status_code == 206 and not _continues(response, start, facts)
        if response.status_code == 416 or changed:
            _drop(part, work)
            raise Trouble("the file there is another one now")
        refuse(response, file.url)
        if coding := response.headers.get("Content-Encoding", "").strip().lower().removeprefix("identity"):
            what = f"the server packs the file once more ({coding}), which was not asked for"
            raise AuscultError(what, file.url, "use the data set's own server: a proxy or mirror may do this")
        if file.bytes and total and total != file.bytes:
            what = f"the server's file has {total} bytes, not {file.bytes}"
            raise AuscultError(
                what, file.url, "compare with the data set's page; a proxy may have put its own page there"
            )
        if response.status_code == 200:
            _drop(part, work)  # the server does not continue files, or has a new one
            start = 0
        # What has arrived stays: unlike a file that is computed, it need not be made again.
        with full_disk_reported(file.path):
            if not part.exists():
                with atomic_file(_note(part)) as out:
                    out.write_text(json.dumps({"etag": response.headers.get("ETag", ""), "bytes": total}))
            most = file.bytes or total or file.most
            with open(part, "ab") as stream:
                for block in _blocks(response):
                    work.advance(len(block))
                    start += len(block)
                    if start > most:
                        raise AuscultError(f"the server sends more than the {most} bytes stated", file.url, AGAIN)
                    stream.write(block)
    if total and _size(part) != total:
        raise Trouble(f"cut after {_size(part)} of {total} bytes")


def _blocks(response: requests.Response) -> Iterator[bytes]:
    """The body as it comes, however little at a time: what has arrived before a cut is kept."""
    try:
        while block := response.raw.read1(BLOCK, decode_content=False):
            yield block
    except (urllib3.exceptions.HTTPError, OSError) as error:
        raise Trouble(f"cut in the middle ({type(error).__name__})") from None


def _total(response: requests.Response) -> int:
    """Bytes of the whole file, 0 = not told."""
    if response.status_code == 200:
        length = response.headers.get("Content-Length", "")
        return int(length) if length.isdigit() else 0
    match = re.fullmatch(r"bytes (?:\d+-\d+|\*)/(\d+)", response.headers.get("Content-Range", ""))
    return int(match[1]) if match else 0


def _continues(response: requests.Response, start: int, facts: dict[str, Any]) -> bool:
    """Whether a partial answer begins where we stopped, in the version we had."""
    same_place = response.headers.get("Content-Range", "").startswith(f"bytes {start}-")
    etag, size = facts.get("etag", ""), facts.get("bytes", 0)
    same_tag = not etag or response.headers.get("ETag", etag) == etag
    return same_place and same_tag and (not size or _total(response) == size)


def _note(part: Path) -> Path:
    return part.with_name(f"{part.name}.json")


def _facts(part: Path) -> dict[str, Any]:
    try:
        facts = json.loads(_note(part).read_text())
    except (OSError, ValueError):
        return {}
    return facts if isinstance(facts, dict) else {}


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0


def _drop(part: Path, work: _Work) -> None:
    work.advance(-_size(part))
    part.unlink(missing_ok=True)
    _note(part).unlink(missing_ok=True)
