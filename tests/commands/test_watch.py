"""`auscult watch`: every recording once, whatever is killed when, and nothing before it is whole."""

from __future__ import annotations

import csv
import json
import os
import random
import signal
import time
import wave
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from multiprocessing.context import ForkProcess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from auscult.commands.watch import stop_on_signals
from auscult.data.audio import READ, open_recording
from auscult.detector.journal import COLUMNS, Journal
from auscult.detector.watch import DEATHS, Counts, Stop, Watcher, watch
from auscult.errors import AuscultError
from support.forks import ended, forked, send, wait_for


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
    verdict: str = "normal"


def loudness(path: Path) -> Loudness:
    with open_recording(path) as recording:
        sound = np.concatenate(list(recording.mono()))
        return Loudness(len(sound) / recording.rate, float(np.sqrt(np.mean(sound.astype(float) ** 2))))


def noise(name: str, level: float = 0.1, samples: int = 4000) -> np.ndarray:
    sound = np.random.default_rng(list(os.fsencode(name))).standard_normal(samples) * level
    return np.asarray(sound.clip(-1, 1))


def wav(path: Path, level: float = 0.1, samples: int = 4000) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(os.fsencode(path), noise(path.name, level, samples), 16000, format="WAV", subtype="PCM_16")
    return path


def watcher(folder: Path, journal: Journal, **changes: Any) -> Watcher:
    """One without patience, unless the test is about it."""
    return Watcher(
        **{"score": loudness, "folder": folder, "journal": journal, "suffixes": READ, "patience": 0.0, **changes}
    )


def run(folder: Path, out: Path, once: bool = True, stop: Stop | None = None, **changes: Any) -> Counts:
    """One run as cron would start it."""
    with closing(Journal(out, "bundle")) as journal:
        return watch(watcher(folder, journal, **changes), 0.002, once, stop)


def rows(out: Path) -> list[dict[str, str]]:
    if out.suffix == ".jsonl":
        return [json.loads(line) for line in out.read_text().splitlines()]
    with open(out, newline="") as stream:
        return list(csv.DictReader(stream))


def watch_until_told(folder: Path, out: Path) -> None:
    """As the command, by another score."""

    def score(path: Path) -> Loudness:
        return os._exit(9) if path.name == "deadly.wav" else loudness(path)

    watch(Watcher(score, folder, Journal(out, "bundle"), (".wav",), say=print), 0.02, stop=stop_on_signals())
    print("stopped")


def write_in_pieces(source: Path, folder: Path) -> None:
    draw = random.Random(1)
    for path in sorted(source.glob("*.wav")):
        content = path.read_bytes()
        with open(folder / path.name, "wb", buffering=0) as stream:
            while content:
                size = draw.randrange(1, 4000)
                stream.write(content[:size])
                content = content[size:]
                time.sleep(draw.uniform(0, 0.05))


def test_killed_again_and_again_while_files_arrive_in_pieces(tmp_path: Path) -> None:
    source, folder, out = tmp_path / "source", tmp_path / "in", tmp_path / "scores.csv"
    folder.mkdir()
    expected = {f"{i:03d}.wav": loudness(wav(source / f"{i:03d}.wav", 0.01 * (i + 1))).score for i in range(30)}
    writer = forked(tmp_path / "writer", write_in_pieces, source, folder)
    draw, last = random.Random(1), b""
    for _ in range(10):
        process = forked(tmp_path / "log", watch_until_told, folder, out)
        wait_for(out.exists, process.is_alive)
        time.sleep(draw.uniform(0.0, 0.3))
        assert send(process, signal.SIGKILL) == -signal.SIGKILL
        last = out.read_bytes()
        if draw.random() < 0.5 and last.count(b"\n") > 1:  # and the machine went down in the middle of a write
            last = last[: last.rfind(b"\n", 0, -1) + 1 + draw.randrange(1, 20)]
            out.write_bytes(last)
    assert ended(writer) == 0
    wav(source / "last.wav", 0.5)  # for the last watcher, which by then listens to signals
    expected["last.wav"] = loudness(source / "last.wav").score
    (source / "last.wav").rename(folder / "last.wav")
    process = forked(tmp_path / "log", watch_until_told, folder, out)
    wait_for(lambda: out.read_bytes().count(b".wav") >= len(expected), process.is_alive)
    assert send(process, signal.SIGTERM) == 0
    found = rows(out)
    assert Counter(row["file"] for row in found) == Counter(list(expected))
    assert {row["file"]: float(row["score"]) for row in found} == expected
    assert run(folder, out) == Counts()


