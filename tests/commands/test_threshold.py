"""`auscult threshold`: what is shown, what is written, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import scipy.stats

from auscult import cli
from auscult.detector import bundle
from support.trees import noise, write


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    for number in range(12):
        write(tmp_path / "normal" / f"{number}.wav", noise(rng, 1.0, 300.0))
    return bundle.fit(tmp_path / "normal", tmp_path / "b").folder


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    capsys.readouterr()
    status = cli.main(["threshold", *map(str, arguments)])
    return status, *capsys.readouterr()


def test_a_rate_is_shown_and_set(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    normal, before = bundle.load(folder).normal, bundle.load(folder).rule
    status, out, _ = run(capsys, folder, "--rate", "0.25", "--json", "--recordings-per-day", 24)
    found = json.loads(out)
    assert status == 0
    assert (found["by"], found["rate"], found["threshold"], found["normal_above"]) == ("quantile", 0.25, normal[9], 2)
    assert (found["per_day"], found["times_per_day"], found["written"]) == (6, 24, True)
    low, high = 24 * scipy.stats.beta.ppf([0.05, 0.95], 0.25 * 13, 0.75 * 13)
    assert (found["low"], found["high"]) == pytest.approx((low, high))
    assert (found["before"]["threshold"], found["before"]["rate"]) == (before.value, 0.1)
    assert bundle.load(folder).threshold == normal[9]

    gamma = scipy.stats.gamma.ppf(0.99, *scipy.stats.gamma.fit(normal))
    status, out, _ = run(capsys, folder, "--rate", "0.01", "--by", "gamma")
    lines = out.splitlines()
    assert lines[0] == f"{folder}: 12 normal recordings, 12 windows of 1 s, support rates from 0.077 on"
    assert lines[1] == "a day: 172800 windows, listening without a break"
    assert lines[4].split()[:5] == ["asked", "for", "0.01", f"{gamma:.6g}", "gamma"]
    assert lines[4].endswith("0 of 12       1,728 (not known)")
    assert lines[5].endswith("rests on its shape: beyond 0.077, which 12 windows support, it extrapolates")
    assert lines[6] == f"written to {folder}"
    assert bundle.load(folder).rule == bundle.load(folder).rule.__class__(gamma, 0.01, "gamma")
    assert "note: a rate of 0.01 by the gamma distribution" in run(capsys, folder)[1]


def test_false_alarms_a_day_choose_the_rate(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(capsys, folder, "--per-day", 6, "--recordings-per-day", 24)[0] == 0
    assert bundle.load(folder).rule.rate == 0.25
    status, _, err = run(capsys, folder, "--per-day", 1)
    assert status == 2
    assert "172799 are needed: record 172787 more" in err
    assert "no fewer than the 24 verdicts" in run(capsys, folder, "--per-day", 30, "--recordings-per-day", 24)[2]


def test_nothing_is_written_unless_asked(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = (folder / "bundle.yaml").read_bytes()
    status, out, _ = run(capsys, folder)
    assert status == 0
    assert "in force  0.1" in out
    status, out, _ = run(capsys, folder, "--rate", "0.3", "--dry-run")
    assert status == 0
    assert "asked for  0.3" in out
    assert "nothing is written (--dry-run)" in out
    for more, words in (
        (["--by", "gamma"], "--by without --rate"),
        (["--rate", "2"], "between 0 and 1"),
        (
            ["--rate", "0.01"],
            "99 are needed: record 87 more like the 12 there are, or choose a higher rate, or use --by",
        ),
        (["--rate", "0.001", "--by", "quantile"], "999 are needed"),
        (["--rate", "0.1", "--recordings-per-day", "0"], "numbers above 0"),
    ):
        status, out, err = run(capsys, folder, *more)
        assert (status, out) == (2, "")
        assert words in err
    assert (folder / "bundle.yaml").read_bytes() == before


def test_notes_are_those_of_the_rate_in_force(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Also after an update of a bundle whose rate was changed."""
    rng = np.random.default_rng(1)
    for number in range(8):
        write(tmp_path / ("normal" if number < 5 else "new") / f"{number}.wav", noise(rng, 3.0, 300.0))
    folder = bundle.fit(tmp_path / "normal", tmp_path / "b", bundle.FitSettings(rate=0.1, seconds=1.0)).folder

    def few(of: Path) -> list[str]:
        return [note for note in bundle.load(of).facts["training"]["notes"] if "few for a rate" in note]

    assert [note[:38] for note in few(folder)] == ["5 recordings are few for a rate of 0.1"]
    assert run(capsys, folder, "--rate", "0.3")[0] == 0
    assert few(folder) == []
    assert run(capsys, folder, "--rate", "0.08")[0] == 0
    assert [note[:39] for note in few(folder)] == ["5 recordings are few for a rate of 0.08"]
    assert cli.main(["update", str(folder), str(tmp_path / "new"), "-o", str(tmp_path / "c"), "--force"]) == 0
    assert [note[:39] for note in few(tmp_path / "c")] == ["8 recordings are few for a rate of 0.08"]
