"""Networks of one arm trained side by side: the bytes of one after the other, however many there are at once."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from auscult.errors import AuscultError
from auscult.methods.ae import AeSettings
from auscult.settings.training import Train
from auscult.training import launch, networks
from auscult.training.arm import train_arm
from auscult.training.resume import ResumeFolder
from support import failing

SETTINGS = AeSettings(epochs=2, batch_size=16, frontend="osscl")


def train(packed: Path, out: Path, threads: int) -> bytes:
    how = Train(threads=threads, device="cpu", checkpoint_seconds=0)
    train_arm(SETTINGS, "unit", how, 1, packed / "train", out / "model", out / "resume", "code")
    return (out / "model" / "weights.safetensors").read_bytes()


def test_the_same_bytes_and_a_killed_process_loses_only_its_own_epoch(
    packed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(networks, "fit_some", failing.killed_in_the_second)
    with pytest.raises(AuscultError, match=r"(?s)process 1 of 2.*SIGKILL.*run the same command again"):
        train(packed, tmp_path / "beside", threads=2)
    assert not (tmp_path / "beside" / "model").exists()
    monkeypatch.undo()
    again = train(packed, tmp_path / "beside", threads=2)
    printed = capfd.readouterr().err
    assert "fan: was finished before" in printed
    assert again == train(packed, tmp_path / "straight", threads=1)


def test_a_failure_is_told_as_it_is() -> None:
    with pytest.raises(AuscultError, match=r"(?s)the first clip is silent.*fan"):
        launch.side_by_side(failing.refuse_machine, [("fan",), ("fan",)])


def test_seconds_are_those_of_the_process_that_took_longest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spent = {"fan": 5.0, "pump": 2.0, "valve": 1.0}  # fan and valve in one process
    arm = networks.Networks(SETTINGS, Train(threads=2), 1, dict.fromkeys(spent), ResumeFolder(tmp_path, "key"))  # type: ignore[arg-type]
    monkeypatch.setattr(networks.Networks, "fit", lambda _, name: (None, [], spent[name]))
    monkeypatch.setattr(launch, "side_by_side", lambda *_: None)
    assert arm.fit_all(torch.device("cpu"))[1] == 6.0
    assert arm.fit_all(torch.device("meta"))[1] == 8.0, "one after the other"
