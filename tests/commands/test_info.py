"""`auscult info`: plain words, at once, also of a bundle that is broken."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from auscult import cli
from auscult.detector import bundle
from auscult.detector.manifest import write_manifest
from auscult.detector.update import update
from support.projects import stage_environment
from support.trees import noise, write


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place, rng = tmp_path_factory.mktemp("info"), np.random.default_rng(0)
    for number in range(12):
        write(place / "normal" / ("idle", "load")[number % 2] / f"{number}.wav", noise(rng, 1.0, 300.0))
    write(place / "normal" / "idle" / "stub.wav", noise(rng, 0.2, 300.0))
    return bundle.fit(place / "normal", place / "pump").folder


def test_it_says_what_it_is(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = bundle.load(folder)
    assert cli.main(["info", str(folder), "--check"]) == 0
    text = capsys.readouterr().out
    for words in (
        f"bundle      pump in {folder}",
        made.digest,
        "windows of 1 s at 16000 Hz, channel 0",
        "spectral_knn: distance to the nearest normal windows, k = 1",
        "12 recordings (0.2 min), 12 windows, in 2 modes: idle, load",
        f"{made.threshold:.6g} (quantile)",
        "0.1 of normal windows are, and so many normal recordings are called anomalous",
        "about 17280 false alarms a day",
        "left out    1\n    idle/stub.wav: 0.2 s long",
        "state       whole",
    ):
        assert words in text
    for note in made.facts["training"]["notes"]:
        assert note in text
    write(tmp_path / "new" / "a.wav", noise(np.random.default_rng(7), 1.0, 300.0))
    update(folder, [tmp_path / "new"], tmp_path / "next", force=True)
    assert cli.main(["info", str(tmp_path / "next")]) == 0
    text = capsys.readouterr().out
    assert ": 1 recordings; " in text
    assert f"before: {made.digest[:8]}" in text


def test_for_programs(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["info", str(folder), "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    made = bundle.load(folder)
    assert facts["digest"] == made.digest
    assert facts["threshold"]["value"] == made.threshold
    assert facts["usable"] is True


def test_at_once(folder: Path) -> None:
    code = "import sys; from auscult import cli; cli.main(sys.argv[1:]); print('torch' in sys.modules, file=sys.stderr)"
    command = [sys.executable, "-c", code, "info", str(folder)]
    done = subprocess.run(command, env=stage_environment(), capture_output=True, text=True)
    assert done.stderr == "False\n", done.stderr


def test_what_is_broken(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(folder, broken)
    (broken / "normal.npy").write_bytes(b"")
    assert cli.main(["info", str(broken)]) == 2
    out, error = capsys.readouterr()
    assert "state       BROKEN" in out
    assert "12 recordings" in out
    assert "normal.npy was changed" in error
    assert cli.main(["info", str(broken), "--json"]) == 2
    assert json.loads(capsys.readouterr().out)["usable"] is False
    facts = bundle.load(folder).facts
    for change, words in (
        ({"format": 2}, "a bundle of format 2, and this version of auscult reads format 1"),
        ({"extra": 1}, "unknown key"),
    ):
        write_manifest(broken / "bundle.yaml", {**facts, **change})
        assert cli.main(["info", str(broken)]) == 2
        assert words in capsys.readouterr().err
    assert cli.main(["info", str(tmp_path)]) == 2
    assert "there is no bundle here" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["info", "threshold"])
def test_what_a_stranger_wrote_does_not_command_the_terminal(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    shutil.copytree(folder, tmp_path / "odd")
    (tmp_path / "odd" / "model" / "x\x1b[2Jy").touch()
    assert cli.main([command, str(tmp_path / "odd")]) == 2
    assert "model/x?[2Jy was added" in capsys.readouterr().err
    write_manifest(tmp_path / "odd" / "bundle.yaml", {**bundle.load(folder).facts, "\x9b2J": 1})
    assert cli.main([command, str(tmp_path / "odd")]) == 2
    assert "bundle.yaml.?2J: unknown key" in capsys.readouterr().err


ODD_TRAINING = {"units": 3, "left_out": [], "notes": "x", "recordings": "many", "sha256": {"00.wav": 7}}
TRAINING = ("windows", "recordings", "seconds", "units", "sha256")


@pytest.mark.parametrize("command", ["info", "threshold"])
def test_what_it_does_not_say_is_refused_in_words(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    shutil.copytree(folder, tmp_path / "odd")
    facts = bundle.load(folder).facts
    changes: tuple[tuple[dict[str, object], list[str]], ...] = (
        ({"training": {}}, [f"training.{name}" for name in TRAINING]),
        ({"training": {**facts["training"], **ODD_TRAINING}}, [f"training.{name}" for name in ODD_TRAINING]),
        ({"threshold": {}}, ["threshold.value", "threshold.rate", "threshold.by"]),
        ({"threshold": {"value": "x", "rate": 1.0, "by": "hand"}}, ["threshold.value", "threshold.rate", "threshold.by"]),
    )  # fmt: skip
    for change, names in changes:
        write_manifest(tmp_path / "odd" / "bundle.yaml", {**facts, **change})
        assert cli.main([command, str(tmp_path / "odd")]) == 2
        error = capsys.readouterr().err
        assert "Traceback" not in error
        assert "to do: fit it again" in error
        for name in names:
            assert f"bundle.yaml.{name}" in error
