"""`auscult watch`: every recording once, whatever is killed when."""

from __future__ import annotations

import csv
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import soundfile

from auscult.detector.journal import COLUMNS, Journal
from auscult.detector.watch import Counts, Stop, watch
from auscult.errors import AuscultError
from support.projects import stage_environment


@dataclass
class Loudness:
    """What stands in for a bundle's verdict: the level of a recording."""

    seconds: float
    score: float
    p_value: float = 0.5
    anomalous: bool = False
    start: float = 0.0
    end: float = 1.0
    warning: str = ""


def loudness(path: Path) -> Loudness:
    """Refuses what is shorter than its header says, as the project's own reader does."""
    promised = int.from_bytes(path.read_bytes()[4:8], "little") + 8
    if path.stat().st_size < promised:
        raise AuscultError(f"cut short: {path.stat().st_size} of {promised} bytes", str(path))
    sound, rate = soundfile.read(path)
    return Loudness(len(sound) / rate, float(np.sqrt(np.mean(sound**2))))


def wav(path: Path, level: float = 0.1, samples: int = 4000) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    sound = np.random.default_rng(list(path.name.encode())).standard_normal(samples) * level
    soundfile.write(path, sound.clip(-1, 1), 16000, subtype="PCM_16")
    return path


def run(folder: Path, out: Path, **changes: object) -> Counts:
    """One run with `once`, as cron would start it."""
    journal = Journal(out, "bundle")
    try:
        settings: dict[str, object] = {"suffixes": (".wav",), "interval": 0.01, "once": True}
        return watch(loudness, folder, journal, **{**settings, **changes})  # type: ignore[arg-type]
    finally:
        journal.close()


def rows(out: Path) -> list[dict[str, str]]:
    if out.suffix == ".jsonl":
        return [json.loads(line) for line in out.read_text().splitlines()]
    with open(out, newline="") as stream:
        return list(csv.DictReader(stream))


WATCHER = """
import sys
from pathlib import Path
from auscult.commands.watch import stop_on_signals
from auscult.detector.journal import Journal
from auscult.detector.watch import watch
from commands.test_watch import loudness
journal = Journal(Path(sys.argv[2]), "bundle")
watch(loudness, Path(sys.argv[1]), journal, suffixes=(".wav",), interval=0.02, stop=stop_on_signals(),
      say=lambda line: print(line, flush=True))
print("stopped", flush=True)
"""
WRITER = """
import random, sys, time
from pathlib import Path
source, folder = Path(sys.argv[1]), Path(sys.argv[2])
draw = random.Random(1)
for path in sorted(source.glob("*.wav")):
    content = path.read_bytes()
    with open(folder / path.name, "wb", buffering=0) as stream:
        while content:
            size = draw.randrange(1, 4000)
            stream.write(content[:size])
            content = content[size:]
            time.sleep(draw.uniform(0, 0.05))
"""


def start(code: str, *arguments: Path, **options: object) -> subprocess.Popen[str]:
    environment = stage_environment()
    tests = str(Path(__file__).parents[1])
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, [tests, environment.get("PYTHONPATH", "")]))
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.Popen(command, env=environment, text=True, **options)  # type: ignore[call-overload, no-any-return]


def wait_for(condition: object, process: subprocess.Popen[str]) -> None:
    """Until `condition()` holds; a minute is for machines with much else to do."""
    assert callable(condition)
    for _ in range(6000):
        if condition():
            return
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)
    raise AssertionError("did not happen within a minute")


