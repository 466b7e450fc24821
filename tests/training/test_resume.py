"""A training stage killed outright, again and again, ends in the bytes of one that was left alone."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from auscult.files import digest

SCRIPT = """
import sys
from pathlib import Path
from support.packed import tiny_profile
from auscult.training.arm import train_arm
from auscult.settings.training import Train
from auscult.methods.os_scl import OsSclSettings

packed, out = Path(sys.argv[1]), Path(sys.argv[2])
settings = OsSclSettings(inputs="logmel", epochs=int(sys.argv[3]), batch_size=4, lr=1e-3)
train = Train(threads=1, device="cpu", checkpoint_seconds=0)
train_arm(settings, tiny_profile(), train, 1, packed / "train", out / "model", out / "cost.json", out / "resume")
"""


def start(packed: Path, out: Path, epochs: int = 6) -> subprocess.Popen[bytes]:
    root = Path(__file__).parents[2]
    environment = {**os.environ, "PYTHONPATH": f"{root / 'src'}:{root / 'tests'}", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", SCRIPT, str(packed), str(out), str(epochs)]
    return subprocess.Popen(command, env=environment, stderr=subprocess.PIPE)


def test_sigkill_at_any_moment(packed: Path, tmp_path: Path) -> None:
    assert start(packed, tmp_path / "straight").wait() == 0
    kills = 0
    seen = 0.0  # time stamp of the state that the next kill has to be younger than
    while kills < 2:
        process = start(packed, tmp_path / "killed")
        while process.poll() is None:
            states = list((tmp_path / "killed" / "resume").glob("*/all.pt"))
            if states and states[0].stat().st_mtime > seen:
                seen = states[0].stat().st_mtime
                process.send_signal(signal.SIGKILL)
                break
            time.sleep(0.002)
        assert process.wait() == -signal.SIGKILL, "finished before it could be killed"
        assert not (tmp_path / "killed" / "model").exists()
        kills += 1
    last = start(packed, tmp_path / "killed")
    assert b"continuing after epoch" in last.communicate()[1]
    assert last.returncode == 0
    assert digest(tmp_path / "killed" / "model") == digest(tmp_path / "straight" / "model")


def test_a_run_of_other_settings_starts_afresh(packed: Path, tmp_path: Path) -> None:
    process = start(packed, tmp_path / "out", epochs=40)
    while not list((tmp_path / "out" / "resume").glob("*/all.pt")):
        assert process.poll() is None
        time.sleep(0.01)
    process.kill()
    process.wait()
    other = start(packed, tmp_path / "out", epochs=2)
    assert b"continuing" not in other.communicate()[1]
    assert other.returncode == 0
