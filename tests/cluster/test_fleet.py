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
from contextlib import nullcontext
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest

pytest.importorskip("distributed", reason="Dask is not installed (pip install 'auscult[cluster]')")

from distributed import Client

from auscult.cli import main
from auscult.cluster import fleet
from auscult.cluster.connect import Tasks, connected
from auscult.detector.bundle import Bundle
from auscult.detector.score import score_file
from auscult.errors import AuscultError
from support.deadly import ends_at_13
from support.fleet import CLIPS, parts, rows
from support.trees import noise, write


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


@pytest.fixture(scope="module")
def processes() -> Iterator[Client]:
    """The command's own cluster: two processes on this machine."""
    with connected("local:2") as client:
        yield client


def test_a_worker_killed_on_the_way_loses_nothing(
    processes: Client, scored: Path, fitted: Bundle, archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All are killed while they have parts, and others started."""
    killed: set[int] = set()

    def kill(outcome: fleet.Outcome, workers: int) -> None:
        if outcome.scored and not killed:
            killed.update(nanny.pid for nanny in processes.cluster.workers.values())
            for process in killed:
                os.kill(process, signal.SIGKILL)

    monkeypatch.setattr(fleet, "connected", lambda address, timeout: nullcontext(processes))
    outcome = fleet.score_archive(fitted.folder, [str(archive)], "local:2", str(tmp_path / "out"), 4, kill)
    assert len(killed) == 2
    assert outcome.scored == CLIPS
    assert parts(tmp_path / "out") == parts(scored), "the same bytes as by other workers"


def test_a_task_of_which_workers_die_is_found_and_the_others_are_done(processes: Client) -> None:
    """They die with tasks beside it, and with results that nobody has fetched."""
    alone: list[list[int]] = []

    def halves(numbers: list[int]) -> list[list[int]]:
        if len(numbers) == 1:
            alone.append(numbers)
            return []
        return [numbers[: len(numbers) // 2], numbers[len(numbers) // 2 :]]

    tasks = Tasks(processes, ends_at_13, halves)
    done = [number for numbers in tasks.results([[n, n + 1] for n in range(0, 40, 2)]) for number in numbers]
    assert alone == [[13]]
    assert sorted(done) == [number for number in range(40) if number != 13]


def test_results_that_are_lost_with_the_scheduler_are_not_waited_for() -> None:
    """By a client as it is while it closes: its tasks neither end nor are done again."""

    class Closing:
        status, cluster, loop = "running", None, None

        def nthreads(self) -> dict[str, int]:
            return {"a": 1}

        def map(self, *tasks: object, **options: object) -> list[Any]:
            self.status = "closing"
            future = Mock(status="lost")
            future.add_done_callback = lambda call: call(future)
            return [future]

    with pytest.raises(AuscultError, match="connection to the scheduler is lost"):
        list(Tasks(Closing(), ends_at_13).results([[1]]))


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


@pytest.mark.parametrize("listening", [False, True], ids=["nobody there", "somebody else there"])
def test_a_scheduler_that_does_not_answer(
    listening: bool, fitted: Bundle, archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("auscult.cluster.connect._BEYOND", 0.5)
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
    mine = {**fleet.program(), "torch": "9.9", "code": "0123456789abcdef"}
    monkeypatch.setattr(fleet, "program", lambda: mine)
    with pytest.raises(AuscultError, match=r"another program: torch \S+ \(wanted: 9\.9\), code ") as error:
        fleet.score_archive(fitted.folder, [str(archive)], here, str(tmp_path / "out"))
    assert "worker " in error.value.where
    assert not parts(tmp_path / "out")


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


def test_every_recording_that_fails_is_counted_and_the_first_are_named() -> None:
    outcome = fleet.Outcome()
    for count in (15, 10, 50):
        fleet._note_failures(outcome, [(f"{count}-{number}", "gone") for number in range(min(count, 20))], count)
    assert (len(outcome.failed), outcome.more_failed) == (20, 55)
    assert outcome.failed[-1] == ("10-4", "gone")


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
