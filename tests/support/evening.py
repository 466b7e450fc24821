"""An evening at a machine, compressed: recordings arrive, the watcher is killed, the broker goes and comes, the command of --exec
fails for a while; and in the end it is counted who was told what.

Files arrive and things break at times that are drawn; the times at which recordings are scored, and with them the alarms, are
read from the output and are not the same twice.
"""

from __future__ import annotations

import csv
import json
import random
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from support.broker import Broker, Subscriber, Wire

TOPIC = "hall/pump"
LATE = 1.0
"""Seconds that a message may take from the broker to the subscriber on a busy machine."""


@dataclass
class Evening:
    """What happened: recordings with a line, kills, times the broker was away, alarm events by the output, those that each
    receiver got, and how often one came again although, or because, it had not been acknowledged."""

    recordings: int
    kills: int
    broker_away: int
    events: int
    mqtt: int
    mqtt_again: int
    mqtt_again_acknowledged: int
    exec: int
    exec_again: int
    exec_again_acknowledged: int
    differ_from_brute_force: int
    names_differ: int

    def __str__(self) -> str:
        return ", ".join(f"{name} {value}" for name, value in asdict(self).items())


@dataclass(frozen=True)
class Plan:
    """`seconds` long, `contents` arrive in the folder; the alarm is `k` of `n`, held for `hold` seconds."""

    seconds: float
    contents: dict[str, bytes]
    k: int
    n: int
    hold: float
    kills: int
    away: int
    seed: int = 1


def live_through(plan: Plan, place: Path, start: Callable[[str, str], subprocess.Popen[Any]]) -> Evening:
    """Args:
    place: an empty folder; recordings arrive in `place`/in, and the output is `place`/scores.csv.
    start: (MQTT address, command of --exec) -> a watcher that says `watching` in `place`/log.txt and is ended by SIGTERM.
    """
    draw, told = random.Random(plan.seed), place / "told.jsonl"
    (place / "in").mkdir()
    broker = Broker(place)
    subscriber, wire = Subscriber(broker.port, TOPIC), Wire(broker.port)
    away = place / "away"
    command = f"sh -c 'test ! -e {away} && cat >> {told} && echo >> {told}'"
    addresses = f"mqtt://127.0.0.1:{wire.port}/{TOPIC}", command
    watcher = start(*addresses)
    arrivals = sorted(draw.uniform(0, plan.seconds) for _ in plan.contents)
    moments = [(moment, "file", name) for moment, name in zip(arrivals, plan.contents, strict=True)]
    moments += [(plan.seconds * (i + draw.random()) / plan.kills, "kill", "") for i in range(plan.kills)]
    moments += [(plan.seconds * (i + draw.uniform(0.1, 0.5)) / plan.away, "away", "") for i in range(plan.away)]
    moments += [(plan.seconds * (i + draw.uniform(0.6, 0.9)) / plan.away, "back", "") for i in range(plan.away)]
    begin, restarts = time.monotonic(), 0
    for moment, what, name in sorted(moments):
        time.sleep(max(0.0, begin + moment - time.monotonic()))
        if what == "file":
            (place / "in" / f".{name}").write_bytes(plan.contents[name])
            (place / "in" / f".{name}").rename(place / "in" / name)
        elif what == "kill":
            watcher.kill()
            watcher.wait()
            watcher = start(*addresses)
        elif what == "away":
            wire.deaf = True  # what was sent is not acknowledged any more
            time.sleep(draw.uniform(0, 1.0))
            wire.cut()
            broker.stop()
            away.touch()
        else:
            broker.start()
            assert subscriber.ready.wait(30)  # a broker keeps nothing for a subscriber that it does not know
            wire.mend()
            away.unlink()
            restarts += 1
    out = place / "scores.csv"
    _wait_until(lambda: len(_rows(out)) == len(plan.contents))
    watcher.send_signal(signal.SIGTERM)  # waits for what is not delivered
    assert watcher.wait() == 0
    log = place / "log.txt"
    before = log.read_bytes().count(b"watching")
    watcher = start(*addresses)  # what was given up is sent now, and nothing else
    _wait_until(lambda: log.read_bytes().count(b"watching") > before)
    _wait_until(lambda: not any(_left(place / "scores.csv.alarms.jsonl").values()))
    watcher.send_signal(signal.SIGTERM)
    assert watcher.wait() == 0
    time.sleep(LATE)
    subscriber.close()
    broker.stop()
    return _counted(plan, place, [(moment, event["id"]) for moment, event in subscriber.got], restarts)


