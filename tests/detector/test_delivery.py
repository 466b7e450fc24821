"""Alarm events reach a command and a broker, once where they are acknowledged, whatever fails in between."""

from __future__ import annotations

import datetime
import errno
import ipaddress
import json
import os
import random
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import soundfile
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from auscult.detector.alarms import Event
from auscult.detector.execute import TRIES, Execute
from auscult.detector.mqtt import Address, Mqtt
from auscult.errors import AuscultError
from support.broker import Broker, Subscriber, Wire, free_port
from support.evening import Plan, live_through
from support.projects import stage_environment

pytest.importorskip("paho.mqtt")


def event(name: str, file: str = "a.wav") -> Event:
    return {
        "id": name, "event": "raised", "alarm": name, "time": "2026-01-01T00:00:00+00:00", "bundle": "pump", "rule": "1/1",
        "recordings": [{"file": file}],
    }  # fmt: skip


class Told:
    """What a receiver says: events that have arrived, and lines."""

    def __init__(self) -> None:
        self.done: list[str] = []
        self.said: list[str] = []

    def follow(self, receiver: Any) -> Any:
        receiver.start(lambda each: self.done.append(each["id"]), self.said.append)
        return receiver

    def wait(self, condition: Callable[[], object]) -> None:
        for _ in range(600):
            if condition():
                return
            time.sleep(0.05)
        raise AssertionError(f"did not happen: {self.done} {self.said}")


# ------------------------------------------------------------------------------------------------------------- --exec
def test_a_command_gets_the_event_and_no_shell_sees_it(tmp_path: Path) -> None:
    told, out, nasty = Told(), tmp_path / "out.txt", "$(touch owned); `id` 'x' \"y\".wav"
    code = "import os, sys; open(sys.argv[1], 'a').write(sys.stdin.read() + os.environ['AUSCULT_RECORDING'] + '\\n')"
    receiver = told.follow(Execute(f'{sys.executable} -c "{code}" {out}'))
    receiver.put(event("1", nasty)), receiver.put(event("2"))
    receiver.close(20)
    lines = out.read_text().splitlines()
    assert [json.loads(line)["id"] for line in lines[::2]] == told.done == ["1", "2"]
    assert lines[1] == nasty
    assert os.listdir(tmp_path) == ["out.txt"]
    assert told.said == []


def test_a_command_that_fails_is_tried_again_and_kept(tmp_path: Path) -> None:
    told, away = Told(), tmp_path / "away"
    away.touch()
    receiver = told.follow(Execute(f"test ! -e {away}", back_off=0.01))
    receiver.put(event("1"))
    told.wait(lambda: len(told.said) == TRIES)
    assert told.said[0] == "--exec: alarm 1: exit status 1"
    assert told.said[-1] == f"--exec: alarm 1: exit status 1; given up after {TRIES} tries, kept for later"
    away.unlink()
    receiver.put(event("2"))
    told.wait(lambda: told.done == ["2", "1"])
    receiver.close(5)
    assert len(told.said) == TRIES