def watching(folder: Path) -> ForkProcess:
    """A watcher of `folder`/in that has told of one recording."""
    process = forked(folder / "log", watch_until_told, folder / "in", folder / "out.csv")
    wait_for(lambda: (folder / "log").exists() and "\n" in (folder / "log").read_text(), process.is_alive)
    return process


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_cleanly(tmp_path: Path, number: signal.Signals) -> None:
    wav(tmp_path / "in" / "a.wav")
    process = watching(tmp_path)
    assert send(process, number) == 0
    first, *others = (tmp_path / "log").read_text().splitlines()
    assert first.startswith("a.wav: ")
    assert others == ["stopped"]


def test_two_watchers_of_one_output_refuse_and_a_dead_one_does_not_count(tmp_path: Path) -> None:
    """Also by another name of the same file."""
    wav(tmp_path / "in" / "a.wav")
    process = watching(tmp_path)
    (tmp_path / "link.csv").symlink_to("out.csv")
    (tmp_path / "hard.csv").hardlink_to(tmp_path / "out.csv")
    for name in ("out.csv", "link.csv", "hard.csv"):
        with pytest.raises(AuscultError, match="another `auscult watch`"):
            Journal(tmp_path / name, "bundle")
    Journal(tmp_path / "other.csv", "bundle").close()
    send(process, signal.SIGKILL)
    assert run(tmp_path / "in", tmp_path / "link.csv") == Counts()


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
    (folder / "a.wav").write_bytes(whole[:-2000])
    assert run(folder, out) == Counts(failed=1)
    assert [(row["score"], row["note"]) for row in rows(out)] == [
        ("", f"cut short: {len(whole) - 2000} of {len(whole)} bytes")
    ]
    assert run(folder, out) == Counts()
    (folder / "a.wav").write_bytes(whole)
    assert run(folder, out) == Counts(1)


class Seconds(Stop):
    """A clock that moves on by a second with each look, and the end after some of them; the disk's own time does not count."""

    def __init__(self, looks: int = 0) -> None:
        super().__init__()
        self.now, self.looks = 0.0, looks

    def wait(self, seconds: float) -> None:
        self.now += 1.0
        self.looks -= 1
        if self.looks <= 0:
            self.set()


