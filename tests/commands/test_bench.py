"""`auscult bench`: what it measures, not how fast."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from auscult import cli
from auscult.commands import bench
from auscult.detector.bundle import Bundle, fit
from auscult.errors import AuscultError


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    folder = tmp_path_factory.mktemp("bench")
    (folder / "normal").mkdir()
    draw = np.random.default_rng(3)
    for number in range(12):
        soundfile.write(folder / "normal" / f"{number}.wav", draw.standard_normal(4000) * 0.05, 4000, subtype="PCM_16")
    return fit(folder / "normal", folder / "pump")


def test_numbers_for_programs_and_a_table(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(bench, "apart", lambda work, *arguments: work(*arguments))  # a process takes seconds to start
    monkeypatch.setitem(sys.modules, "onnxruntime", None)  # importing it raises ModuleNotFoundError
    monkeypatch.setattr(bench, "_export", lambda folder, path: path)
    command = ["bench", str(bundle.folder), "--runs", "4", "--batch", "2"]
    assert cli.main([*command, "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    numpy = facts["engines"]["numpy"]
    assert 0 < numpy["median_ms"] <= numpy["p95_ms"]
    assert numpy["real_time_factor"] == pytest.approx(numpy["median_ms"] / 1000 / facts["window_seconds"])
    assert numpy["windows_per_second"] > 0
    assert numpy["peak_mib"] > 50
    assert "onnxruntime, which is not installed" in facts["without_onnxruntime"]
    assert cli.main(command) == 0
    out = capsys.readouterr().out
    assert "real-time factor" in out
    assert "no onnxruntime: " in out


def test_runs_are_counted_after_the_warm_up() -> None:
    calls: list[int] = []
    assert len(bench._times(lambda: calls.append(1), 5)) == 5
    assert len(calls) == 5 + bench.WARM_UP


def test_work_in_a_process_of_its_own() -> None:
    import os

    assert bench.apart(os.getpid) != os.getpid()
    with pytest.raises(AuscultError, match="no bundle here"):
        bench.apart(bench._bundle, Path("nowhere"), 1, 1, 1, 1)
    with pytest.raises(AuscultError, match=r"^ZeroDivisionError: "):
        bench.apart(divmod, 1, 0)
    with pytest.raises(AuscultError, match="ended early"):
        bench.apart(os._exit, 3)


def test_wrong_numbers_are_refused(bundle: Bundle, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["bench", str(bundle.folder), "--runs", "0"]) == 2
    assert "must be 1 or more" in capsys.readouterr().err