def test_a_disk_without_room_for_the_event_is_no_arrival(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told, full, make = Told(), [True] * 3, tempfile.TemporaryFile

    def file(*arguments: Any) -> Any:
        if full:
            full.pop()
            raise OSError(errno.ENOSPC, "No space left on device")
        return make(*arguments)

    monkeypatch.setattr("auscult.detector.execute.tempfile.TemporaryFile", file)
    receiver = told.follow(Execute("true", back_off=0.01))
    receiver.put(event("1"))
    told.wait(lambda: told.done == ["1"])
    receiver.close(5)
    assert told.said == ["--exec: alarm 1: cannot be run (No space left on device)"] * 3


def test_a_command_that_hangs_is_killed_with_its_children_and_holds_nobody_up(tmp_path: Path) -> None:
    told, alive = Told(), tmp_path / "alive"
    receiver = told.follow(Execute(f"sh -c '(sleep 2; touch {alive}) & sleep 600'", timeout=0.3, back_off=0.01))
    begin = time.monotonic()
    receiver.put(event("1"))
    assert time.monotonic() - begin < 0.1
    told.wait(lambda: len(told.said) == TRIES)
    assert told.said[0] == "--exec: alarm 1: killed after 0.3 s"
    receiver.close(1)
    time.sleep(1)
    assert not alive.exists()


def test_the_end_does_not_wait_for_a_command_for_ever() -> None:
    told = Told()
    receiver = told.follow(Execute("sleep 600"))
    receiver.put(event("1"))
    begin = time.monotonic()
    receiver.close(0.3)
    assert time.monotonic() - begin < 3
    assert told.done == []


def test_a_command_that_prints_a_lot_and_reads_nothing() -> None:
    told = Told()
    receiver = told.follow(Execute("sh -c 'head -c 300000 /dev/zero >&2; head -c 300000 /dev/zero'"))
    receiver.put({**event("1"), "more": "y" * 300_000})
    receiver.close(20)
    assert told.done == ["1"]


@pytest.mark.parametrize("command", ["", "no-such-program-here --x", "'unfinished", "/etc/passwd"])
def test_no_such_command(command: str) -> None:
    with pytest.raises(AuscultError, match="--exec"):
        Execute(command)


# ------------------------------------------------------------------------------------------------------------- --mqtt
@pytest.mark.parametrize(
    "url",
    [
        "http://h/t",
        "mqtt://h",
        "mqtt://h/",
        "mqtt:///t",
        "mqtt://h/a/+",
        "mqtt://h/a%23",
        "mqtt://h:x/t",
        "mqtt://h/t?q",
        "h/t",
    ],
)
def test_no_such_address(url: str) -> None:
    with pytest.raises(AuscultError, match="--mqtt"):
        Address.of(url, {})


def test_a_password_is_never_on_the_command_line_nor_shown(tmp_path: Path) -> None:
    with pytest.raises(AuscultError) as caught:
        Address.of("mqtt://user:secret@host/topic", {})
    assert "secret" not in str(caught.value)
    (tmp_path / "password").write_text("from a file\n")
    found = Address.of("mqtt://user@host/topic", {"AUSCULT_MQTT_PASSWORD_FILE": str(tmp_path / "password")})
    assert found.secret == "from a file"
    assert "from a file" not in f"{found} {found!r}"


@pytest.mark.parametrize(
    "url",
    ["mqtt://line3:sec/ret@broker/t", "mqtt://line3:sec#ret@broker/t", "mqtt:line3:secret@broker/t", "l:secret@b/t"],
)
def test_a_wrong_address_is_not_repeated(url: str) -> None:
    with pytest.raises(AuscultError, match="--mqtt") as caught:
        Address.of(url, {})
    assert "sec" not in str(caught.value)


def test_a_broker_that_goes_and_comes(tmp_path: Path) -> None:
    """Sent once where it is acknowledged, and again where that was lost; the status topic says who is there."""
    broker = Broker(tmp_path)
    subscriber, wire, told = Subscriber(broker.port, "hall/pump"), Wire(broker.port), Told()
    receiver = told.follow(Mqtt(Address.of(f"mqtt://127.0.0.1:{wire.port}/hall/pump", {}), soon=0.1))
    receiver.put(event("1")), receiver.put(event("2"))
    told.wait(lambda: told.done == ["1", "2"])
    wire.deaf = True
    receiver.put(event("3"))
    told.wait(lambda: len(subscriber.got) == 3)
    wire.cut()
    broker.stop()
    receiver.put(event("4"))
    told.wait(lambda: any("Connection refused" in line for line in told.said))
    broker.start()
    assert subscriber.ready.wait(30)
    wire.mend()
    told.wait(lambda: len(told.done) == 4)
    receiver.close(5)
    told.wait(lambda: subscriber.status[-1:] == ["offline"])
    assert [each["id"] for _, each in subscriber.got] == ["1", "2", "3", "3", "4"]
    assert sorted(told.done) == ["1", "2", "3", "4"]
    assert "online" in subscriber.status
    assert told.said[-1].endswith(": connected")
    subscriber.close()
    broker.stop()


def test_a_broker_that_refuses_is_said_once_and_tried_seldom(tmp_path: Path) -> None:
    broker, told = Broker(tmp_path, user=("pump", "right")), Told()
    address = f"mqtt://pump@127.0.0.1:{broker.port}/t"
    receiver = told.follow(Mqtt(Address.of(address, {"AUSCULT_MQTT_PASSWORD": "wrong"}), soon=0.05))
    receiver.put(event("1"))
    time.sleep(1.5)
    receiver.close(0.2)
    (line,) = told.said
    assert "the broker refuses" in line
    assert "AUSCULT_MQTT_PASSWORD; trying again in 300 s" in line
    assert "wrong" not in line
    receiver = told.follow(Mqtt(Address.of(address, {"AUSCULT_MQTT_PASSWORD": "right"}), soon=0.05))
    receiver.put(event("2"))
    receiver.close(10)
    assert told.done == ["2"]
    broker.stop()


def test_a_certificate_that_nobody_vouches_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    certificate, key = _certificate(tmp_path)
    broker, told = Broker(tmp_path, certificate=(certificate, key)), Told()
    address = Address.of(f"mqtts://127.0.0.1:{broker.port}/t", {})
    receiver = told.follow(Mqtt(address, soon=0.05))
    receiver.put(event("1"))
    told.wait(lambda: told.said)
    receiver.close(0.2)
    assert "no TLS connection (self-signed certificate" in told.said[0]
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    receiver = told.follow(Mqtt(address, soon=0.05))
    receiver.put(event("2"))
    receiver.close(10)
    assert told.done == ["2"]
    broker.stop()


def _certificate(folder: Path) -> tuple[Path, Path]:
    key, name = ec.generate_private_key(ec.SECP256R1()), x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "broker")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
        .serial_number(1).not_valid_before(now - datetime.timedelta(days=1)).not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )  # fmt: skip
    (folder / "cert.pem").write_bytes(made.public_bytes(serialization.Encoding.PEM))
    (folder / "key.pem").write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return folder / "cert.pem", folder / "key.pem"


