"""Alarms that outlive the program: every event stands in `<output>.alarms.jsonl` before it is sent, and so does, for each
receiver, that it has it.

Whether an alarm is on is computed from the output, line by line, at each start: a kill between a judgement and its event loses
nothing, for the event is found again, under the same id. Lines of the outbox:

    {"rule": "3/5", "hold": 600.0, "rows": 12}                  from the line after these rows of the output on; rule null = none
    {"event": {"id": ...}, "to": ["exec", "mqtt"]}              happened, and for whom it is meant
    {"done": "<id>", "to": "mqtt", "time": "..."}               has arrived there
"""

from __future__ import annotations

import json
import queue
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from auscult.detector.alarms import Alarm, Event, Rule, judgement
from auscult.detector.output import Lines, Output
from auscult.errors import AuscultError


def beside(output: Path) -> Path:
    return output.with_name(f"{output.name}.alarms.jsonl")


class Outbox:
    """The file, and what it says.

    Attributes:
        rules: (rows, rule), in order.
        ids: of all events.
        left: of each receiver, events that it does not have yet, by id.
    """

    def __init__(self, path: Path) -> None:
        self.rules: list[tuple[int, Rule | None]] = []
        self.ids: set[str] = set()
        self.left: dict[str, dict[str, Event]] = {}
        self._lock = threading.Lock()
        self._lines = Lines(path)
        self.path = self._lines.path
        for number, line in enumerate(self._lines.read(), 1):
            try:
                self._take(json.loads(line))
            except (ValueError, KeyError, TypeError, AttributeError, RecursionError, AuscultError) as error:
                fix = "mend the line, or move the file away: alarms that were not delivered are lost with it"
                raise AuscultError(f"line {number} is no line of alarms", str(path), fix) from error

    def close(self) -> None:
        with self._lock:
            self._lines.close()

    def follow(self, rule: Rule | None, rows: int) -> None:
        self._write({"rule": rule and str(rule), "hold": rule.hold if rule else 0.0, "rows": rows})

    def add(self, event: Event, to: list[str]) -> None:
        self._write({"event": event, "to": to})

    def done(self, event: Event, to: str) -> None:
        """May be called by any thread."""
        now = datetime.now(UTC).isoformat(timespec="milliseconds")
        self._write({"done": event["id"], "to": to, "time": now})

    def _write(self, line: dict[str, Any]) -> None:
        with self._lock:
            self._lines.append(f"{json.dumps(line, allow_nan=False)}\n".encode())
            self._take(line)

    def _take(self, line: dict[str, Any]) -> None:
        if "rule" in line:
            rule = None if line["rule"] is None else Rule.of(line["rule"], line["hold"])
            self.rules.append((int(line["rows"]), rule))
        elif "event" in line:
            event = line["event"]
            self.ids.add(event["id"])
            for name in line["to"]:
                self.left.setdefault(name, {})[event["id"]] = event
        else:
            self.left.get(line["to"], {}).pop(line["done"], None)


class Receiver(ABC):
    """Sends events in a thread of its own, which `start` begins (execute.py, mqtt.py)."""

    name = ""

    def __init__(self) -> None:
        self._waiting: queue.Queue[Any] = queue.Queue()
        self._thread = threading.Thread(target=self._work, name=self.name, daemon=True)

    def start(self, done: Callable[[Event], None], say: Callable[[str], None]) -> None:
        """Tell `done` of each event that has arrived."""
        self._done, self._say = done, say
        self._thread.start()

    def put(self, event: Event) -> None:
        """Send it; returns at once."""
        self._waiting.put(event)

    @abstractmethod
    def close(self, seconds: float) -> None:
        """Go on for so long at most, and end."""

    @abstractmethod
    def _work(self) -> None:
        """What its thread does until `close`."""

    def _has_arrived(self, event: Event) -> None:
        try:
            self._done(event)
        except (AuscultError, OSError) as error:
            self._say(f"--{self.name}: alarm {event['id']} arrived, and that cannot be written down: {error}")


class Alarms:
    """The alarm of an output, and what becomes of it.

    Args:
        output: its lines so far make the state.
        rule: from now on; None = none, and what an earlier rule left to be sent is sent all the same.
        receivers: of the events.
        say: is told of each event, and of what cannot be delivered.

    Raises:
        AuscultError: the outbox is no such file, or of another output.
    """

    def __init__(
        self, output: Output, rule: Rule | None, receivers: Iterable[Receiver] = (), say: Callable[[str], None] = print
    ) -> None:
        self.outbox, self.alarm, self.say = Outbox(beside(output.path)), Alarm(), say
        self._receivers, self._number = list(receivers), 0
        rules = self.outbox.rules
        if rules and rules[-1][0] > output.count:
            what = f"these alarms are of an output of {rules[-1][0]} lines or more, and {output.path.name} has {output.count}"
            raise AuscultError(what, str(self.outbox.path), "move it away, as was done with the output it belongs to")
        if not rules or rules[-1][1] != rule:
            self.outbox.follow(rule, output.count)
        left = {name: dict(events) for name, events in self.outbox.left.items()}
        for each in self._receivers:
            each.start(self._done_by(each.name), say)
            for event in left.pop(each.name, {}).values():
                each.put(event)
        for name, events in left.items():
            if events:
                say(f"{len(events)} alarm event(s) wait for --{name}, which is not given")
        for row in output.rows():
            self.add(row)
        if self.alarm.on:
            say(f"an alarm is on since {self.alarm.on['time']}")

    def _done_by(self, name: str) -> Callable[[Event], None]:
        return lambda event: self.outbox.done(event, name)

    def add(self, row: dict[str, Any]) -> None:
        """The next line of the output."""
        while self.outbox.rules and self.outbox.rules[0][0] <= self._number:
            self.alarm.change(self.outbox.rules.pop(0)[1])
        self._number += 1
        try:
            found = judgement(row)
            event = self.alarm.add(found, self._number) if found else None
        except (ValueError, TypeError) as error:
            raise AuscultError(f"row {self._number} of the output makes no sense ({error})", fix="mend it") from None
        if event is None or event["id"] in self.outbox.ids:
            return
        self.outbox.add(event, [each.name for each in self._receivers])
        self.say(told(event))
        for each in self._receivers:
            each.put(event)

    def close(self, seconds: float) -> None:
        """Wait so long at most for what is not delivered yet."""
        end = time.monotonic() + seconds
        for each in self._receivers:
            each.close(max(0.0, end - time.monotonic()))
        for name, events in list(self.outbox.left.items()):
            if events:
                self.say(
                    f"{len(events)} alarm event(s) not delivered by --{name}: the next start with this --out sends them"
                )
        self.outbox.close()


def told(event: Event) -> str:
    """An event as a line.

    >>> told({"event": "raised", "id": "12ab", "anomalous": 2, "of": 3, "recordings": [{"file": "a.wav"}, {"file": "b.wav"}]})
    'ALARM 12ab: 2 of the last 3 anomalous: a.wav, b.wav'
    """
    if event["event"] == "cleared":
        return f"alarm {event['alarm']} is over: {event['anomalous']} of the last {event['of']} anomalous"
    names = ", ".join(dict.fromkeys(each["file"] for each in event["recordings"]))
    return f"ALARM {event['id']}: {event['anomalous']} of the last {event['of']} anomalous: {names}"
