"""Drift: no false verdict where nothing moves, a verdict where something does, and what a journal may look like."""

from __future__ import annotations

import csv
import hashlib
import json
import shutil
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from auscult import cli
from auscult.detector import bundle
from auscult.detector.bundle import Bundle, FitSettings
from auscult.detector.drift import FALSE, drift, interval
from auscult.detector.journal import COLUMNS
from auscult.detector.manifest import write_manifest
from auscult.detector.thresholds import quantile
from auscult.errors import AuscultError
from support.trees import noise, write


@pytest.fixture(scope="module")
def fitted(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    folder = tmp_path_factory.mktemp("normal")
    for seed in range(60):
        write(folder / f"{seed:02d}.wav", noise(np.random.default_rng(seed), 0.5))
    return bundle.fit(folder, tmp_path_factory.mktemp("out") / "pump")


def with_normal(fitted: Bundle, normal: np.ndarray) -> None:
    """Give the bundle other left-out scores, with the threshold at a rate of 0.1."""
    folder = fitted.folder
    np.save(folder / "normal.npy", np.sort(normal))
    rule = {"value": quantile(normal, 0.1), "rate": 0.1, "by": "quantile"}
    files = {**fitted.facts["files"], "normal.npy": hashlib.sha256((folder / "normal.npy").read_bytes()).hexdigest()}
    write_manifest(folder / "bundle.yaml", {**fitted.facts, "threshold": rule, "files": files})


def row(day: int, score: float, **more: Any) -> dict[str, Any]:
    time = f"{date(2026, 5, 1) + timedelta(day)}T08:00:00.000+00:00"
    facts = {"time": time, "file": "a.wav", "size": 1, "mtime_ns": 1, "seconds": 0.5, "score": score, "p_value": 0.5}
    return dict.fromkeys(COLUMNS, "") | facts | {"bundle": "pump"} | more


def journal(path: Path, rows: list[dict[str, Any]]) -> Path:
    if path.suffix == ".jsonl":
        path.write_text("".join(f"{json.dumps(each)}\n" for each in rows))
        return path
    with open(path, "w", newline="") as stream:
        out = csv.DictWriter(stream, list(rows[0]), lineterminator="\n")
        out.writeheader()
        out.writerows(rows)
    return path


def days(rng: np.random.Generator, count: int, each: int, moved: float = 0.0, since: int = 0) -> list[dict[str, Any]]:
    return [
        row(day, float(score)) for day in range(count) for score in rng.gamma(4, size=each) + moved * (day >= since)
    ]


# ------------------------------------------------------------------------------------------------------------- verdicts
@pytest.mark.parametrize("windows", [1, 4])
def test_where_nothing_moves_one_journal_in_a_hundred_says_so_at_most(
    fitted: Bundle, tmp_path: Path, windows: int
) -> None:
    rng, said = np.random.default_rng(windows), 0
    for _ in range(60):
        with_normal(fitted, rng.gamma(4, size=60))  # the few normal recordings differ, too
        rows = days(rng, 12, 25)
        for each in rows:
            each["seconds"] = 0.25 + 0.25 * windows
        said += bool(drift(fitted.folder, journal(tmp_path / "j.csv", rows)).since)
    assert said / 60 <= FALSE + 3 * np.sqrt(FALSE / 60)


def test_what_moves_is_found_with_its_day(fitted: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rng = np.random.default_rng(0)
    with_normal(fitted, rng.gamma(4, size=60))
    path = journal(tmp_path / "j.csv", days(rng, 9, 40, moved=3.0, since=3))
    found = drift(str(fitted.folder), str(path))
    assert [each.moved for each in found.periods] == [False] * 3 + [True] * 6
    assert (found.since, found.expected, found.compared_with) == ("2026-05-04", 0.1, 0)
    with open(path, newline="") as stream:
        rows = list(csv.DictReader(stream))
    for each in found.periods:
        mine = [float(line["score"]) for line in rows if line["time"].startswith(each.name)]
        assert (each.recordings, each.above) == (40, sum(score > found.limit for score in mine))
        assert (each.low, each.high) == interval(each.above, 40)
    assert cli.main(["drift", str(fitted.folder), str(path)]) == 1
    text = capsys.readouterr().out
    above = sum(each.above for each in found.periods[3:])
    assert f"normal sound has moved since 2026-05-04: {above} of 240 recordings are above ({above / 240:.0%})" in text
    assert "if the machine was in order, update the bundle: auscult update" in text
    assert cli.main(["drift", str(fitted.folder), str(path), "--json", "--per", "week"]) == 1
    weeks = json.loads(capsys.readouterr().out)["periods"]
    assert [(each["name"], each["recordings"]) for each in weeks] == [("2026 week 18", 120), ("2026 week 19", 240)]
    assert len(drift(fitted.folder, path, "90").periods) == 4


def test_what_came_back_has_not_moved(fitted: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rng = np.random.default_rng(1)
    with_normal(fitted, rng.gamma(4, size=60))
    rows = days(rng, 6, 40)
    for each in rows[80:120]:
        each["score"] += 4
    assert cli.main(["drift", str(fitted.folder), str(journal(tmp_path / "j.jsonl", rows))]) == 0
    assert "other than expected on: 2026-05-03; not since" in capsys.readouterr().out
    # A day of a single recording does not end what has moved.
    rows = [*days(rng, 3, 40, moved=4.0), row(3, 0.0)]
    assert drift(fitted.folder, journal(tmp_path / "j.csv", rows)).since == "2026-05-01"


def test_long_recordings_are_compared_with_the_first_ones(
    fitted: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The most anomalous of many windows is above most normal windows."""
    rng = np.random.default_rng(2)
    with_normal(fitted, rng.gamma(4, size=60))
    long = [{**each, "seconds": 5.0, "score": each["score"] + 6.0} for each in days(rng, 6, 40, moved=4.0, since=4)]
    found = drift(fitted.folder, journal(tmp_path / "j.csv", long))
    assert (found.compared_with, found.since) == (20, "2026-05-05")
    assert found.limit == quantile(np.array([each["score"] for each in long[:20]]), 0.1)
    assert sum(each.recordings for each in found.periods) == 220
    cli.main(["drift", str(fitted.folder), str(tmp_path / "j.csv")])
    assert "above what 10% of the first 20 recordings exceed" in capsys.readouterr().out
    with pytest.raises(AuscultError, match="15 recordings, of more than one window each"):
        drift(fitted.folder, journal(tmp_path / "k.csv", long[:15]))


def test_levels_and_what_is_not_counted(fitted: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rng = np.random.default_rng(3)
    with_normal(fitted, rng.gamma(4, size=60))
    rows = days(rng, 2, 30, moved=5.0)
    for each in rows[:50]:
        each["note"] = "check recording: level 6.2 dB below any training recording, which alone explains the score"
    rows[50]["note"] = "level 4 dB above any training recording"
    rows += [{**row(1, 0.0), "score": "", "note": "unusable: digital silence"}, row(1, 2.0, bundle="fan")]
    path = journal(tmp_path / "j.csv", rows)
    found = drift(fitted.folder, path)
    assert [(each.louder, each.softer) for each in found.periods] == [(0, 30), (1, 20)]
    assert (found.unscored, found.other_lines) == (1, 1)
    cli.main(["drift", str(fitted.folder), str(path)])
    text = capsys.readouterr().out
    assert "another level than any training recording: was the microphone moved?" in text
    assert "not counted: 1 recording(s) without a score" in text
    digest = bundle.load(fitted.folder).digest
    marked = [
        {**each, "bundle_digest": digest[:16] if number % 3 else "0" * 16} for number, each in enumerate(rows[:60])
    ]
    found = drift(fitted.folder, journal(tmp_path / "k.jsonl", marked))
    assert (found.other_lines, sum(each.recordings for each in found.periods)) == (20, 40)


# ------------------------------------------------------------------------------------------------------------- other files
def test_a_journal_of_watch_itself(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for seed in range(12):
        write(tmp_path / "n" / f"{seed}.wav", noise(np.random.default_rng(seed), 1.0, 300.0))
        write(tmp_path / "in" / f"{seed}.wav", noise(np.random.default_rng(50 + seed), 1.0, 900.0))
    (tmp_path / "in" / "x.wav").write_bytes(b"")
    made = bundle.fit(tmp_path / "n", tmp_path / "pump", FitSettings())
    for name in ("pump.csv", "pump.jsonl"):
        out = str(tmp_path / name)
        command = ["watch", str(made.folder), str(tmp_path / "in"), "--out", out, "--once"]
        assert cli.main([*command, "--interval", "0.05", "--patience", "0.2"]) == 2
        found = drift(made.folder, out)
        assert (sum(each.recordings for each in found.periods), found.unscored) == (12, 1)
        assert found.periods[-1].moved
        with open(out, "a") as stream:
            stream.write('{"time": "2026')  # being written
        assert drift(made.folder, out) == found


def test_other_files_are_refused(fitted: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    good = row(0, 1.0)
    contents = {
        "empty.csv": ("", "no line of `auscult watch`"),
        "table.csv": ("a,b\n1,2\n", "no line of `auscult watch`"),
        "headless.csv": (f"{','.join(map(str, good.values()))}\n", "no line of `auscult watch`"),
        "text.txt": ("hello\n", "no line of `auscult watch`"),
        "binary.csv": ("\x00\x01,\n\x02\n", "no line of `auscult watch`"),
        "wide.csv": ("a" * 200_000 + "\n", "no line of `auscult watch`"),
        "list.jsonl": ("[1]\n", "no line of `auscult watch`"),
        "deep.jsonl": ("[" * 100000 + "\n", "no line of `auscult watch`"),
        "score.jsonl": (json.dumps({**good, "score": "high"}) + "\n", "`high` is no number"),
        "nan.jsonl": (json.dumps({**good, "score": "nan"}) + "\n", "`nan` is no number"),
        "other.jsonl": (json.dumps({**good, "bundle": "fan"}) + "\n", "no line with a score is by this bundle, pump"),
        "begun.csv": (f"{','.join(COLUMNS)}\n", "no line of `auscult watch` in this file yet"),
    }
    for name, (text, words) in contents.items():
        (tmp_path / name).write_text(text)
        assert cli.main(["drift", str(fitted.folder), str(tmp_path / name)]) == 2, name
        error = capsys.readouterr().err
        assert words in error, name
        assert "to do: " in error
    facts = bundle.load(fitted.folder).facts
    changes: tuple[dict[str, object], ...] = (
        {"threshold": {}}, {"threshold": {"value": "x", "rate": 0.1}}, {"training": {}}, {"effective": -1.0},
    )  # fmt: skip
    for number, change in enumerate(changes):
        odd = tmp_path / str(number)
        shutil.copytree(fitted.folder, odd)
        write_manifest(odd / "bundle.yaml", {**facts, "name": "pump", **change})
        assert cli.main(["drift", str(odd), str(tmp_path / "begun.csv")]) == 2
        error = capsys.readouterr().err
        assert f"bundle.yaml.{next(iter(change))}" in error
        assert "to do: fit it again" in error
    for bundle_, file, per, words in (
        (tmp_path, "begun.csv", "day", "there is no bundle here"),
        (fitted.folder, "none.csv", "day", "there is no such file"),
        (fitted.folder, "fine.jsonl", "month", "`month` is no period"),
    ):
        (tmp_path / "fine.jsonl").write_text(json.dumps(good) + "\n")
        assert cli.main(["drift", str(bundle_), str(tmp_path / file), "--per", per]) == 2
        assert words in capsys.readouterr().err
