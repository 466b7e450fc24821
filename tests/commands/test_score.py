"""`auscult score`: rows, decisions, exit status, files that cannot be read."""

from __future__ import annotations

import csv
import io
import json
import os
import re
from pathlib import Path

import numpy as np
import pytest

from auscult import cli
from auscult.detector import bundle, score
from auscult.detector.bundle import Bundle
from support.trees import noise, write


@pytest.fixture(scope="module")
def fitted(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    folder, rng = tmp_path_factory.mktemp("normal"), np.random.default_rng(0)
    for number in range(12):
        write(folder / f"{number}.wav", noise(rng, 1.0, 300.0))
    return bundle.fit(folder, tmp_path_factory.mktemp("out") / "b")


@pytest.fixture
def today(tmp_path: Path) -> Path:
    """A normal recording, and one with another tone from 2 s to 3 s."""
    rng = np.random.default_rng(7)
    write(tmp_path / "today" / "a.wav", noise(rng, 1.0, 300.0))
    parts = [noise(rng, 1.0, tone) for tone in (300.0, 300.0, 2000.0, 300.0)]
    write(tmp_path / "today" / "b.wav", np.concatenate(parts))
    return tmp_path / "today"


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    capsys.readouterr()
    status = cli.main(["score", *map(str, arguments)])
    return status, *capsys.readouterr()


def test_a_row_per_recording(fitted: Bundle, today: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, out, err = run(capsys, fitted.folder, today, "--format", "csv")
    assert (status, err) == (1, "")
    rows = list(csv.DictReader(io.StringIO(out)))
    assert [row["file"] for row in rows] == [str(today / "a.wav"), str(today / "b.wav")]
    assert [row["anomalous"] for row in rows] == ["0", "1"]
    wanted = score.score_file(fitted, today / "b.wav")
    assert float(rows[1]["score"]) == wanted.score
    assert (rows[1]["start"], rows[1]["end"], rows[1]["seconds"], rows[1]["windows"]) == ("2.0", "3.0", "4.0", "7")
    assert float(rows[1]["p_value"]) == 1 / 13

    status, out, _ = run(capsys, fitted.folder, today, "--format", "jsonl", "--exit-zero")
    assert status == 0
    lines = [json.loads(line) for line in out.splitlines()]
    assert [line["score"] for line in lines] == [float(row["score"]) for row in rows]
    assert json.loads(run(capsys, fitted.folder, today, "--json")[1]) == lines
    status, out, _ = run(capsys, fitted.folder, today / "a.wav")
    assert status == 0
    heading = ["file", "seconds", "score", "p-value", "decision", "most", "anomalous", "above"]
    assert out.splitlines()[0].split() == heading
    assert "normal    0:00.0 - 0:01.0  0 of 1\n1 recording: 1 normal\n" in out


def test_a_curve(fitted: Bundle, today: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(capsys, fitted.folder, today, "--curve", tmp_path / "curve.csv")[0] == 1
    rows = list(csv.DictReader((tmp_path / "curve.csv").open()))
    starts, scores = score.curve(fitted, today / "b.wav")
    mine = [row for row in rows if row["file"].endswith("b.wav")]
    assert [float(row["start"]) for row in mine] == starts.tolist()
    assert [float(row["score"]) for row in mine] == scores.tolist()
    assert [int(row["anomalous"]) for row in mine] == (scores > fitted.threshold).astype(int).tolist()
    assert len(rows) == 8


def test_what_is_expected_stands_beside_what_was_found(
    fitted: Bundle, today: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for seed in range(100):  # one that is not a false alarm
        found = score.score_file(fitted, write(today / "c.wav", noise(np.random.default_rng(seed), 2.0, 300.0)))
        if found.verdict == "normal" and found.above:
            break
    (today / "d.wav").write_bytes(b"no sound")
    status, out, _ = run(capsys, fitted.folder, today)
    assert status == 2
    rows = out.splitlines()
    assert (found.verdict, found.expected) == ("normal", pytest.approx(0.3))
    more = f", {found.higher} above all normal" if found.higher else ""
    assert rows[3].endswith(f"{found.above} of 3 (0.3 expected){more}")
    assert rows[2].endswith(" of 7 (0.7 expected)")
    assert rows[5] == "4 recordings: 2 normal, 1 ANOMALOUS, 1 unreadable"
    assert rows[6].startswith("note: how alike windows of one recording are is not known")
    assert "\x1b" not in out


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("width", [50, 80, 160])
def test_no_line_of_a_terminal_is_broken(
    fitted: Bundle, today: Path, monkeypatch: pytest.MonkeyPatch, width: int
) -> None:
    deep = today / ("a long name of a folder, as they are in plants" * 2)
    write(deep / "recorded on 2026-05-01 at 12-30.wav", noise(np.random.default_rng(7), 1.0, 300.0))
    shown, said = Terminal(), Terminal()
    monkeypatch.setattr("sys.stdout", shown)
    monkeypatch.setattr("sys.stderr", said)
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert cli.main(["score", str(fitted.folder), str(today)]) == 1
    text = shown.getvalue()
    assert text.count("\x1b[1;31mANOMALOUS\x1b[0m") == 1
    assert text.count("\x1b[32mnormal\x1b[0m") == 2
    assert "\x1b[1;31m1 ANOMALOUS\x1b[0m" in text
    plain = re.sub(r"\x1b\[[0-9;]*m", "", text)
    table = plain[: plain.index("3 recordings")].splitlines()
    assert len(table) == 4
    assert all(len(line) <= width for line in plain.splitlines())
    assert sum("..." in line for line in table) == 3 or width == 160
    assert ("p-value" in table[0]) == (width == 160)
    assert all(("ANOMALOUS" in line or "normal" in line) for line in table[1:])
    assert said.getvalue().count("\n") == 0  # a bar, which is gone
    monkeypatch.setenv("NO_COLOR", "1")
    shown.seek(0)
    shown.truncate()
    cli.main(["score", str(fitted.folder), str(today)])
    assert "\x1b" not in shown.getvalue()


def test_files_that_cannot_be_read_do_not_stop_the_rest(
    fitted: Bundle, today: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (today / "0.wav").write_bytes(b"no sound")
    write(today / "z.wav", np.zeros(16000, np.int16))
    status, out, err = run(capsys, fitted.folder, today, today / "nothing.wav", "--json", "--exit-zero")
    assert status == 2
    found = json.loads(out)
    assert [Path(each["file"]).name for each in found] == ["0.wav", "a.wav", "b.wav", "z.wav", "nothing.wav"]
    assert ["error" in each for each in found] == [True, False, False, True, True]
    assert "0.wav: not a readable recording (Format not recognised)" in err
    assert found[0]["fix"]
    assert "nothing.wav: cannot be read (No such file or directory)" in err
    assert "z.wav: unusable: digital silence (1 s of one value) on channel 0" in err
    assert "3 of 5 file(s) could not be scored" in err
    csv_rows = list(csv.DictReader(io.StringIO(run(capsys, fitted.folder, today, "--format", "csv")[1])))
    assert [row["verdict"] for row in csv_rows] == ["unreadable", "normal", "ANOMALOUS", "unusable"]
    assert csv_rows[0]["warning"] == "not a readable recording (Format not recognised)"


def test_a_folder_that_cannot_be_looked_into_is_named(
    fitted: Bundle, today: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """And a link to itself: the others are scored, and the status says that something was not."""
    (today / "loop.wav").symlink_to(today / "loop.wav")
    (today / "private").mkdir()
    scan = os.scandir

    def scandir(path: str) -> object:
        if Path(path).name == "private":
            raise PermissionError(13, "Permission denied", str(path))
        return scan(path)

    monkeypatch.setattr(os, "scandir", scandir)
    status, out, err = run(capsys, fitted.folder, today, "--json")
    assert status == 2
    found = {Path(each["file"]).name: each["verdict"] for each in json.loads(out)}
    assert found == {"a.wav": "normal", "b.wav": "ANOMALOUS", "loop.wav": "unreadable", "private": "unreadable"}
    assert "2 of 4 file(s) could not be scored" in err


def test_a_name_that_is_not_utf_8(fitted: Bundle, today: Path, capsys: pytest.CaptureFixture[str]) -> None:
    name = os.fsencode(today) + b"/\xff.wav"
    os.rename(today / "a.wav", name)
    for more in (["--format", "csv"], ["--json"], []):
        status, out, err = run(capsys, fitted.folder, today, *more, "--curve", today / "curve.csv")
        assert (status, err) == (1, "")
        out.encode()
        assert "udcff.wav" in out
    assert "udcff.wav" in (today / "curve.csv").read_text()


def test_a_name_cannot_command_the_terminal(fitted: Bundle, today: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (today / "a.wav").rename(today / "a\x1b[2J\nb.wav")
    _, out, err = run(capsys, fitted.folder, today)
    assert "\x1b" not in out + err
    assert "a?[2J?b.wav" in out, "the name stands in one line"


def test_what_is_no_bundle(today: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, out, err = run(capsys, today, today / "a.wav")
    assert (status, out) == (2, "")
    assert "there is no bundle here" in err
    assert "auscult fit" in err
