"""Fetching a data set from a server on this machine: what arrives, and what every fault leaves for the second run."""

from __future__ import annotations

import errno
import hashlib
import io
import os
import shutil
import signal
import socket
import stat
import subprocess
import threading
import time
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from auscult.data.download import fetch, fetching, recordings, unzip
from auscult.data.download.fetching import Wanted, fetch_files
from auscult.data.download.web import Patience, Unreachable, fetch_json
from auscult.data.download.zenodo import ZenodoSource, put_in_place
from auscult.data.inventory import root_of
from auscult.data.manifest import build_manifest
from auscult.errors import AuscultError
from auscult.files import DiskFull
from auscult.settings.params import load_profile
from auscult.settings.section import validated
from support.packed import tiny_profile
from support.projects import ROOT, hear_ctrl_c, make_project, run_here, run_stage, stage_command, stage_environment
from support.site import Handler, Site, cut, serving, status, whole
from support.trees import write_tree_2020

NAMES = {1: "dev_data_{}.zip", 2: "eval_data_train_{}.zip", 3: "eval_data_test_{}.zip"}
SETS = {1: "dev", 2: "eval", 3: "eval"}
MACHINES = ("fan", "pump")
FAN = "/records/1/files/dev_data_fan.zip"


def zipped(folder: Path, parts: Sequence[str], top: str = "") -> bytes:
    """`parts` of `folder` (train, test), each below `top`."""
    blob = io.BytesIO()
    with zipfile.ZipFile(blob, "w", zipfile.ZIP_DEFLATED) as out:
        for part in parts:
            for path in sorted((folder / part).rglob("*")):
                out.write(path, f"{top}{path.relative_to(folder)}")
    return blob.getvalue()


def strange(*names: str, mode: int = 0o644) -> bytes:
    """An archive with files of these names."""
    blob = io.BytesIO()
    with zipfile.ZipFile(blob, "w") as out:
        for name in names:
            info = zipfile.ZipInfo(name)
            info.external_attr = mode << 16
            out.writestr(info, b"/etc/passwd")
    return blob.getvalue()


@pytest.fixture(scope="module")
def archives(tmp_path_factory: pytest.TempPathFactory) -> dict[int, dict[str, bytes]]:
    """Record -> name -> archive. Some hold <machine>/train, some train alone, as the real ones do."""
    trees = tmp_path_factory.mktemp("trees")
    for number, name in enumerate(("dev", "eval")):
        write_tree_2020(trees / name, {m: [f"0{number}"] for m in MACHINES}, 2, 1, 1, seconds=0.05, seed=number)
    (trees / "eval" / "fan" / "train" / "notes.txt").write_text("no recording")
    parts = {1: ("train", "test"), 2: ("train",), 3: ("test",)}
    tops = {1: "{}/", 2: "", 3: "{}/{}/"}
    return {
        record: {
            NAMES[record].format(m): zipped(trees / SETS[record] / m, parts[record], tops[record].format(m, m))
            for m in MACHINES
        }
        for record in NAMES
    }


