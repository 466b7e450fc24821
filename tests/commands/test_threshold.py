"""`auscult threshold`: both ways are shown, one is written, the bundle stays whole."""

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


def test_a_rate_is_set(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    normal = bundle.load(folder).normal
    gamma = scipy.stats.gamma.ppf(0.75, *scipy.stats.gamma.fit(normal))
    capsys.readouterr()
    assert cli.main(["threshold", str(folder), "--rate", "0.25", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["by"], found["threshold"], found["quantile"]["threshold"]) == ("quantile", normal[9], normal[9])
    assert found["gamma"]["threshold"] == gamma
    assert found["gamma"]["share_above"] == np.mean(normal > gamma)
    assert bundle.load(folder).threshold == normal[9]

    assert cli.main(["threshold", str(folder), "--rate", "0.25", "--by", "gamma"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1].split()[:2] == ["gamma", f"{gamma:.6g}"]
    assert lines[-1].endswith("<- in force")
    assert bundle.load(folder).threshold == gamma


def test_nothing_is_written_without_a_rate(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = (folder / "bundle.yaml").read_bytes()
    assert cli.main(["threshold", str(folder)]) == 0
    assert "false-alarm rate 0.1 per window" in capsys.readouterr().out
    for more, words in (
        (["--by", "gamma"], "--by without --rate"),
        (["--rate", "2"], "between 0 and 1"),
        (["--rate", "0.001", "--by", "quantile"], "999 are needed"),
    ):
        assert cli.main(["threshold", str(folder), *more]) == 2
        assert words in capsys.readouterr().err
    assert (folder / "bundle.yaml").read_bytes() == before


def test_few_windows_leave_a_small_rate_to_the_gamma_fit(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["threshold", str(folder), "--rate", "0.01"]) == 0
    assert "too few windows" in capsys.readouterr().out
    assert bundle.load(folder).rule.by == "gamma"