def test_a_broker_that_never_answers_holds_nobody_up() -> None:
    told, port = Told(), free_port()
    with socket.create_server(("127.0.0.1", port)):
        receiver = told.follow(Mqtt(Address.of(f"mqtt://127.0.0.1:{port}/t", {}), soon=0.05))
        begin = time.monotonic()
        receiver.put(event("1"))
        receiver.close(0.3)
        assert time.monotonic() - begin < 3
    assert told.done == []


# ------------------------------------------------------------------------------------------------------------ together
WATCHER = """
import sys
from datetime import datetime, timedelta
from pathlib import Path
from auscult.detector import watch as watching
from auscult.commands.watch import stop_on_signals
from auscult.detector.alarms import Rule
from auscult.detector.execute import Execute
from auscult.detector.journal import Journal
from auscult.detector.mqtt import Address, Mqtt
from auscult.detector.outbox import Alarms
from auscult.detector.watch import Watcher, watch
from commands.test_watch import loudness
place, url, command, rule = Path(sys.argv[1]), sys.argv[2], sys.argv[3], Rule.of(sys.argv[4], float(sys.argv[5]))
def score(path):
    found = loudness(path)
    found.anomalous = found.score > 0.05
    return found
stop = stop_on_signals()
journal = Journal(place / "scores.csv", "bundle", "1" * 64, 0.05)
class Clock:  # a tenth of a second for each recording: whatever else the machine does, an alarm is quiet for as long
    @staticmethod
    def now(zone):
        return datetime(2026, 1, 1, tzinfo=zone) + timedelta(seconds=0.1 * journal.count)
watching.datetime = Clock
receivers = [Execute(command, back_off=0.02), Mqtt(Address.of(url), soon=0.1)]
print("watching", flush=True)
alarms = Alarms(journal, rule, receivers, lambda line: print(line, flush=True))
watch(Watcher(score, place / "in", journal, (".wav",), 0.0, written=alarms.add), 0.02, stop=stop)
alarms.close(10)
journal.close()
"""


def test_an_evening_compressed(tmp_path: Path) -> None:
    """Killed four times, the broker away three times and the command, too: everyone is told everything, by the definition."""
    draw = random.Random(1)
    contents, sound = {}, tmp_path / "sound.wav"
    for i in range(150):
        level = 0.2 if draw.random() < (0.6 if (i // 8) % 2 else 0.1) else 0.01
        soundfile.write(sound, [level * (-1) ** each for each in range(200)], 16000, subtype="PCM_16")
        contents[f"{i:03d}.wav"] = sound.read_bytes()
    plan, place = Plan(10.0, contents, k=2, n=3, hold=0.2, kills=4, away=3), tmp_path / "evening"
    place.mkdir()
    environment = stage_environment()
    tests = str(Path(__file__).parents[1])
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, [tests, environment.get("PYTHONPATH", "")]))

    def start(url: str, command: str) -> subprocess.Popen[Any]:
        arguments = [str(place), url, command, f"{plan.k}/{plan.n}", str(plan.hold)]
        with open(place / "log.txt", "ab") as log:
            return subprocess.Popen(
                [sys.executable, "-c", WATCHER, *arguments], env=environment, stdout=log, stderr=log
            )

    found = live_through(plan, place, start)
    assert found.events >= 8, found
    assert (found.recordings, found.names_differ) == (150, 0), found
    assert (found.mqtt, found.exec) == (found.events, found.events), found
    assert (found.mqtt_again_acknowledged, found.exec_again_acknowledged) == (0, 0), found
    assert found.differ_from_brute_force == 0, found