def sndfile(form: str, subtype: str = "PCM_16") -> Callable[[Path, np.ndarray], Callable[[], None]]:
    """A recorder by libsndfile that pauses after a part of the sound; what is returned writes the rest and closes the file."""

    def begin(path: Path, sound: np.ndarray) -> Callable[[], None]:
        file = soundfile.SoundFile(path, "w", 16000, 1, subtype, format=form)
        file.write(sound[: len(sound) // 2])
        file.flush()

        def finish() -> None:
            file.write(sound[len(sound) // 2 :])
            file.close()

        return finish

    return begin


def python_wave(path: Path, sound: np.ndarray) -> Callable[[], None]:
    """Its header is right after every write."""
    stream = open(path, "wb")
    file = wave.open(stream, "wb")
    file.setparams((1, 2, 16000, 0, "NONE", ""))
    parts = np.array_split(np.round(sound * 32767).astype("<i2"), 2)
    file.writeframes(parts[0].tobytes())
    stream.flush()

    def finish() -> None:
        file.writeframes(parts[1].tobytes())
        file.close()
        stream.close()

    return finish


def pieces(form: str, subtype: str, full_size: bool, change: Callable[[bytes], bytes] = lambda content: content) -> Any:
    """A copy in pieces by a program that closes the file in between; `full_size`: which the file has from the start."""

    def begin(path: Path, sound: np.ndarray) -> Callable[[], None]:
        soundfile.write(path, sound, 16000, format=form, subtype=subtype)
        content = change(path.read_bytes())
        part = content[: len(content) * 6 // 10]
        path.write_bytes(part + bytes(len(content) - len(part)) if full_size else part)
        return lambda: path.write_bytes(content)

    return begin


def unclosed(content: bytes) -> bytes:
    """As a recorder leaves it that never writes the lengths."""
    return content[:4] + bytes(4) + content[8:40] + bytes(4) + content[44:]


def to_a_pipe(content: bytes) -> bytes:
    return content[:4] + b"\xff\xff\xff\x7f" + content[8:40] + b"\xff\xff\xff\x7f" + content[44:]


FORMATS = {
    "wav": ("WAV", "PCM_16"), "w64": ("W64", "PCM_16"), "rf64": ("RF64", "PCM_16"), "au": ("AU", "PCM_16"),
    "aiff": ("AIFF", "PCM_16"), "caf": ("CAF", "PCM_16"), "flac": ("FLAC", "PCM_16"), "ogg": ("OGG", "VORBIS"),
    "opus": ("OGG", "OPUS"),
    "mp3": ("MP3", "MPEG_LAYER_III"),
}  # fmt: skip
WRITERS: dict[str, Callable[[Path, np.ndarray], Callable[[], object]]] = {
    "wave.wav": python_wave, "unclosed.wav": pieces("WAV", "PCM_16", False, unclosed),
    "pipe.wav": pieces("WAV", "PCM_16", False, to_a_pipe),
    **{f"held.{suffix}": sndfile(*form) for suffix, form in FORMATS.items()},
    **{f"pieces.{suffix}": pieces(*form, False) for suffix, form in FORMATS.items()},
    **{f"full_size.{suffix}": pieces(*form, True) for suffix, form in FORMATS.items()},
}  # fmt: skip


def test_writers_that_pause_are_waited_for_in_every_format(tmp_path: Path) -> None:
    """Half a minute of patience, pauses of twenty seconds: no line before a file is whole, and then one with its score."""
    folder, out = tmp_path / "in", tmp_path / "o.csv"
    folder.mkdir()
    finish = {name: begin(folder / name, noise(name, samples=16000)) for name, begin in WRITERS.items()}
    time_, said = Seconds(), list[str]()
    with closing(Journal(out, "bundle")) as journal:
        here = watcher(folder, journal, patience=30.0, clock=lambda: time_.now, say=said.append)

        def look(seconds: int) -> None:
            for _ in range(seconds):
                here.look(time_)
                time_.now += 1.0

        look(20)
        assert rows(out) == []
        for end in finish.values():
            end()
        look(3)
        proven = {row["file"] for row in rows(out)}
        look(40)
    found = {row["file"]: row for row in rows(out)}
    assert Counter(row["file"] for row in rows(out)) == Counter(list(WRITERS)), said
    for name, row in found.items():
        assert float(row["score"]) == loudness(folder / name).score, name
        assert float(row["seconds"]) == pytest.approx(1.0, abs=0.1), name
    late = {name for name in WRITERS if name.endswith(".mp3")} | {"unclosed.wav", "pipe.wav"}
    assert set(WRITERS) - proven == late


def test_a_file_at_rest_and_open_for_writing_is_waited_for(tmp_path: Path) -> None:
    """Whole by its header, as after each write of Python's wave; a run with `once` leaves what changes to the next one."""
    folder, out = tmp_path / "in", tmp_path / "o.csv"
    with open(wav(folder / "a.wav"), "r+b"):
        time_ = Seconds(looks=20)
        assert run(folder, out, once=False, stop=time_, patience=30.0, clock=lambda: time_.now) == Counts()
    assert run(folder, out, patience=30.0) == Counts(1)


def test_what_arrives_during_a_single_run_is_left_to_the_next(tmp_path: Path) -> None:
    folder, out, said = tmp_path / "in", tmp_path / "o.csv", list[str]()
    wav(folder / "a.wav")

    class Writes(Seconds):
        def wait(self, seconds: float) -> None:
            super().wait(seconds)
            wav(folder / "b.wav", samples=4000 + int(self.now))

    assert run(folder, out, stop=Writes(looks=9), patience=30.0, say=said.append) == Counts(1)
    assert said[-1] == "1 file(s) are still being written: left to the next run"


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
    run(path.parent, out, once=False, stop=stop, score=score, say=lambda line: stop.set())
    assert [float(row["score"]) for row in rows(out)] == [loudness(path).score]


def test_a_fault_of_the_scorer_is_a_line_and_the_others_go_on(tmp_path: Path) -> None:
    folder, out = tmp_path / "in", tmp_path / "o.jsonl"
    wav(folder / "a.wav"), wav(folder / "b.wav"), wav(folder / "c.wav")

    def score(path: Path) -> Loudness:
        if path.name == "b.wav":
            raise ZeroDivisionError("of nothing")
        return Loudness(1.0, float("nan")) if path.name == "c.wav" else loudness(path)

    assert run(folder, out, score=score) == Counts(1, 0, 2)
    notes = ["", "ZeroDivisionError: of nothing", "the score is no finite number"]
    assert [row["note"] for row in rows(out)] == notes


@pytest.mark.parametrize("suffix", [".csv", ".jsonl"])
def test_a_last_line_torn_at_any_byte_is_written_again(tmp_path: Path, suffix: str) -> None:
    folder, out = tmp_path / "in", tmp_path / f"o{suffix}"
    wav(folder / "a.wav"), wav(folder / "é.wav")
    run(folder, out)
    before, whole = {row["file"] for row in rows(out)}, out.read_bytes()
    for length in range(0, len(whole), 31):
        out.write_bytes(whole[:length])
        run(folder, out)
        assert sorted(row["file"] for row in rows(out)) == sorted(before), length


def test_content_decides_and_not_what_the_file_system_says_of_it(tmp_path: Path) -> None:
    """Other sound of equal length and time is scored; the same with another mode, or restored from a copy, is not again."""
    folder, out = tmp_path / "in", tmp_path / "o.csv"
    path = wav(folder / "a.wav")
    before, other = path.stat(), wav(tmp_path / "other.wav", 0.2).read_bytes()
    assert run(folder, out) == Counts(1)
    path.chmod(0o600)
    assert run(folder, out) == Counts()
    copy = path.read_bytes()
    path.unlink()
    path.write_bytes(copy)
    os.utime(path, ns=(0, before.st_mtime_ns))
    assert run(folder, out) == Counts()
    path.write_bytes(other)
    os.utime(path, ns=(0, before.st_mtime_ns))
    assert run(folder, out) == Counts(1)
    assert run(folder, out) == Counts()
    assert [float(row["score"]) for row in rows(out)][1] == loudness(path).score
    assert len({row["mtime_ns"] for row in rows(out)}) == 1


def test_no_two_names_become_one(tmp_path: Path) -> None:
    folder, out = tmp_path / "in", tmp_path / "o.csv"
    for name in (b"a\nb.wav", b"a\\nb.wav", b"p\xfcmpe.wav", b"p\\udcfcmpe.wav", "pümpe.wav".encode()):
        wav(folder / os.fsdecode(name))
    assert run(folder, out) == Counts(5)
    assert len({row["file"] for row in rows(out)}) == 5
    assert run(folder, out) == Counts()


def test_each_entry_by_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What cannot be read is a line of its own, once, and everything else is scored."""
    folder, out = tmp_path / "in", tmp_path / "o.csv"
    wav(folder / "a.wav"), wav(folder / "below.wav" / "z.wav")
    (folder / "itself.wav").symlink_to("itself.wav")
    (folder / "through.wav").symlink_to("a.wav/x.wav")
    (folder / "dead.wav").symlink_to("nowhere.wav")
    (folder / "endless.wav").symlink_to("/dev/zero")
    (folder / "elsewhere").symlink_to(tmp_path)
    os.mkfifo(folder / "pipe.wav")
    (folder / "empty.wav").touch()
    slow = bytearray(wav(tmp_path / "b.wav").read_bytes())
    slow[24:28] = (10).to_bytes(4, "little")
    (folder / "slow.wav").write_bytes(slow)
    (folder / "locked").mkdir()
    scandir = os.scandir

    def refusing(path: Any) -> Any:  # a superuser, as in a container, may read everything
        if Path(path).name == "locked":
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refusing)
    assert run(folder, out) == Counts(2, 0, 9)
    notes = {row["file"]: row["note"] for row in rows(out)}
    assert set(notes) == {
        "a.wav", "below.wav/z.wav", "itself.wav", "through.wav", "dead.wav", "endless.wav", "elsewhere", "pipe.wav", "empty.wav",
        "slow.wav", "locked/",
    }  # fmt: skip
    for name, words in {
        "a.wav": "", "below.wav/z.wav": "", "itself.wav": "symbolic links", "through.wav": "Not a directory",
        "dead.wav": "No such file", "endless.wav": "not a regular file", "elsewhere": "not followed",
        "pipe.wav": "not a regular file", "empty.wav": "empty file", "slow.wav": "10 samples per second",
        "locked/": "Permission denied",
    }.items():  # fmt: skip
        assert words in notes[name], name
        assert bool(words) == bool(notes[name]), name
    assert run(folder, out) == Counts()


def test_a_folder_of_a_name_too_long_is_a_line(tmp_path: Path) -> None:
    folder, out, here = tmp_path / "in", tmp_path / "o.csv", os.getcwd()
    wav(folder / "a.wav")
    os.chdir(folder)
    try:
        for _ in range(17):  # 4,250 characters, and a path has 4,096 at most
            os.mkdir("d" * 250)
            os.chdir("d" * 250)
        assert run(folder, out) == Counts(1, 0, 1)
    finally:
        for _ in range(17):
            os.chdir("..")
            os.rmdir("d" * 250)
        os.chdir(here)
    assert sorted(row["note"] for row in rows(out)) == ["", "File name too long"]


def test_a_file_that_ends_the_program_is_left_out_at_the_next_start(tmp_path: Path) -> None:
    folder, out, said = tmp_path / "in", tmp_path / "o.csv", list[str]()
    for name in ("a", "deadly", "z"):
        wav(folder / f"{name}.wav")
    process = forked(tmp_path / "log", watch_until_told, folder, out)
    assert ended(process) == 9
    assert [row["file"] for row in rows(out)] == ["a.wav"]
    read: list[str] = []

    def apart(path: Path) -> Loudness:
        read.append(path.name)
        raise AuscultError("the process that read it ended early")

    assert run(folder, out, apart=apart, say=said.append) == Counts(1, 0, 1)
    assert read == ["deadly.wav"]
    assert said[:2] == [
        "deadly.wav: the program ended while it read this file; read again, in a process of its own",
        "deadly.wav: not scored: the process that read it ended early",
    ]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in", "log", "o.csv"]
    assert run(folder, out, apart=apart) == Counts()


def test_a_file_that_was_only_unlucky_is_scored_apart(tmp_path: Path) -> None:
    folder, out = tmp_path / "in", tmp_path / "o.csv"
    wav(folder / "a.wav")
    begun = tmp_path / "o.csv.begun"
    begun.write_text('{"a.wav": 1}')
    assert run(folder, out, score=lambda path: os._exit(9), apart=loudness) == Counts(1)
    wav(folder / "b.wav")
    begun.write_text(json.dumps({"b.wav": DEATHS}))
    assert run(folder, out, score=lambda path: os._exit(9), apart=loudness) == Counts(failed=1)
    assert rows(out)[1]["note"] == f"the program ended {DEATHS} times while it read this file"
    wav(folder / "c.wav")
    begun.write_text("[torn")
    assert run(folder, out) == Counts(1)


def test_five_hundred_files_with_restarts_and_poison(tmp_path: Path) -> None:
    """Interrupted at random, the last line torn half the time: each file has one line in the end."""
    folder, out, draw = tmp_path / "in", tmp_path / "o.csv", random.Random(3)
    content = wav(tmp_path / "one.wav", samples=200).read_bytes()
    names = [f"{i:03d}.wav" for i in range(500)]
    folder.mkdir()
    left = draw.sample(names, len(names))

    def score(path: Path) -> Loudness:
        if draw.random() < 0.02:
            raise KeyboardInterrupt
        if path.name.startswith("13"):
            raise ZeroDivisionError
        return Loudness(1.0, float(path.stem))

    for _ in range(1000):
        for name in left[-40:]:
            (folder / name).write_bytes(content)
        del left[-40:]
        try:
            run(folder, out, score=score)
            if not left:
                break
        except KeyboardInterrupt:
            text = out.read_bytes()
            if draw.random() < 0.5 and text.count(b"\n") > 2:
                out.write_bytes(text[: text.rfind(b"\n", 0, -1) + 1 + draw.randrange(1, 20)])
    found = rows(out)
    assert Counter(row["file"] for row in found) == Counter(names)
    assert all(
        row["score"] == ("" if name.startswith("13") else str(float(name[:3])))
        for row in found
        for name in [row["file"]]
    )


@pytest.mark.parametrize("suffix", [".csv", ".jsonl"])
def test_an_output_follows_a_bundle_by_what_it_is_and_not_by_its_name(tmp_path: Path, suffix: str) -> None:
    folder, out = tmp_path / "in", tmp_path / f"o{suffix}"
    for number, name in enumerate(["pump", "pump_copied"]):
        wav(folder / f"{number}.wav")
        with closing(Journal(out, name, "1" * 64, 0.5 + number)) as journal:
            assert watch(watcher(folder, journal), 0.002, once=True) == Counts(1)
    assert [(row["bundle"], float(row["threshold"]), row["bundle_digest"]) for row in rows(out)] == [
        ("pump", 0.5, "1" * 16), ("pump_copied", 1.5, "1" * 16),
    ]  # fmt: skip
    before = out.read_bytes()
    with pytest.raises(AuscultError, match=r"another bundle \(`pump`, 1111111111111111; this is 2222222222222222\)"):
        Journal(out, "pump", "2" * 64)
    assert out.read_bytes() == before


def test_an_output_of_something_else_is_left_alone(tmp_path: Path) -> None:
    wav(tmp_path / "in" / "a.wav")
    for name, content, problem in [
        ("a.csv", "file,score\n", "not an output"),
        ("b.jsonl", "[1]\n", "line 1 is no line"),
        ("c.csv", ",".join(COLUMNS) + "\nx,y\n", "line 2 is no line"),
        ("d.txt", "", "no format"),
        ("f.csv", ",".join(COLUMNS[:-2]) + "\n", "not an output"),
        ("g.jsonl", json.dumps(dict.fromkeys(COLUMNS[:-1], 1)) + "\n", "line 1 is no line"),
    ]:
        out = tmp_path / name
        out.write_text(content)
        with pytest.raises(AuscultError, match=problem):
            run(tmp_path / "in", out)
        assert out.read_text() == content
    run(tmp_path / "in", tmp_path / "e.csv")
    with pytest.raises(AuscultError, match="scores do not compare"):
        Journal(tmp_path / "e.csv", "bundle", "1" * 64)


def test_an_output_that_is_taken_away_or_cannot_be_written_ends_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, row = tmp_path / "o.csv", {"file": "a", "size": 1, "mtime_ns": 2, "ctime_ns": 3, "inode": 4, "content": ""}
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