def _counted(plan: Plan, place: Path, mqtt: list[tuple[float, str]], restarts: int) -> Evening:
    rows = _rows(place / "scores.csv")
    expected = [(rows[i]["time"], kind) for i, kind in brute_force(rows, plan)]
    lines = [json.loads(line) for line in (place / "scores.csv.alarms.jsonl").read_text().splitlines()]
    events = {line["event"]["id"]: line["event"] for line in lines if "event" in line}
    found = [(event["time"], event["event"]) for event in events.values()]
    done = {
        (line["to"], line["done"]): datetime.fromisoformat(line["time"]).timestamp() for line in lines if "done" in line
    }
    told = [json.loads(line)["id"] for line in (place / "told.jsonl").read_text().splitlines() if line]
    again = [(moment, name) for i, (moment, name) in enumerate(mqtt) if name in [each for _, each in mqtt[:i]]]
    acknowledged = [name for moment, name in again if moment > done["mqtt", name] + LATE]
    return Evening(
        recordings=len(rows), kills=plan.kills, broker_away=restarts, events=len(events),
        mqtt=len({name for _, name in mqtt} & set(events)), mqtt_again=len(again), mqtt_again_acknowledged=len(acknowledged),
        exec=len(set(told) & set(events)), exec_again=len(told) - len(set(told)),
        exec_again_acknowledged=sum(count - 1 for count in Counter(
            (line["to"], line["done"]) for line in lines if line.get("to") == "exec" and "done" in line).values()),
        differ_from_brute_force=sum((Counter(expected) - Counter(found)).values())
        + sum((Counter(found) - Counter(expected)).values()),
        names_differ=len(set(plan.contents) ^ {row["file"] for row in rows}),
    )  # fmt: skip


def brute_force(rows: list[dict[str, str]], plan: Plan) -> list[tuple[int, str]]:
    """(row, event), by the definition in docs/deploy.md; written apart from the program."""
    bad = [row["anomalous"] == "1" for row in rows]
    when = [datetime.fromisoformat(row["time"]) for row in rows]
    holds = [sum(bad[max(0, i + 1 - plan.n) : i + 1]) >= plan.k for i in range(len(rows))]
    events: list[tuple[int, str]] = []
    for i in range(len(rows)):
        on = bool(events) and events[-1][1] == "raised"
        quiet = holds[: i + 1][::-1].index(True) if any(holds[: i + 1]) else i + 1  # rows since it held
        if holds[i] and not on:
            events.append((i, "raised"))
        elif on and quiet and (when[i] - when[i + 1 - quiet]).total_seconds() >= plan.hold:
            events.append((i, "cleared"))
    return events


def _rows(out: Path) -> list[dict[str, str]]:
    if not out.exists():
        return []
    with open(out, newline="") as stream:
        return list(csv.DictReader(stream))


def _left(path: Path) -> dict[str, set[str]]:
    left: dict[str, set[str]] = {}
    for line in map(json.loads, path.read_text().split("\n")[:-1]):
        if "event" in line:
            for name in line["to"]:
                left.setdefault(name, set()).add(line["event"]["id"])
        elif "done" in line:
            left[line["to"]].discard(line["done"])
    return left


def _wait_until(condition: Callable[[], bool]) -> None:
    for _ in range(1200):
        if condition():
            return
        time.sleep(0.05)
    raise AssertionError("did not happen within a minute")
