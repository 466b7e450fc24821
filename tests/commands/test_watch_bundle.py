"""`auscult watch` by a bundle that changes while it runs, with its alarms; by the command line, as a plant would run it."""

from __future__ import annotations

import csv
import json
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import redirect_stdout
from pathlib import Path

import numpy as np
import pytest
import soundfile

from auscult import cli
from auscult.detector import bundle as bundles
from auscult.detector.folder import set_threshold
from auscult.detector.follow import Followed
from auscult.errors import AuscultError
from support.trees import noise


def wav(path: Path, seed: int, level: float = 1.0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    sound = noise(np.random.default_rng(seed), 1.0, 300.0) + 3000 * (level > 1) * np.sin(np.arange(16000))
    soundfile.write(path, sound.astype(np.int16), 16000)
    return path


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("normal")
    for seed in range(20):
        wav(folder / f"{seed}.wav", seed)
    return bundles.fit(folder, tmp_path_factory.mktemp("out") / "pump").folder


@pytest.fixture
def folder(made: Path, tmp_path: Path) -> Path:
    shutil.copytree(made, tmp_path / "pump")
    return tmp_path / "pump"


def refit(folder: Path, tmp_path: Path) -> None:
    for seed in range(40, 55):
        wav(tmp_path / "other" / f"{seed}.wav", seed)
    shutil.rmtree(folder)
    bundles.fit(tmp_path / "other", folder)


def test_what_a_bundle_may_become_while_it_is_used(folder: Path, tmp_path: Path) -> None:
    """Another threshold is taken over; gone or torn, what is in memory goes on, and that is said once; another bundle ends it."""
    bundle, lines, thresholds = bundles.load(folder), list[str](), list[float]()
    before, manifest = bundle.threshold, folder / "bundle.yaml"
    followed = Followed(bundle, lines.append, thresholds.append)
    followed.look()
    set_threshold(folder, 0.3)
    followed.look(), followed.look()
    assert thresholds == [bundle.threshold] == [bundles.load(folder).threshold]
    assert lines == [f"{folder}: threshold {bundle.threshold:.6g} from now on, {before:.6g} before"]
    whole = manifest.read_bytes()
    manifest.write_bytes(whole[:-20])
    followed.look(), followed.look()
    manifest.unlink()
    followed.look(), followed.look()
    shutil.move(folder, tmp_path / "away")
    followed.look()
    assert lines[1:] == [
        f"{folder}: bundle.yaml is not as it was written; going on with the bundle as it was",
        f"{folder}: No such file or directory; going on with the bundle as it was",
    ]
    shutil.move(tmp_path / "away", folder)
    manifest.write_bytes(whole)
    followed.look()
    assert len(lines) == 3
    refit(folder, tmp_path)
    with pytest.raises(AuscultError, match="replaced while in use by one that scores otherwise"):
        followed.look()


def wait_for(condition: Callable[[], object]) -> None:
    for _ in range(1200):
        if condition():
            return
        time.sleep(0.05)
    raise AssertionError("did not happen within a minute")


@pytest.fixture
def handlers() -> Iterator[None]:
    """Those of signals, as before."""
    before = {each: signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.usefixtures("handlers")
def test_a_day_of_a_bundle_at_work(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A threshold set meanwhile is in the rows that follow; the bundle fitted anew ends it with status 2, and loses nothing."""
    out, told, incoming = tmp_path / "o.csv", tmp_path / "told.jsonl", tmp_path / "in"
    wav(incoming / "0.wav", 100, 2.0)
    command = ["watch", str(folder), str(incoming), "--out", str(out), "--interval", "0.05", "--patience", "0", "--alarm", "2/3",
               "--exec", f"sh -c 'cat >> {told}'"]  # fmt: skip

    def rows() -> list[dict[str, str]]:
        return list(csv.DictReader(out.open(newline=""))) if out.exists() else []

    def day() -> tuple[float, float]:
        """What happens beside it; the thresholds before and after."""
        try:
            wait_for(lambda: len(rows()) == 1)
            before, after = float(rows()[0]["threshold"]), set_threshold(folder, 0.3).value
            wait_for(lambda: "from now on" in (tmp_path / "log").read_text())
            wav(incoming / "1.wav", 101, 2.0)
            wait_for(lambda: len(rows()) == 2)
            wait_for(lambda: told.exists() and told.read_text().endswith("\n"))
            return before, after
        finally:
            refit(folder, tmp_path)

    with open(tmp_path / "log", "w") as log, redirect_stdout(log), ThreadPoolExecutor() as pool:
        thresholds = pool.submit(day)
        assert cli.main(command) == 2
    before, after = thresholds.result()
    assert [float(row["threshold"]) for row in rows()] == [before, after]
    assert "replaced while in use" in capsys.readouterr().err
    (event,) = map(json.loads, told.read_text().splitlines())
    assert (event["event"], event["anomalous"], event["rule"]) == ("raised", 2, "2/3")
    assert [each["file"] for each in event["recordings"]] == ["0.wav", "1.wav"]
    assert [each["threshold"] for each in event["recordings"]] == [before, after]
    assert cli.main(command) == 2
    error = capsys.readouterr().err
    assert "was scored by another bundle (`pump`" in error
    assert "choose another --out" in error
    assert len(rows()) == 2


@pytest.mark.usefixtures("handlers")
def test_once_with_a_broker_that_is_away_ends_and_says_what_is_left(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("paho.mqtt")
    from support.broker import free_port

    monkeypatch.setattr("auscult.commands.alarming.LAST_WAIT", 1.0)
    wav(tmp_path / "in" / "0.wav", 100, 2.0)
    arguments = ["watch", str(folder), str(tmp_path / "in"), "--out", str(tmp_path / "o.csv"), "--once", "--patience", "0",
                 "--interval", "0.01"]  # fmt: skip
    assert cli.main([*arguments, "--mqtt", f"mqtt://127.0.0.1:{free_port()}/t"]) == 0
    said = capsys.readouterr().out
    assert "Connection refused; trying again" in said
    assert "1 alarm event(s) not delivered by --mqtt: the next start with this --out sends them" in said
    told = tmp_path / "told"
    assert cli.main([*arguments, "--exec", f"sh -c 'cat >> {told}'"]) == 0
    assert "1 alarm event(s) wait for --mqtt, which is not given" in capsys.readouterr().out
    assert not told.exists()  # it was not meant for a command


@pytest.mark.parametrize(
    ("arguments", "words"),
    [(["--alarm", "3/2"], "an alarm of 3/2"), (["--hold", "-1"], "held for -1 seconds"), (["--exec", "no-such-thing"], "--exec"),
     (["--mqtt", "mqtt://user:secret@h/t"], "a password on the command line"), (["--mqtt", "http://h/t"], "no address")],
)  # fmt: skip
def test_wrong_options_end_it_before_anything_is_loaded(
    tmp_path: Path, arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["watch", str(tmp_path / "no"), str(tmp_path), "--out", str(tmp_path / "o.csv"), *arguments]) == 2
    err = capsys.readouterr().err
    assert words in err
    assert "secret" not in err
    assert list(tmp_path.iterdir()) == []
