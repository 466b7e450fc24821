"""An evening of `auscult watch` compressed into two minutes: the watcher is killed, the broker goes and comes (mosquitto where it
is installed, otherwise amqtt), the command of --exec fails for a while.

    python benchmarks/evening.py [SECONDS]

Sound is made here; prints what everybody was told, against the definition of an alarm applied to the rows of the output.
Exit status 1 if an alarm is missing, differs, or came again although its acknowledgement was on record.
"""

from __future__ import annotations

import io
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT / "src"), str(ROOT / "tests")]

from auscult.detector import bundle  # noqa: E402
from support.broker import MOSQUITTO  # noqa: E402
from support.evening import Plan, live_through  # noqa: E402
from support.trees import noise  # noqa: E402


def wav(seed: int, strange: bool = False) -> bytes:
    """A second of a machine; a strange one has a tone more."""
    sound = noise(np.random.default_rng(seed), 1.0, 300.0) + 3000 * strange * np.sin(np.arange(16000))
    stream = io.BytesIO()
    soundfile.write(stream, sound.astype(np.int16), 16000, format="WAV")
    return stream.getvalue()


def main(seconds: float) -> int:
    rng = np.random.default_rng(1)
    with tempfile.TemporaryDirectory() as work:
        place = Path(work, "evening")
        place.mkdir()
        normal = Path(work, "normal")
        normal.mkdir()
        for seed in range(40):
            (normal / f"{seed}.wav").write_bytes(wav(seed))
        bundle.fit(normal, Path(work, "pump"))
        count = round(2.5 * seconds)
        strange = [rng.random() < (0.8 if (i // 6) % 2 else 0.05) for i in range(count)]
        contents = {f"{i:04d}.wav": wav(1000 + i, each) for i, each in enumerate(strange)}
        plan = Plan(seconds, contents, k=3, n=5, hold=0.5, kills=round(seconds / 20), away=round(seconds / 15))

        def start(url: str, command: str) -> subprocess.Popen[Any]:
            arguments = ["watch", f"{work}/pump", f"{place}/in", "--out", f"{place}/scores.csv", "--interval", "0.1",
                         "--alarm", f"{plan.k}/{plan.n}", "--hold", str(plan.hold), "--mqtt", url, "--exec", command]  # fmt: skip
            environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
            with open(place / "log.txt", "ab") as log:
                return subprocess.Popen(
                    [sys.executable, "-m", "auscult.cli", *arguments], env=environment, stdout=log, stderr=log
                )

        found = live_through(plan, place, start)
    print(f"broker: {MOSQUITTO or 'amqtt'}; {seconds:g} s, alarm {plan.k}/{plan.n}, hold {plan.hold:g} s")
    print(
        f"recordings {found.recordings}, of {count} sent; watcher killed {found.kills} times, broker away {found.broker_away}"
    )
    print(f"alarm events {found.events}, {found.differ_from_brute_force} differ from the definition")
    for name in ("mqtt", "exec"):
        got, again, wrong = (getattr(found, f"{name}{part}") for part in ("", "_again", "_again_acknowledged"))
        print(
            f"{name}: {got} of {found.events} arrived, {again} came twice, {wrong} of these were on record as acknowledged"
        )
    wrong = found.mqtt_again_acknowledged + found.exec_again_acknowledged
    complete = found.mqtt == found.exec == found.events and found.recordings == count
    return 0 if complete and not wrong and not found.differ_from_brute_force else 1


if __name__ == "__main__":
    sys.exit(main(float(sys.argv[1]) if len(sys.argv) > 1 else 120.0))
