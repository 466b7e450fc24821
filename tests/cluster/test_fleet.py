"""An archive scored by a cluster: every recording once and as without one, whatever ends on the way."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import numpy as np
import pandas as pd
import pytest

pytest.importorskip("distributed", reason="Dask is not installed (pip install 'auscult[cluster]')")

import dask
import fsspec
import psutil
from distributed import LocalCluster
from fsspec.implementations.memory import MemoryFileSystem

from auscult.cli import main
from auscult.cluster import bundles, fleet
from auscult.cluster.archive import Clip, find, store_of
from auscult.cluster.connect import Tasks, connected
from auscult.cluster.output import Known, Output, Owner
from auscult.cluster.program import program
from auscult.detector import bundle
from auscult.detector.bundle import Bundle
from auscult.detector.score import score_file
from auscult.detector.stream import below
from auscult.errors import AuscultError
from support.deadly import ends_at_13
from support.trees import noise, write

CLIPS = 23


@pytest.fixture(scope="module")
def fitted(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    folder = tmp_path_factory.mktemp("normal")
    rng = np.random.default_rng(0)
    for number in range(12):
        write(folder / f"{number:02d}.wav", noise(rng, 0.3, 300.0))
    return bundle.fit(folder, tmp_path_factory.mktemp("out") / "pump")


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Recordings in two days, one of them unreadable; a hidden one and a text that are none."""
    folder = tmp_path_factory.mktemp("archive")
    rng = np.random.default_rng(1)
    for number in range(CLIPS - 1):
        write(folder / f"day{number % 2}" / f"{number:02d}.wav", noise(rng, 0.3, 900.0 if number % 5 == 0 else 300.0))
    (folder / "day0" / "broken.wav").write_bytes(b"RIFF no sound")
    (folder / "day0" / ".hidden.wav").write_bytes(b"")
    (folder / "day0" / "notes.txt").write_text("")
    return folder


@pytest.fixture(scope="module")
def here() -> Iterator[str]:
    """The address of two workers in this process."""
    with LocalCluster(n_workers=2, threads_per_worker=1, processes=False, dashboard_address=None) as cluster:
        yield cluster.scheduler_address


def rows(out: Path) -> pd.DataFrame:
    return pd.read_parquet(out).sort_values("file", ignore_index=True)


def parts(out: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in out.glob("part-*")}


