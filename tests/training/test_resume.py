"""A training killed outright, again and again, ends in the bytes of one that was left alone; and which states are kept.

Run as a script it is the training that is killed: `test_resume.py <packed> <out> <epochs> [killed at the end]`.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from auscult.files import digest
from auscult.methods.os_scl import OsSclSettings
from auscult.settings.training import Train
from auscult.training import modelfolder
from auscult.training.arm import train_arm
from auscult.training.resume import DAY, ResumeFolder
from support.forks import wait_for


def train(packed: Path, out: Path, epochs: int = 6) -> None:
    settings = OsSclSettings(inputs="logmel", epochs=epochs, batch_size=4, lr=1e-3)
    section = Train(threads=1, device="cpu", checkpoint_seconds=0)
    train_arm(settings, "unit", section, 1, packed / "train", out / "model", out / "resume", "code")


def start(packed: Path, out: Path, epochs: int = 6, *end: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, __file__, str(packed), str(out), str(epochs), *end]
    root = Path(__file__).parents[2]
    environment = {**os.environ, "PYTHONPATH": f"{root / 'src'}:{root / 'tests'}", "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, env=environment, stderr=subprocess.PIPE)


def killed_with_state(process: subprocess.Popen[bytes], out: Path, seen: float) -> float:
    """Kill it once it has saved a state younger than `seen`; that state's time stamp."""

    def saved() -> list[float]:
        return [age for age in (file.stat().st_mtime for file in out.glob("resume/*/all.pt")) if age > seen]

    try:
        wait_for(saved, lambda: process.poll() is None)
    finally:
        process.kill()
    assert process.wait() == -signal.SIGKILL, "finished before it could be killed"
    assert not (out / "model").exists()
    return saved()[0]


def test_sigkill_at_any_moment(packed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, seen = tmp_path / "killed", 0.0
    for _ in range(2):
        seen = killed_with_state(start(packed, out), out, seen)
    last = start(packed, out, 6, "killed at the end")
    assert b"continuing after epoch" in last.communicate(timeout=300)[1]
    assert last.returncode == -signal.SIGKILL

    train(packed, tmp_path / "straight")
    straight = digest(tmp_path / "straight" / "model")
    assert "finished before" not in capsys.readouterr().err
    # The second time it is as if DVC had been killed before it recorded the stage: it removes the folder and starts again.
    for _ in range(2):
        train(packed, out)
        assert "was finished before" in capsys.readouterr().err
        assert digest(out / "model") == straight
        shutil.rmtree(out / "model")


def test_a_run_of_other_settings_starts_afresh(
    packed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    save = ResumeFolder.save

    def save_and_stop(states: ResumeFolder, name: str, state: dict[str, Any]) -> None:
        save(states, name, state)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(ResumeFolder, "save", save_and_stop)
        with pytest.raises(KeyboardInterrupt):
            train(packed, tmp_path, epochs=2)
    train(packed, tmp_path, epochs=1)
    assert "continuing" not in capsys.readouterr().err
    assert len(list(tmp_path.glob("resume/*"))) == 2
    train(packed, tmp_path, epochs=2)
    assert "continuing after epoch 1" in capsys.readouterr().err, "its own run goes on"


def test_old_states_of_other_runs_are_removed(tmp_path: Path) -> None:
    def saved(key: str, days: float, finished: bool) -> ResumeFolder:
        states = ResumeFolder(tmp_path, key)
        states.save("all", {"history": []})
        if finished:
            states.finish()
        for path in (*states.folder.iterdir(), states.folder):
            os.utime(path, (time.time() - days * DAY,) * 2)
        return states

    kept = [saved("a", 0.9, True), saved("b", 29, False), saved("own", 99, True)]
    gone = [saved("c", 1.1, True), saved("d", 31, False)]
    (tmp_path / "note.txt").touch()
    kept[-1].remove_old()
    assert all(each.load("all") for each in kept)
    assert not any(each.folder.exists() for each in gone)
    ResumeFolder(tmp_path / "nothing", "here").remove_old()


def test_whether_a_network_is_finished_is_told_without_reading_its_tensors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    states = ResumeFolder(tmp_path, "key")
    states.save("done", {"finished": {"weight": torch.zeros(8)}})
    states.save("begun", {"live": {"weight": torch.zeros(8)}, "history": []})
    (states.folder / "cut.pt").write_bytes((states.folder / "done.pt").read_bytes()[:99])
    monkeypatch.setattr(ResumeFolder, "load", lambda *_: pytest.fail("a state is read"))
    assert [states.finished(name) for name in ("done", "begun", "cut", "none")] == [True, False, False, False]


if __name__ == "__main__":
    torch.set_num_threads(1)
    if sys.argv[4:]:  # when everything is trained and nothing is written
        modelfolder.save = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
    train(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]))
