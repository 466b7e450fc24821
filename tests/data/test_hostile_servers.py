"""Servers and archives that mean harm, or are broken: each ends in one message, soon, and fills neither disk nor memory."""

from __future__ import annotations

import gzip
import hashlib
import io
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from auscult.data.download import unzip, web
from auscult.data.download.fetching import Wanted, fetch_files, part_of
from auscult.data.download.recordings import Archive, Recordings
from auscult.data.download.web import Patience, fetch_json
from auscult.errors import AuscultError
from support.projects import hear_ctrl_c, stage_environment
from support.site import Answer, Handler, Site, cut, serving

FILE = bytes(range(256)) * 400
URL = "/file.zip"


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with serving() as site:
        site.files[URL] = FILE
        yield site


def impatient(**more: int) -> Patience:
    return Patience(tries=more.get("tries", 2), sleep=lambda seconds: None, timeout=(5, 5))


def fetched(site: Site, folder: Path, answer: Answer | None = None, size: int = len(FILE), most: int = 2**35) -> Path:
    if answer is not None:
        site.default = answer
    path = folder / "file.zip"
    fetch_files([Wanted(site.base + URL, path, hashlib.md5(FILE).hexdigest(), size, most)], 2, impatient())
    return path


def endless(handler: Handler, content: bytes) -> None:
    """A body without an end, and without a stated length."""
    handler.send_response(200)
    handler.end_headers()
    try:
        while True:
            handler.wfile.write(bytes(2**16))
    except OSError:
        pass


def packed(handler: Handler, content: bytes) -> None:
    handler.reply(200, gzip.compress(bytes(10**7)), Content_Encoding="gzip")


@pytest.mark.parametrize(("size", "most"), [(len(FILE), 2**35), (0, len(FILE))])
def test_a_body_without_an_end_is_left_at_the_stated_size(site: Site, tmp_path: Path, size: int, most: int) -> None:
    with pytest.raises(AuscultError, match=f"the server sends more than the {len(FILE)} bytes stated"):
        fetched(site, tmp_path, endless, size, most)
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) <= len(FILE) + 200


def test_a_packed_body_is_not_unpacked(site: Site, tmp_path: Path) -> None:
    with pytest.raises(AuscultError, match=r"packs the file once more \(gzip\)"):
        fetched(site, tmp_path, packed)
    assert not part_of(tmp_path / "file.zip").exists()


def test_a_few_bytes_per_connection_are_progress(site: Site, tmp_path: Path) -> None:
    """Nothing that has arrived is lost, however little it is."""
    site.default = cut(5000)
    assert fetched(site, tmp_path).read_bytes() == FILE
    assert len(site.requests) == -(-len(FILE) // 5000)


@pytest.mark.parametrize(
    "place", ["http://[::1/x", "http://a..b/", "http://\x7f\x80/", "gopher://x/", "http:///", "//[v"]
)
def test_a_redirect_that_cannot_be_read(site: Site, tmp_path: Path, place: str) -> None:
    def answer(handler: Handler, content: bytes) -> None:
        handler.reply(302, b"", Location=place)

    with pytest.raises(AuscultError) as caught:
        fetched(site, tmp_path, answer)
    assert caught.value.where == site.base + URL
    assert caught.value.fix


@pytest.mark.parametrize("body", [b"[" * 200_000, b'{"files": ' * 50_000, b"\xff\xfe{", b"", b"<html>"])
def test_a_list_of_files_that_is_none(site: Site, body: bytes) -> None:
    site.files["/api"] = body
    with pytest.raises(AuscultError, match="no JSON in the answer"):
        fetch_json(f"{site.base}/api", impatient())


def test_a_list_of_files_without_an_end(site: Site) -> None:
    site.files["/api"] = b""
    for answer in (endless, packed):
        site.default = answer
        with pytest.raises(AuscultError, match=f"packed, or larger than {web.LARGEST_ANSWER} bytes"):
            fetch_json(f"{site.base}/api", impatient())


PROGRAM = """
import sys
from pathlib import Path
from auscult.data.download.fetching import Wanted, fetch_files
from auscult.data.download.web import Patience
from auscult.errors import run
url, folder = sys.argv[1:]
files = [Wanted(f"{url}?{i}", Path(folder) / f"{i}.zip", bytes=10**6) for i in range(6)]
run(lambda: fetch_files(files, 4, Patience()))
"""


@pytest.mark.parametrize("pause", [60.0, 0.3])
def test_ctrl_c_while_a_server_stalls_or_trickles(site: Site, tmp_path: Path, pause: float) -> None:
    def slow(handler: Handler, content: bytes) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", str(10**6))
        handler.end_headers()
        try:
            for _ in range(100):
                handler.wfile.write(b"x")
                time.sleep(pause)
        except OSError:
            pass

    site.default = slow
    for number in range(6):
        site.files[f"{URL}?{number}"] = FILE
    command = [sys.executable, "-c", PROGRAM, site.base + URL, str(tmp_path)]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, env=stage_environment(), preexec_fn=hear_ctrl_c)
    while len(list(tmp_path.glob("*.part"))) < 4:
        time.sleep(0.05)
    time.sleep(0.3)
    process.send_signal(signal.SIGINT)
    begun = time.monotonic()
    _, said = process.communicate(timeout=20)
    assert time.monotonic() - begun < 2
    assert process.returncode == 130, said.decode()
    assert b"Traceback" not in said


def bomb(path: Path, megabytes: int) -> Path:
    with (
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as out,
        out.open("train/a.wav", "w", force_zip64=True) as file,
    ):
        for _ in range(megabytes):
            file.write(bytes(2**20))
    return path


def test_an_archive_that_unpacks_to_far_more_than_it_is(tmp_path: Path) -> None:
    path = bomb(tmp_path / "bomb.zip", 100)
    with pytest.raises(AuscultError, match=f"of {path.stat().st_size} bytes unpacks to {100 * 2**20}"):
        Recordings(tmp_path / "tree").unpack([(Archive("dev", "fan", "1-bomb.zip"), path)], 1)
    assert not (tmp_path / "tree").exists()


def test_an_archive_that_the_disk_has_no_room_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blob = io.BytesIO(bomb(tmp_path / "a.zip", 30).read_bytes())
    (tmp_path / "a.zip").write_bytes(blob.getvalue())
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: shutil._ntuple_diskusage(10**8, 10**8, 10**7))  # type: ignore[attr-defined]
    with pytest.raises(AuscultError, match=r"the recordings take 0\.0 GB, and 0\.0 GB are free"):
        Recordings(tmp_path / "tree").unpack([(Archive("dev", "fan", "1-a.zip"), tmp_path / "a.zip")], 1)
    assert unzip.unpacked_bytes(tmp_path / "a.zip") == 30 * 2**20