@pytest.fixture(scope="module")
def scored(fitted: Bundle, archive: Path, here: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("scored") / "out"
    outcome = fleet.score_archive(fitted.folder, [str(archive)], here, str(out), 4)
    assert (outcome.scored, outcome.before, outcome.failed) == (CLIPS, 0, [])
    return out


@pytest.fixture
def copy(scored: Path, tmp_path: Path) -> Path:
    shutil.copytree(scored, tmp_path / "copy")
    return tmp_path / "copy"


# ----------------------------------------------------------------------------------------------------------------- results
def test_every_recording_once_and_as_without_a_cluster(scored: Path, fitted: Bundle, archive: Path) -> None:
    table = rows(scored)
    assert list(table["file"]) == sorted(str(path) for path in archive.rglob("*.wav") if path.name != ".hidden.wav")
    assert len(parts(scored)) == 6, "four recordings each, and what is left"
    for row in table.itertuples():
        if row.file.endswith("broken.wav"):
            assert (row.verdict, np.isnan(row.score)) == ("unreadable", True)
            continue
        alone = score_file(fitted, row.file)
        assert (row.score, row.p_value, row.verdict) == (alone.score, alone.p_value, alone.verdict)
    manifest = json.loads((scored / "_manifest.json").read_text())
    assert {part["part"]: part["bytes"] for part in manifest["parts"]} == {k: len(v) for k, v in parts(scored).items()}
    assert manifest["rows"] == CLIPS
    assert manifest["verdicts"] == dict(table["verdict"].value_counts())


def test_a_worker_killed_on_the_way_loses_nothing(scored: Path, fitted: Bundle, archive: Path, tmp_path: Path) -> None:
    """A process on this machine, by the command's own cluster; it is killed while it has a part, and another one started."""
    killed: list[int] = []

    def kill(outcome: fleet.Outcome, workers: int) -> None:
        if outcome.scored and not killed:
            workers_here = [
                child.pid for child in psutil.Process().children(True) if "spawn_main" in " ".join(child.cmdline())
            ]
            assert len(workers_here) == 1
            killed.append(workers_here[0])
            os.kill(workers_here[0], signal.SIGKILL)

    outcome = fleet.score_archive(fitted.folder, [str(archive)], "local:1", str(tmp_path / "out"), 4, kill)
    assert killed
    assert outcome.scored == CLIPS
    assert parts(tmp_path / "out") == parts(scored), "the same bytes as by other workers"


def test_a_task_of_which_workers_die_is_found_and_the_others_are_done() -> None:
    """They die with tasks beside it, and with results that nobody has fetched."""
    alone: list[list[int]] = []

    def halves(numbers: list[int]) -> list[list[int]]:
        if len(numbers) == 1:
            alone.append(numbers)
            return []
        return [numbers[: len(numbers) // 2], numbers[len(numbers) // 2 :]]

    settings = {"distributed.scheduler.allowed-failures": 1}  # the default of 3 takes four more seconds
    with dask.config.set(settings), connected("local:2") as client:
        tasks = Tasks(client, ends_at_13, halves)
        done = [number for numbers in tasks.results([[n, n + 1] for n in range(0, 40, 2)]) for number in numbers]
    assert alone == [[13]]
    assert sorted(done) == [number for number in range(40) if number != 13]


def test_results_that_are_lost_with_the_scheduler_are_not_waited_for() -> None:
    """By a client as it is while it closes: its tasks neither end nor are done again."""

    class Closing:
        status, cluster, loop = "running", None, None

        def nthreads(self) -> dict[str, int]:
            return {"a": 1}

        def submit(self, *task: object, **options: object) -> Any:
            self.status = "closing"
            future = Mock(status="lost")
            future.add_done_callback = lambda call: call(future)
            return future

    with pytest.raises(AuscultError, match="connection to the scheduler is lost"):
        list(Tasks(Closing(), ends_at_13).results([[1]]))


# ----------------------------------------------------------------------------------------------------------------- restart
def test_a_restart_scores_what_is_missing_and_no_more(copy: Path, fitted: Bundle, archive: Path, here: str) -> None:
    before = parts(copy)
    half, gone = sorted(before)[:2]
    (copy / half).write_bytes(before[half][:-100])  # a power cut
    (copy / gone).unlink()
    (copy / f".{gone}.0badcafe.part").write_bytes(before[gone][:50])  # a worker that was killed while it wrote
    (copy / "_manifest.json").unlink()
    outcome = fleet.score_archive(fitted.folder, [str(archive)], here, str(copy), 4)
    assert outcome.notes == [f"{half} was not whole and is made again"]
    assert outcome.scored + outcome.before == CLIPS
    assert rows(copy)["key"].is_unique
    assert len(rows(copy)) == CLIPS
    assert not list(copy.glob(".part-*"))
    assert outcome.verdicts == dict(rows(copy)["verdict"].value_counts())

    again = fleet.score_archive(fitted.folder, [str(archive)], here, str(copy), 4)
    assert (again.scored, again.before) == (0, CLIPS)


def test_a_recording_that_changes_is_scored_again_and_others_not(
    copy: Path, fitted: Bundle, archive: Path, tmp_path: Path, here: str
) -> None:
    moved = tmp_path / "archive"
    shutil.copytree(archive, moved)
    out = str(tmp_path / "out")
    fleet.score_archive(fitted.folder, [str(moved)], here, out, 10)
    write(moved / "day1" / "01.wav", noise(np.random.default_rng(9), 0.3, 2000.0))
    write(moved / "day1" / "new.wav", noise(np.random.default_rng(8), 0.3, 300.0))
    # Overlapping sources: each recording once.
    outcome = fleet.score_archive(fitted.folder, [str(moved), str(moved / "day1" / "*.wav")], here, out, 10)
    assert (outcome.scored, outcome.before) == (2, CLIPS)
    found = rows(Path(out))
    assert list(found[found["file"].str.endswith("day1/01.wav")]["verdict"]) != ["normal", "normal"]
    assert len(found) == CLIPS + 2


def test_another_bundle_is_refused(copy: Path, archive: Path, here: str, tmp_path: Path) -> None:
    for number in range(12):
        write(tmp_path / "n" / f"{number}.wav", noise(np.random.default_rng(number + 50), 0.3, 500.0))
    other = bundle.fit(tmp_path / "n", tmp_path / "other")
    with pytest.raises(AuscultError, match=r"scores of another bundle \(pump"):
        fleet.score_archive(other.folder, [str(archive)], here, str(copy))


def test_scores_of_two_thresholds_or_programs_do_not_mix(
    copy: Path, fitted: Bundle, archive: Path, here: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(fitted.folder, tmp_path / "other")
    assert main(["threshold", str(tmp_path / "other"), "--rate", "0.3"]) == 0
    before = parts(copy)
    with pytest.raises(AuscultError, match=r"verdicts by another threshold \([\d.]+, and now [\d.]+\)"):
        fleet.score_archive(tmp_path / "other", [str(archive)], here, str(copy))
    monkeypatch.setattr(fleet, "program", lambda: {**program(), "torch": "9.9"})
    with pytest.raises(AuscultError, match=r"another program: torch [\d.]+\S* \(here: 9\.9\)"):
        fleet.score_archive(fitted.folder, [str(archive)], here, str(copy))
    assert parts(copy) == before


def test_a_folder_that_holds_something_else_is_refused_and_left_alone(
    fitted: Bundle, archive: Path, here: str, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    pd.DataFrame({"a": [1]}).to_parquet(out / "part-00000-0badcafe.parquet")
    (out / ".part-0.part").write_bytes(b"theirs")
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    with pytest.raises(AuscultError, match=r"other files than scores \(part-00000-0badcafe\.parquet"):
        fleet.score_archive(fitted.folder, [str(archive)], here, str(out))
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before
    with pytest.raises(AuscultError, match=r"other files than scores \(day0, day1"):
        fleet.score_archive(fitted.folder, [str(archive)], here, str(archive))


@pytest.mark.parametrize(("name", "refused"), [("part-0.parquet", False), ("part-0123456789abcdef0123.parquet", True)])
def test_files_of_others_among_the_parts_stay(name: str, refused: bool, copy: Path) -> None:
    pd.DataFrame({"a": [1]}).to_parquet(copy / name)
    content = (copy / name).read_bytes()
    output = Output(str(copy))
    if refused:
        with pytest.raises(AuscultError, match="not written by auscult"):
            output.known()
    else:
        assert len(output.known().keys) == CLIPS
    assert (copy / name).read_bytes() == content


@pytest.mark.parametrize("where", [0.0, 0.1, 0.5, 0.999])
def test_a_part_of_which_bytes_are_lost_is_not_whole(where: float, copy: Path) -> None:
    name, content = next(iter(parts(copy).items()))
    at = int(where * len(content))
    (copy / name).write_bytes(content[:at] + bytes(len(content[at : at + 8])) + content[at + 8 :])
    assert Output(str(copy)).known().torn == [name]
    assert not (copy / name).exists()


def test_recordings_in_two_parts_are_told_with_the_parts(copy: Path) -> None:
    name = min(parts(copy))
    other = "part-0123456789abcdef0123.parquet"
    shutil.copy(copy / name, copy / other)
    with pytest.raises(AuscultError) as error:
        Output(str(copy)).known()
    assert error.value.what == f"4 recordings stand in two of the parts {', '.join(sorted([name, other]))}"


def test_a_run_that_another_has_taken_over_writes_nothing_more(
    fitted: Bundle, archive: Path, here: str, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    taken = False

    def take_over(outcome: fleet.Outcome, workers: int) -> None:
        nonlocal taken
        if outcome.scored and not taken:
            taken = True
            Output(str(out)).begin(Owner("pump", fitted.digest, fitted.threshold, fleet.program()))

    with pytest.raises(AuscultError, match="another run has taken this output over"):
        fleet.score_archive(fitted.folder, [str(archive)], here, str(out), 1, take_over)
    assert taken
    left = len(parts(out))
    assert left < CLIPS
    fleet.score_archive(fitted.folder, [str(archive)], here, str(out), 5)
    assert len(rows(out)) == CLIPS
    assert rows(out)["key"].is_unique


def test_known_recordings_are_those_that_a_set_would_know() -> None:
    rng = np.random.default_rng(0)
    clips = [Clip(f"{number}.wav", int(rng.integers(100)), "") for number in range(500)]
    inside = [clip for clip in clips if rng.random() < 0.5]
    known = Known(np.sort(np.array([clip.key for clip in inside], "S16")))
    assert list(known.holds(clips)) == [clip in set(inside) for clip in clips]
    assert not Known(np.empty(0, "S16")).holds(clips).any()


# ------------------------------------------------------------------------------------------------------------------- refusals
@pytest.mark.parametrize("listening", [False, True], ids=["nobody there", "somebody else there"])
def test_a_scheduler_that_does_not_answer(listening: bool, fitted: Bundle, archive: Path, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"tcp://127.0.0.1:{server.getsockname()[1]}"
        if not listening:
            server.close()
        with pytest.raises(AuscultError, match=r"no Dask scheduler answers within 0\.5 s") as error:
            fleet.score_archive(fitted.folder, [str(archive)], address, str(tmp_path / "out"), timeout=0.5)
    assert address in error.value.where
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("address", ["local:0", "nonsense://x", "tcp://"])
def test_what_is_no_address(address: str) -> None:
    with pytest.raises(AuscultError), connected(address, 0.5):
        pass


def test_a_worker_of_another_version_is_refused_by_name(
    fitted: Bundle, archive: Path, here: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine = {**fleet.program(), "auscult": "9.9", "code": "0123456789abcdef"}
    monkeypatch.setattr(fleet, "program", lambda: mine)
    with pytest.raises(AuscultError, match=r"another program: auscult [\d.]+ \(wanted: 9\.9\), code ") as error:
        fleet.score_archive(fitted.folder, [str(archive)], here, str(tmp_path / "out"))
    assert "worker " in error.value.where
    assert not parts(tmp_path / "out")


def test_a_worker_with_another_bundle_is_refused_by_name(
    fitted: Bundle, archive: Path, here: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a worker does that sees another folder by the name of the output."""
    for number in range(12):
        write(tmp_path / "n" / f"{number}.wav", noise(np.random.default_rng(number + 80), 0.3, 500.0))
    other = bundle.fit(tmp_path / "n", tmp_path / "other")
    put = fleet.put_bundle
    monkeypatch.setattr(fleet, "put_bundle", lambda output, folder, names: put(output, other.folder, names))
    with pytest.raises(AuscultError, match=r"another bundle \(other, [0-9a-f]{16}\) than the run's") as error:
        fleet.score_archive(fitted.folder, [str(archive)], here, str(tmp_path / "out"))
    assert "worker " in error.value.where


def test_a_bundle_that_changes_while_it_is_sent(fitted: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After it was checked, and before it is read."""
    shutil.copytree(fitted.folder, tmp_path / "bundle")
    real = bundles.check_files

    def check(folder: Path, manifest: Any) -> None:
        real(folder, manifest)
        (tmp_path / "bundle" / "reference.npy").write_bytes(b"another")

    monkeypatch.setattr(bundles, "check_files", check)
    with pytest.raises(AuscultError, match="changed while it was read"), bundles.checked_copy(tmp_path / "bundle"):
        pass
    with pytest.raises(AuscultError, match=r"reference\.npy was changed") as error, bundles.checked_copy(tmp_path / "bundle"):
        pass
    assert error.value.where == str(tmp_path / "bundle")


class Refusing(MemoryFileSystem):
    """The files of memory://, which nobody may write through this, and whose `secret` ones nobody may read."""

    protocol = "refusing"

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return str(super()._strip_protocol(path.replace("refusing://", "memory://")))

    def _open(self, path: str, mode: str = "rb", **options: Any) -> Any:
        if mode != "rb":
            raise PermissionError(13, "AccessDenied")
        return super()._open(path, mode, **options)

    def get_file(self, path: str, target: str, **options: Any) -> None:
        if "secret" in path:
            raise PermissionError(13, "AccessDenied")
        super().get_file(path, target, **options)

    def ls(self, path: str, detail: bool = True, **options: Any) -> Any:
        if path.endswith("/closed"):
            raise PermissionError(13, "AccessDenied")
        if path.endswith("/nobody"):
            raise NoCredentialsError("Unable to locate credentials")
        return super().ls(path, detail, **options)


NoCredentialsError = type("NoCredentialsError", (Exception,), {"__module__": "botocore.exceptions"})
fsspec.register_implementation("refusing", Refusing)


def test_a_store_that_refuses_to_be_written(fitted: Bundle, archive: Path, here: str) -> None:
    with pytest.raises(AuscultError, match=r"cannot be written to \(AccessDenied\)") as error:
        fleet.score_archive(fitted.folder, [str(archive)], here, "refusing://out")
    assert error.value.where == "refusing://out"


def test_a_recording_that_the_store_refuses_is_tried_again_next_time(
    fitted: Bundle, archive: Path, here: str, tmp_path: Path
) -> None:
    store = fsspec.filesystem("memory")
    for name in ("a.wav", "secret.wav"):
        store.pipe_file(f"/in/{name}", (archive / "day0" / "00.wav").read_bytes())
    out = str(tmp_path / "out")
    for before in (0, 1):
        outcome = fleet.score_archive(fitted.folder, ["refusing://in"], here, out)
        assert (outcome.before, outcome.scored) == (before, 1 - before)
        assert outcome.failed == [("refusing://in/secret.wav", "AccessDenied")]


@pytest.mark.parametrize(
    ("place", "when"), [("here", "before it is read"), ("here", "while it is scored"), ("in a store", "before it is read")]
)
def test_a_recording_that_is_replaced_after_it_was_listed(
    place: str, when: str, fitted: Bundle, here: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By another one of equal length: it gets no row, and the next run judges what is there then."""
    folder = str(tmp_path / "in") if place == "here" else "memory://replaced"
    store, path = store_of(folder)
    for number in range(2):
        write(tmp_path / "first" / f"{number}.wav", noise(np.random.default_rng(number), 0.3, 300.0))
    write(tmp_path / "other.wav", noise(np.random.default_rng(7), 0.3, 900.0))
    for source in (tmp_path / "first").iterdir():
        store.makedirs(path, exist_ok=True)
        store.pipe_file(f"{path}/{source.name}", source.read_bytes())
    real_find, real_score = fleet.find, score_file

    def replaced(sources: list[str]) -> Iterator[Clip]:
        clips = list(real_find(sources))
        store.pipe_file(f"{path}/1.wav", (tmp_path / "other.wav").read_bytes())
        return iter(clips)

    def scored_slowly(bundle: Bundle, file: Path) -> Any:
        found = real_score(bundle, file)
        if file.name == "1.wav":
            store.pipe_file(f"{path}/1.wav", (tmp_path / "other.wav").read_bytes())
        return found

    if when == "before it is read":
        monkeypatch.setattr(fleet, "find", replaced)
    else:
        monkeypatch.setattr("auscult.detector.score.score_file", scored_slowly)
    out = tmp_path / "out"
    outcome = fleet.score_archive(fitted.folder, [folder], here, str(out))
    assert [(Path(file).name, why) for file, why in outcome.failed] == [("1.wav", "it has changed since it was listed")]
    assert outcome.scored == 1
    monkeypatch.undo()
    assert fleet.score_archive(fitted.folder, [folder], here, str(out)).scored == 1
    assert list(rows(out)["score"])[1] == score_file(fitted, tmp_path / "other.wav").score


def test_a_bug_in_one_recording_keeps_no_other(
    fitted: Bundle, archive: Path, here: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def score(bundle: Bundle, file: Path) -> Any:
        if file.name == "03.wav":
            raise ZeroDivisionError("by zero")
        return score_file(bundle, file)

    monkeypatch.setattr("auscult.detector.score.score_file", score)
    outcome = fleet.score_archive(fitted.folder, [str(archive)], here, str(tmp_path / "out"))
    assert outcome.scored == CLIPS - 1
    assert outcome.failed == [(str(archive / "day1" / "03.wav"), "a bug: ZeroDivisionError: by zero")]


def test_a_part_that_appears_beside_a_run_is_told(
    fitted: Bundle, archive: Path, here: str, tmp_path: Path, scored: Path
) -> None:
    """From a worker that had looked whose the output is just before this run began."""
    out = tmp_path / "out"

    def late(outcome: fleet.Outcome, workers: int) -> None:
        if outcome.scored and not (out / "part-0123456789abcdef0123.parquet").exists():
            shutil.copy(scored / min(parts(scored)), out / "part-0123456789abcdef0123.parquet")

    with pytest.raises(AuscultError, match=r"1 file among the parts came from neither .*: part-0123456789abcdef0123\.parquet"):
        fleet.score_archive(fitted.folder, [str(archive)], here, str(out), 10, late)
    with pytest.raises(AuscultError, match="4 recordings stand in two of the parts"):
        fleet.score_archive(fitted.folder, [str(archive)], here, str(out), 10)


def test_every_recording_that_fails_is_counted_and_the_first_are_named() -> None:
    outcome = fleet.Outcome()
    for count in (15, 10, 50):
        fleet._note_failures(outcome, [(f"{count}-{number}", "gone") for number in range(min(count, 20))], count)
    assert (len(outcome.failed), outcome.more_failed) == (20, 55)
    assert outcome.failed[-1] == ("10-4", "gone")


def test_from_a_store_to_a_store(fitted: Bundle, archive: Path, here: str, scored: Path) -> None:
    store = fsspec.filesystem("memory")
    for path in (archive / "day1").glob("*.wav"):
        store.pipe_file(f"/fleet/in/day1/{path.name}", path.read_bytes())
    outcome = fleet.score_archive(fitted.folder, ["memory://fleet/in"], here, "memory://fleet/out", 4)
    table = pd.concat([pd.read_parquet(f"memory://{name}") for name in store.glob("/fleet/out/part-*")])
    assert outcome.scored == len(table) == CLIPS // 2
    local = rows(scored).assign(name=lambda table: table["file"].str[-6:]).set_index("name")["score"]
    assert dict(zip(table["file"].str[-6:], table["score"], strict=True)) == dict(
        local[local.index.isin(table["file"].str[-6:])]
    )
    store.rm("/fleet", recursive=True)


@pytest.mark.parametrize(("place", "what"), [("nowhere", "no such file or folder"), ("empty", "no recordings here")])
def test_sources_without_recordings(place: str, what: str, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(AuscultError, match=what):
        list(find([str(tmp_path / place)]))


class Hosted(MemoryFileSystem):
    """The files of memory://, by addresses with a host that is not in the paths, as of sftp:// and hdfs://."""

    protocol = "hosted"

    def __init__(self, host: str, **options: Any) -> None:
        super().__init__(**options)

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return "/" + path.partition("://")[2].partition("/")[2] if "://" in path else path.rstrip("/")

    @staticmethod
    def _get_kwargs_from_urls(path: str) -> dict[str, str]:
        host = path.partition("://")[2].partition("/")[0]
        return {"host": host} if host else {}


fsspec.register_implementation("hosted", Hosted)


def test_the_host_of_an_address_reaches_the_workers(fitted: Bundle, archive: Path, here: str, tmp_path: Path) -> None:
    fsspec.filesystem("memory").pipe_file("/hosted/day/a.wav", (archive / "day0" / "00.wav").read_bytes())
    outcome = fleet.score_archive(fitted.folder, ["hosted://me@there/hosted"], here, str(tmp_path / "out"))
    assert outcome.failed == []
    assert list(rows(tmp_path / "out")["file"]) == ["hosted://me@there/hosted/day/a.wav"]
    assert [clip.path for clip in find(["hosted://me@there/hosted/*/a.wav"])] == ["hosted://me@there/hosted/day/a.wav"]


@pytest.mark.parametrize(("name", "why"), [("closed", "AccessDenied"), ("nobody", "Unable to locate credentials")])
def test_a_folder_below_that_cannot_be_listed_is_named(name: str, why: str) -> None:
    fsspec.filesystem("memory").pipe_file(f"/above-{name}/{name}/a.wav", b"")
    with pytest.raises(AuscultError, match=rf"does not let itself be read \({why}\)") as error:
        list(find([f"refusing://above-{name}"]))
    assert error.value.where.endswith(f"/{name}")
    with pytest.raises(AuscultError, match=rf"the output cannot be read \({why}\)"):
        Output(f"refusing://above-{name}/{name}").names()


def test_what_lies_in_a_folder_is_found_as_by_the_command_without_a_cluster(archive: Path, tmp_path: Path) -> None:
    shutil.copytree(archive, tmp_path / "a")
    (tmp_path / "a" / "link.wav").symlink_to("day0/00.wav")
    (tmp_path / "a" / "nowhere.wav").symlink_to("gone.wav")
    (tmp_path / "a" / "day0" / "up").symlink_to("..")
    (tmp_path / "a" / "folder.wav").mkdir()
    os.mkfifo(tmp_path / "a" / "pipe.wav")
    found = list(find([str(tmp_path / "a")]))
    assert sorted(Path(clip.path) for clip in found) == below(tmp_path / "a")[0]
    assert len({clip.key for clip in found}) == len(found)
    size = {Path(clip.path).name: clip.size for clip in found}
    assert size["link.wav"] == size["00.wav"]


def test_a_store_of_no_kind() -> None:
    with pytest.raises(AuscultError, match="no store of this kind"):
        store_of("nonsense://bucket/x")


# ------------------------------------------------------------------------------------------------------------------ the command
def test_the_command_asks_for_nothing_it_does_not_use() -> None:
    code = "import sys, auscult.commands.score, auscult.commands.run; print({'dask', 'distributed', 'torch'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "set()\n"


def test_the_command(copy: Path, fitted: Bundle, archive: Path, here: str, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["score", str(fitted.folder), str(archive), "--scheduler", here, "--out", str(copy)]
    assert main(arguments) == 2, "one is unreadable"
    assert f"0 scored now, {CLIPS} before" in capsys.readouterr().out
    for extra, what in (
        (["--json"], "--json is not for an archive"), (["--part", "0"], "--part must be"), (["--curve", "c.csv"], "--curve"),
    ):  # fmt: skip
        assert main([*arguments, *extra]) == 2
        assert what in capsys.readouterr().err
    assert main([*arguments[:3], "--out", "x"]) == 2
    assert "--out without --scheduler" in capsys.readouterr().err
