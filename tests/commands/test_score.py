"""`auscult score`: rows, decisions, exit status, files that cannot be read."""

from __future__ import annotations

import csv
import io
import json
import os
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
    assert out.splitlines()[0].split() == [
        "file",
        "seconds",
        "score",
        "p-value",
        "decision",
        "most",
        "anomalous",
        "above",
    ]
    assert "normal    0:00.0 - 0:01.0  0 of 1" in out


def test_a_curve(fitted: Bundle, today: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(capsys, fitted.folder, today, "--curve", tmp_path / "curve.csv")[0] == 1
    rows = list(csv.DictReader((tmp_path / "curve.csv").open()))
    starts, scores = score.curve(fitted, today / "b.wav")
    mine = [row for row in rows if row["file"].endswith("b.wav")]
    assert [float(row["start"]) for row in mine] == starts.tolist()
    assert [float(row["score"]) for row in mine] == scores.tolist()
    assert [int(row["anomalous"]) for row in mine] == (scores > fitted.threshold).astype(int).tolist()
    assert len(rows) == 8


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


def test_what_is_no_bundle(today: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, out, err = run(capsys, today, today / "a.wav")
    assert (status, out) == (2, "")
    assert "there is no bundle here" in err
    assert "auscult fit" in err