@pytest.fixture
def site(archives: dict[int, dict[str, bytes]], monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(fetching, "BLOCK", 100)  # what a cut may lose: these archives are small
    with serving() as site:
        for record, files in archives.items():
            site.record(record, files)
        yield site


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    return tmp_path


def source(site: Site, **changes: Any) -> dict[str, Any]:
    parts = [
        {"set": SETS[record], "record": record, "files": {m: {"name": name.format(m)} for m in MACHINES}}
        for record, name in NAMES.items()
    ]
    return {"kind": "zenodo", "base": site.base, "parts": parts, **changes}


class Get:
    """`put_in_place` of the profile `tiny` in `project`, without waiting; `pauses` are those it would have made."""

    def __init__(self, site: Site, project: Path) -> None:
        self.site, self.project, self.pauses = site, project, [0.0] * 0
        self.raw = project / "data" / "tiny" / "raw"
        self.cache = project / ".cache" / "downloads"
        self.tree = project / "data" / "tiny" / "recordings"

    def __call__(self, machines: Sequence[str] = (), part: Sequence[str] = (), **changes: Any) -> list[str]:
        """Recordings below the root, or with `part` all that was unpacked."""
        profile = tiny_profile(sets=changes.pop("sets", {"dev": "dev", "eval": "eval"}), machines=list(machines))
        checked = validated(ZenodoSource, source(self.site, **changes), "source")
        put_in_place(profile, checked, self.raw, 2, part, Patience(tries=3, sleep=self.pauses.append, timeout=(5, 5)))
        return self.there(self.tree if part else root_of(self.raw))

    def fails(self, **changes: Any) -> AuscultError:
        with pytest.raises(AuscultError) as caught:
            self(**changes)
        assert not self.raw.exists()  # nothing a later stage takes for whole
        return caught.value

    @staticmethod
    def there(folder: Path) -> list[str]:
        return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.wav"))

    def pins(self) -> dict[str, Any]:
        content: dict[str, Any] = yaml.safe_load((self.project / "checksums" / "tiny.yaml").read_text())
        return content


@pytest.fixture
def get(site: Site, project: Path) -> Get:
    return Get(site, project)


def expected(machines: Sequence[str] = MACHINES, sets: Sequence[str] = ("dev", "eval")) -> list[str]:
    clips = ("test/anomaly_id_{}_00000000", "test/normal_id_{}_00000000", "train/normal_id_{}_00000000",
             "train/normal_id_{}_00000001")  # fmt: skip
    unit = {"dev": "00", "eval": "01"}
    return sorted(f"{s}/{m}/{clip.format(unit[s])}.wav" for s in sets for m in machines for clip in clips)


ALL = expected()


# --------------------------------------------------------------------------------------------------------- without faults
def test_a_whole_data_set(get: Get, archives: dict[int, dict[str, bytes]]) -> None:
    assert get() == ALL
    assert root_of(get.raw) == get.tree
    assert [path.name for path in get.raw.iterdir()] == ["source.json"]
    assert (get.tree / "eval" / "fan" / "train" / "notes.txt").is_file()
    kept = {path.relative_to(get.cache).as_posix() for path in get.cache.rglob("*.zip")}
    assert kept == {f"{record}/{name}" for record, files in archives.items() for name in files}
    assert not list(get.project.rglob("*.part*"))
    clips, labels = build_manifest(tiny_profile(sets={"dev": "dev", "eval": "eval"}), root_of(get.raw), 1)
    assert len(clips) == len(ALL)
    assert len(labels) == 8


def test_every_byte_is_that_of_the_archive(get: Get, archives: dict[int, dict[str, bytes]]) -> None:
    get()
    with zipfile.ZipFile(io.BytesIO(archives[3]["eval_data_test_pump.zip"])) as zipped:
        for name in zipped.namelist():
            assert (get.tree / "eval" / name.removeprefix("pump/")).read_bytes() == zipped.read(name)


def test_a_second_run_asks_for_nothing(get: Get, site: Site) -> None:
    get()
    site.requests.clear()
    shutil.rmtree(get.raw)  # as DVC does before it runs the stage
    stamps = {path: path.stat().st_mtime_ns for path in get.tree.rglob("*.wav")}
    assert get() == ALL
    assert site.requests == []
    assert {path: path.stat().st_mtime_ns for path in get.tree.rglob("*.wav")} == stamps


def test_archives_may_be_deleted_once_they_are_unpacked(get: Get, site: Site) -> None:
    get()
    shutil.rmtree(get.cache)
    site.files.clear()
    assert get() == ALL


def test_a_recording_that_is_gone_is_unpacked_again(get: Get, site: Site) -> None:
    get()
    site.files.clear()
    (get.tree / ALL[0]).unlink()
    (get.tree / ALL[-1]).write_bytes(b"cut")
    assert get() == ALL
    assert (get.tree / ALL[-1]).stat().st_size > 100


def test_machines_and_sets_limit_what_is_fetched(get: Get, site: Site) -> None:
    assert get(machines=["fan"], sets={"dev": "dev"}) == expected(["fan"], ["dev"])
    assert {path for path, _ in site.requests} == {"/api/records/1", FAN}
    assert get(machines=["fan", "pump"]) == ALL


def test_a_part_ahead_of_time_leaves_the_output_alone(get: Get, site: Site) -> None:
    assert get(part=["pump"]) == expected(["pump"])
    assert not get.raw.exists()
    site.requests.clear()
    assert get() == ALL
    assert not [path for path, _ in site.requests if "pump" in path]


def test_a_machine_that_is_not_in_the_data_set(get: Get) -> None:
    assert "no machine type `fann` (did you mean `fan`?)" in str(get.fails(machines=["fann"]))


def test_a_reissued_archive_replaces_what_the_first_one_left(get: Get, site: Site, tmp_path: Path) -> None:
    get()
    tree = write_tree_2020(tmp_path / "new", {"fan": ["04"]}, 1, 1, 1, seconds=0.05, seed=5)
    site.record(1, {"dev_data_fan_r2.zip": zipped(tree / "fan", ("train", "test"))})
    parts = source(site)["parts"]
    parts[0]["files"]["fan"] = {"name": "dev_data_fan_r2.zip"}
    fans = [path for path in get(parts=parts) if path.startswith("dev/fan/")]
    assert len(fans) == 3
    assert all("id_04" in path for path in fans)


def test_labels_are_fetched_to_where_the_manifest_looks(get: Get, site: Site) -> None:
    site.files["/lists/list.csv"] = b"fan\nid_01_00000000.wav,normal_id_01_00000000.wav\n"
    labels = {"base": f"{site.base}/lists", "files": [{"url": "list.csv"}]}
    get(labels=labels)
    for folder in (get.tree, get.raw):  # the second copy is what DVC watches
        assert (folder / "labels" / "list.csv").read_bytes() == site.files["/lists/list.csv"]
    md5 = hashlib.md5(site.files["/lists/list.csv"]).hexdigest()
    assert get.pins()[f"{site.base}/lists/list.csv"]["md5"] == md5
    site.requests.clear()
    get(labels=labels)
    assert site.requests == []
    site.files["/lists/list.csv"] += b"changed"
    shutil.rmtree(get.tree / "labels")
    with pytest.raises(AuscultError, match="bytes, not"):
        get(labels=labels)
    get()  # a profile without them
    assert not list((get.tree / "labels").rglob("*.csv"))


def test_several_files_arrive_at_once(get: Get, site: Site) -> None:
    """Two archives each wait until the other has been asked for."""
    meeting = threading.Barrier(2, timeout=10)
    names = [FAN, FAN.replace("fan", "pump")]

    def together(handler: Any, content: bytes) -> None:
        meeting.wait()
        whole(handler, content)

    site.answers = {name: [together] for name in names}
    assert get(parallel=2) == ALL


# ----------------------------------------------------------------------------------------------- archives or tree at hand
def test_a_folder_of_archives(get: Get, site: Site, archives: dict[int, dict[str, bytes]]) -> None:
    mine = get.project / "mine"
    (mine / "3").mkdir(parents=True)
    (mine / "dev_data_fan.zip").write_bytes(archives[1]["dev_data_fan.zip"])
    (mine / "3" / "eval_data_test_fan.zip").write_bytes(archives[3]["eval_data_test_fan.zip"])
    before = {path: path.stat().st_mtime_ns for path in mine.rglob("*")}
    assert get(archives="mine") == ALL
    assert not [path for path, _ in site.requests if path.endswith(("dev_data_fan.zip", "eval_data_test_fan.zip"))]
    assert {path: path.stat().st_mtime_ns for path in mine.rglob("*")} == before
    assert not (get.cache / "1" / "dev_data_fan.zip").exists()


def test_archives_at_hand_need_no_network(get: Get, archives: dict[int, dict[str, bytes]]) -> None:
    mine = get.project / "mine"
    mine.mkdir()
    for files in archives.values():
        for name, content in files.items():
            (mine / name).write_bytes(content)
    assert get(archives="mine", base="http://127.0.0.1:9") == ALL
    assert get.pins()["1/dev_data_fan.zip"]["bytes"] == len(archives[1]["dev_data_fan.zip"])


def test_a_wrong_archive_at_hand_is_left_as_it_is(get: Get, archives: dict[int, dict[str, bytes]]) -> None:
    mine = get.project / "mine"
    mine.mkdir()
    (mine / "dev_data_fan.zip").write_bytes(archives[1]["dev_data_fan.zip"][:-9])
    error = get.fails(archives="mine")
    assert "not the right one" in error.what
    assert error.where == str(mine / "dev_data_fan.zip")
    assert (mine / "dev_data_fan.zip").is_file()
    assert "folder of archives is not there" in get.fails(archives="nowhere").what


def test_an_unpacked_tree_is_used_where_it_lies(get: Get, site: Site) -> None:
    mine = get.project / "mine"
    for folder in ("dev_data/raw", "eval_data/raw"):
        write_tree_2020(mine / folder, {"fan": ["00"]}, 1, 1, 1, seconds=0.05)
    sets = {"dev": "dev_data/raw", "eval": "eval_data/raw"}
    error = get.fails(unpacked="mine", sets=sets)
    assert "2 folder(s) of recordings are not there" in error.what
    assert "dev_data/raw/pump" in error.what
    before = sorted(mine.rglob("*"))
    assert len(get(machines=["fan"], unpacked="mine", sets=sets)) == 6
    assert root_of(get.raw) == mine
    assert site.requests == []
    assert sorted(mine.rglob("*")) == before
    assert not get.tree.exists()


def test_labels_in_an_unpacked_tree_are_never_overwritten(get: Get, site: Site) -> None:
    mine = write_tree_2020(get.project / "mine" / "dev", {"fan": ["00"]}, 1, 1, 1, seconds=0.05).parent
    site.files["/list.csv"] = b"theirs"
    labels = {"base": site.base, "files": [{"url": "list.csv", "md5": hashlib.md5(b"theirs").hexdigest()}]}
    (mine / "labels").mkdir()
    (mine / "labels" / "list.csv").write_bytes(b"mine")
    choice: dict[str, Any] = {"machines": ["fan"], "unpacked": "mine", "sets": {"dev": "dev"}, "labels": labels}
    assert "left as it is" in get.fails(**choice).fix
    assert (mine / "labels" / "list.csv").read_bytes() == b"mine"
    (mine / "labels" / "list.csv").unlink()
    get(**choice)
    assert (mine / "labels" / "list.csv").read_bytes() == b"theirs"


# ------------------------------------------------------------------------------------------------------ a bad connection
def test_a_cut_connection_is_continued(get: Get, site: Site) -> None:
    """More cuts than tries: each brings new bytes, so none counts."""
    site.answers[FAN] = [cut(800)] * 5
    assert get() == ALL
    asked = site.asked("dev_data_fan.zip")
    assert [headers.get("Range") for headers in asked] == [None, *(f"bytes={n * 800}-" for n in range(1, 6))]
    assert all("If-Range" in headers for headers in asked[1:])
    assert get.pauses == [1.0] * 5


def test_a_cut_run_is_continued_by_the_next(get: Get, site: Site) -> None:
    site.answers[FAN] = [cut(1000), *[cut(0)] * 3]
    error = get.fails()
    assert "3 tries in a row failed: cut" in error.what
    assert error.where == site.base + FAN
    assert "continues where this one stopped" in error.fix
    assert (get.cache / "1" / "dev_data_fan.zip.part").stat().st_size == 1000
    site.requests.clear()
    assert get() == ALL
    assert [headers["Range"] for headers in site.asked("dev_data_fan.zip")] == ["bytes=1000-"]
    assert not site.asked("dev_data_pump.zip")


def test_a_server_that_ignores_range(get: Get, site: Site) -> None:
    site.answers[FAN] = [cut(1000), whole]
    assert get() == ALL
    assert site.asked("dev_data_fan.zip")[1]["Range"] == "bytes=1000-"


def test_a_file_that_changed_between_two_tries_is_begun_anew(get: Get, site: Site) -> None:
    """One server compares the tag (If-Range), the other continues blindly: its own tag tells."""
    right = site.files[FAN]

    def other(handler: Any, content: bytes) -> None:
        handler.reply(200, b"x" * 1000, len(right), ETag='"another"')

    def blind(handler: Any, content: bytes) -> None:
        place = f"bytes 1000-{len(content) - 1}/{len(content)}"
        handler.reply(206, content[1000:], ETag='"new"', Content_Range=place)

    for answers in ([other], [other, blind]):
        site.answers[FAN] = list(answers)
        assert get() == ALL
        shutil.rmtree(get.cache)
        shutil.rmtree(get.tree)


def test_a_part_of_another_file_is_begun_anew_once(get: Get, site: Site) -> None:
    """Nothing tells that the part is not of this file, but the checksum."""
    part = get.cache / "1" / "dev_data_fan.zip.part"
    part.parent.mkdir(parents=True)
    part.write_bytes(b"x" * 1000)
    assert get() == ALL
    assert [headers.get("Range") for headers in site.asked("dev_data_fan.zip")] == ["bytes=1000-", None]


@pytest.mark.parametrize("excess", [0, 5])
def test_a_part_with_every_byte(get: Get, site: Site, excess: int) -> None:
    """Killed before it got its name: nothing is left to ask for. With too many bytes it is begun anew."""
    part = get.cache / "1" / "dev_data_fan.zip.part"
    part.parent.mkdir(parents=True)
    part.write_bytes(site.files[FAN] + b"x" * excess)
    assert get() == ALL
    assert len(site.asked("dev_data_fan.zip")) == (2 if excess else 0)


def test_a_busy_server_is_asked_when_it_says(get: Get, site: Site) -> None:
    later = time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime(time.time() + 300))
    site.answers[FAN] = [status(429, Retry_After="7"), status(503, Retry_After=later)]
    assert get() == ALL
    assert get.pauses[0] == 7.0
    assert 200 < get.pauses[1] <= 300


