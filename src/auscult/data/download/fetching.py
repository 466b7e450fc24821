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
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock
from typing import Any

import requests
from tqdm import tqdm

from auscult.data.download.web import AGAIN, Patience, Trouble, Unreachable, answer, patiently, refuse
from auscult.errors import AuscultError, listed
from auscult.files import DiskFull, atomic_file, full_disk_reported

BLOCK = 2**18


@dataclass(frozen=True)
class Wanted:
    """One file to fetch. An empty `md5` and `bytes` 0 mean: not known."""

    url: str
    path: Path
    md5: str = ""
    bytes: int = 0


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
    with tqdm(total=total, desc="download", unit="B", unit_scale=True) as bar, ThreadPoolExecutor(parallel) as pool:
        work = _Work(patience, bar)
        try:
            for task in as_completed([pool.submit(_fetch, file, work) for file in files]):
                try:
                    task.result()
                except (DiskFull, Unreachable):
                    raise
                except AuscultError as error:
                    failed.append(error)
        except BaseException:
            patience.stop.set()
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    if len(failed) == 1:
        raise failed[0]
    if failed:
        reasons = sorted(f"{error.where}: {error.what}" for error in failed)
        fix = "; ".join(dict.fromkeys(error.fix for error in failed))
        raise AuscultError(f"{len(failed)} files cannot be had:{listed(reasons)}", fix=fix)


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
        if file.bytes and total and total != file.bytes:
            what = f"the server's file has {total} bytes, not {file.bytes}"
            raise AuscultError(
                what, file.url, "compare with the data set's page; a proxy may have put its own page there"
            )
        if response.status_code == 200:
            _drop(part, work)  # the server does not continue files, or has a new one
        # What has arrived stays: unlike a file that is computed, it need not be made again.
        with full_disk_reported(file.path):
            if not part.exists():
                with atomic_file(_note(part)) as out:
                    out.write_text(json.dumps({"etag": response.headers.get("ETag", ""), "bytes": total}))
            with open(part, "ab") as stream:
                for block in _blocks(response):
                    stream.write(block)
                    work.advance(len(block))
    if total and _size(part) != total:
        raise Trouble(f"cut after {_size(part)} of {total} bytes")


def _blocks(response: requests.Response) -> Iterator[bytes]:
    try:
        yield from response.iter_content(BLOCK)
    except requests.RequestException as error:
        raise Trouble(f"cut in the middle ({type(error).__name__})") from None


def _total(response: requests.Response) -> int:
    """Bytes of the whole file, 0 = not told."""
    if response.status_code == 200:
        length = response.headers.get("Content-Length", "")
        return int(length) if length.isdigit() and "Content-Encoding" not in response.headers else 0
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