@pytest.mark.parametrize("suffix", [".csv", ".jsonl"])
def test_killed_twenty_times_while_files_arrive_in_pieces(tmp_path: Path, suffix: str) -> None:
    source, folder, out = tmp_path / "source", tmp_path / "in", tmp_path / f"scores{suffix}"
    folder.mkdir()
    expected = {f"{i:03d}.wav": loudness(wav(source / f"{i:03d}.wav", 0.01 * (i + 1))).score for i in range(30)}
    writer = start(WRITER, source, folder)
    draw, last = random.Random(suffix), b""
    for _ in range(20):
        watcher = start(WATCHER, folder, out, stdout=subprocess.DEVNULL)
        wait_for(out.exists, watcher)
        time.sleep(draw.uniform(0.0, 0.3))
        watcher.send_signal(signal.SIGKILL)
        watcher.wait()
        last = out.read_bytes()
        if draw.random() < 0.5 and last.count(b"\n") > 1:  # and the machine went down in the middle of a write
            last = last[: last.rfind(b"\n", 0, -1) + 1 + draw.randrange(1, 20)]
            out.write_bytes(last)
    assert writer.wait() == 0
    watcher = start(WATCHER, folder, out, stdout=subprocess.DEVNULL)
    wait_for(lambda: out.read_bytes().count(b".wav") >= len(expected), watcher)
    watcher.send_signal(signal.SIGTERM)
    assert watcher.wait() == 0
    found = rows(out)
    assert Counter(row["file"] for row in found) == Counter(list(expected))
    assert {row["file"]: float(row["score"]) for row in found} == expected
    assert run(folder, out) == Counts()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_cleanly(tmp_path: Path, number: signal.Signals) -> None:
    wav(tmp_path / "in" / "a.wav")
    watcher = start(WATCHER, tmp_path / "in", tmp_path / "out.csv", stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert watcher.stdout is not None
    assert "a.wav: " in watcher.stdout.readline()
    watcher.send_signal(number)
    out, err = watcher.communicate()
    assert (out, err, watcher.returncode) == ("stopped\n", "", 0)


def test_two_watchers_of_one_output_refuse_and_a_dead_one_does_not_count(tmp_path: Path) -> None:
    wav(tmp_path / "in" / "a.wav")
    watcher = start(WATCHER, tmp_path / "in", tmp_path / "out.csv", stdout=subprocess.PIPE)
    assert watcher.stdout is not None
    watcher.stdout.readline()
    with pytest.raises(AuscultError, match="another `auscult watch`"):
        Journal(tmp_path / "out.csv", "bundle")
    Journal(tmp_path / "other.csv", "bundle").close()
    watcher.kill()
    watcher.communicate()
    assert run(tmp_path / "in", tmp_path / "out.csv") == Counts()


@pytest.mark.parametrize("suffix", [".csv", ".jsonl"])
def test_a_changed_file_is_new_and_folders_below_are_heard(tmp_path: Path, suffix: str) -> None:
    folder, out = tmp_path / "in", tmp_path / f"o{suffix}"
    (
        wav(folder / "x" / 'a,"b\nc.wav'),
        wav(folder / "é.WAV"),
        wav(folder / ".hidden.wav"),
        wav(folder / "text\u2028.txt.wav"),
    )
    (folder / "notes.txt").write_text("no sound")
    assert run(folder, out) == Counts(3)
    names = {'x/a,"b\\nc.wav', "é.WAV", "text\u2028.txt.wav"}
    assert {row["file"] for row in rows(out)} == names
    assert set(rows(out)[0]) == set(COLUMNS)
    assert run(folder, out) == Counts()
    os.utime(folder / "é.WAV", (1, 1))
    wav(folder / "text\u2028.txt.wav", samples=5000)
    assert run(folder, out) == Counts(2)
    assert Counter(row["file"] for row in rows(out)) == {"é.WAV": 2, "text\u2028.txt.wav": 2, 'x/a,"b\\nc.wav': 1}


def test_what_cannot_be_read_is_reported_once_and_tried_again_when_it_changes(tmp_path: Path) -> None:
    folder, out = tmp_path / "in", tmp_path / "o.csv"
    whole = wav(folder / "a.wav").read_bytes()
    (folder / "a.wav").write_bytes(whole[:-7])
    (folder / "open.wav").write_bytes(b"RIFF\0\0\0\0" + whole[8:])  # a recorder that has not closed its file
    assert run(folder, out) == Counts(failed=2)
    assert [(row["score"], row["note"]) for row in rows(out)] == [
        ("", f"cut short: {len(whole) - 7} of {len(whole)} bytes"),
        ("", "its header states no length: the recorder has not closed it"),
    ]
    assert run(folder, out) == Counts()
    (folder / "a.wav").write_bytes(whole)
    assert run(folder, out) == Counts(1)


def test_a_writer_that_pauses_is_waited_for(tmp_path: Path) -> None:
    """At rest in pieces for many looks: no line until it is whole."""
    folder, out = tmp_path / "in", tmp_path / "o.csv"
    whole = wav(folder / "a.wav").read_bytes()
    (folder / "a.wav").write_bytes(whole[:3000])
    looks = 0

    class Looks(Stop):
        def wait(self, seconds: float) -> None:
            nonlocal looks
            looks += 1
            if looks == 5:
                assert rows(out) == []
                (folder / "a.wav").write_bytes(whole)
            if looks == 9:
                self.set()

    assert run(folder, out, once=False, stop=Looks()) == Counts(1)


def test_a_file_that_changes_while_it_is_scored_is_not_recorded(tmp_path: Path) -> None:
    path, out, calls = wav(tmp_path / "in" / "a.wav"), tmp_path / "o.csv", 0

    def score(scored: Path) -> Loudness:
        nonlocal calls
        calls += 1
        found = loudness(scored)
        if calls == 1:
            wav(scored, 0.9)
            os.utime(scored, ns=(1, calls))
        return found

    stop = Stop()
    journal = Journal(out, "bundle")
    watch(score, path.parent, journal, suffixes=(".wav",), interval=0.01, stop=stop, say=lambda line: stop.set())
    journal.close()
    assert [float(row["score"]) for row in rows(out)] == [loudness(path).score]


def test_a_fault_of_the_scorer_is_a_line_and_the_others_go_on(tmp_path: Path) -> None:
    folder, out = tmp_path / "in", tmp_path / "o.jsonl"
    wav(folder / "a.wav"), wav(folder / "b.wav"), wav(folder / "c.wav")

    def score(path: Path) -> Loudness:
        if path.name == "b.wav":
            raise ZeroDivisionError("of nothing")
        return Loudness(1.0, float("nan")) if path.name == "c.wav" else loudness(path)

    journal = Journal(out, "bundle")
    counts = watch(score, folder, journal, suffixes=(".wav",), interval=0.01, once=True)
    journal.close()
    assert counts == Counts(1, 0, 2)
    notes = ["", "ZeroDivisionError: of nothing", "the score is no finite number"]
    assert [row["note"] for row in rows(out)] == notes


@pytest.mark.parametrize("suffix", [".csv", ".jsonl"])
def test_a_last_line_torn_at_any_byte_is_written_again(tmp_path: Path, suffix: str) -> None:
    folder, out = tmp_path / "in", tmp_path / f"o{suffix}"
    wav(folder / "a.wav"), wav(folder / "é.wav")
    run(folder, out)
    before, whole = {row["file"] for row in rows(out)}, out.read_bytes()
    for length in range(0, len(whole), 9):
        out.write_bytes(whole[:length])
        run(folder, out)
        assert sorted(row["file"] for row in rows(out)) == sorted(before), length


def test_an_output_of_something_else_is_left_alone(tmp_path: Path) -> None:
    wav(tmp_path / "in" / "a.wav")
    for name, content, problem in [
        ("a.csv", "file,score\n", "not an output"),
        ("b.jsonl", "[1]\n", "line 1 is no line"),
        ("c.csv", ",".join(COLUMNS) + "\nx,y\n", "line 2 is no line"),
        ("d.txt", "", "no format"),
    ]:
        out = tmp_path / name
        out.write_text(content)
        with pytest.raises(AuscultError, match=problem):
            run(tmp_path / "in", out)
        assert out.read_text() == content
    run(tmp_path / "in", tmp_path / "e.csv")
    with pytest.raises(AuscultError, match="scores do not compare"):
        Journal(tmp_path / "e.csv", "another")


def test_an_output_that_is_taken_away_or_cannot_be_written_ends_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, row = tmp_path / "o.csv", {"file": "a", "size": 1, "mtime_ns": 2}
    journal = Journal(out, "bundle")
    before, write = out.read_bytes(), os.write

    def full(descriptor: int, content: bytes) -> int:
        if len(content) > 5:
            return write(descriptor, content[:5])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(AuscultError, match="the disk is full"):
        journal.write(row)
    assert out.read_bytes() == before
    monkeypatch.undo()
    journal.write(row)
    out.unlink()
    with pytest.raises(AuscultError, match="moved or removed"):
        journal.write({**row, "size": 2})
    journal.close()


def test_a_folder_that_goes_away_is_waited_for(tmp_path: Path) -> None:
    folder, away, out = tmp_path / "in", tmp_path / "away", tmp_path / "o.csv"
    wav(folder / "a.wav")
    said: list[str] = []
    stop = Stop()

    def say(line: str) -> None:
        said.append(line)
        if len(said) == 1:
            folder.rename(away)
        elif len(said) == 2:
            wav(away / "b.wav")
            away.rename(folder)
        else:
            stop.set()

    run(folder, out, once=False, stop=stop, say=say)
    assert "waiting" in said[1]
    assert [row["file"] for row in rows(out)] == ["a.wav", "b.wav"]
    with pytest.raises(AuscultError, match="no such folder"):
        run(tmp_path / "none", out)