def test_a_broken_server_is_asked_again_after_growing_pauses(get: Get, site: Site) -> None:
    site.answers[FAN] = [status(500), status(502)]
    site.answers["/api/records/2"] = [status(504)]
    assert get() == ALL
    assert get.pauses == [1.0, 1.0, 2.0]


def test_a_file_that_is_not_there(get: Get, site: Site) -> None:
    """The others still arrive, and are not fetched again."""
    del site.files[FAN]
    error = get.fails()
    assert "404" in error.what
    assert error.where == site.base + FAN
    assert "mend `source`" in error.fix
    assert len(list(get.cache.rglob("*.zip"))) == 5
    assert get.pauses == []


def test_every_file_that_cannot_be_had_is_named(get: Get, site: Site) -> None:
    for path in (FAN, FAN.replace("fan", "pump")):
        del site.files[path]
    error = get.fails()
    assert "2 files cannot be had" in error.what
    assert "dev_data_fan.zip" in error.what
    assert "dev_data_pump.zip" in error.what


def test_a_record_without_the_file(get: Get, site: Site, archives: dict[int, dict[str, bytes]]) -> None:
    site.record(1, {"dev_data_fan_r2.zip": b"", "dev_data_pump.zip": archives[1]["dev_data_pump.zip"]})
    error = get.fails()
    assert "no file `dev_data_fan.zip` (did you mean `dev_data_fan_r2.zip`?)" in error.what


def test_no_network(get: Get) -> None:
    error = get.fails(base="http://127.0.0.1:9")
    assert "3 tries in a row failed: no connection" in error.what
    assert "check the network" in error.fix
    assert get.pauses == [1.0, 2.0]
    assert get() == ALL


@pytest.mark.parametrize("kind", ["refuses", "no name", "silent"])
def test_a_server_that_is_not_to_be_reached_is_given_up_soon(kind: str, tmp_path: Path) -> None:
    """However many files are wanted from it; it is not asked again in this run."""
    with socket.socket() as closed, socket.socket() as full:
        closed.bind(("127.0.0.1", 0))
        full.bind(("127.0.0.1", 0))
        full.listen(0)  # and takes no more than one or two
        waiting = [socket.socket() for _ in range(4)]
        for each in waiting:
            each.setblocking(False)
            each.connect_ex(full.getsockname())
        ports = {"refuses": closed.getsockname()[1], "silent": full.getsockname()[1]}
        base = f"http://127.0.0.1:{ports[kind]}" if kind in ports else "http://no.such.name.invalid"
        patience, begin = Patience(reach=2.0), time.monotonic()
        with pytest.raises(Unreachable, match="the server is not to be reached: no") as caught:
            fetch_files([Wanted(f"{base}/{i}", tmp_path / str(i)) for i in range(6)], 2, patience)
        assert time.monotonic() - begin < 4
        assert "check the network" in caught.value.fix
        patience.stop.clear()
        begin = time.monotonic()
        with pytest.raises(Unreachable):
            fetch_json(f"{base}/record", patience)
        assert time.monotonic() - begin < 1
        for each in waiting:
            each.close()


def test_a_slow_server_is_no_unreachable_one(get: Get, site: Site) -> None:
    def slow(handler: Handler, content: bytes) -> None:
        time.sleep(1.0)
        handler.reply(200, content)

    site.answers[FAN] = [slow]
    fetch_files([Wanted(site.base + FAN, get.cache / "fan.zip")], 1, Patience(reach=0.3, tries=1))
    assert (get.cache / "fan.zip").read_bytes() == site.files[FAN]


def test_an_address_that_is_none(get: Get) -> None:
    assert "no web address" in get.fails(base="zenodo.org").what


# ------------------------------------------------------------------------------------------------------------- checksums
def test_checksums_are_asked_once_and_pinned(get: Get, site: Site, archives: dict[int, dict[str, bytes]]) -> None:
    get()
    content = archives[2]["eval_data_train_fan.zip"]
    pin = {"md5": hashlib.md5(content).hexdigest(), "bytes": len(content)}
    assert get.pins()["2/eval_data_train_fan.zip"] == pin
    assert len(get.pins()) == 6
    assert len([path for path, _ in site.requests if path.startswith("/api/")]) == 3
    shutil.rmtree(get.project / "data")
    site.requests.clear()
    get()
    assert site.requests == []


def test_a_file_that_no_longer_matches_its_pin(get: Get, site: Site, archives: dict[int, dict[str, bytes]]) -> None:
    """The record, too, says that the new one is right."""
    get()
    for folder in (get.project / "data", get.cache):
        shutil.rmtree(folder)
    site.record(1, {**archives[1], "dev_data_fan.zip": archives[1]["dev_data_pump.zip"]})
    error = get.fails()
    assert "not" in error.what
    assert error.where == site.base + FAN
    assert not list((get.cache / "1").glob("dev_data_fan*"))
    (get.project / "checksums" / "tiny.yaml").unlink()
    get()  # accepted on purpose


def test_a_profile_and_a_record_that_contradict_each_other(get: Get, site: Site) -> None:
    parts = source(site)["parts"]
    parts[0]["files"]["fan"]["md5"] = "0" * 32
    error = get.fails(parts=parts)
    assert "two checksums for one file" in error.what
    assert error.where == "1/dev_data_fan.zip"
    assert not site.asked("dev_data_fan.zip")


def test_a_mirror_without_web_interface_needs_checksums(
    get: Get, site: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    parts = source(site)["parts"]
    for part in parts:
        for file in part["files"].values():
            file["md5"] = hashlib.md5(site.files[f"/records/{part['record']}/files/{file['name']}"]).hexdigest()
        del site.files[f"/api/records/{part['record']}"]
    assert "404" in get.fails().what
    assert get(parts=parts) == ALL
    assert "does not answer" in capsys.readouterr().out


def test_a_wrong_checksum(get: Get, site: Site) -> None:
    site.files[FAN] = site.files[FAN][:-1] + b"x"
    error = get.fails()
    assert "the checksum is wrong: md5" in error.what
    assert "the bad file was deleted" in error.fix
    assert not list((get.cache / "1").glob("dev_data_fan*"))


def test_another_size(get: Get, site: Site) -> None:
    """A page of a proxy in place of the archive: refused before it is read."""
    site.files[FAN] = b"<html>please log in</html>"
    assert "the server's file has 26 bytes, not" in get.fails().what


def test_a_damaged_archive_in_the_cache_is_fetched_again(get: Get, site: Site) -> None:
    get()
    shutil.rmtree(get.project / "data")
    path = get.cache / "1" / "dev_data_fan.zip"
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    site.requests.clear()
    assert get() == ALL
    assert len(site.requests) == 1


@pytest.mark.parametrize("text", ["[1", "a: b", "- 3"])
def test_pins_that_cannot_be_read(get: Get, text: str) -> None:
    (get.project / "checksums").mkdir()
    (get.project / "checksums" / "tiny.yaml").write_text(text)
    assert "not readable" in get.fails().what


# -------------------------------------------------------------------------------------------------------------- unpacking
def test_a_cut_archive_with_the_right_checksum(get: Get, site: Site, archives: dict[int, dict[str, bytes]]) -> None:
    site.record(1, {**archives[1], "dev_data_fan.zip": archives[1]["dev_data_fan.zip"][:-200]})
    error = get.fails()
    assert "the archive is damaged" in error.what
    assert error.where.endswith("dev_data_fan.zip")
    assert not list(get.tree.rglob("*.part"))


def test_a_damaged_recording_in_an_archive(get: Get, site: Site, archives: dict[int, dict[str, bytes]]) -> None:
    """The CRC finds what a right checksum of the archive hides; the archives before it stay unpacked."""
    blob = bytearray(archives[1]["dev_data_pump.zip"])
    blob[len(blob) // 3] ^= 255
    site.record(1, {**archives[1], "dev_data_pump.zip": bytes(blob)})
    error = get.fails()
    assert "the archive is damaged" in error.what
    assert not list(get.tree.rglob("*.part"))
    assert not (get.tree / "dev" / "pump").exists()
    site.record(1, archives[1])
    (get.project / "checksums" / "tiny.yaml").unlink()
    assert get() == ALL


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (strange("fan/train/a.wav", "fan/../../../escaped.wav"), "leads out"),
        (strange("/tmp/escaped.wav"), "leads out"),
        (strange("..\\escaped.wav"), "leads out"),
        (strange("C:\\escaped.wav"), "leads out"),
        (strange("fan/train/a.wav", mode=stat.S_IFLNK | 0o777), "a link"),
        (strange("fan/train/a.wav", "train/a.wav"), "a file twice"),
    ],
)
def test_archives_that_reach_out_of_their_folder(get: Get, site: Site, content: bytes, message: str) -> None:
    files = {"dev_data_fan.zip": content, "dev_data_pump.zip": site.files[FAN.replace("fan", "pump")]}
    site.record(1, files)
    error = get.fails()
    assert message in error.what
    assert "dev_data_fan.zip" in error.where
    assert not list(get.project.rglob("escaped*"))
    assert not list(get.tree.rglob("a.wav"))
    assert not Path("/tmp/escaped.wav").exists()


def test_what_is_no_part_of_a_data_set_stays_in_the_archive(tmp_path: Path) -> None:
    archive = tmp_path / "a.zip"
    archive.write_bytes(strange("raw/fan/train/a.wav", "__MACOSX/fan/train/._a.wav", "fan/.DS_Store", "fan/", "readme"))
    unzip.unpack(archive, "fan", tmp_path / "out")
    files = {path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("*") if path.is_file()}
    assert files == {"fan/train/a.wav", "fan/readme"}


# ---------------------------------------------------------------------------------------------------------- interruptions
class Killed(BaseException):
    """What no handler catches."""


@pytest.mark.parametrize("at", [1, 3, 4])
def test_killed_while_files_are_moved(get: Get, monkeypatch: pytest.MonkeyPatch, at: int) -> None:
    """After one recording of the first archive, between two, and in the second: what is not whole is unpacked again."""
    replace, count = os.replace, [0]

    def dying(old: Path, new: Path) -> None:
        if str(new).endswith(".wav"):
            count[0] += 1
            if count[0] > at:
                raise Killed
        replace(old, new)

    with monkeypatch.context() as patch:
        patch.setattr(recordings.os, "replace", dying)
        with pytest.raises(Killed):
            get(machines=["fan"])
    assert not get.raw.exists()
    assert get(machines=["fan"]) == expected(["fan"])
    assert not [path for path in get.tree.rglob("*") if path.is_dir() and ".zip" in path.name]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_the_stage_killed_in_the_middle_of_a_download(site: Site, tmp_path: Path, number: signal.Signals) -> None:
    changes = {"source": source(site, parallel=1), "sets": {"dev": "dev", "eval": "eval"}}
    project = make_project(tmp_path / "project", changes)
    waiting = threading.Event()

    def stalled(handler: Any, content: bytes) -> None:
        handler.reply(200, content[:1000], len(content))
        handler.wfile.flush()
        waiting.wait(20)

    site.answers[FAN.replace("fan", "pump")] = [stalled]
    command = stage_command("download")
    process = subprocess.Popen(
        command, cwd=project, env=stage_environment(), stderr=subprocess.PIPE, text=True, preexec_fn=hear_ctrl_c
    )
    part = project / ".cache" / "downloads" / "1" / "dev_data_pump.zip.part"
    deadline = time.monotonic() + 60
    while not part.exists() and time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.01)
    time.sleep(0.05)
    process.send_signal(number)
    if number == signal.SIGINT:
        waiting.set()  # the thread that reads notices at its next block
    _, stderr = process.communicate(timeout=60)
    waiting.set()
    assert process.returncode == (130 if number == signal.SIGINT else -number), stderr
    assert not (project / "data" / "tiny" / "raw").exists()
    assert (project / ".cache" / "downloads" / "1" / "dev_data_fan.zip").is_file()
    site.requests.clear()
    run_here(project, "download")
    assert Get.there(project / "data" / "tiny" / "recordings") == ALL
    assert not site.asked("dev_data_fan.zip")


def test_a_second_run_waits_for_the_first(get: Get, site: Site) -> None:
    """Both want everything; each archive is fetched once."""
    errors: list[BaseException] = []

    def other() -> None:
        try:
            Get(site, get.project)()
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=other)
    thread.start()
    get()
    thread.join(30)
    assert errors == []
    assert len(site.asked("dev_data_fan.zip")) == 1


# -------------------------------------------------------------------------------------------------------------- full disk
def test_not_enough_room_is_told_before_anything_is_fetched(
    get: Get, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: shutil._ntuple_diskusage(10**6, 10**6, 1000))
    error = get.fails()
    assert "not enough room" in error.what
    assert not [path for path, _ in site.requests if path.endswith(".zip")]


def test_a_disk_that_fills_while_downloading(get: Get, monkeypatch: pytest.MonkeyPatch) -> None:
    original = open

    def full(path: Any, mode: str = "r", **options: Any) -> Any:
        stream = original(path, mode, **options)
        if mode == "ab":
            stream.close()
            raise OSError(errno.ENOSPC, "No space left on device")
        return stream

    with monkeypatch.context() as patch:
        patch.setattr(fetching, "open", full, raising=False)
        error = get.fails()
    assert isinstance(error, DiskFull)
    assert error.where.endswith(".zip")
    assert get() == ALL


@pytest.mark.parametrize("what", ["downloading", "unpacking"])
def test_a_disk_that_is_really_full(get: Get, site: Site, monkeypatch: pytest.MonkeyPatch, what: str) -> None:
    disk = get.project / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", disk], capture_output=True).returncode:
        pytest.skip("mounting a small disk needs root")
    try:
        place = get.project / (".cache" if what == "downloading" else "data")
        place.symlink_to(disk)
        with monkeypatch.context() as patch:
            patch.setattr("auscult.data.download.zenodo._check_room", lambda *arguments: None)
            patch.setattr(recordings, "require_room", lambda *arguments: None)
            filler = disk / "filler"
            filler.write_bytes(b"x" * 56000)
            error = get.fails()
            assert isinstance(error, DiskFull)
            assert not list(get.tree.rglob("*.part"))
            subprocess.run(["mount", "-o", "remount,size=4m", disk], check=True)
        assert get() == ALL
    finally:
        subprocess.run(["umount", disk], check=True)


# ------------------------------------------------------------------------------------------------------ stage and profiles
def test_the_stage_from_download_to_manifest(site: Site, tmp_path: Path) -> None:
    changes = {"source": source(site), "sets": {"dev": "dev", "eval": "eval"}}
    project = make_project(tmp_path / "project", changes)
    run_stage(project, "download", "--machines", "fan")
    assert not (project / "data" / "tiny" / "raw").exists()
    run_here(project, "download")
    run_here(project, "manifest")
    assert (project / "checksums" / "tiny.yaml").is_file()


def test_only_downloads_can_be_done_in_part(tmp_path: Path) -> None:
    with pytest.raises(AuscultError, match="nothing is downloaded for a source of kind `local`"):
        fetch(tiny_profile(), tmp_path / "raw", machines=["fan"])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"parts": []}, "source.parts: "),
        ({"parrallel": 3}, "source.parrallel: unknown key (did you mean `parallel`?)"),
        ({"labels": {"files": [{"url": "x.csv", "to": "../x.csv"}]}}, "place below labels/"),
        ({"labels": {"files": [{"url": "../x.csv"}]}}, "place below labels/"),
        ({"parts": [{"set": "dev", "record": 1, "files": {"fan": {"name": "../fan.zip"}}}]}, "fan.name: "),
        ({"parts": [{"set": "dev", "record": 1, "files": {"..": {"name": "fan.zip"}}}]}, "source.parts.0.files"),
        ({"parts": [{"set": "dev", "record": 1, "files": {"fan": {"name": "fan.zip", "md5": "12"}}}]}, "fan.md5: "),
    ],
)
def test_bad_settings(get: Get, changes: dict[str, Any], message: str) -> None:
    assert message in str(get.fails(**changes))


PROFILES = sorted(path.stem for path in (ROOT / "profiles").glob("dcase20??.yaml"))
# Machine types of the development and the evaluation set, records, and archives, per year.
SHAPES = {
    "dcase2020": (6, 6, 18), "dcase2021": (7, 7, 21), "dcase2022": (7, 7, 21), "dcase2023": (7, 7, 21),
    "dcase2024": (7, 9, 25), "dcase2025": (7, 8, 23), "dcase2026": (7, 5, 17),
}  # fmt: skip


def test_every_year_has_a_profile() -> None:
    assert list(SHAPES) == PROFILES


@pytest.mark.parametrize("name", PROFILES)
def test_the_profiles_of_the_published_data_sets(name: str) -> None:
    profile = load_profile(name, ROOT / "profiles")
    checked = validated(ZenodoSource, profile.source, "source")
    machines = [(part.set, set(part.files)) for part in checked.parts]
    assert [part for part, _ in machines] == ["dev", "eval", "eval"]
    assert machines[1][1] == machines[2][1]  # additional training and test clips of the same types
    archives = [file.name for part in checked.parts for file in part.files.values()]
    assert (len(machines[0][1]), len(machines[1][1]), len(archives)) == SHAPES[name]
    assert set(profile.machines) == machines[0][1] | machines[1][1]
    assert len({part.record for part in checked.parts}) == 3
    for part in checked.parts:
        for machine, file in part.files.items():
            assert machine in file.name.removesuffix(".zip").split("_")
    assert bool(checked.labels.files) == (profile.eval_labels == "labels")
